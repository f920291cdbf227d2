package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/imagename"
	"codeberg.org/rbuild/rbuild/internal/source"
	"codeberg.org/rbuild/rbuild/internal/spec"
)

// contextFlags are the named contexts.
type contextFlags struct{ list []string }

func (f *contextFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectInput, func(fs *pflag.FlagSet) {
		fs.StringArrayVar(&f.list, "build-context", nil,
			"Context NAME=VALUE for FROM, --from and mounts: a directory, docker-image://IMAGE, "+
				"oci-layout://DIR[:TAG|@DIGEST], a git URL or the URL of a tar, e.g. docs=../docs")
	})
}

func (f *contextFlags) parse(h *Host, b *spec.Build) error {
	b.Plan.Contexts = map[string]string{}
	for _, text := range f.list {
		name, value, ok := strings.Cut(text, "=")
		if !ok || value == "" {
			return fmt.Errorf("--build-context %q: want NAME=VALUE", text)
		}

		name, err := plan.ContextName(name, h.Platform)
		if err != nil {
			return fmt.Errorf("--build-context %q: %w", text, err)
		}
		if _, ok := b.Plan.Contexts[name]; ok {
			return fmt.Errorf("--build-context %q: there is another of this name", text)
		}
		if err := checkContext(value); err != nil {
			return fmt.Errorf("--build-context %q: %w", text, err)
		}
		b.Plan.Contexts[name] = value
	}

	return nil
}

// checkContext refuses locations that are wrong whatever the file system holds.
func checkContext(value string) error {
	scheme, rest, ok := strings.Cut(value, "://")
	scheme += "://"
	switch {
	case !ok || source.IsContext(value):
		return nil
	case scheme != spec.LayoutScheme && !slices.Contains(spec.ImageSchemes(), scheme):
		return fmt.Errorf("unknown kind %s: want a directory, docker-image://, oci-layout://, a git URL, "+
			"http:// or https://", scheme)
	case rest == "":
		return errors.New("nothing is named")
	case scheme == spec.LayoutScheme:
		return nil
	}

	if n, err := imagename.Parse(rest); err != nil || n.Transport != "" {
		return errors.New("want the name of an image")
	}
	return nil
}
