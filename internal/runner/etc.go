package runner

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

// The files of /etc that are bound over the image's files.
const (
	hostsFile    = "/etc/hosts"
	resolverFile = "/etc/resolv.conf"
	hostnameFile = "/etc/hostname"
)

// etcFiles are the contents of the files of /etc that depend on where a process runs.
type etcFiles struct{ hosts, resolv, hostname []byte }

// hostFiles reads the host's files. Files that the host lacks are empty.
func hostFiles() etcFiles {
	var f etcFiles
	f.hosts, _ = os.ReadFile(hostsFile)
	f.resolv, _ = os.ReadFile(resolverFile)
	return f
}

// etc returns the contents for a process. On the host's network the process sees the host's names
// and resolvers.
func (o Options) etc(host etcFiles, c Command) etcFiles {
	network := o.Network.of(c)
	nameservers := o.Etc.DNS
	if network == Private && len(nameservers) == 0 {
		nameservers = []netip.Addr{sandbox.Nameserver(o.Network.Helper)}
	}

	var hosts bytes.Buffer
	if network == Host && len(host.hosts) > 0 {
		hosts.Write(host.hosts)
		if !bytes.HasSuffix(host.hosts, []byte("\n")) {
			hosts.WriteByte('\n')
		}
	} else {
		hosts.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	}
	fmt.Fprintf(&hosts, "127.0.0.1\t%s\n", c.hostname())
	for _, h := range o.Etc.Hosts {
		fmt.Fprintf(&hosts, "%s\t%s\n", h.Addr, h.Name)
	}

	return etcFiles{
		hosts:    hosts.Bytes(),
		resolv:   o.Etc.resolvConf(host.resolv, nameservers),
		hostname: []byte(c.hostname() + "\n"),
	}
}

// resolvConf changes the host's resolv.conf(5): nameservers and search domains replace the host's
// if any are given, and options are added.
func (e Etc) resolvConf(host []byte, nameservers []netip.Addr) []byte {
	if len(nameservers) == 0 && len(e.Search) == 0 && len(e.ResolverOptions) == 0 {
		return host
	}

	var out bytes.Buffer
	for sc := bufio.NewScanner(bytes.NewReader(host)); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) == 0 {
			continue
		}

		var keep bool
		switch fields[0] {
		case "nameserver":
			keep = len(nameservers) == 0
		case "search", "domain":
			keep = len(e.Search) == 0
		case "options", "sortlist":
			keep = true
		}
		if keep {
			out.WriteString(sc.Text() + "\n")
		}
	}

	for _, ns := range nameservers {
		out.WriteString("nameserver " + ns.String() + "\n")
	}
	if len(e.Search) > 0 && !slices.Equal(e.Search, []string{"."}) {
		out.WriteString("search " + strings.Join(e.Search, " ") + "\n")
	}
	if len(e.ResolverOptions) > 0 { // options of several lines add up
		out.WriteString("options " + strings.Join(e.ResolverOptions, " ") + "\n")
	}

	return out.Bytes()
}

// explainEtc explains that a process could not write to a file of /etc, or replace it, if the
// output of the process complains of that.
func (e Etc) explainEtc(c Command, complaints []string) string {
	var text strings.Builder
	text.WriteString(strings.Join(c.Argv, " "))
	for _, f := range c.Files {
		text.Write(f.Data)
	}
	command := text.String()

	for _, f := range []struct {
		name, flag string
		kept       bool // the process sees the image's file
	}{
		{hostsFile, "--no-hosts", e.KeepHosts},
		{resolverFile, "--dns none", e.KeepResolver},
		{hostnameFile, "--no-hostname", e.KeepHostname},
	} {
		refused := func(line string) bool {
			line = strings.ToLower(line)
			busy := strings.Contains(line, "resource busy")
			if busy && strings.Contains(command, f.name) {
				return true // some programs name only the file that was to replace it
			}
			return strings.Contains(line, f.name) && (busy || strings.Contains(line, "read-only file system"))
		}
		if !f.kept && slices.ContainsFunc(complaints, refused) {
			return fmt.Sprintf("%s is read-only for the command and in no image; "+
				"%s shows the command the image's own file, which it can change", f.name, f.flag)
		}
	}

	return ""
}
