package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/pkg/build"
)

// peerFlags are flags of buildah, podman and docker that scripts bring along and that change nothing here. A value that
// asks for something else than what rbuild does anyway is refused.
type peerFlags struct{ flags *pflag.FlagSet }

// peerFlag is one of them.
type peerFlag struct {
	name      string
	shorthand string
	alone     string // the value where the flag has none; "": one is needed
	// allowed is the only truth value that is accepted; "": every value is.
	allowed string
	why     string // it changes nothing, or what is refused
}

// peers are all of them.
var peers = []peerFlag{
	{name: "builder", why: "there is one builder, rbuild"},
	{name: "compress", alone: "true", why: "the context is sent nowhere"},
	{name: "disable-compression", shorthand: "D", alone: "true", allowed: "true", why: "layers in the store are not compressed; use --compression-format for a push"},
	{name: "disable-content-trust", alone: "true", why: "a no-op in podman and buildah too: policy.json says which images are trusted"},
	{name: "force-rm", alone: "true", why: "a build leaves no containers"},
	{name: "identity-label", alone: "true", allowed: "false", why: "no image is labelled with the version of its builder"},
	{name: "inherit-annotations", alone: "true", allowed: "false", why: "annotations are of one manifest: those of the base are not inherited"},
	{name: "provenance", alone: "true", allowed: "false", why: "no attestations are made"},
	{name: "rm", alone: "true", why: "a build leaves no containers"},
	{name: "sbom", alone: "true", allowed: "false", why: "no attestations are made"},
}

func (f *peerFlags) register(fs *pflag.FlagSet) {
	f.flags = fs
	for _, p := range peers {
		fs.StringArrayP(p.name, p.shorthand, nil, "accepted: "+p.why)
		flag := fs.Lookup(p.name)
		flag.NoOptDefVal, flag.Hidden = p.alone, true
	}
}

func (f *peerFlags) apply(lookup, *build.Options) error {
	for _, p := range peers {
		if p.alone == "" { // no truth value
			continue
		}
		values, err := f.flags.GetStringArray(p.name)
		if err != nil {
			return err
		}
		for _, value := range values {
			b, err := strconv.ParseBool(value)
			if err != nil && p.allowed == "" {
				return fmt.Errorf("--%s=%s: want true or false", p.name, value)
			}
			if p.allowed != "" && (err != nil || strconv.FormatBool(b) != p.allowed) {
				return fmt.Errorf("--%s=%s is not supported by this version of rbuild, nothing was built: %s", p.name, value, p.why)
			}
		}
	}
	return nil
}
