package runner

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestSecurityPaths(t *testing.T) {
	of := func() *specs.Linux {
		return &specs.Linux{MaskedPaths: []string{"/proc/keys", "/proc/kcore"}, ReadonlyPaths: []string{"/proc/sys"}}
	}
	for _, tc := range []struct {
		name             string
		c                Security
		none             bool
		masked, readOnly []string
	}{
		{"defaults", Security{}, false, []string{"/proc/keys", "/proc/kcore"}, []string{"/proc/sys"}},
		{"more and fewer", Security{Mask: []string{"/x"}, Unmask: []string{"/proc/k?ys", "/proc/s*"}}, false, []string{"/proc/kcore", "/x"}, []string{}},
		{"mask wins", Security{Mask: []string{"/proc/keys"}, Unmask: []string{"/proc/k*"}}, false, []string{"/proc/keys"}, []string{"/proc/sys"}},
		{"insecure", Security{Mask: []string{"/x"}}, true, []string{"/x"}, []string{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := of()
			tc.c.paths(l, tc.none)
			if diff := cmp.Diff([][]string{tc.masked, tc.readOnly}, [][]string{l.MaskedPaths, l.ReadonlyPaths}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
