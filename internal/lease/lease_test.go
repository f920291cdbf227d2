package lease

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const prefix = "rbuild-"

func isOurs(name string) bool { return strings.HasPrefix(name, prefix) }

// forms are all forms, by name.
var forms = map[string]Form{
	"file":   File{},
	"inside": Inside("lock"),
	"beside": Beside(".lock"),
	"directory": Directory{
		Make:   func(path string) error { return os.Mkdir(path, 0o700) },
		Remove: os.RemoveAll,
	},
}

// eachForm runs a test for every form, in an empty directory.
func eachForm(t *testing.T, test func(t *testing.T, form Form, parent string)) {
	t.Helper()
	for name, form := range forms {
		t.Run(name, func(t *testing.T) { test(t, form, t.TempDir()) })
	}
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func make1(t *testing.T, form Form, parent string) *Lease {
	t.Helper()
	l, err := New(form, parent, prefix)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// fill puts a file with a name into a directory.
func fill(t *testing.T, path string) {
	t.Helper()
	err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("x"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
}

func TestRelease(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form, parent string) {
		l := make1(t, form, parent)
		if !strings.HasPrefix(l.Path(), filepath.Join(parent, prefix)) || l.File() == nil || !exists(l.Path()) {
			t.Errorf("path %q, lock file %v", l.Path(), l.File())
		}
		if _, isFile := form.(File); !isFile {
			fill(t, filepath.Join(l.Path(), "below", "file"))
		}

		for range 2 {
			if err := l.Release(); err != nil {
				t.Fatal(err)
			}
		}
		if left := names(t, parent); left != nil {
			t.Errorf("Release leaves %v", left)
		}
	})
}

func TestNilLease(t *testing.T) {
	var l *Lease
	if err := errors.Join(l.Release(), l.Leave()); err != nil {
		t.Error(err)
	}
}

// TestReap: leases of the living and entries with other names stay, leases of the dead go.
func TestReap(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form, parent string) {
		alive := make1(t, form, parent)
		fill(t, filepath.Join(parent, "of-another"))
		want := names(t, parent)

		dead := make1(t, form, parent)
		if err := dead.Leave(); err != nil {
			t.Fatal(err)
		}
		if !exists(dead.Path()) {
			t.Errorf("Leave removes the lease")
		}

		if err := Reap(form, parent, isOurs); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, names(t, parent)); diff != "" {
			t.Errorf("after Reap (-want +got):\n%s", diff)
		}
		if err := alive.Release(); err != nil {
			t.Error(err)
		}
	})
}

// TestReapAfterKill: Reap removes every state that a killed process can leave.
func TestReapAfterKill(t *testing.T) {
	for _, tc := range []struct {
		name  string
		form  Form
		files []string // a name that ends in / is a directory
	}{
		{"file", File{}, []string{"rbuild-1"}},
		{"inside, not locked yet", Inside("lock"), []string{"rbuild-1/"}},
		{"inside, in use", Inside("lock"), []string{"rbuild-1/lock", "rbuild-1/dir/file"}},
		{"inside, content removed", Inside("lock"), []string{"rbuild-1/lock"}},
		{"beside, not locked yet", Beside(".lock"), []string{"rbuild-1/"}},
		{"beside, in use", Beside(".lock"), []string{"rbuild-1/file", "rbuild-1.lock"}},
		{"beside, content removed", Beside(".lock"), []string{"rbuild-1.lock"}},
		{"directory", forms["directory"], []string{"rbuild-1/child/"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			parent := t.TempDir()
			for _, name := range tc.files {
				path := filepath.Join(parent, name)
				if strings.HasSuffix(name, "/") {
					if err := os.MkdirAll(path, 0o700); err != nil {
						t.Fatal(err)
					}
					continue
				}
				fill(t, path)
			}

			if err := Reap(tc.form, parent, isOurs); err != nil {
				t.Fatal(err)
			}
			if left := names(t, parent); left != nil {
				t.Errorf("Reap leaves %v", left)
			}
		})
	}
}

func TestDead(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form, parent string) {
		alive, gone := make1(t, form, parent), make1(t, form, parent)
		if err := gone.Leave(); err != nil {
			t.Fatal(err)
		}

		dead, err := Dead(form, parent, isOurs)
		if err != nil || len(dead) != 1 || dead[0].Path() != gone.Path() {
			t.Fatalf("%v, %v", dead, err)
		}
		if again, err := Dead(form, parent, isOurs); err != nil || again != nil {
			t.Errorf("locked twice: %v, %v", again, err)
		}
		if err := errors.Join(dead[0].Release(), alive.Release()); err != nil {
			t.Error(err)
		}
		if exists(gone.Path()) {
			t.Error("Release of a dead process's lease leaves it")
		}
	})
}

func TestNoParent(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form, parent string) {
		missing := filepath.Join(parent, "missing")
		if err := Reap(form, missing, isOurs); err != nil {
			t.Error(err)
		}
		if dead, err := Dead(form, missing, isOurs); err != nil || dead != nil {
			t.Errorf("%v, %v", dead, err)
		}
		if _, err := New(form, missing, prefix); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("New: %v", err)
		}
	})
}

// TestTake: a lease that another has, or that was removed, is not taken.
func TestTake(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form, parent string) {
		l := make1(t, form, parent)
		if _, err := take(form, l.Path()); !errors.Is(err, errTaken) {
			t.Errorf("of another: %v", err)
		}
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
		if _, isBeside := form.(Beside); isBeside {
			return // its lock file may be there without the directory
		}
		if _, err := take(form, l.Path()); !errors.Is(err, errTaken) {
			t.Errorf("removed: %v", err)
		}
	})
}

// TestClaimAgainstReap makes leases while another reaps: every lease is made, and none is taken away.
func TestClaimAgainstReap(t *testing.T) {
	eachForm(t, func(t *testing.T, form Form, parent string) {
		done, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-done:
					return
				default:
					if err := Reap(form, parent, isOurs); err != nil {
						t.Errorf("Reap: %v", err)
					}
				}
			}
		}()

		for range 1000 {
			l, err := New(form, parent, prefix)
			if err != nil {
				t.Errorf("New: %v", err)
				break
			}
			if !exists(l.Path()) {
				t.Errorf("%s was taken from its owner", l.Path())
			}
			if err := l.Release(); err != nil {
				t.Errorf("Release: %v", err)
			}
		}
		close(done)
		<-ended

		if err := Reap(form, parent, isOurs); err != nil {
			t.Error(err)
		}
		if left := names(t, parent); left != nil {
			t.Errorf("left: %v", left)
		}
	})
}
