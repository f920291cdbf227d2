package runner

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/source/sshagent"
)

func TestDiscarded(t *testing.T) {
	c := Command{Volumes: []string{"/b", "/a/b/", "/a/b/c", "rel", "/a-b", "/a/b"}}
	if got := (Options{}).discarded(c); got != nil {
		t.Errorf("without --compat-volumes: %q", got)
	}
	o := Options{CompatVolumes: true}
	if diff := cmp.Diff([]string{"/a-b", "/a/b", "/b", "/rel"}, o.discarded(c)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDiscards: a volume at or in another mount needs no mount of its own.
func TestDiscards(t *testing.T) {
	o := Options{CompatVolumes: true, Volumes: []Volume{{Dest: "/b"}}}
	c := Command{
		Volumes: []string{"/a-b", "/a/b", "/b", "/rel", "/proc", "/dev/x", "/etc/hosts"},
		Mounts:  []Mount{{Target: "/a-b"}},
	}
	list, err := o.discards(c, []mount{{target: "/etc/hosts"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range list {
		got = append(got, m.target)
	}
	if diff := cmp.Diff([]string{"/a/b", "/rel"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	if _, err := o.discards(Command{Volumes: []string{"/"}}, nil); err == nil {
		t.Error("the volume / is accepted")
	}
}

func TestEnvironment(t *testing.T) {
	name := "TOKEN"
	secret := Mount{Source: Secret{ID: "s", Env: &name}}
	for _, tc := range []struct {
		name string
		env  []string
		want []string
	}{
		{"HOME is added", []string{"A=b"}, []string{"A=b", "TOKEN=x", "HOME=/root"}},
		{"HOME stays", []string{"HOME=/app"}, []string{"HOME=/app", "TOKEN=x"}},
		{"a secret wins", []string{"TOKEN=old", "HOME=/app"}, []string{"HOME=/app", "TOKEN=x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := Options{Secrets: map[string][]byte{"s": []byte("x")}}
			c := Command{Env: tc.env, Mounts: []Mount{secret}}
			if diff := cmp.Diff(tc.want, o.environment(c, "/root")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// show describes a mount on one line.
func (m mount) show() string {
	return fmt.Sprintf("%s %s %s %T", m.target, m.kind, strings.Join(m.options, ","), m.source)
}

// TestLayout: the mounts beside docker's, in the order in which they are made.
func TestLayout(t *testing.T) {
	ro := Mount{Target: "/ro", ReadOnly: true, Attributes: []string{"noexec"}, Source: Bind{}}
	etc := []string{
		"/etc/hosts bind ro,bind runner.ownFile", "/etc/resolv.conf bind ro,bind runner.ownFile", "/etc/hostname bind ro,bind runner.ownFile",
	}
	for _, tc := range []struct {
		name    string
		options Options
		command Command
		want    []string
		err     string
	}{
		{name: "nothing", want: etc},
		{name: "the image's own files", options: Options{Etc: Etc{KeepHosts: true, KeepResolver: true, KeepHostname: true}}},
		{
			name:    "files of the command",
			command: Command{Files: []File{{Path: "/dev/pipes/EOF"}}},
			want:    append(slices.Clone(etc), "/dev/pipes/EOF bind ro,bind runner.ownFile"),
		},
		{
			name: "devices, discarded volumes, files, volumes, mounts",
			options: Options{
				Etc:           Etc{KeepResolver: true, KeepHostname: true},
				Devices:       []Device{{Dest: "/dev/fuse"}},
				Volumes:       []Volume{{Dest: "/v", ReadOnly: true, Options: []string{"nodev"}}, {Dest: "/w"}},
				CompatVolumes: true,
			},
			command: Command{Volumes: []string{"/data"}, Mounts: []Mount{ro, {Target: "/c", Source: Cache{}}}},
			want: []string{
				"/dev/fuse bind bind,dev,nosuid,noexec runner.Device", "/data bind bind,rw runner.discard", "/etc/hosts bind ro,bind runner.ownFile",
				"/v bind rbind,ro,nodev runner.Volume", "/w bind rbind,rw runner.Volume", "/ro bind bind,ro,noexec runner.Bind",
				"/c bind bind,rw runner.Cache",
			},
		},
		{
			name:    "a mount replaces a file and a volume",
			options: Options{Volumes: []Volume{{Dest: "/v"}}, Etc: Etc{KeepResolver: true, KeepHostname: true}},
			command: Command{Mounts: []Mount{{Target: "/etc/hosts", Source: Bind{}}, {Target: "/v", Source: Tmpfs{Size: 9}}}},
			want:    []string{"/etc/hosts bind bind,rw runner.Bind", "/v tmpfs nosuid,size=9 <nil>"},
		},
		{
			name: "secrets and agents that the options lack replace nothing",
			command: Command{Mounts: []Mount{
				{Target: "/etc/hosts", Source: Secret{ID: "s"}}, {Target: "/s", Source: SSH{ID: "s"}},
			}},
			want: etc,
		},
		{
			name: "secrets and agents",
			options: Options{
				Secrets: map[string][]byte{"s": nil}, SSH: map[string]*sshagent.Agent{"a": {}},
				Etc: Etc{KeepHosts: true, KeepResolver: true, KeepHostname: true},
			},
			command: Command{Mounts: []Mount{
				{Target: "/s", Source: Secret{ID: "s"}}, {Source: Secret{ID: "s"}}, {Target: "/a", Source: SSH{ID: "a"}},
			}},
			want: []string{"/s bind bind,ro,nosuid,nodev,noexec runner.Secret", "/a bind bind,ro,nosuid,nodev,noexec runner.SSH"},
		},
		{
			name:    "a required secret",
			command: Command{Mounts: []Mount{{Target: "/s", Source: Secret{ID: "s", Required: true}}}},
			err:     `--mount: target /s: secret "s" is required: give it with --secret id=s,src=FILE or --secret id=s,env=VARIABLE`,
		},
		{
			name:    "a required agent",
			command: Command{Mounts: []Mount{{Target: "/s", Source: SSH{ID: "s", Required: true}}}},
			err:     `--mount: target /s: ssh agent "s" is required: give it with --ssh s, or --ssh s=KEY-OR-SOCKET`,
		},
		{
			name:    "the volume /",
			options: Options{CompatVolumes: true}, command: Command{Volumes: []string{"."}},
			err: "--compat-volumes: the volume / is all of the image",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			list, err := tc.options.layout(tc.command, etcFiles{})
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Errorf("error %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range list[len(sandbox.DefaultSpec().Mounts):] {
				got = append(got, m.show())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLayoutShmSize(t *testing.T) {
	size := int64(1 << 20)
	list, err := Options{Limits: Limits{ShmSize: &size}}.layout(Command{}, etcFiles{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range list {
		if m.target == "/dev/shm" {
			got = append(got, m.options...)
		}
	}
	got = slices.DeleteFunc(got, func(o string) bool { return !strings.HasPrefix(o, "size=") })
	if diff := cmp.Diff([]string{"size=1048576"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTmpfsOptions(t *testing.T) {
	mode := uint32(0o700)
	got := Tmpfs{Size: 7, Mode: &mode}.options(Mount{ReadOnly: true, Attributes: []string{"noexec"}})
	if diff := cmp.Diff([]string{"nosuid", "noexec", "ro", "size=7", "mode=700"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSocketVariable: SSH_AUTH_SOCK is the first socket as the user wrote the mounts, unless the
// variable exists.
func TestSocketVariable(t *testing.T) {
	o := Options{SSH: map[string]*sshagent.Agent{"a": {}, "b": {}}}
	mounts := []Mount{
		{Target: "/none", Number: 0, Source: SSH{ID: "none"}}, {Target: "/b", Number: 2, Source: SSH{ID: "b"}}, {Target: "/a", Number: 1, Source: SSH{ID: "a"}},
	}
	for _, tc := range []struct {
		name      string
		env, want []string
	}{
		{"first", []string{"HOME=/"}, []string{"HOME=/", "SSH_AUTH_SOCK=/a"}},
		{"there already", []string{"HOME=/", "SSH_AUTH_SOCK=/own"}, []string{"HOME=/", "SSH_AUTH_SOCK=/own"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, o.environment(Command{Env: tc.env, Mounts: mounts}, "/root")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestCheck: a command gets the host's network only if the options have it or allow it.
func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		network Network
		command NetworkMode
		want    bool // allowed
	}{
		{Network{}, Host, true},
		{Network{Mode: Host}, Host, true},
		{Network{Mode: None}, Host, false},
		{Network{Mode: Private}, Host, false},
		{Network{Mode: Private, AllowHost: true}, Host, true},
		{Network{Mode: None}, "", true},
		{Network{}, None, true},
	} {
		if err := (Options{Network: tc.network}).Check(Command{Network: tc.command}); (err == nil) != tc.want {
			t.Errorf("%+v, command %q: %v", tc.network, tc.command, err)
		}
	}
}
