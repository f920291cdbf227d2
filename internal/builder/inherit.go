package builder

import (
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// ownAnnotations say something of one image that is not so of an image that is built on it (image-spec,
// annotations.md).
var ownAnnotations = []string{
	ocispec.AnnotationCreated, ocispec.AnnotationRefName,
	ocispec.AnnotationBaseImageName, ocispec.AnnotationBaseImageDigest,
}

// inherited returns the annotations that an image has from its base. The caller may change the map.
func (o ImageOptions) inherited(target *snapshot) map[string]string {
	all := map[string]string{}
	if o.NoAnnotations {
		return all
	}
	maps.Copy(all, target.annotations)
	for _, key := range slices.Concat(ownAnnotations, o.UnsetAnnotations) {
		delete(all, key)
	}
	return all
}

// drops reports whether an image does not inherit all annotations of its base.
func (o ImageOptions) drops(annotations map[string]string) bool {
	unset := func(key string) bool { _, ok := annotations[key]; return ok }
	return o.NoAnnotations && len(annotations) > 0 || slices.ContainsFunc(o.UnsetAnnotations, unset)
}

// system sets os.version and os.features of the config as the command line says (--os-version, --os-feature).
func (o ImageOptions) system(image instructions.Image) instructions.Image {
	if o.OSVersion != "" {
		image.OSVersion = o.OSVersion
	}
	features := slices.Clone(image.OSFeatures)
	for _, feature := range o.OSFeatures {
		name, remove := strings.CutSuffix(feature, "-")
		features = slices.DeleteFunc(features, func(f string) bool { return f == name })
		if !remove {
			features = append(features, name)
		}
	}

	image.OSFeatures = features
	return image
}
