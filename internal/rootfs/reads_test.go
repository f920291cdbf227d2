package rootfs_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// fakeStack is a stack that only has a guard, which writes down its calls.
type fakeStack struct {
	rootfs.Stack
	name   string
	log    *[]string
	held   error
	intact error
}

func (s *fakeStack) Guard() rootfs.Guard { return s }
func (s *fakeStack) Hold()               { *s.log = append(*s.log, "hold "+s.name) }
func (s *fakeStack) Held() error         { *s.log = append(*s.log, "held "+s.name); return s.held }
func (s *fakeStack) Check() error        { *s.log = append(*s.log, "check "+s.name); return s.intact }

func TestReads(t *testing.T) {
	var log []string
	a := &fakeStack{name: "a", log: &log}
	b := &fakeStack{name: "b", log: &log}
	var r rootfs.Reads
	if err := errors.Join(r.Check(), r.Settle()); err != nil {
		t.Errorf("nothing was read: %v", err)
	}

	r.Add(a)
	r.Add(a) // once
	r.Hold()
	r.Add(b) // is held at once
	if err := r.Settle(); err != nil {
		t.Error(err)
	}
	want := []string{"hold a", "hold b", "held a", "held b", "check a", "check b"} // no check before all are held
	if diff := cmp.Diff(want, log); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	b.intact = errors.New("removed")
	if err := r.Check(); !errors.Is(err, b.intact) {
		t.Errorf("error %v", err)
	}
	a.held = errors.New("cannot be held")
	if err := r.Settle(); !errors.Is(err, a.held) {
		t.Errorf("error %v", err)
	}
}

func TestCheckHoldsNothing(t *testing.T) {
	var log []string
	var r rootfs.Reads
	r.Add(&fakeStack{name: "a", log: &log})
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"check a"}, log); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// fakeWhole writes a text as a tar.
type fakeWhole struct {
	rootfs.Whole
	text string
	err  error
}

func (f fakeWhole) Tar(_ context.Context, w io.Writer, _ commit.TarOptions) (commit.Tar, error) {
	_, err := io.WriteString(w, f.text)
	return commit.Tar{Size: int64(len(f.text))}, errors.Join(err, f.err)
}

func TestPipe(t *testing.T) {
	broken := errors.New("broken")
	readAll := func(_ context.Context, r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	}
	for _, tc := range []struct {
		name string
		from fakeWhole
		take func(context.Context, io.Reader) error
		want error
	}{
		{"all is read", fakeWhole{text: "abc"}, readAll, nil},
		{"the end is not read", fakeWhole{text: "abc"}, func(context.Context, io.Reader) error { return nil }, nil},
		{"the reader fails", fakeWhole{text: "abc"}, func(context.Context, io.Reader) error { return broken }, broken},
		{"the writer fails", fakeWhole{text: "abc", err: broken}, readAll, broken},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := rootfs.Pipe(t.Context(), tc.from, commit.TarOptions{}, tc.take)
			if !errors.Is(err, tc.want) {
				t.Fatalf("error %v, want %v", err, tc.want)
			}
			if tc.want == nil && r.Size != 3 {
				t.Errorf("result %+v", r)
			}
			if tc.want != nil && !strings.HasPrefix(err.Error(), "writing the files of the image") {
				t.Errorf("error %q", err)
			}
		})
	}
}

func TestBefore(t *testing.T) {
	m := overlay.Mount{Lowers: []string{"/l"}, Upper: t.TempDir()}
	got, err := rootfs.Before(m)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/l"}, got); diff != "" {
		t.Errorf("an empty upper directory counts (-want +got):\n%s", diff)
	}

	m.Upper = "/usr" // is not empty
	if got, err = rootfs.Before(m); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/usr", "/l"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/l"}, m.Lowers); diff != "" {
		t.Errorf("the mount has changed (-want +got):\n%s", diff)
	}
	m.Upper = t.TempDir() + "/missing"
	if _, err := rootfs.Before(m); err == nil {
		t.Error("a missing directory is no error")
	}
}
