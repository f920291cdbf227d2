package builder

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/source/sshagent"
)

// Network is the network of RUN steps.
type Network string

// The networks of --network. The zero value is Host.
const (
	Host    Network = "host"    // that of the host
	None    Network = "none"    // a loopback interface, no more
	Private Network = "private" // a namespace joined to the host's by pasta or slirp4netns
)

// RunOptions is what the command line says of RUN steps.
type RunOptions struct {
	Confinement

	Network Network
	// AllowHost lets RUN --network=host have the host's network also where Network is another.
	AllowHost bool
	AddHosts  []HostEntry                // lines of /etc/hosts
	DNS       []netip.Addr               // nameservers instead of the host's
	Search    []string                   // search domains instead of the host's; "." alone: none
	Volumes   []Volume                   // directories and files of the host, bound in
	Secrets   map[string][]byte          // by id, for --mount=type=secret; they enter no key, no log and no layer
	SSH       map[string]*sshagent.Agent // by id, for --mount=type=ssh
	Stdin     *os.File                   // standard input of every step; nil: there is none

	ResolverOptions []string // options of resolv.conf(5) beside the host's
	// NoHosts, NoHostname and NoResolver leave the image's own file in place of one bound over it.
	NoHosts, NoHostname, NoResolver bool
	// CompatVolumes throws away what a step writes into the image's volumes.
	CompatVolumes bool
	// NewCgroup makes the cgroup of one step, with its limits; a nil one: there is none to be had. Nil: no step has one.
	NewCgroup func(ctx context.Context) (*cgroup.Group, error)
	// NetworkHelper is the path of pasta or slirp4netns, for Private.
	NetworkHelper string
}

// HostEntry is a name that RUN steps resolve by /etc/hosts.
type HostEntry struct {
	Name string
	Addr netip.Addr
}

// Volume binds a path of the host into RUN steps.
type Volume struct {
	Source   *os.File // pinned when the command line was read
	Text     string   // as the command line has it
	Dest     string   // absolute path in the image
	ReadOnly bool
	Overlay  bool     // Source is a directory; what a step writes there is thrown away
	Options  []string // nosuid, nodev, noexec
}

// network is the network of one RUN: its own flag wins over the command line.
func (o RunOptions) network(op *plan.Run) Network {
	switch {
	case op.Network == "none":
		return None
	case op.Network == "host":
		return Host
	case o.Network == "":
		return Host
	}
	return o.Network
}

// refuse is the error of a RUN whose own flag asks for more than the command line grants.
func (o RunOptions) refuse(op *plan.Run) error {
	if op.Network == "host" && (o.Network == None || o.Network == Private) && !o.AllowHost {
		return fmt.Errorf("RUN --network=host is refused: the build was started with --network=%s (--allow network.host lets it)", o.Network)
	}
	return nil
}

// ingredients are the options that enter the key of a step. The contents of volumes do not: as with other engines they
// are the user's word that the result does not depend on them (docs/cache.md).
func (o RunOptions) ingredients(op plan.Op) []string {
	run, ok := op.(*plan.Run)
	if !ok {
		return nil
	}

	out := []string{"network=" + string(o.network(run))}
	for _, h := range o.AddHosts {
		out = append(out, "host="+h.Name+"="+h.Addr.String())
	}
	for _, v := range o.Volumes {
		out = append(out, "volume="+v.Text)
	}
	for _, flag := range []struct {
		set  bool
		name string
	}{{o.NoHosts, "no hosts"}, {o.NoHostname, "no hostname"}, {o.NoResolver, "no resolver"}, {o.Stdin != nil, "stdin"}} {
		if flag.set {
			out = append(out, flag.name)
		}
	}

	return append(out, o.Confinement.ingredients(run.Insecure)...)
}

// hostname is the name of the host that a RUN sees: unless a build argument gives one, the same in every build.
func hostname(op *plan.Run) string {
	if op.Hostname != "" {
		return op.Hostname
	}
	return "rbuild"
}

// The files of /etc that are bound over the image's.
const hostsFile, resolverFile, hostnameFile = "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"

// writtenEtc explains that a step could not write to one of these files, or replace it, if its output complains of that.
func (o RunOptions) writtenEtc(op *plan.Run, complaints []string) string {
	var text strings.Builder
	text.WriteString(strings.Join(op.Argv, " "))
	for _, f := range op.Files {
		text.Write(f.Data)
	}
	command := text.String()

	for _, f := range []struct {
		name, flag string
		own        bool // of the image
	}{
		{hostsFile, "--no-hosts", o.NoHosts}, {resolverFile, "--dns none", o.NoResolver}, {hostnameFile, "--no-hostname", o.NoHostname},
	} {
		refused := func(line string) bool {
			line = strings.ToLower(line)
			if strings.Contains(line, "resource busy") && strings.Contains(command, f.name) {
				return true // some programs name only the file that was to take its place
			}
			return strings.Contains(line, f.name) && (strings.Contains(line, "read-only file system") || strings.Contains(line, "resource busy"))
		}
		if !f.own && slices.ContainsFunc(complaints, refused) {
			return fmt.Sprintf("%s is the builder's in RUN, read-only and in no image; %s gives RUN the image's own, which it can change", f.name, f.flag)
		}
	}

	return ""
}

// etcFiles are the files of /etc that depend on where a step runs. They are bound over the image's for its duration.
type etcFiles struct{ hosts, resolv, hostname []byte }

// hostFiles reads what the host has of them. Files that it lacks are empty.
func hostFiles() etcFiles {
	var f etcFiles
	f.hosts, _ = os.ReadFile("/etc/hosts")
	f.resolv, _ = os.ReadFile("/etc/resolv.conf")
	return f
}

// etc makes the files for a step. On the host's network it sees the host's names and resolvers.
func (o RunOptions) etc(host etcFiles, network Network, hostname string) etcFiles {
	var hosts bytes.Buffer
	if network == Host && len(host.hosts) > 0 {
		hosts.Write(host.hosts)
		if !bytes.HasSuffix(host.hosts, []byte("\n")) {
			hosts.WriteByte('\n')
		}
	} else {
		hosts.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	}

	fmt.Fprintf(&hosts, "127.0.0.1\t%s\n", hostname)
	for _, h := range o.AddHosts {
		fmt.Fprintf(&hosts, "%s\t%s\n", h.Addr, h.Name)
	}
	nameservers := o.DNS
	if network == Private && len(nameservers) == 0 {
		nameservers = []netip.Addr{sandbox.Nameserver(o.NetworkHelper)}
	}
	return etcFiles{hosts: hosts.Bytes(), resolv: o.resolvConf(host.resolv, nameservers), hostname: []byte(hostname + "\n")}
}

// resolvConf changes a resolv.conf(5): nameservers and search domains take the place of its own if any are given, and
// options are added.
func (o RunOptions) resolvConf(host []byte, nameservers []netip.Addr) []byte {
	if len(nameservers) == 0 && len(o.Search) == 0 && len(o.ResolverOptions) == 0 {
		return host
	}

	var out bytes.Buffer
	for sc := bufio.NewScanner(bytes.NewReader(host)); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) == 0 {
			continue
		}

		switch fields[0] {
		case "nameserver":
			if len(nameservers) > 0 {
				continue
			}
		case "search", "domain":
			if len(o.Search) > 0 {
				continue
			}
		case "options", "sortlist":
		default:
			continue
		}

		out.WriteString(sc.Text() + "\n")
	}

	for _, ns := range nameservers {
		out.WriteString("nameserver " + ns.String() + "\n")
	}
	if len(o.Search) > 0 && !slices.Equal(o.Search, []string{"."}) {
		out.WriteString("search " + strings.Join(o.Search, " ") + "\n")
	}
	if len(o.ResolverOptions) > 0 { // those of several lines add up
		out.WriteString("options " + strings.Join(o.ResolverOptions, " ") + "\n")
	}

	return out.Bytes()
}
