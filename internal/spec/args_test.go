package spec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

func environment(pairs ...string) Lookup {
	return func(name string) (string, bool) {
		for _, p := range pairs {
			if key, value, _ := strings.Cut(p, "="); key == name {
				return value, true
			}
		}
		return "", false
	}
}

func TestSetAll(t *testing.T) {
	got := Args{}
	err := got.SetAll([]string{"A=0", "A=1", "B", "C=0", "C", "D="}, environment("B=from the environment"), "--x")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Args{"A": "1", "B": "from the environment", "D": ""}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := got.SetAll([]string{"=1"}, environment(), "--x"); err == nil || !strings.HasPrefix(err.Error(), "--x ") {
		t.Errorf("a name is missing: %v", err)
	}
}

// TestSetNameAlone: a name alone takes the value of the environment, and without a value there removes the argument.
func TestSetNameAlone(t *testing.T) {
	for _, tc := range []struct {
		name string
		env  Lookup
		want Args
	}{
		{"a value", environment("V=env"), Args{"V": "env", "W": "1"}},
		{"an empty value", environment("V="), Args{"V": "", "W": "1"}},
		{"no value", environment(), Args{"W": "1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := Args{"V": "before", "W": "1"}
			if err := got.Set("V", tc.env); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestSetLines(t *testing.T) {
	got := Args{}
	text := "# no=1\nA=1\r\n\nB\nA=2 # part of it\nC=3\nC"
	if err := got.SetLines("args", text, environment("B=b")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Args{"A": "2 # part of it", "B": "b"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := got.SetLines("args", "A=1\n=2", environment()); err == nil || !strings.HasPrefix(err.Error(), "args:2: ") {
		t.Errorf("a name is missing: %v", err)
	}
}

func TestSetProxies(t *testing.T) {
	got := Args{"HTTP_PROXY": "given"}
	got.SetProxies(environment("HTTP_PROXY=a", "no_proxy=b", "OTHER=c"))
	if diff := cmp.Diff(Args{"HTTP_PROXY": "given", "no_proxy": "b"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCommonIDs(t *testing.T) {
	for _, tc := range []struct {
		a, b sandbox.IDRange
		want uint64
	}{
		{sandbox.IDRange{First: 0, Count: 5}, sandbox.IDRange{First: 3, Count: 5}, 2},
		{sandbox.IDRange{First: 0, Count: 3}, sandbox.IDRange{First: 3, Count: 5}, 0},
		{sandbox.IDRange{First: 1, Count: 1<<32 - 1}, sandbox.IDRange{First: 1<<32 - 1, Count: 1}, 1},
	} {
		if got := CommonIDs(tc.a, tc.b); got != tc.want {
			t.Errorf("%v and %v: %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}
