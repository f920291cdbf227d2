package cli

import (
	"fmt"
	"path"
	"slices"
	"strconv"

	"github.com/spf13/pflag"
)

// CompatFlags are flags of buildah, podman and docker that scripts bring along and that change nothing here, for example
// --force-rm. A value that asks for anything but rbuild's own behaviour is refused.
type CompatFlags struct {
	flags *pflag.FlagSet
	list  []compatFlag
}

// compatFlag is a flag that rbuild accepts without effect.
type compatFlag struct {
	name      string
	shorthand string
	alone     string // the value of the flag without a value; empty: the flag needs a value
	// allowed is the only truth value that is accepted; empty: both are.
	allowed string
	values  []string // the only words that are accepted, also as the last element of a path; nil: every word is accepted
	why     string   // the reason why the flag changes nothing, or why a value is refused
}

// Reasons that are long, or that several flags share.
const (
	noContentTrust = "a no-op in podman and buildah too: policy.json says which images are trusted"
	noOtherRuntime = "RUN is started by rbuild itself; runc and crun, which do the same, are accepted"
)

// compatFlags are the flags that are accepted without effect, by command.
var compatFlags = map[string][]compatFlag{
	BuildCommand: {
		{
			name: "all-platforms", alone: "true", allowed: "false",
			why: "one platform is built at a time; name it with --platform",
		},
		{name: "builder", why: "there is one builder, rbuild"},
		{name: "cni-config-dir", why: "RUN's network is set up without CNI, in newer buildah too"},
		{name: "cni-plugin-path", why: "RUN's network is set up without CNI, in newer buildah too"},
		{name: "compress", alone: "true", why: "the context is sent nowhere"},
		{
			name: "disable-compression", shorthand: "D", alone: "true", allowed: "true",
			why: "layers in the store are not compressed; use --compression-format for a push",
		},
		{name: "disable-content-trust", alone: "true", why: noContentTrust},
		{name: "force-rm", alone: "true", why: "a build leaves no containers"},
		{name: "loglevel", why: "a no-op in buildah too; see --log-level"},
		{name: "provenance", alone: "true", allowed: "false", why: "no attestations are made"},
		{name: "rm", alone: "true", why: "a build leaves no containers"},
		{name: "runtime", values: []string{"runc", "crun"}, why: noOtherRuntime},
		{name: "sbom", alone: "true", allowed: "false", why: "no attestations are made"},
	},
	"pull": {{name: "disable-content-trust", alone: "true", why: noContentTrust}},
	"push": {
		{name: "all", alone: "true", allowed: "false", why: noLists},
		{
			name: "compress", alone: "true",
			why: "layers are compressed in any case; choose how with --compression-format",
		},
		{
			name: "disable-compression", shorthand: "D", alone: "true", allowed: "false",
			why: "layers are compressed on their way; --compression-level 1 takes the least time",
		},
		{name: "disable-content-trust", alone: "true", why: noContentTrust},
		{name: "rm", alone: "true", allowed: "false", why: noLists},
	},
	"rmi": {{
		name: "no-prune", alone: "true",
		why: "layers that another image or the cache needs stay in any case",
	}},
	"inspect": {{name: "size", shorthand: "s", alone: "true", why: "the size is always shown"}},
}

// Register defines the flags of a command, for example "push". They are not in its help.
func (f *CompatFlags) Register(command string, fs *pflag.FlagSet) {
	f.flags = fs
	f.list = compatFlags[command]
	for _, p := range f.list {
		fs.StringArrayP(p.name, p.shorthand, nil, "Accepted without effect: "+p.why)
		fs.Lookup(p.name).NoOptDefVal = p.alone
		hide(fs, p.name)
	}
}

// Check refuses a value that asks for something that rbuild does not do.
func (f *CompatFlags) Check() error {
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
func (p compatFlag) check(value string) error {
	if p.alone == "" { // no truth value
		if len(p.values) > 0 && !slices.Contains(p.values, path.Base(value)) {
			return fmt.Errorf("--%s=%s is not supported by this version of rbuild, nothing was done: %s", p.name, value,
				p.why)
		}
		return nil
	}

	b, err := strconv.ParseBool(value)
	if err != nil && p.allowed == "" {
		return fmt.Errorf("--%s=%s: want true or false", p.name, value)
	}
	if p.allowed != "" && (err != nil || strconv.FormatBool(b) != p.allowed) {
		return fmt.Errorf("--%s=%s is not supported by this version of rbuild, nothing was done: %s", p.name, value,
			p.why)
	}
	return nil
}
