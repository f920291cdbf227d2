package layercheck

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/images/imagetest"
)

// TestReaderEndsEarly: nothing waits for the rest of a tar that nobody reads on.
func TestReaderEndsEarly(t *testing.T) {
	data := imagetest.Tar(t, imagetest.File("a", strings.Repeat("a", 1<<20)))
	r := NewReader(t.Context(), strings.NewReader(string(data)), 0, nil)
	if _, err := io.ReadFull(r, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-r.verdict; err == nil {
		t.Error("half a layer was accepted")
	}
	ctx, cancel := context.WithCancel(t.Context())
	r = NewReader(ctx, strings.NewReader(string(data)), 0, nil)
	cancel()
	if _, err := io.ReadAll(r); !errors.Is(err, context.Canceled) {
		t.Errorf("reading after the end of the context: %v", err)
	}
}
