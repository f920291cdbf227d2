package transfer

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// sparseTars are tars of a file f of size bytes that is a hole, in each format of GNU tar.
func sparseTars(t *testing.T, size int64) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "f"), "")
	if err := os.Truncate(filepath.Join(dir, "f"), size); err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for name, flags := range map[string][]string{
		"gnu": {"--format=gnu"}, "pax 0.0": {"--format=posix", "--sparse-version=0.0"},
		"pax 0.1": {"--format=posix", "--sparse-version=0.1"}, "pax 1.0": {"--format=posix", "--sparse-version=1.0"},
	} {
		cmd := exec.Command("tar", append(flags, "-S", "-C", dir, "-cf", "-", "f")...)
		data, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", cmd, err)
		}
		out[name] = data
	}

	return out
}

// TestCheckLayerSparse: the holes that the library would write as zeros are in proportion to the layer.
func TestCheckLayerSparse(t *testing.T) {
	for _, tc := range []struct {
		size, stored int64
		ok           bool
	}{
		{freeSparse, 0, true},
		{freeSparse + 1, 0, false},
		{freeSparse + 1000, 10, true},
		{freeSparse + 1001, 10, false},
		{1 << 40, 300, false},
	} {
		for format, data := range sparseTars(t, tc.size) {
			_, err := checkLayer(tar.NewReader(bytes.NewReader(data)), tc.stored, nil)
			refused := (*RefusedError)(nil)
			if tc.ok != (err == nil) || err != nil && (!errors.As(err, &refused) || refused.Entry != "f" || !strings.Contains(refused.Reason, "sparse")) {
				t.Errorf("%s, %d bytes in a layer of %d: %v", format, tc.size, tc.stored, err)
			}
		}
	}

	// Several count together.
	var two bytes.Buffer
	data := sparseTars(t, freeSparse/2+1)["gnu"]
	end := bytes.LastIndexFunc(data, func(r rune) bool { return r != 0 })
	block := data[:(end/512+1)*512]
	for range 2 {
		two.Write(block)
	}
	two.Write(make([]byte, 1024))
	if _, err := checkLayer(tar.NewReader(&two), 0, nil); err == nil {
		t.Error("two sparse files of half the bound are accepted")
	}
}

// TestPullRefusesHoles: before the holes are written.
func TestPullRefusesHoles(t *testing.T) {
	for format, data := range sparseTars(t, 1<<40) {
		t.Run(format, func(t *testing.T) {
			st, o, reg := newStore(t), insecure(t), newFakeRegistry(t)
			reg.put(t, "x", "1", makeImage(t, data))
			begun := time.Now()
			_, _, err := Pull(t.Context(), st, reg.host+"/x:1", PullAlways, o)
			if refused := (*RefusedError)(nil); !errors.As(err, &refused) || refused.Entry != "f" {
				t.Errorf("got %v after %v", err, time.Since(begun))
			}
		})
	}
}
