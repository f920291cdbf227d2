package memory

import (
	"bytes"
	"io"
	"testing"

	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// TestZerosAtTheEnd: the last file of a spool ends in zeros that were not written.
func TestZerosAtTheEnd(t *testing.T) {
	const size, text = 8192, "begins"
	tree := newTree(t)
	f, err := tree.Root().Create("f", size)
	check(t, err)
	_, err = f.WriteAt([]byte(text), 0)
	check(t, err)
	check(t, f.Truncate(size))
	check(t, f.Close())

	in, _, err := tree.Root().OpenFile("f")
	check(t, err)
	got, err := io.ReadAll(in)
	check(t, err)
	if want := append([]byte(text), make([]byte, size-len(text))...); !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d", len(got), size)
	}
	_, err = tree.WriteAll(t.Context(), io.Discard, commit.TarOptions{Merged: true})
	check(t, err)
}
