package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

func ok(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// memoryStaging is a staging directory of a store that only remembers what it got.
type memoryStaging struct {
	dir string
	err error // returned by Commit

	mu        sync.Mutex
	content   containers.Content
	record    string // the tar-split record
	parent    string
	name      string
	committed bool
	discarded bool
}

func newStaging(t *testing.T, files ...string) *memoryStaging {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		ok(t, os.WriteFile(filepath.Join(dir, f), []byte(f), 0o600))
	}
	return &memoryStaging{dir: dir}
}

func (s *memoryStaging) Directory() string { return s.dir }

func (s *memoryStaging) Commit(c containers.Content, parent, name string) (commit.Layer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	record, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", c.TarSplit.Fd()))
	s.content = c
	s.record = string(record)
	s.parent = parent
	s.name = name
	s.committed = true
	l := commit.Layer{ID: "new", Parent: parent, DiffID: c.DiffID, Size: c.Size}
	return l, errors.Join(s.err, err, c.TarSplit.Close())
}

func (s *memoryStaging) Discard() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discarded = true
	return nil
}

func TestStart(t *testing.T) {
	s := newStaging(t, "file")
	var want strings.Builder
	dir, err := os.Open(s.dir)
	ok(t, err)
	t.Cleanup(func() { ok(t, dir.Close()) })
	tar, err := commit.WriteTar(t.Context(), dir, nil, commit.TarOptions{TarSplit: &want})
	ok(t, err)

	checks := 0
	job := start(t.Context(), s, storeOptions{
		Parent: rootfs.Stored(commit.Layer{ID: "below"}),
		Name:   "rbuild-cache-x",
		Notes:  func() []byte { return []byte("notes") },
		Check:  func() error { checks++; return nil },
	})
	l, err := job.Wait(t.Context())
	ok(t, err, job.Err())

	if l.ID != "new" || l.DiffID != tar.DiffID || l.Size != tar.Size {
		t.Errorf("got %+v, want the digest and size of %+v", l, tar)
	}
	if s.parent != "below" || s.name != "rbuild-cache-x" || string(s.content.Notes) != "notes" || s.content.RootMode != tar.RootMode {
		t.Errorf("the store got parent %q, name %q, content %+v", s.parent, s.name, s.content)
	}
	if s.record != want.String() {
		t.Errorf("the store got the record %q, want %q", s.record, want.String())
	}
	if checks != 1 {
		t.Errorf("%d checks, want 1", checks)
	}
	if s.discarded {
		t.Error("a stored layer was discarded")
	}
	if _, found := job.Found(); found {
		t.Error("Found reports a layer that was made")
	}
}

// TestStartFails has an error at each step of a Job. The directory is discarded each time.
func TestStartFails(t *testing.T) {
	var (
		errStore  = errors.New("the disk is full")
		errParent = errors.New("the layer below failed")
		errCheck  = errors.New("a layer was removed")
	)
	failed := rootfs.Go(func() (commit.Layer, error) { return commit.Layer{}, errParent })
	scratch := rootfs.Stored(commit.Layer{})
	failAt := func(n int) func() error {
		return func() error {
			n--
			if n == 0 {
				return errCheck
			}
			return nil
		}
	}

	for _, tc := range []struct {
		name      string
		options   storeOptions
		storeErr  error
		missing   bool // the directory
		want      error
		committed bool
	}{
		{name: "directory", options: storeOptions{Parent: scratch}, missing: true, want: os.ErrNotExist},
		{name: "parent", options: storeOptions{Parent: failed}, want: errParent},
		{name: "check", options: storeOptions{Parent: scratch, Check: failAt(1)}, want: errCheck},
		{name: "store", options: storeOptions{Parent: scratch}, storeErr: errStore, want: errStore, committed: true},
		{name: "store, check passes", options: storeOptions{Parent: scratch, Check: failAt(9)}, storeErr: errStore, want: errStore, committed: true},
		{name: "store, check knows the cause", options: storeOptions{Parent: scratch, Check: failAt(2)}, storeErr: errStore, want: errCheck, committed: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStaging(t, "file")
			if tc.missing {
				s.dir += "/none"
			}
			s.err = tc.storeErr
			job := start(t.Context(), s, tc.options)
			<-job.Done()

			err := job.Err()
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if s.committed != tc.committed || !s.discarded {
				t.Errorf("committed %v, discarded %v", s.committed, s.discarded)
			}
		})
	}
}

// TestWait checks that a Job continues when a waiting caller gives up.
func TestWait(t *testing.T) {
	finish := make(chan struct{})
	parent := rootfs.Go(func() (commit.Layer, error) {
		<-finish
		return commit.Layer{ID: "below"}, nil
	})
	s := newStaging(t, "file")
	job := start(t.Context(), s, storeOptions{Parent: parent})

	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := job.Wait(ctx); !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
	if err := job.Err(); err != nil {
		t.Errorf("the Job has the error %v before it ends", err)
	}

	close(finish)
	l, err := job.Wait(t.Context())
	if err != nil || l.Parent != "below" {
		t.Errorf("got %+v, %v", l, err)
	}
}
