package rootfs_test

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

func TestStored(t *testing.T) {
	want := commit.Layer{ID: "x", DiffID: digest.FromString("x")}
	job := rootfs.Stored(want)
	got, err := job.Wait(t.Context())
	if err != nil || got.ID != want.ID {
		t.Errorf("got %+v, %v", got, err)
	}
	if l, found := job.Found(); !found || l.DiffID != want.DiffID {
		t.Errorf("Found returns %+v, %v", l, found)
	}
}

// TestGo waits for a Job that succeeds and for a Job that fails.
func TestGo(t *testing.T) {
	broken := errors.New("the disk is full")
	for name, want := range map[string]error{"stored": nil, "failed": broken} {
		t.Run(name, func(t *testing.T) {
			finish := make(chan struct{})
			job := rootfs.Go(func() (commit.Layer, error) {
				<-finish
				return commit.Layer{ID: "x"}, want
			})
			if err := job.Err(); err != nil {
				t.Errorf("the Job has the error %v before it ends", err)
			}

			close(finish)
			<-job.Done()
			l, err := job.Wait(t.Context())
			if !errors.Is(err, want) || !errors.Is(job.Err(), want) || l.ID != "x" {
				t.Errorf("got %+v, %v and %v, want %v", l, err, job.Err(), want)
			}
			if _, found := job.Found(); found {
				t.Error("Found reports a layer that was made")
			}
		})
	}
}
