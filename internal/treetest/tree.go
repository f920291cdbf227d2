// Package treetest makes and describes trees of files for tests.
package treetest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Build makes files below dir, which it returns, from lines such as
//
//	d DIR MODE    f FILE MODE CONTENT    l LINK TARGET    h NAME EXISTING    p FIFO MODE
//
// in order, for example "f etc/passwd 644 root". Missing directories have mode 0755.
func Build(tb testing.TB, dir string, lines ...string) string {
	tb.Helper()
	for _, line := range lines {
		words := strings.Fields(line)
		at := filepath.Join(dir, words[1])
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			tb.Fatalf("%s: %v", line, err)
		}
		if err := build(dir, at, words); err != nil {
			tb.Fatalf("%s: %v", line, err)
		}
	}

	return dir
}

// build makes the file at, as the words of a line say.
func build(dir, at string, words []string) error {
	var err error
	switch words[0] {
	case "d":
		err = os.MkdirAll(at, 0o755)
	case "f":
		err = os.WriteFile(at, []byte(strings.Join(words[3:], " ")), 0o600)
	case "p":
		err = makeFifo(at)
	case "l":
		return os.Symlink(words[2], at)
	case "h":
		return os.Link(filepath.Join(dir, words[2]), at)
	default:
		return fmt.Errorf("unknown type %q", words[0])
	}
	if err != nil {
		return err
	}

	return chmod(at, words[2])
}

// chmod sets a mode as text, which may have setuid, setgid and sticky.
func chmod(at, text string) error {
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil {
		return err
	}
	return inParent(at, func(dir *os.File, name string) error { return fdfs.ChmodAt(dir, name, uint32(mode)) })
}

func makeFifo(at string) error {
	return inParent(at, func(dir *os.File, name string) error { return fdfs.MknodAt(dir, name, fdfs.Fifo, 0o600, 0) })
}

// inParent calls do with the open directory that holds at, and the name in it.
func inParent(at string, do func(dir *os.File, name string) error) error {
	dir, err := os.Open(filepath.Dir(at))
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(dir, filepath.Base(at))
}

// Open opens a directory until the test ends.
func Open(tb testing.TB, dir string) *os.File {
	tb.Helper()
	f, err := os.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	return f
}

// List describes all files below dir, one a line and sorted: "PATH TYPE MODE UID:GID CONTENT", or
// "LINK -> TARGET UID:GID". A file with several names shows "=FIRST" at the end, the first of its
// names.
func List(tb testing.TB, dir string) []string {
	tb.Helper()
	l := lister{tb: tb, first: map[uint64]string{}}
	l.list(Open(tb, dir), "")
	slices.Sort(l.lines)
	return l.lines
}

type lister struct {
	tb    testing.TB
	first map[uint64]string // first name by number of the inode
	lines []string
}

func (l *lister) list(dir *os.File, at string) {
	names, err := fdfs.OnDisk(dir).Names()
	if err != nil {
		l.tb.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		st, err := fdfs.StatAt(dir, name)
		if err != nil {
			l.tb.Fatal(err)
		}
		path := filepath.Join(at, name)
		l.lines = append(l.lines, l.describe(dir, name, path, st))

		if st.Type == fdfs.Directory {
			sub, err := fdfs.OpenDirAt(dir, name)
			if err != nil {
				l.tb.Fatal(err)
			}
			l.list(sub, path)
			sub.Close()
		}
	}
}

// describe returns the line about name of dir.
func (l *lister) describe(dir *os.File, name, path string, st fdfs.Stat) string {
	if st.Type == fdfs.Symlink {
		target, err := fdfs.ReadlinkAt(dir, name)
		if err != nil {
			l.tb.Fatal(err)
		}
		return fmt.Sprintf("%s -> %s %d:%d", path, target, st.UID, st.GID)
	}

	line := fmt.Sprintf("%s %s %04o %d:%d", path, strings.Fields(st.Type.String())[0], st.Mode, st.UID, st.GID)
	if st.Type != fdfs.Regular {
		return line
	}
	data, err := fdfs.ReadFile(fdfs.OnDisk(dir), name, 1<<30)
	if err != nil {
		l.tb.Fatal(err)
	}
	line += " " + strings.TrimSpace(string(data))
	if st.Nlink > 1 {
		if l.first[st.Ino] == "" {
			l.first[st.Ino] = path
		}
		line += " =" + l.first[st.Ino]
	}

	return line
}

// Write writes the file name of dir, mode 0644.
func Write(tb testing.TB, dir, name string, data []byte) {
	tb.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
		tb.Fatal(err)
	}
}

// WriteSparse writes the file at path, which has size bytes: data by offset, and holes.
func WriteSparse(tb testing.TB, path string, size int64, data map[int64]string) {
	tb.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()

	for off, text := range data {
		if _, err := f.WriteAt([]byte(text), off); err != nil {
			tb.Fatal(err)
		}
	}
	if err := f.Truncate(size); err != nil {
		tb.Fatal(err)
	}
}

// DataSize returns how many bytes of the file at path are no holes.
func DataSize(tb testing.TB, path string) int64 {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil {
		tb.Fatal(err)
	}
	data, err := fdfs.DataOf(int(f.Fd()), path, info.Size())
	if err != nil {
		tb.Fatal(err)
	}

	return data
}
