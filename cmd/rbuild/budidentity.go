package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/builder"
)

// identityFlags are the flags for properties that an image has from its base, its builder and its operating system.
type identityFlags struct {
	builder    bool
	annotated  bool
	osVersion  string
	osFeatures []string

	saveStages  bool
	stageLabels bool
	layerLabels []string
}

// builderLabel is the label of --identity-label. buildah's is io.buildah.version.
const builderLabel = "io.rbuild.version"

func (f *identityFlags) register(fs *pflag.FlagSet) {
	fs.BoolVar(&f.builder, "identity-label", false, "add the label "+builderLabel+"=VERSION, the version of rbuild")
	fs.BoolVar(&f.annotated, "inherit-annotations", true, "inherit the annotations of base images")
	fs.StringVar(&f.osVersion, "os-version", "", "os.version of the image, e.g. 10.0.17763 (default: the value of the base)")
	fs.StringArrayVar(&f.osFeatures, "os-feature", nil, "add NAME to the os.features of the base; NAME- removes NAME")
	fs.BoolVar(&f.saveStages, "save-stages", false, "keep each stage before the target as an image without a name")
	fs.BoolVar(&f.stageLabels, "stage-labels", false, "label the images of --save-stages and the target with the names of their stage and base")
	fs.StringArrayVar(&f.layerLabels, "layer-label", nil, "KEY[=VALUE] label for the images of --save-stages")
}

func (f *identityFlags) apply(o *builder.ImageOptions) error {
	if f.stageLabels && !f.saveStages {
		return errors.New("--stage-labels needs --save-stages")
	}

	for _, feature := range f.osFeatures {
		if strings.Trim(feature, "-") == "" {
			return fmt.Errorf("--os-feature %q: want a name, or a name and - to remove it", feature)
		}
	}

	for _, text := range f.layerLabels {
		label, err := parseLabel("--layer-label", text)
		if err != nil {
			return err
		}
		o.Stages.Labels = append(o.Stages.Labels, label)
	}

	o.Annotations.NoBase = !f.annotated
	o.System = builder.SystemOptions{Version: f.osVersion, Features: f.osFeatures}
	o.Stages.Save, o.Stages.Describe = f.saveStages, f.stageLabels
	if f.builder { // before the labels of the user, which win
		o.Labels.Set = append([]builder.Label{{Key: builderLabel, Value: currentVersion().Version}}, o.Labels.Set...)
	}

	return nil
}

// parseLabel reads KEY[=VALUE].
func parseLabel(flag, text string) (builder.Label, error) {
	key, value, _ := strings.Cut(text, "=")
	if key == "" {
		return builder.Label{}, fmt.Errorf("%s %q: want KEY=VALUE", flag, text)
	}
	return builder.Label{Key: key, Value: value}, nil
}
