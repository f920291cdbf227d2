// Package imagetest makes layers for the tests of the packages that read and write images.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Entry is a member of the tar of a layer.
type Entry struct {
	tar.Header
	Content string
}

// File returns a regular file with mode 0644.
func File(name, content string) *Entry {
	return &Entry{Header: tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}, Content: content}
}

// Dir returns a directory with mode 0755.
func Dir(name string) *Entry {
	return &Entry{Header: tar.Header{Name: name, Mode: 0o755, Typeflag: tar.TypeDir}}
}

// Symlink returns a symbolic link.
func Symlink(name, target string) *Entry {
	return &Entry{Header: tar.Header{Name: name, Linkname: target, Mode: 0o777, Typeflag: tar.TypeSymlink}}
}

// Hardlink returns a hard link to another entry.
func Hardlink(name, target string) *Entry {
	return &Entry{Header: tar.Header{Name: name, Linkname: target, Mode: 0o644, Typeflag: tar.TypeLink}}
}

// Device returns a character device.
func Device(name string, major, minor int64) *Entry {
	return &Entry{Header: tar.Header{Name: name, Mode: 0o666, Typeflag: tar.TypeChar, Devmajor: major, Devminor: minor}}
}

// Xattr sets the only extended attribute of an entry.
func (e *Entry) Xattr(name, value string) *Entry {
	e.PAXRecords = map[string]string{"SCHILY.xattr." + name: value}
	return e
}

// Tar writes the tar of a layer.
func Tar(t *testing.T, entries ...*Entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.Content)); err != nil {
			t.Fatal(err)
		}
	}

	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Gzip compresses a layer.
func Gzip(t *testing.T, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// SparseTars returns tars of a file f of size bytes without any data, by the name of the format of
// GNU tar: "gnu", "pax 0.0", "pax 0.1" and "pax 1.0".
func SparseTars(t *testing.T, size int64) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "f"), size); err != nil {
		t.Fatal(err)
	}

	out := map[string][]byte{}
	for name, flags := range map[string][]string{
		"gnu":     {"--format=gnu"},
		"pax 0.0": {"--format=posix", "--sparse-version=0.0"},
		"pax 0.1": {"--format=posix", "--sparse-version=0.1"},
		"pax 1.0": {"--format=posix", "--sparse-version=1.0"},
	} {
		cmd := exec.CommandContext(t.Context(), "tar", append(flags, "-S", "-C", dir, "-cf", "-", "f")...)
		data, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", cmd, err)
		}
		out[name] = data
	}
	return out
}
