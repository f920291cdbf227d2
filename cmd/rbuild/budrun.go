package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/pkg/build"
	"codeberg.org/rbuild/rbuild/pkg/sandbox"
)

// runFlags say what RUN gets to see.
type runFlags struct {
	network  string
	net      string // buildah's other name for it
	addHosts []string
	dns      []string
	volumes  []string
	secrets  []string
	ssh      []string
}

func (f *runFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.network, "network", "", "network of RUN: host (default), none or private")
	fs.StringVar(&f.net, "net", "", "same as --network")
	_ = fs.MarkHidden("net") // the flag was defined on the line before
	fs.StringArrayVar(&f.addHosts, "add-host", nil, "NAME:ADDRESS for /etc/hosts in RUN")
	fs.StringArrayVar(&f.dns, "dns", nil, "address of a nameserver for RUN, instead of the host's")
	fs.StringArrayVarP(&f.volumes, "volume", "v", nil, "HOST-PATH:PATH[:ro] to bind into RUN")
	fs.StringArrayVar(&f.secrets, "secret", nil, "id=ID[,src=FILE|,env=VARIABLE] for RUN --mount=type=secret")
	fs.StringArrayVar(&f.ssh, "ssh", nil, "ID[=SOCKET|=KEY[,KEY]] for RUN --mount=type=ssh; ID alone is the agent at $SSH_AUTH_SOCK")
}

func (f *runFlags) apply(_ lookup, o *build.Options) (err error) {
	if f.net != "" && f.network != "" {
		return errors.New("--net is the same as --network: give one of them")
	}
	o.Run, err = f.options()
	return err
}

// options reads the flags, but for what has to be opened.
func (f *runFlags) options() (o build.RunOptions, err error) {
	switch network := f.network + f.net; network {
	case "host", "none", "private":
		o.Network = build.Network(network)
	case "default", "":
		o.Network = build.Host
	default:
		return o, fmt.Errorf("--network %q: choose host, none or private", network)
	}
	if o.Network == build.Private {
		if o.NetworkHelper, err = sandbox.FindNetworkHelper(os.Getenv("PATH")); err != nil {
			return o, fmt.Errorf("--network private: %w", err)
		}
	}
	for _, text := range f.addHosts {
		name, addr, ok := strings.Cut(text, ":")
		if !ok {
			name, addr, ok = strings.Cut(text, "=")
		}
		ip, err := netip.ParseAddr(strings.Trim(addr, "[]"))
		if !ok || name == "" || err != nil || strings.ContainsAny(name, " \t\n") {
			return o, fmt.Errorf("--add-host %q: want NAME:ADDRESS, e.g. db:10.0.0.5", text)
		}
		for n := range strings.SplitSeq(name, ";") {
			o.AddHosts = append(o.AddHosts, build.HostEntry{Name: n, Addr: ip})
		}
	}
	for _, text := range f.dns {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return o, fmt.Errorf("--dns %q: want the address of a nameserver", text)
		}
		o.DNS = append(o.DNS, ip)
	}
	return o, nil
}

// open opens what the flags name; it stays open for the life of the process.
func (f *runFlags) open(o *build.RunOptions, env lookup) (err error) {
	if o.Volumes, err = parseVolumes(f.volumes); err != nil {
		return err
	}
	if o.Secrets, err = readSecrets(f.secrets, env); err != nil {
		return err
	}
	o.SSH, err = openAgents(f.ssh, env)
	return err
}

// parseVolumes opens what --volume names; it stays open for the life of the process.
func parseVolumes(list []string) ([]build.Volume, error) {
	var out []build.Volume
	for _, text := range list {
		parts := strings.Split(text, ":")
		if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || !path.IsAbs(parts[1]) {
			return nil, fmt.Errorf("--volume %q: want HOST-PATH:PATH[:ro]", text)
		}
		v := build.Volume{Text: text, Dest: path.Clean(parts[1])}
		if len(parts) == 3 {
			for opt := range strings.SplitSeq(parts[2], ",") {
				switch {
				case opt == "ro":
					v.ReadOnly = true
				case slices.Contains([]string{"rw", "z", "Z"}, opt): // RUN has no SELinux label of its own, so nothing needs z or Z
				default:
					return nil, fmt.Errorf("--volume %q: option %q is not supported (ro, rw, z and Z are)", text, opt)
				}
			}
		}
		var err error
		if v.Source, err = os.Open(parts[0]); err != nil {
			return nil, fmt.Errorf("--volume %q: %w", text, err)
		}
		out = append(out, v)
	}
	return out, nil
}
