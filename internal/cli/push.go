package cli

import (
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// PushFlags are the flags of rbuild push.
type PushFlags struct {
	DigestFile string // file for the digest of the pushed manifest; empty: none
	Quiet      bool

	access   AccessFlags
	retry    RetryFlags
	compress CompressionFlags
	compat   CompatFlags
	unsigned bool
	format   string
}

// Push is one push, without its image and destination.
type Push struct {
	Access       spec.Access
	Compression  spec.Compression
	Format       string // of the manifest: oci, docker or v2s2; empty: as the image is stored
	NoSignatures bool   // do not copy the signatures of the image
}

// Register defines the flags.
func (f *PushFlags) Register(fs *pflag.FlagSet) {
	f.access.Register(fs)
	f.retry.Register(fs)
	f.compress.Register(fs)
	f.compat.Register("push", fs)
	section(fs, SubjectImage, func(fs *pflag.FlagSet) {
		fs.BoolVar(&f.unsigned, "remove-signatures", false, "Leave the signatures of the image behind")
		fs.StringVarP(&f.format, "format", "f", "",
			"Format of the manifest: oci, docker or v2s2 (default: as the image is stored)")
	})
	section(fs, SubjectOutput, func(fs *pflag.FlagSet) {
		fs.StringVar(&f.DigestFile, "digestfile", "", "File for the digest of the pushed manifest, e.g. app.digest")
		fs.BoolVarP(&f.Quiet, "quiet", "q", false, "Show no progress")
	})
}

// Parse checks the flags against the destination; empty: the registry of the image's name. Flags that the destination
// cannot have are refused. Flags without effect there are reported to warnings, unless it is nil.
func (f *PushFlags) Parse(destination string, warnings io.Writer) (p Push, err error) {
	if p.Access, err = f.retry.Apply(f.access.Access()); err != nil {
		return p, err
	}
	if p.Compression, err = f.compress.Parse(); err != nil {
		return p, err
	}
	if err := f.compat.Check(); err != nil {
		return p, err
	}
	if err := f.compress.CheckDestination(destination); err != nil {
		return p, err
	}
	if err := transfer.CheckFormat(f.format, destination); err != nil {
		return p, fmt.Errorf("--format %s: %w", f.format, err)
	}

	if warnings != nil && !transfer.IsRegistry(destination) {
		f.access.WarnUnused(warnings, destination)
	}
	p.Format = f.format
	p.NoSignatures = f.unsigned
	return p, nil
}
