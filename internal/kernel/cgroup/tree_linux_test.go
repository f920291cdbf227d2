package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

// TestClaimAgainstReap claims directories while another reaps: none is taken from its owner, and no
// claim fails.
func TestClaimAgainstReap(t *testing.T) {
	var tree *Tree // in a common directory
	parent := t.TempDir()
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
				tree.reap(parent)
			}
		}
	}()

	for range 3000 {
		dir := filepath.Join(parent, fresh())
		l, err := tree.claim(dir)
		if err != nil {
			t.Error(err)
			break
		}

		if _, err := os.Stat(dir); err != nil {
			t.Errorf("taken from its owner: %v", err)
		}
		if err := tree.rmdir(dir); err != nil {
			t.Error(err)
		}
		if err := l.Leave(); err != nil {
			t.Error(err)
		}
	}

	close(done)
	<-ended
}
