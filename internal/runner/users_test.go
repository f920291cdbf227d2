package runner

import (
	"os"
	"path/filepath"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/passwd"
)

// TestUsersAreRemembered: a look-up reads the files again only if a new layer may have changed
// them.
func TestUsersAreRemembered(t *testing.T) {
	image := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(image, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(image, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	layer := func(entries ...string) *os.File {
		t.Helper()
		dir := t.TempDir()
		for _, e := range entries {
			if err := os.Mkdir(filepath.Join(dir, e), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return open(t, dir)
	}

	reads := 0
	view := func() (*os.File, error) {
		reads++
		f, err := os.Open(image)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { f.Close() })
		return f, nil
	}
	var users Users
	lookup := func(want uint32) {
		t.Helper()
		u, err := users.Lookup("app", view)
		if err != nil || u.UID != want {
			t.Errorf("user %+v, %v, want UID %d", u, err, want)
		}
	}

	write("etc/passwd", "app:x:1:1::/:\n")
	lookup(1)
	users.Changed(layer("usr").Name())
	lookup(1)
	if reads != 1 {
		t.Errorf("the files were read %d times", reads)
	}

	write("etc/passwd", "app:x:2:2::/:\n")
	users.Changed(layer("usr", "etc").Name())
	lookup(2)
	write("etc/passwd", "app:x:3:3::/:\n")
	users.Forget()
	lookup(3)

	// Behind a symbolic link a change does not show as an entry "etc".
	write("usr/passwd", "app:x:4:4::/:\n")
	if err := os.Remove(filepath.Join(image, "etc/passwd")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/usr/passwd", filepath.Join(image, "etc/passwd")); err != nil {
		t.Fatal(err)
	}
	users.Forget()
	lookup(4)
	write("usr/passwd", "app:x:5:5::/:\n")
	users.Changed(layer("usr").Name())
	lookup(5)

	if _, err := users.Lookup("none", view); err == nil {
		t.Error("an unknown user is found")
	}
}

func open(t *testing.T, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestUserWithoutMemory: a Root without Users looks up each user.
func TestUserWithoutMemory(t *testing.T) {
	root := Root{View: func() (*os.File, error) { return open(t, t.TempDir()), nil }}
	u, err := Options{}.user(Command{User: "3:4"}, root)
	if want := (passwd.User{UID: 3, GID: 4, Home: "/", Groups: []uint32{4}}); err != nil || u.UID != want.UID || u.GID != want.GID || u.Groups[0] != 4 {
		t.Errorf("user %+v, %v, want %+v", u, err, want)
	}
}
