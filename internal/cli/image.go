package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/spec"
)

// The formats of an image.
const (
	formatOCI    = "oci"
	formatDocker = "docker"
)

// imageFlags choose the content of the image's config and manifest.
type imageFlags struct {
	format      string
	labels      []string
	annotations []string
	inherit     bool
	noHistory   bool
	created     bool
	unset       spec.Unset
	identity    identityFlags
	timestamp   string
	epoch       string
	rewrite     bool
}

func (f *imageFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectImage, func(fs *pflag.FlagSet) {
		fs.StringVar(&f.format, "format", "", "Format of the image: oci or docker (default: $BUILDAH_FORMAT, else oci)")
		fs.StringArrayVar(&f.labels, "label", nil,
			"Label of the image as KEY=VALUE, over those of the Dockerfile, e.g. version=1.2")
		fs.StringArrayVar(&f.annotations, "annotation", nil,
			"Annotation of the manifest as KEY=VALUE, e.g. org.opencontainers.image.licenses=MIT")
		fs.BoolVar(&f.inherit, "inherit-labels", true, "Keep the labels of base images and stages")
		fs.BoolVar(&f.noHistory, "omit-history", false, "Leave the history out of the image")
		fs.BoolVar(&f.created, "created-annotation", false, "Annotate the manifest with the time of the image")
		fs.StringSliceVar(&f.unset.Env, "unsetenv", nil, "Variable that the image must not have, e.g. TOKEN")
		fs.StringSliceVar(&f.unset.Labels, "unsetlabel", nil, "Label that the image must not have, e.g. maintainer")
		fs.StringSliceVar(&f.unset.Annotations, "unsetannotation", nil,
			"Annotation that the image must not have, e.g. org.opencontainers.image.base.name")
		f.identity.define(fs)
		fs.StringVar(&f.timestamp, "timestamp", "",
			"Time of the image, its history and every file of its new layers, in seconds since 1970, e.g. 0")
		fs.StringVar(&f.epoch, "source-date-epoch", "",
			"Time of the image and its history, in seconds since 1970, e.g. 1700000000 (default: $SOURCE_DATE_EPOCH)")
		fs.BoolVar(&f.rewrite, "rewrite-timestamp", false,
			"Let no file of the new layers be later than --source-date-epoch")
	})
}

func (f *imageFlags) parse(h *Host, b *spec.Build) (err error) {
	image := &b.Image
	image.Format = f.format
	if image.Format == "" {
		image.Format, _ = h.Env("BUILDAH_FORMAT")
	}
	if image.Format != "" && image.Format != formatOCI && image.Format != formatDocker {
		return fmt.Errorf("--format %q: choose oci or docker", image.Format)
	}

	if image.Labels, err = parseLabels("--label", f.labels); err != nil {
		return err
	}
	if image.Annotations, err = f.parseAnnotations(image.Format); err != nil {
		return err
	}

	image.NoLabels = !f.inherit
	image.NoHistory = f.noHistory
	image.CreatedNote = f.created
	image.Unset = f.unset
	if err := f.identity.parse(h, image); err != nil {
		return err
	}

	if image.Time, err = f.clock(h.Env); err != nil {
		return err
	}
	b.Arguments.Epoch = f.epochArg(h.Env)
	return nil
}

// parseAnnotations reads --annotation. Annotations that --unsetannotation names are left out.
func (f *imageFlags) parseAnnotations(format string) (map[string]string, error) {
	var annotations map[string]string
	for _, text := range f.annotations {
		key, value, ok := strings.Cut(text, "=")
		if key == "" || !ok {
			return nil, fmt.Errorf("--annotation %q: want KEY=VALUE", text)
		}
		if format == formatDocker {
			return nil, errors.New("--annotation: images of --format docker have no annotations, " +
				"use --label or --format oci")
		}
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[key] = value
	}

	if f.created && format == formatDocker {
		return nil, errors.New("--created-annotation: images of --format docker have no annotations")
	}
	for _, key := range f.unset.Annotations {
		delete(annotations, key)
	}
	return annotations, nil
}

// epochVariable is a variable of the environment and a build argument.
const epochVariable = "SOURCE_DATE_EPOCH"

// clock reads the flags that replace the clock.
func (f *imageFlags) clock(env spec.Lookup) (c spec.Clock, err error) {
	if f.timestamp != "" && f.epoch != "" {
		return c, errors.New("--timestamp and --source-date-epoch contradict each other: give one of them")
	}

	flag := "--timestamp"
	text := f.timestamp
	if text == "" {
		flag = "--source-date-epoch"
		text = f.epoch
	}
	if text == "" {
		flag = epochVariable
		text, _ = env(epochVariable)
	}

	if text == "" {
		if f.rewrite {
			return c, errors.New("--rewrite-timestamp needs --source-date-epoch, " +
				"or SOURCE_DATE_EPOCH in the environment")
		}
		return c, nil
	}

	t, err := plan.ParseEpoch(text)
	if err != nil {
		return c, fmt.Errorf("%s %q: %w", flag, text, err)
	}

	c.Epoch = &t
	switch {
	case f.timestamp != "":
		c.Files = spec.SetTimes
	case f.rewrite:
		c.Files = spec.ClampTimes
	}
	return c, nil
}

// epochArg returns the value that --source-date-epoch or the environment gives the build argument SOURCE_DATE_EPOCH, as
// buildah and docker pass it on. --timestamp gives no value, because the flag is about the image and not about RUN.
func (f *imageFlags) epochArg(env spec.Lookup) string {
	text := f.epoch
	if text == "" {
		text, _ = env(epochVariable)
	}
	t, err := plan.ParseEpoch(text)
	if err != nil { // with --timestamp nobody has checked the environment
		return ""
	}
	return strconv.FormatInt(t.Unix(), 10)
}

// identityFlags choose properties that an image has from its base, its builder and its operating system.
type identityFlags struct {
	builder     bool
	annotated   bool
	osVersion   string
	osFeatures  []string
	saveStages  bool
	stageLabels bool
	layerLabels []string
}

// builderLabel is the label of --identity-label. buildah's is io.buildah.version.
const builderLabel = "io.rbuild.version"

func (f *identityFlags) define(fs *pflag.FlagSet) {
	fs.BoolVar(&f.builder, "identity-label", false, "Add the label "+builderLabel+"=VERSION, the version of rbuild")
	fs.BoolVar(&f.annotated, "inherit-annotations", true, "Inherit the annotations of base images")
	fs.StringVar(&f.osVersion, "os-version", "",
		"Value of os.version, e.g. 10.0.17763 (default: the value of the base)")
	fs.StringArrayVar(&f.osFeatures, "os-feature", nil,
		"Name to add to the os.features of the base, e.g. win32k; NAME- removes NAME")
	fs.BoolVar(&f.saveStages, "save-stages", false, "Keep each stage before the target as an image without a name")
	fs.BoolVar(&f.stageLabels, "stage-labels", false,
		"Label the images of --save-stages and the target with the names of their stage and base")
	fs.StringArrayVar(&f.layerLabels, "layer-label", nil,
		"Label for the images of --save-stages as KEY[=VALUE], e.g. ci=1234")
}

func (f *identityFlags) parse(h *Host, image *spec.Image) (err error) {
	if f.stageLabels && !f.saveStages {
		return errors.New("--stage-labels needs --save-stages")
	}

	for _, feature := range f.osFeatures {
		if strings.Trim(feature, "-") == "" {
			return fmt.Errorf("--os-feature %q: want a name, or a name and - to remove it", feature)
		}
	}

	if image.Stages.Labels, err = parseLabels("--layer-label", f.layerLabels); err != nil {
		return err
	}
	image.Stages.Save = f.saveStages
	image.Stages.Label = f.stageLabels
	image.NoAnnotations = !f.annotated
	image.OSVersion = f.osVersion
	image.OSFeatures = f.osFeatures
	if f.builder { // before the labels of the user, which win
		image.Labels = append([]spec.Label{{Key: builderLabel, Value: h.Version}}, image.Labels...)
	}
	return nil
}

// parseLabels reads labels in the form KEY[=VALUE].
func parseLabels(flag string, list []string) (out []spec.Label, err error) {
	for _, text := range list {
		key, value, _ := strings.Cut(text, "=")
		if key == "" {
			return nil, fmt.Errorf("%s %q: want KEY=VALUE", flag, text)
		}
		out = append(out, spec.Label{Key: key, Value: value})
	}
	return out, nil
}
