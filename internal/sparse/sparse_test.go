package sparse

import (
	"strings"
	"testing"
)

func TestWarning(t *testing.T) {
	for name, want := range map[string][]string{
		"/var/log/lastlog": {"/var/log/lastlog", "512GiB", "4KiB", "useradd --no-log-init"},
		"source disk.img":  {"source disk.img", "shorten it"},
	} {
		got := Warning(name, 512<<30, 4096)
		for _, part := range want {
			if !strings.Contains(got, part) {
				t.Errorf("%q lacks %q", got, part)
			}
		}
	}
}
