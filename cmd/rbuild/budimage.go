package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// imageFlags say what the image is like.
type imageFlags struct {
	format      string
	labels      []string
	annotations []string
	inherit     bool
	noHistory   bool
	created     bool
	unset       unsetFlags
	identity    identityFlags
	timestamp   string
	epoch       string
	rewrite     bool
}

func (f *imageFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.format, "format", "", "oci or docker (default: $BUILDAH_FORMAT, else oci)")
	fs.StringArrayVar(&f.labels, "label", nil, "KEY=VALUE label of the image, over those of the Dockerfile")
	fs.StringArrayVar(&f.annotations, "annotation", nil, "KEY=VALUE annotation of the image's manifest")
	fs.BoolVar(&f.inherit, "inherit-labels", true, "keep the labels of base images and stages")
	fs.BoolVar(&f.noHistory, "omit-history", false, "leave the history out of the image")
	fs.BoolVar(&f.created, "created-annotation", false, "annotate the manifest with the time of the image")
	f.unset.register(fs)
	f.identity.register(fs)
	fs.StringVar(&f.timestamp, "timestamp", "", "seconds since 1970: the time of the image, its history and every file of its new layers")
	fs.StringVar(&f.epoch, "source-date-epoch", "", "seconds since 1970: the time of the image and its history (default: $SOURCE_DATE_EPOCH)")
	fs.BoolVar(&f.rewrite, "rewrite-timestamp", false, "let no file of the new layers be later than --source-date-epoch")
}

func (f *imageFlags) apply(env lookup, o *builder.Options) (err error) {
	if o.Image, err = f.image(env); err != nil {
		return err
	}
	f.unset.apply(&o.Image)
	if err := f.identity.apply(&o.Image); err != nil {
		return err
	}
	return f.time(env, o)
}

// unsetFlags name what the image shall not have.
type unsetFlags struct{ env, labels, annotations []string }

func (f *unsetFlags) register(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.env, "unsetenv", nil, "variable that the image shall not have")
	fs.StringSliceVar(&f.labels, "unsetlabel", nil, "label that the image shall not have")
	fs.StringSliceVar(&f.annotations, "unsetannotation", nil, "annotation that the image shall not have")
}

// apply takes annotations of the command line away at once; the rest is known when the stage has been built.
func (f *unsetFlags) apply(o *builder.ImageOptions) {
	o.UnsetEnv, o.Labels.Unset, o.Annotations.Unset = f.env, f.labels, f.annotations
	for _, key := range f.annotations {
		delete(o.Annotations.Set, key)
	}
}

// image reads the flags for the image.
func (f *imageFlags) image(env lookup) (o builder.ImageOptions, err error) {
	format := f.format
	if format == "" {
		format, _ = env("BUILDAH_FORMAT")
	}
	o.AnyFormat = format == ""
	switch format {
	case "", "oci":
		o.Format = commit.OCI
	case "docker":
		o.Format = commit.Docker
	default:
		return o, fmt.Errorf("--format %q: choose oci or docker", format)
	}

	for _, text := range f.labels {
		label, err := parseLabel("--label", text)
		if err != nil {
			return o, err
		}
		o.Labels.Set = append(o.Labels.Set, label)
	}

	for _, text := range f.annotations {
		key, value, ok := strings.Cut(text, "=")
		if key == "" || !ok {
			return o, fmt.Errorf("--annotation %q: want KEY=VALUE", text)
		}
		if o.Format == commit.Docker {
			return o, errors.New("--annotation: images of --format docker have no annotations, use --label or --format oci")
		}
		if o.Annotations.Set == nil {
			o.Annotations.Set = map[string]string{}
		}
		o.Annotations.Set[key] = value
	}

	if f.created && o.Format == commit.Docker {
		return o, errors.New("--created-annotation: images of --format docker have no annotations")
	}

	o.Labels.NoBase, o.NoHistory, o.Annotations.Created = !f.inherit, f.noHistory, f.created

	return o, nil
}

// epochVariable is a variable of the environment and a build argument.
const epochVariable = "SOURCE_DATE_EPOCH"

// time reads the flags that replace the clock.
func (f *imageFlags) time(env lookup, o *builder.Options) error {
	if f.timestamp != "" && f.epoch != "" {
		return errors.New("--timestamp and --source-date-epoch contradict each other: give one of them")
	}

	flag, text := "--timestamp", f.timestamp
	if text == "" {
		flag, text = "--source-date-epoch", f.epoch
	}
	if text == "" {
		flag = epochVariable
		text, _ = env(flag)
	}

	if text == "" {
		return f.rewriteNeedsTime()
	}

	t, err := plan.ParseEpoch(text)
	if err != nil {
		return fmt.Errorf("%s %q: %w", flag, text, err)
	}

	o.Layers.Epoch = &t
	switch {
	case f.timestamp != "":
		o.Layers.FileTimes = builder.SetTimes
	case f.rewrite:
		o.Layers.FileTimes = builder.ClampTimes
	}

	return nil
}

// epochArg returns the value that --source-date-epoch or the environment gives the build argument SOURCE_DATE_EPOCH, as
// buildah and docker pass it on. --timestamp gives no value, because the flag is about the image and not about RUN.
func (f *imageFlags) epochArg(env lookup) map[string]string {
	text := f.epoch
	if text == "" {
		text, _ = env(epochVariable)
	}
	t, err := plan.ParseEpoch(text)
	if err != nil { // with --timestamp nobody has looked at the environment
		return nil
	}
	return map[string]string{epochVariable: strconv.FormatInt(t.Unix(), 10)}
}

// rewriteNeedsTime refuses --rewrite-timestamp alone.
func (f *imageFlags) rewriteNeedsTime() error {
	if f.rewrite {
		return errors.New("--rewrite-timestamp needs --source-date-epoch, or SOURCE_DATE_EPOCH in the environment")
	}
	return nil
}
