package main

import (
	"fmt"
	"path"
	"slices"
	"strconv"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/builder"
)

// peerFlags are flags of buildah, podman and docker that scripts bring along and that change nothing here. A value that
// asks for something else than what rbuild does anyway is refused.
type peerFlags struct {
	flags *pflag.FlagSet
	list  []peerFlag
}

// peerFlag is a flag that rbuild accepts without effect, for example --force-rm.
type peerFlag struct {
	name      string
	shorthand string
	alone     string // the value where the flag has none; "": one is needed
	// allowed is the only truth value that is accepted; "": every value is.
	allowed string
	values  []string // the only words that are accepted, also as the last element of a path; nil: every word is
	why     string   // it changes nothing, or what is refused
}

// Reasons that are long, or that several flags share.
const (
	noContentTrust = "a no-op in podman and buildah too: policy.json says which images are trusted"
	noOtherRuntime = "RUN is started by rbuild itself; runc and crun, which do the same, are accepted"
)

// peers are the flags of bud that are accepted without effect.
var peers = []peerFlag{
	{name: "all-platforms", alone: "true", allowed: "false", why: "one platform is built at a time; name it with --platform"},
	{name: "builder", why: "there is one builder, rbuild"},
	{name: "cni-config-dir", why: "RUN's network is set up without CNI, in newer buildah too"},
	{name: "cni-plugin-path", why: "RUN's network is set up without CNI, in newer buildah too"},
	{name: "compress", alone: "true", why: "the context is sent nowhere"},
	{name: "disable-compression", shorthand: "D", alone: "true", allowed: "true", why: "layers in the store are not compressed; use --compression-format for a push"},
	{name: "disable-content-trust", alone: "true", why: noContentTrust},
	{name: "force-rm", alone: "true", why: "a build leaves no containers"},
	{name: "loglevel", why: "a no-op in buildah too; see --log-level"},
	{name: "provenance", alone: "true", allowed: "false", why: "no attestations are made"},
	{name: "rm", alone: "true", why: "a build leaves no containers"},
	{name: "runtime", values: []string{"runc", "crun"}, why: noOtherRuntime},
	{name: "sbom", alone: "true", allowed: "false", why: "no attestations are made"},
}

// otherPeers are the flags of the other commands that are accepted without effect.
var otherPeers = map[string][]peerFlag{
	"pull": {{name: "disable-content-trust", alone: "true", why: noContentTrust}},
	"push": {
		{name: "all", alone: "true", allowed: "false", why: noLists},
		{name: "compress", alone: "true", why: "layers are compressed in any case; choose how with --compression-format"},
		{
			name: "disable-compression", shorthand: "D", alone: "true", allowed: "false",
			why: "layers are compressed on their way; --compression-level 1 takes the least time",
		},
		{name: "disable-content-trust", alone: "true", why: noContentTrust},
		{name: "rm", alone: "true", allowed: "false", why: noLists},
	},
	"rmi":     {{name: "no-prune", alone: "true", why: "layers that another image or the cache needs stay in any case"}},
	"inspect": {{name: "size", shorthand: "s", alone: "true", why: "the size is always shown"}},
}

func (f *peerFlags) register(fs *pflag.FlagSet) { f.add(fs, peers) }

// registerOf is register for another command than bud.
func (f *peerFlags) registerOf(command string, fs *pflag.FlagSet) { f.add(fs, otherPeers[command]) }

func (f *peerFlags) add(fs *pflag.FlagSet, list []peerFlag) {
	f.flags, f.list = fs, list
	for _, p := range list {
		fs.StringArrayP(p.name, p.shorthand, nil, "accepted: "+p.why)
		flag := fs.Lookup(p.name)
		flag.NoOptDefVal, flag.Hidden = p.alone, true
	}
}

func (f *peerFlags) apply(lookup, *builder.Options) error { return f.check() }

// check refuses a value that asks for something that rbuild does not do.
func (f *peerFlags) check() error {
	for _, p := range f.list {
		values, err := f.flags.GetStringArray(p.name)
		if err != nil {
			return err
		}
		for _, value := range values {
			if err := p.check(value); err != nil {
				return err
			}
		}
	}

	return nil
}

// check refuses a value of the flag.
func (p peerFlag) check(value string) error {
	if p.alone == "" { // no truth value
		if len(p.values) > 0 && !slices.Contains(p.values, path.Base(value)) {
			return fmt.Errorf("--%s=%s is not supported by this version of rbuild, nothing was done: %s", p.name, value, p.why)
		}
		return nil
	}

	b, err := strconv.ParseBool(value)
	if err != nil && p.allowed == "" {
		return fmt.Errorf("--%s=%s: want true or false", p.name, value)
	}
	if p.allowed != "" && (err != nil || strconv.FormatBool(b) != p.allowed) {
		return fmt.Errorf("--%s=%s is not supported by this version of rbuild, nothing was done: %s", p.name, value, p.why)
	}
	return nil
}
