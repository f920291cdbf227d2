package fdfs

import (
	"strings"
	"testing"
)

// TestReadFile: only a regular file inside the root is read, and only up to the bound.
func TestReadFile(t *testing.T) {
	outside := tree(t, "secret")
	dir := tree(t, "d/", "d/f", "link -> /d/f", "out -> "+outside.Name()+"/secret", "loop -> loop")
	if err := MknodAt(dir, "fifo", Fifo, 0o600, 0); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		path  string
		limit int64
		want  string
		err   string
	}{
		{path: "/d/f", limit: 3, want: "d/f"},
		{path: "link", limit: 10, want: "d/f"},
		{path: "d/f", limit: 2, err: "d/f has more than 2 bytes"},
		{path: "no", limit: 10, err: "not exist"},
		{path: "out", limit: 10, err: "no such file"},
		{path: "d", limit: 10, err: "d is a directory"},
		{path: "fifo", limit: 10, err: "fifo is a fifo"},
		{path: "loop", limit: 10, err: "levels"},
		{path: "d/f/x", limit: 10, err: "not a directory"},
	} {
		t.Run(tc.path, func(t *testing.T) {
			got, err := ReadFile(OnDisk(dir), tc.path, tc.limit)
			if tc.err == "" && (err != nil || string(got) != tc.want) {
				t.Errorf("%q, %v, want %q", got, err, tc.want)
			}
			if tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want one that says %q", err, tc.err)
			}
		})
	}
}
