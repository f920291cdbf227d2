package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/internal/spec"
)

// networkFlags choose the network of RUN and its files below /etc.
type networkFlags struct {
	network  string
	net      string // buildah's other name for network
	addHosts []string
	noHosts  bool
	noName   bool
	servers  []string
	search   []string
	options  []string
}

func (f *networkFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectNetwork, func(fs *pflag.FlagSet) {
		fs.StringVar(&f.network, "network", "", "Network of RUN: host (default), none or private")
		fs.StringVar(&f.net, "net", "", "Same as --network")
		hide(fs, "net")
		fs.StringSliceVar(&f.addHosts, "add-host", nil,
			"Line NAME:ADDRESS of /etc/hosts in RUN, e.g. db:10.0.0.5; ADDRESS may be host-gateway")
		fs.BoolVar(&f.noHosts, "no-hosts", false, "Keep the image's /etc/hosts")
		fs.BoolVar(&f.noName, "no-hostname", false, "Keep the image's /etc/hostname")
		fs.StringSliceVar(&f.servers, "dns", nil,
			"Address of a nameserver for RUN, in place of the host's, e.g. 192.0.2.1; none: "+
				"keep the image's /etc/resolv.conf")
		fs.StringSliceVar(&f.search, "dns-search", nil,
			"Search domain for RUN, in place of the host's, e.g. example.com; a dot alone: none")
		fs.StringSliceVar(&f.options, "dns-option", nil,
			"Option for the resolver of RUN, beside the host's, e.g. timeout:2")
	})
}

func (f *networkFlags) parse(_ *Host, b *spec.Build) (err error) {
	if f.net != "" && f.network != "" {
		return errors.New("--net is the same as --network: give one of them")
	}

	n := &b.Network
	switch mode := runner.NetworkMode(f.network + f.net); mode {
	case runner.Host, runner.None, runner.Private:
		n.Mode = mode
	case "default", "":
		n.Mode = runner.Host
	default:
		return fmt.Errorf("--network %q: choose host, none or private", mode)
	}
	n.From = "--network " + string(n.Mode)

	n.KeepHosts = f.noHosts
	n.KeepHostname = f.noName
	if f.noHosts && len(f.addHosts) > 0 {
		return errors.New("--no-hosts and --add-host contradict each other: give one of them")
	}
	if n.Hosts, err = parseHosts(f.addHosts, n.Mode); err != nil {
		return err
	}
	return f.resolver(n)
}

// hostGateway stands for the host in --add-host.
const hostGateway = "host-gateway"

// parseHosts reads --add-host: NAME:ADDRESS, or several names with semicolons between them.
func parseHosts(list []string, network runner.NetworkMode) (out []runner.HostEntry, err error) {
	for _, text := range list {
		name, addr, ok := strings.Cut(text, ":")
		if !ok {
			name, addr, ok = strings.Cut(text, "=")
		}

		var ip netip.Addr
		if addr == hostGateway && ok {
			if ip, err = gateway(network); err != nil {
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

// gateway returns the address by which RUN reaches the host. A private network does not lead to the host.
func gateway(network runner.NetworkMode) (netip.Addr, error) {
	if network != runner.Host {
		return netip.Addr{}, fmt.Errorf("with --network %s the host cannot be reached; with --network host it can",
			network)
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
}

// resolver sets the content of /etc/resolv.conf.
func (f *networkFlags) resolver(n *spec.Network) error {
	flag := "" // the last of the flags that is given
	for _, g := range []struct {
		name  string
		given []string
	}{{"--dns", f.servers}, {"--dns-search", f.search}, {"--dns-option", f.options}} {
		if len(g.given) > 0 {
			flag = g.name
		}
		for _, word := range g.given {
			if word == "" || strings.ContainsAny(word, " \t\r\n#") {
				return fmt.Errorf("%s %q: want one word", g.name, word)
			}
		}
	}

	if flag != "" && n.Mode == runner.None {
		return fmt.Errorf("%s: with --network none there is nobody to ask", flag)
	}

	n.Search = f.search
	n.ResolverOptions = f.options
	if len(f.servers) == 1 && f.servers[0] == "none" {
		if flag != "--dns" {
			return errors.New(flag + " and --dns none contradict each other: give one of them")
		}
		n.KeepResolver = true
		return nil
	}

	for _, text := range f.servers {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("--dns %q: want the address of a nameserver", text)
		}
		n.DNS = append(n.DNS, ip)
	}
	return nil
}
