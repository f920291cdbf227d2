package cli

import (
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// PullFlags are the flags of rbuild pull.
type PullFlags struct {
	AllTags bool // pull every tag of the repository
	Quiet   bool
	Access  AccessFlags

	retry    RetryFlags
	platform PlatformFlags
	compat   CompatFlags
	policy   string
	unsigned bool
}

// Pull is one pull, without the names of its images.
type Pull struct {
	Policy       transfer.Policy
	Access       spec.Access
	Platform     ocispec.Platform // zero: the host's
	NoSignatures bool             // do not store the signatures of the image
}

// Register defines the flags.
func (f *PullFlags) Register(fs *pflag.FlagSet) {
	f.Access.Register(fs)
	f.retry.Register(fs)
	f.platform.Register(fs)
	f.compat.Register("pull", fs)
	section(fs, SubjectInput, func(fs *pflag.FlagSet) {
		fs.StringVar(&f.policy, "policy", string(transfer.PullAlways),
			"When to ask the registry: always, missing, newer or never")
		fs.BoolVarP(&f.AllTags, "all-tags", "a", false, "Pull every tag of the repository")
		fs.BoolVar(&f.unsigned, "remove-signatures", false, "Leave the signatures of the image behind")
	})
	section(fs, SubjectOutput, func(fs *pflag.FlagSet) {
		fs.BoolVarP(&f.Quiet, "quiet", "q", false, "Print only the IDs")
	})
}

// Parse checks the flags. host is the platform of this machine.
func (f *PullFlags) Parse(host ocispec.Platform) (p Pull, err error) {
	if p.Policy, err = transfer.ParsePolicy(f.policy); err != nil {
		return p, fmt.Errorf("--policy: %w", err)
	}
	if p.Access, err = f.retry.Apply(f.Access.Access()); err != nil {
		return p, err
	}
	if err := f.compat.Check(); err != nil {
		return p, err
	}
	if p.Platform, err = f.platform.Given(host); err != nil {
		return p, err
	}
	p.NoSignatures = f.unsigned
	return p, nil
}
