package build

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/pkg/plan"
)

func TestEtc(t *testing.T) {
	host := etcFiles{
		hosts:  []byte("127.0.0.1 localhost\n10.1.1.1 intranet"),
		resolv: []byte("# a comment\nsearch example.org\nnameserver 192.0.2.1\noptions ndots:2\n"),
	}
	db := HostEntry{"db", netip.MustParseAddr("10.0.0.5")}
	for _, tc := range []struct {
		name          string
		options       RunOptions
		network       Network
		hosts, resolv string
	}{
		{"host", RunOptions{}, Host, "127.0.0.1 localhost\n10.1.1.1 intranet\n127.0.0.1\trbuild\n", string(host.resolv)},
		{
			"none does not know the host's names",
			RunOptions{AddHosts: []HostEntry{db}},
			None,
			"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\trbuild\n10.0.0.5\tdb\n", string(host.resolv),
		},
		{
			"dns replaces nameservers only",
			RunOptions{DNS: []netip.Addr{netip.MustParseAddr("192.0.2.9")}},
			Host,
			"127.0.0.1 localhost\n10.1.1.1 intranet\n127.0.0.1\trbuild\n",
			"search example.org\noptions ndots:2\nnameserver 192.0.2.9\n",
		},
		{
			"private asks the helper",
			RunOptions{NetworkHelper: "/usr/bin/slirp4netns"},
			Private,
			"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\trbuild\n",
			"search example.org\noptions ndots:2\nnameserver 10.0.2.3\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tc.options.etc(host, tc.network, "rbuild")
			if diff := cmp.Diff(tc.hosts, string(got.hosts)); diff != "" {
				t.Errorf("hosts (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.resolv, string(got.resolv)); diff != "" {
				t.Errorf("resolv.conf (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIngredients(t *testing.T) {
	o := RunOptions{Network: Private, AddHosts: []HostEntry{{"db", netip.MustParseAddr("10.0.0.5")}}, Volumes: []Volume{{Text: "/a:/b"}}}
	for _, tc := range []struct {
		name string
		op   plan.Op
		want []string
	}{
		{"run", &plan.Run{}, []string{"network=private", "host=db=10.0.0.5", "volume=/a:/b"}},
		{"its own network wins", &plan.Run{Network: "none"}, []string{"network=none", "host=db=10.0.0.5", "volume=/a:/b"}},
		{"default is the command line's", &plan.Run{Network: "default"}, []string{"network=private", "host=db=10.0.0.5", "volume=/a:/b"}},
		{"copy", &plan.Copy{}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, o.ingredients(tc.op)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWithHome(t *testing.T) {
	env := []string{"A=b"}
	if diff := cmp.Diff([]string{"A=b", "HOME=/root"}, withHome(env, "/root")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	own := []string{"HOME=/app"}
	if diff := cmp.Diff(own, withHome(own, "/root")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
