package record

import (
	"maps"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// edit applies the command line to the config of the target. epoch is the time of the image; nil: as it is.
func (o Options) edit(image instructions.Image, epoch *time.Time) instructions.Image {
	image.Config.Labels = o.Labels.edit(image.Config.Labels)
	image.Config.Env = slices.DeleteFunc(slices.Clone(image.Config.Env), func(kv string) bool {
		key, _, _ := strings.Cut(kv, "=")
		return slices.Contains(o.UnsetEnv, key)
	})

	if p := o.Platform; p.OS != "" {
		if p.Variant == "" && p.OS == image.OS && p.Architecture == image.Architecture {
			p.Variant = image.Variant
		}
		if p.OS == image.OS {
			p.OSVersion = image.OSVersion
			p.OSFeatures = image.OSFeatures
		}
		image.Platform = p
	}

	return withTime(o.System.edit(image), epoch)
}

// withTime sets the time of an image; nil: as it is.
func withTime(image instructions.Image, epoch *time.Time) instructions.Image {
	if epoch != nil {
		created := epoch.UTC()
		image.Created = &created
	}
	return image
}

// edit returns the labels of the image.
func (o LabelOptions) edit(inherited map[string]string) map[string]string {
	labels := maps.Clone(inherited)
	if labels == nil && len(o.Set) > 0 {
		labels = map[string]string{}
	}
	for _, l := range o.Set {
		labels[l.Key] = l.Value
	}
	for _, key := range o.Unset {
		delete(labels, key)
	}
	return labels
}

// edit sets os.version and os.features of the config (--os-version, --os-feature).
func (o SystemOptions) edit(image instructions.Image) instructions.Image {
	if o.Version != "" {
		image.OSVersion = o.Version
	}

	features := slices.Clone(image.OSFeatures)
	for _, feature := range o.Features {
		name, remove := strings.CutSuffix(feature, "-")
		features = slices.DeleteFunc(features, func(f string) bool { return f == name })
		if !remove {
			features = append(features, name)
		}
	}
	image.OSFeatures = features
	return image
}

// ownAnnotations describe one image, and not an image that is built on it (image-spec, annotations.md).
var ownAnnotations = []string{
	ocispec.AnnotationCreated, ocispec.AnnotationRefName,
	ocispec.AnnotationBaseImageName, ocispec.AnnotationBaseImageDigest,
}

// inherited returns the annotations that an image has from its base. The caller may change the map.
func (o AnnotationOptions) inherited(base map[string]string) map[string]string {
	all := map[string]string{}
	if o.NoBase {
		return all
	}
	maps.Copy(all, base)
	for _, key := range slices.Concat(ownAnnotations, o.Unset) {
		delete(all, key)
	}
	return all
}

// drops reports whether an image does not inherit all annotations of its base.
func (o AnnotationOptions) drops(base map[string]string) bool {
	unset := func(key string) bool {
		_, ok := base[key]
		return ok
	}
	return o.NoBase && len(base) > 0 || slices.ContainsFunc(o.Unset, unset)
}

// edit returns the annotations of the manifest of an image that was made at the time created, if that is known: those of
// the base, then the default annotations, so that the command line can replace or remove these.
func (o AnnotationOptions) edit(s *Stage, created *time.Time) map[string]string {
	all := o.inherited(s.Annotations)
	if base := s.Base; base.Digest != "" {
		all[ocispec.AnnotationBaseImageDigest] = base.Digest.String()
		if base.Name != "" {
			all[ocispec.AnnotationBaseImageName] = base.Name
		}
	}
	if o.Created && created != nil {
		all[ocispec.AnnotationCreated] = created.Format(time.RFC3339Nano)
	}

	for _, key := range o.Unset {
		delete(all, key)
	}
	maps.Copy(all, o.Set)
	return all
}
