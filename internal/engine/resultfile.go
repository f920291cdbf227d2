package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/spec"
)

// checkDestination refuses a destination that cannot be written, before anything is built.
func checkDestination(path string, directory bool) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && directory && !info.IsDir():
		return fmt.Errorf("%s is not a directory", path)
	case err == nil && !directory && info.IsDir():
		return fmt.Errorf("%s is a directory", path)
	case err == nil && directory, err == nil && !info.Mode().IsRegular():
		return fdfs.CheckWritable(path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}

	parent := filepath.Dir(path)
	if directory { // missing parents are made
		for {
			if _, err := os.Stat(parent); err == nil || !errors.Is(err, fs.ErrNotExist) || parent == filepath.Dir(parent) {
				break
			}
			parent = filepath.Dir(parent)
		}
	}

	return fdfs.CheckWritable(parent)
}

// checkFile refuses a file that cannot be written in place.
func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fdfs.CheckWritable(filepath.Dir(path))
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a directory", path)
	}
	return fdfs.CheckWritable(path)
}

// removeStale removes the file of an earlier build, so that nobody takes it for the result of this build if this build
// fails. A pipe or a device stays.
func removeStale(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular() || os.Remove(path) == nil:
		return nil
	}
	return os.Truncate(path, 0) // it is a mount, or its directory cannot be written
}

// checkDistinct refuses one regular file for two purposes: the last would silently win.
func checkDistinct(files []spec.File) error {
	flags := map[string]string{}
	for _, f := range files {
		flag := f.From
		path := filepath.Clean(f.Path)
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // for example /dev/null
			continue
		}
		if other, ok := flags[path]; ok {
			return fmt.Errorf("%s and %s: %s cannot hold both", other, flag, path)
		}
		flags[path] = flag
	}

	return nil
}

// target is a file that a result is written to.
type target struct {
	path   string                  // "-": standard output
	stdout *os.File                // for "-"
	own    func(path string) error // records a file that must be removed if this process dies
}

// write copies r to the target. A regular file appears under its name when it is complete; a pipe or a device is written to
// directly. If ctx ends, write waits one second for a blocked write and then returns.
func (t target) write(ctx context.Context, r io.Reader) error {
	done := make(chan error, 1)
	go func() { done <- t.copy(ctx, r) }()

	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}

	select {
	case err := <-done:
		return err
	case <-time.After(time.Second):
		return context.Cause(ctx)
	}
}

// copy copies r to the target until ctx ends. A write to a full pipe blocks all the same.
func (t target) copy(ctx context.Context, r io.Reader) error {
	out, err := t.create()
	if err != nil {
		return err
	}
	_, err = io.Copy(out.File, contextReader{ctx, r})
	return out.finish(err)
}

// contextReader is a reader that ends with ctx.
type contextReader struct {
	ctx context.Context //nolint:containedctx // of the one copy that the reader is for
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// stdoutName is the name of standard output in errors about the target of a result.
const stdoutName = "standard output"

// resultFile is a file that is being written.
type resultFile struct {
	*os.File
	path string // the final path; empty: the file has it already
}

// create opens the file for the result.
func (t target) create() (*resultFile, error) {
	path := t.path
	if path == "-" {
		// Under another number, so that a reader who goes away is an error to report and no SIGPIPE.
		f, err := fdfs.Duplicate(t.stdout, stdoutName)
		if err != nil {
			return nil, fmt.Errorf("opening standard output: %w", err)
		}
		return &resultFile{File: f}, nil
	}

	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		return &resultFile{File: f}, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}

	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text()[:8])
	if err := t.own(temp); err != nil {
		return nil, err
	}

	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}

	return &resultFile{File: f, path: path}, nil
}

// finish closes the file and gives it its name, or with an error removes it.
func (f *resultFile) finish(err error) error {
	err = errors.Join(err, f.Close())
	if f.path == "" {
		return err
	}

	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), f.path); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
