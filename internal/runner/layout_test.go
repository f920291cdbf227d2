package runner

import (
	"testing"

	"github.com/google/go-cmp/cmp"
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
