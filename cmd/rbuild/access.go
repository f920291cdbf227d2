package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// accessFlags are the flags for reaching a registry, the same with every command that does.
type accessFlags struct {
	authfile  string
	certDir   string
	creds     string
	tlsVerify bool
	flags     *pflag.FlagSet
}

func (f *accessFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.authfile, "authfile", "", "file with credentials for registries (default: $REGISTRY_AUTH_FILE, then podman's and docker's)")
	fs.StringVar(&f.certDir, "cert-dir", "", "directory with certificates for the registry")
	fs.StringVar(&f.creds, "creds", "", "USER:PASSWORD for the registry")
	fs.BoolVar(&f.tlsVerify, "tls-verify", true, "require TLS, with a certificate that can be verified")
	f.flags = fs
}

// apply adds what the flags say to how registries are reached.
func (f *accessFlags) apply(o transfer.Options) (transfer.Options, error) {
	if f.authfile != "" {
		if _, err := os.Stat(f.authfile); err != nil {
			return o, fmt.Errorf("--authfile: %w", err)
		}
		o.AuthFile = f.authfile
	}
	o.CertDir, o.Creds = f.certDir, f.creds
	if f.flags.Changed("tls-verify") {
		o.TLSVerify = &f.tlsVerify
	}
	return o, nil
}

// tellUnused warns about flags for registries, such as --creds, if the place is in no registry.
func (f *accessFlags) tellUnused(w io.Writer, place string) {
	for _, name := range []string{"authfile", "cert-dir", "creds", "tls-verify"} {
		if f.flags.Changed(name) {
			_, _ = fmt.Fprintf(w, "rbuild: warning: --%s has no effect on %s, which is in no registry\n", name, place) // stderr
		}
	}
}

// retryFlags say how often a connection is tried.
type retryFlags struct {
	retries int
	delay   time.Duration
}

func (f *retryFlags) register(fs *pflag.FlagSet) {
	fs.IntVar(&f.retries, "retry", 3, "how often a failed pull or push is tried again")
	fs.DurationVar(&f.delay, "retry-delay", time.Second, "time before the first of these, doubled for each further one")
}

func (f *retryFlags) check() error {
	if f.retries < 0 || f.delay <= 0 {
		return errors.New("--retry and --retry-delay cannot be negative, and --retry-delay not 0")
	}
	return nil
}

// apply adds what the flags say to how registries are reached.
func (f *retryFlags) apply(o transfer.Options) transfer.Options {
	if o.Retries, o.RetryDelay = f.retries, f.delay; f.retries == 0 {
		o.Retries = -1
	}
	return o
}

// compressionFlags say how layers are compressed on their way out of the store.
type compressionFlags struct {
	format string
	level  int
	force  bool
	flags  *pflag.FlagSet
}

func (f *compressionFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.format, "compression-format", "", "compression of layers that are pushed: "+images.CompressionChoice())
	fs.IntVar(&f.level, "compression-level", 0, "level of that compression")
	fs.BoolVar(&f.force, "force-compression", true, "compress anew what the destination has in another format")
	f.flags = fs
}

func (f *compressionFlags) check() error {
	if f.format == "" && f.flags.Changed("force-compression") && f.force {
		return errors.New("--force-compression needs --compression-format")
	}
	c, err := images.CompressionByName(f.format)
	if err != nil {
		return fmt.Errorf("--compression-format: %w", err)
	}
	if f.level < 0 || f.level > c.MaxLevel {
		return fmt.Errorf("--compression-level %d: choose 0 to %d", f.level, c.MaxLevel)
	}
	return nil
}

// given returns the first flag for compression that the user has given, for example "--compression-level", or "".
func (f *compressionFlags) given() string {
	for _, name := range []string{"compression-format", "compression-level", "force-compression"} {
		if f.flags.Changed(name) {
			return "--" + name
		}
	}
	return ""
}

// checkDestination refuses a destination on which the given flags for compression have no effect.
func (f *compressionFlags) checkDestination(destination string) error {
	flag := f.given()
	if flag == "" {
		return nil
	}
	if err := transfer.CheckCompressible(destination); err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}

func (f *compressionFlags) apply(o *transfer.PushOptions) {
	o.CompressionFormat, o.AnyCompression = f.format, !f.force
	if f.flags.Changed("compression-level") {
		o.CompressionLevel = &f.level
	}
}
