package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// pullFlags say when base images are pulled and how registries are reached.
type pullFlags struct {
	policy string
	always bool // --pull-always
	never  bool // --pull-never
	access AccessFlags
	retry  RetryFlags
	flags  *pflag.FlagSet
}

func (f *pullFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectRegistry, func(fs *pflag.FlagSet) {
		fs.StringVar(&f.policy, "pull", "missing", "When to pull base images: always, missing, never or newer")
		fs.Lookup("pull").NoOptDefVal = "always"
		fs.BoolVar(&f.always, "pull-always", false, "Same as --pull=always")
		fs.BoolVar(&f.never, "pull-never", false, "Same as --pull=never")
		hide(fs, "pull-always", "pull-never") // older forms that buildah keeps
		f.flags = fs
	})
	f.access.Register(fs)
	f.retry.Register(fs)
}

func (f *pullFlags) parse(_ *Host, b *spec.Build) (err error) {
	if b.Pull.Policy, err = f.pullPolicy(); err != nil {
		return err
	}
	b.Pull.Access, err = f.retry.Apply(f.access.Access())
	return err
}

// pullPolicy returns the policy of --pull or of one of its older forms.
func (f *pullFlags) pullPolicy() (transfer.Policy, error) {
	given := 0
	for _, name := range []string{"pull", "pull-always", "pull-never"} {
		if f.flags.Changed(name) {
			given++
		}
	}

	switch {
	case given > 1:
		return "", errors.New("--pull, --pull-always and --pull-never exclude each other: give one of them")
	case f.always:
		return transfer.PullAlways, nil
	case f.never:
		return transfer.PullNever, nil
	case f.policy == "true": // docker's word
		return transfer.PullAlways, nil
	case f.policy == "false":
		return transfer.PullMissing, nil
	}

	policy, err := transfer.ParsePolicy(f.policy)
	if err != nil {
		return "", fmt.Errorf("--pull: %w", err)
	}
	return policy, nil
}
