package layercheck

import (
	"archive/tar"
	"bytes"
	"errors"
	"strings"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/images/imagetest"
)

func TestCheckLayer(t *testing.T) {
	for _, tc := range imagetest.LayerCases() {
		t.Run(tc.Name, func(t *testing.T) {
			_, err := check(tar.NewReader(bytes.NewReader(imagetest.Tar(t, tc.Entries...))), 0, nil)
			if tc.Reason == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}

			var refused *RefusedError
			if !errors.As(err, &refused) {
				t.Fatalf("got %v, want a refusal", err)
			}
			if tc.Entry != "" && refused.Entry != tc.Entry || !strings.Contains(refused.Error(), tc.Reason) {
				t.Errorf("refused %q because it %s; want %q, %s", refused.Entry, refused.Reason, tc.Entry, tc.Reason)
			}
		})
	}
}

func TestCheckLayerImpossibleSize(t *testing.T) {
	// Those of sparse files; archive/tar refuses the others.
	hdr := &tar.Header{Name: "f", Mode: 0o644, Typeflag: tar.TypeReg}
	for _, size := range []int64{-1, maxEntrySize + 1} {
		hdr.Size = size
		if refuse(hdr) == "" {
			t.Errorf("a size of %d is accepted", size)
		}
	}

	hdr.Size = maxEntrySize
	if reason := refuse(hdr); reason != "" {
		t.Errorf("the largest size is refused: %s", reason)
	}
}

// FuzzCheckLayer looks for tars on which the check panics, or that it accepts
// although a reader of its own sees an escaping name.
func FuzzCheckLayer(f *testing.F) {
	for _, tc := range imagetest.LayerCases() {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for _, e := range tc.Entries {
			if w.WriteHeader(&e.Header) == nil {
				_, _ = w.Write([]byte(e.Content)) // a seed need not be whole
			}
		}
		_ = w.Close() // nor well-formed
		f.Add(buf.Bytes())
	}

	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := check(tar.NewReader(bytes.NewReader(data)), 0, nil); err != nil {
			return
		}
		for tr := tar.NewReader(bytes.NewReader(data)); ; {
			hdr, err := tr.Next()
			if err != nil {
				return
			}
			if name := "/" + hdr.Name + "/"; strings.Contains(name, "/../") {
				t.Errorf("accepted %q", hdr.Name)
			}
		}
	})
}
