package cli

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// AccessFlags say how a registry is reached. Every command that uses registries has these flags.
type AccessFlags struct {
	authfile  string
	certDir   string
	creds     string
	tlsVerify bool
	flags     *pflag.FlagSet
}

// Register defines the flags.
func (f *AccessFlags) Register(fs *pflag.FlagSet) {
	section(fs, SubjectRegistry, func(fs *pflag.FlagSet) {
		fs.StringVar(&f.authfile, "authfile", "",
			"File with credentials, e.g. auth.json (default: $REGISTRY_AUTH_FILE, then podman's and docker's)")
		fs.StringVar(&f.certDir, "cert-dir", "",
			"Directory with certificates for the registry, e.g. /etc/certs with ca.crt")
		fs.StringVar(&f.creds, "creds", "", "Credentials for the registry as USER:PASSWORD, e.g. ci:secret")
		fs.BoolVar(&f.tlsVerify, "tls-verify", true, "Require TLS, with a certificate that can be verified")
		f.flags = fs
	})
}

// Access returns the values of the flags, without retries.
func (f *AccessFlags) Access() spec.Access {
	a := spec.Access{CertDir: f.certDir, Creds: f.creds}
	if f.authfile != "" {
		a.AuthFile = spec.File{Path: f.authfile, From: "--authfile"}
	}
	if f.flags.Changed("tls-verify") {
		a.TLSVerify = &f.tlsVerify
	}
	return a
}

// WarnUnused warns about given flags, such as --creds, if the destination is in no registry.
func (f *AccessFlags) WarnUnused(w io.Writer, destination string) {
	for _, name := range []string{"authfile", "cert-dir", "creds", "tls-verify"} {
		if f.flags.Changed(name) {
			_, _ = fmt.Fprintf(w, "rbuild: warning: --%s has no effect on %s, which is in no registry\n", name, destination) // stderr
		}
	}
}

// RetryFlags say how often a failed transfer is tried again.
type RetryFlags struct {
	retries int
	delay   time.Duration
}

// Register defines the flags.
func (f *RetryFlags) Register(fs *pflag.FlagSet) {
	section(fs, SubjectRegistry, func(fs *pflag.FlagSet) {
		fs.IntVar(&f.retries, "retry", 3, "Number of attempts after a failed pull or push")
		fs.DurationVar(&f.delay, "retry-delay", time.Second,
			"Time before the first of these attempts, doubled for each further attempt, e.g. 500ms")
	})
}

// Apply checks the flags and adds them to how a registry is reached.
func (f *RetryFlags) Apply(a spec.Access) (spec.Access, error) {
	if f.retries < 0 || f.delay <= 0 {
		return a, errors.New("--retry and --retry-delay cannot be negative, and --retry-delay not 0")
	}

	a.Retries = f.retries
	if f.retries == 0 {
		a.Retries = -1
	}
	a.RetryDelay = f.delay
	return a, nil
}

// CompressionFlags say how layers are compressed when they leave the store.
type CompressionFlags struct {
	format string
	level  int
	force  bool
	flags  *pflag.FlagSet
}

// Register defines the flags.
func (f *CompressionFlags) Register(fs *pflag.FlagSet) {
	section(fs, SubjectRegistry, func(fs *pflag.FlagSet) {
		fs.StringVar(&f.format, "compression-format", "", "Compression of pushed layers: "+images.CompressionChoice())
		fs.IntVar(&f.level, "compression-level", 0,
			"Level of the compression, from 0 to 9 for gzip and to 20 for zstd, e.g. 1 for the fastest")
		fs.BoolVar(&f.force, "force-compression", true,
			"Compress layers again that the destination has in another format")
		f.flags = fs
	})
}

// Parse checks the flags and returns their values.
func (f *CompressionFlags) Parse() (spec.Compression, error) {
	c := spec.Compression{Format: f.format, Any: !f.force}
	if f.format == "" && f.flags.Changed("force-compression") && f.force {
		return c, errors.New("--force-compression needs --compression-format")
	}
	row, err := images.CompressionByName(f.format)
	if err != nil {
		return c, fmt.Errorf("--compression-format: %w", err)
	}
	if f.level < 0 || f.level > row.MaxLevel {
		return c, fmt.Errorf("--compression-level %d: choose 0 to %d", f.level, row.MaxLevel)
	}
	if f.flags.Changed("compression-level") {
		c.Level = &f.level
	}
	return c, nil
}

// given returns the first flag for compression that the user has given, for example "--compression-level", or "".
func (f *CompressionFlags) given() string {
	for _, name := range []string{"compression-format", "compression-level", "force-compression"} {
		if f.flags.Changed(name) {
			return "--" + name
		}
	}
	return ""
}

// CheckDestination refuses a destination that has no use for the given flags.
func (f *CompressionFlags) CheckDestination(destination string) error {
	flag := f.given()
	if flag == "" {
		return nil
	}
	if err := transfer.CheckCompressible(destination); err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}

// needsOCI reports whether images of the format docker cannot have such layers.
func (f *CompressionFlags) needsOCI() bool {
	row, err := images.CompressionByName(f.format)
	return err == nil && !row.Docker
}
