package layercheck

import (
	"archive/tar"
	"bytes"
	"errors"
	"strings"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/images/imagetest"
)

// TestCheckLayerSparse: the holes that the library would write as zeros are in proportion to the
// layer.
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
		for format, data := range imagetest.SparseTars(t, tc.size) {
			_, err := check(tar.NewReader(bytes.NewReader(data)), tc.stored, nil)
			refused := (*RefusedError)(nil)
			if tc.ok != (err == nil) || err != nil && (!errors.As(err, &refused) || refused.Entry != "f" || !strings.Contains(refused.Reason, "sparse")) {
				t.Errorf("%s, %d bytes in a layer of %d: %v", format, tc.size, tc.stored, err)
			}
		}
	}

	// Several count together.
	var two bytes.Buffer
	data := imagetest.SparseTars(t, freeSparse/2+1)["gnu"]
	end := bytes.LastIndexFunc(data, func(r rune) bool { return r != 0 })
	block := data[:(end/512+1)*512]
	for range 2 {
		two.Write(block)
	}
	two.Write(make([]byte, 1024))
	if _, err := check(tar.NewReader(&two), 0, nil); err == nil {
		t.Error("two sparse files of half the bound are accepted")
	}
}
