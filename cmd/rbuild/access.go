package main

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/pkg/registry"
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
func (f *accessFlags) apply(o registry.Options) (registry.Options, error) {
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
