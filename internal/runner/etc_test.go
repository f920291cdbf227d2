package runner

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEtc(t *testing.T) {
	host := etcFiles{
		hosts:  []byte("127.0.0.1 localhost\n10.1.1.1 intranet"),
		resolv: []byte("# a comment\nsearch example.org\nnameserver 192.0.2.1\noptions ndots:2\n"),
	}

	db := HostEntry{"db", netip.MustParseAddr("10.0.0.5")}
	for _, tc := range []struct {
		name          string
		etc           Etc
		network       NetworkMode
		hosts, resolv string
	}{
		{"host", Etc{}, Host, "127.0.0.1 localhost\n10.1.1.1 intranet\n127.0.0.1\trbuild\n", string(host.resolv)},
		{
			"none does not know the host's names",
			Etc{Hosts: []HostEntry{db}},
			None,
			"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\trbuild\n10.0.0.5\tdb\n", string(host.resolv),
		},
		{
			"dns replaces nameservers only",
			Etc{DNS: []netip.Addr{netip.MustParseAddr("192.0.2.9")}},
			Host,
			"127.0.0.1 localhost\n10.1.1.1 intranet\n127.0.0.1\trbuild\n",
			"search example.org\noptions ndots:2\nnameserver 192.0.2.9\n",
		},
		{
			"private asks the helper",
			Etc{},
			Private,
			"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\trbuild\n",
			"search example.org\noptions ndots:2\nnameserver 10.0.2.3\n",
		},
		{
			"search replaces, options add",
			Etc{Search: []string{"a", "b"}, ResolverOptions: []string{"timeout:1", "rotate"}},
			None,
			"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\trbuild\n",
			"nameserver 192.0.2.1\noptions ndots:2\nsearch a b\noptions timeout:1 rotate\n",
		},
		{
			"no search",
			Etc{Search: []string{"."}},
			None,
			"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\trbuild\n",
			"nameserver 192.0.2.1\noptions ndots:2\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := Options{Network: Network{Helper: "/usr/bin/slirp4netns"}, Etc: tc.etc}
			got := o.etc(host, Command{Network: tc.network})
			if diff := cmp.Diff(tc.hosts, string(got.hosts)); diff != "" {
				t.Errorf("hosts (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.resolv, string(got.resolv)); diff != "" {
				t.Errorf("resolv.conf (-want +got):\n%s", diff)
			}
		})
	}
}
