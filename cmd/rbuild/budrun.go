package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/runner"
)

// runFlags say what RUN gets to see.
type runFlags struct {
	network  string
	net      string // buildah's other name for it
	addHosts []string
	noHosts  bool
	noName   bool
	resolver resolverFlags
	compat   bool // --compat-volumes
	stdin    bool
	isolated string
	volumes  []string
	secrets  []string
	ssh      []string
}

func (f *runFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.network, "network", "", "network of RUN: host (default), none or private")
	fs.StringVar(&f.net, "net", "", "same as --network")
	_ = fs.MarkHidden("net") // the flag was defined on the line before
	fs.StringSliceVar(&f.addHosts, "add-host", nil, "NAME:ADDRESS for /etc/hosts in RUN; ADDRESS may be host-gateway")
	fs.BoolVar(&f.noHosts, "no-hosts", false, "leave the image's /etc/hosts as it is")
	fs.BoolVar(&f.noName, "no-hostname", false, "leave the image's /etc/hostname as it is")
	f.resolver.register(fs)
	fs.BoolVar(&f.compat, "compat-volumes", false, "throw away what RUN writes below a VOLUME")
	fs.BoolVar(&f.stdin, "stdin", false, "pass standard input to RUN")
	fs.StringVar(&f.isolated, "isolation", "", "accepted are oci, rootless, chroot and default: RUN always has rbuild's own sandbox")
	fs.StringArrayVarP(&f.volumes, "volume", "v", nil, "HOST-PATH:PATH[:OPTION,...] to bind into RUN, e.g. /srv/data:/data:ro; options: ro, noexec, nosuid, nodev, O")
	fs.StringArrayVar(&f.secrets, "secret", nil, "id=ID[,src=FILE|,env=VARIABLE] for RUN --mount=type=secret")
	fs.StringArrayVar(&f.ssh, "ssh", nil, "ID[=SOCKET|=KEY[,KEY]] for RUN --mount=type=ssh; ID alone is the agent at $SSH_AUTH_SOCK")
}

func (f *runFlags) apply(env lookup, o *builder.Options) error {
	if f.net != "" && f.network != "" {
		return errors.New("--net is the same as --network: give one of them")
	}
	if err := f.checkIsolation(env); err != nil {
		return err
	}
	return f.options(&o.Run)
}

// checkIsolation refuses words that buildah does not know. Those that it knows all mean the same: the sandbox of rbuild.
func (f *runFlags) checkIsolation(env lookup) error {
	word, from := f.isolated, "--isolation"
	if word == "" {
		word, _ = env("BUILDAH_ISOLATION")
		from = "BUILDAH_ISOLATION in the environment:"
	}
	if !slices.Contains([]string{"", "default", "oci", "rootless", "chroot"}, strings.ToLower(word)) {
		return fmt.Errorf("%s %q: RUN always has rbuild's own sandbox, for which oci, rootless and chroot are accepted", from, word)
	}
	return nil
}

// options reads the flags, but for what has to be opened.
func (f *runFlags) options(o *runner.Options) (err error) {
	switch network := f.network + f.net; network {
	case "host", "none", "private":
		o.Network.Mode = runner.NetworkMode(network)
	case "default", "":
		o.Network.Mode = runner.Host
	default:
		return fmt.Errorf("--network %q: choose host, none or private", network)
	}

	if o.Network.Mode == runner.Private {
		if o.Network.Helper, err = sandbox.FindNetworkHelper(os.Getenv("PATH")); err != nil {
			return fmt.Errorf("--network private: %w", err)
		}
	}

	o.Etc.KeepHosts, o.Etc.KeepHostname, o.CompatVolumes = f.noHosts, f.noName, f.compat
	if f.noHosts && len(f.addHosts) > 0 {
		return errors.New("--no-hosts and --add-host contradict each other: give one of them")
	}
	if o.Etc.Hosts, err = parseHosts(f.addHosts, *o); err != nil {
		return err
	}

	return f.resolver.apply(o)
}

// hostGateway stands for the host in --add-host.
const hostGateway = "host-gateway"

// parseHosts reads --add-host.
func parseHosts(list []string, o runner.Options) (out []runner.HostEntry, err error) {
	for _, text := range list {
		name, addr, ok := strings.Cut(text, ":")
		if !ok {
			name, addr, ok = strings.Cut(text, "=")
		}
		var ip netip.Addr
		if addr == hostGateway && ok {
			if ip, err = gateway(o); err != nil {
				return nil, fmt.Errorf("--add-host %q: %w", text, err)
			}
		} else {
			ip, err = netip.ParseAddr(strings.Trim(addr, "[]"))
		}

		if !ok || name == "" || err != nil || strings.ContainsAny(name, " \t\n") {
			return nil, fmt.Errorf("--add-host %q: want NAME:ADDRESS, e.g. db:10.0.0.5", text)
		}
		for n := range strings.SplitSeq(name, ";") {
			out = append(out, runner.HostEntry{Name: n, Addr: ip})
		}
	}

	return out, nil
}

// gateway is the address by which RUN reaches the host. A private network leads everywhere but there.
func gateway(o runner.Options) (netip.Addr, error) {
	if o.Network.Mode != runner.Host {
		return netip.Addr{}, fmt.Errorf("with --network %s the host cannot be reached; with --network host it can", o.Network.Mode)
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
}

// open opens what the flags name; it stays open for the life of the process.
func (f *runFlags) open(o *runner.Options, env lookup) (err error) {
	if f.stdin {
		if o.Stdin, err = stepInput(os.Stdin); err != nil {
			return err
		}
	}

	if o.Volumes, err = parseVolumes(f.volumes); err != nil {
		return err
	}
	if o.Secrets, err = readSecrets(f.secrets, env); err != nil {
		return err
	}

	o.SSH, err = openAgents(f.ssh, env)
	return err
}
