package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/pkg/build"
	"codeberg.org/rbuild/rbuild/pkg/copy"
	"codeberg.org/rbuild/rbuild/pkg/store"
)

// maxDockerfile bounds what is read as a Dockerfile, in bytes; the parser's own bound is lower.
const maxDockerfile = 32 << 20

// input is what a build reads: the Dockerfile and the context.
type input struct {
	name string // of the Dockerfile, for messages
	file copy.Dockerfile
	text []byte
	tree *copy.Tree // nil: there is no context

	ignore []string // patterns of the context's ignore file

	temp *store.Staging // holds a context that came as a tar; nil: none did
}

func (in *input) close() error {
	var errs []error
	if in.tree != nil {
		errs = append(errs, in.tree.Close())
	}
	if in.temp != nil {
		errs = append(errs, in.temp.Discard())
	}
	return errors.Join(errs...)
}

// inputFlags say what is read.
type inputFlags struct {
	files   []string
	context string // the argument
}

func (f *inputFlags) register(fs *pflag.FlagSet) {
	fs.StringArrayVarP(&f.files, "file", "f", nil, "Dockerfile; - for standard input")
}

func (f *inputFlags) apply(lookup, *build.Options) error {
	if len(f.files) > 1 {
		return errors.New("several --file are not supported by this version of rbuild")
	}
	return nil
}

// open finds the Dockerfile and opens the context, by the rules of buildah: --file is relative to the working directory,
// else to the context.
func (f *inputFlags) open(ctx context.Context, st *store.Store, stdin io.Reader) (in *input, err error) {
	in = &input{}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	file := ""
	if len(f.files) > 0 {
		file = f.files[0]
	}
	dir := f.context
	switch {
	case dir == "-" && file == "-":
		return in, errors.New("the Dockerfile and the context cannot both be standard input")
	case dir == "-":
		if dir, err = in.readStdin(ctx, st, interruptible(ctx, stdin)); err != nil || dir == "" {
			return in, err
		}
	}
	if file == "-" {
		in.name = "Dockerfile from standard input"
		in.text, err = readBounded(interruptible(ctx, stdin))
	} else {
		err = in.findDockerfile(ctx, file, dir, f.context != "-")
	}
	if err != nil {
		return in, err
	}
	if in.ignore, _, err = copy.ReadIgnore(dir, in.file); err != nil {
		return in, err
	}
	in.tree, err = copy.OpenContext(dir, in.ignore)
	return in, err
}

// local tells whether open needs no store.
func (f *inputFlags) local() bool {
	info, err := os.Stat(f.context)
	return err == nil && info.IsDir()
}

// interruptible reads from r until ctx ends; what r is then still asked for goes nowhere.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	out, in := io.Pipe()
	go func() {
		_, err := io.Copy(in, r)
		in.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { in.CloseWithError(context.Cause(ctx)) })
	return out
}

// readStdin takes a tar as the context and returns the directory where it is unpacked; anything else is the
// Dockerfile, and there is no context.
func (in *input) readStdin(ctx context.Context, st *store.Store, stdin io.Reader) (dir string, err error) {
	r := bufio.NewReaderSize(stdin, 1<<16)
	isTar, err := copy.IsTar(r)
	if err != nil {
		return "", fmt.Errorf("reading the context from standard input: %w", err)
	}
	if !isTar {
		in.name = "Dockerfile from standard input"
		in.text, err = readBounded(r)
		return "", err
	}
	if in.temp, err = st.NewStaging(); err != nil {
		return "", err
	}
	return in.temp.Upper, copy.ExtractContext(ctx, r, in.temp.Upper)
}

// findDockerfile reads the file that --file names, or the context's own.
func (in *input) findDockerfile(ctx context.Context, file, dir string, relativeToCwd bool) error {
	if file == "" {
		for _, name := range []string{"Containerfile", "Dockerfile"} {
			if found, err := in.readBelow(dir, name); found || err != nil {
				return err
			}
		}
		if !relativeToCwd {
			dir = "the tar on standard input"
		}
		return fmt.Errorf("%s has neither a Containerfile nor a Dockerfile: name the file with --file", dir)
	}
	if relativeToCwd {
		if found, err := in.readFile(ctx, file); found || err != nil {
			return err
		}
	}
	if filepath.IsLocal(file) {
		if found, err := in.readBelow(dir, file); found || err != nil {
			return err
		}
	}
	return fmt.Errorf("--file %s: there is no such file", file)
}

// readFile reads the Dockerfile that the user names, wherever it is. It may be a pipe.
func (in *input) readFile(ctx context.Context, path string) (found bool, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory", path)
	}
	if err != nil {
		return false, fmt.Errorf("opening the Dockerfile: %w", err)
	}
	in.name, in.file = path, copy.Dockerfile{Path: path}
	in.text, err = readBounded(interruptible(ctx, &lazyFile{path: path}))
	return true, err
}

// lazyFile opens its file when it is first read, since to open a pipe may take until somebody writes to it.
type lazyFile struct {
	path string
	f    *os.File
}

func (l *lazyFile) Read(p []byte) (n int, err error) {
	if l.f == nil {
		if l.f, err = os.Open(l.path); err != nil {
			return 0, err
		}
	}
	return l.f.Read(p)
}

// readBelow reads a Dockerfile of the context. A symbolic link does not lead out of it, and only a regular file will do:
// the context may be somebody else's.
func (in *input) readBelow(dir, path string) (found bool, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return false, fmt.Errorf("opening the context: %w", err)
	}
	defer root.Close()
	f, err := root.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening the Dockerfile: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return false, fmt.Errorf("opening the Dockerfile: %w", err)
	}
	in.name, in.file = path, copy.Dockerfile{Path: path, InContext: true}
	in.text, err = readBounded(f)
	return true, err
}

func readBounded(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the Dockerfile: %w", err)
	}
	if len(text) > maxDockerfile {
		return nil, fmt.Errorf("the Dockerfile has more than %d bytes", maxDockerfile)
	}
	return text, nil
}
