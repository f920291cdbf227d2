package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/runner"
)

// resolverFlags say what RUN finds in /etc/resolv.conf.
type resolverFlags struct {
	servers []string
	search  []string
	options []string
}

func (f *resolverFlags) register(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.servers, "dns", nil, "address of a nameserver for RUN, instead of the host's; none: leave the image's /etc/resolv.conf as it is")
	fs.StringSliceVar(&f.search, "dns-search", nil, "search domain for RUN, instead of the host's; a dot alone: none")
	fs.StringSliceVar(&f.options, "dns-option", nil, "option for the resolver of RUN, beside the host's")
}

func (f *resolverFlags) apply(o *runner.Options) error {
	flag := ""
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

	if flag != "" && o.Network.Mode == runner.None {
		return fmt.Errorf("%s: with --network none there is nobody to ask", flag)
	}

	o.Etc.Search, o.Etc.ResolverOptions = f.search, f.options
	if len(f.servers) == 1 && f.servers[0] == "none" {
		if flag != "--dns" {
			return errors.New(flag + " and --dns none contradict each other: give one of them")
		}
		o.Etc.KeepResolver = true
		return nil
	}

	for _, text := range f.servers {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("--dns %q: want the address of a nameserver", text)
		}
		o.Etc.DNS = append(o.Etc.DNS, ip)
	}

	return nil
}
