package builder

import (
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
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
		{
			"search replaces, options add",
			RunOptions{Search: []string{"a", "b"}, ResolverOptions: []string{"timeout:1", "rotate"}},
			None,
			"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\trbuild\n",
			"nameserver 192.0.2.1\noptions ndots:2\nsearch a b\noptions timeout:1 rotate\n",
		},
		{
			"no search",
			RunOptions{Search: []string{"."}},
			None,
			"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\trbuild\n",
			"nameserver 192.0.2.1\noptions ndots:2\n",
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

func TestIngredientsOfFlags(t *testing.T) {
	o := RunOptions{NoHosts: true, NoHostname: true, NoResolver: true, Stdin: os.Stdin}
	want := []string{"network=host", "no hosts", "no hostname", "no resolver", "stdin"}
	if diff := cmp.Diff(want, o.ingredients(&plan.Run{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCompatVolumes(t *testing.T) {
	s := &stage{builder: &builder{}, snapshot: &snapshot{}}
	s.config.Config.Volumes = map[string]struct{}{"/b": {}, "/a/b/": {}, "/a/b/c": {}, "rel": {}, "/a-b": {}, "/a/b": {}}
	if got := s.compatVolumes(); got != nil {
		t.Errorf("without --compat-volumes: %q", got)
	}
	s.Run.CompatVolumes = true
	if diff := cmp.Diff([]string{"/a-b", "/a/b", "/b", "/rel"}, s.compatVolumes()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	s.Run.Volumes = []Volume{{Dest: "/b"}}
	op := &plan.Run{Mounts: []plan.Mount{{Mount: instructions.Mount{Target: "/a-b"}}}}
	var taken []string
	for _, v := range []string{"/a-b", "/a/b", "/b", "/rel", "/proc", "/dev/x", "/etc/hosts"} {
		if s.taken(v, op, []runFile{{dest: "/etc/hosts"}}) {
			taken = append(taken, v)
		}
	}

	if diff := cmp.Diff([]string{"/a-b", "/b", "/proc", "/dev/x", "/etc/hosts"}, taken); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
}

func TestImageOptionsEdit(t *testing.T) {
	var image instructions.Image
	image.Config.Env = []string{"A=1", "AB=2", "C=3"}
	image.Config.Labels = map[string]string{"old": "1", "gone": "1"}
	o := ImageOptions{
		Labels: []Label{{"new", "1"}, {"old", "2"}, {"given", "1"}}, UnsetLabels: []string{"gone", "given", "none"}, UnsetEnv: []string{"A", "none"},
	}
	got := o.edit(image)
	if diff := cmp.Diff(map[string]string{"old": "2", "new": "1"}, got.Config.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"AB=2", "C=3"}, got.Config.Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if len(image.Config.Labels) != 2 || image.Config.Env[0] != "A=1" || image.Config.Labels["old"] != "1" {
		t.Errorf("changed in place: %+v", image.Config)
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
