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
	"strings"

	"codeberg.org/rbuild/rbuild/pkg/build"
	"codeberg.org/rbuild/rbuild/pkg/copy"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
	"codeberg.org/rbuild/rbuild/pkg/store"
)

// maxDockerfile bounds what is read as a Dockerfile, in bytes; the parser's own bound is lower.
const maxDockerfile = 32 << 20

// input is what a build reads: the Dockerfile and the context.
type input struct {
	name string // of the Dockerfile, for messages
	text []byte
	tree *copy.Tree // nil: there is no context

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

// openInput finds the Dockerfile and opens the context, by the rules of buildah: --file is relative to the working
// directory, else to the context.
func openInput(ctx context.Context, st *store.Store, files []string, contextDir string, stdin io.Reader) (in *input, err error) {
	in = &input{}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	file := ""
	if len(files) > 0 {
		file = files[0]
	}
	dir := contextDir
	switch {
	case contextDir == "-" && file == "-":
		return in, errors.New("the Dockerfile and the context cannot both be standard input")
	case contextDir == "-":
		if dir, err = in.readStdin(ctx, st, stdin); err != nil || dir == "" {
			return in, err
		}
	}
	if file == "-" {
		in.name = "Dockerfile from standard input"
		in.text, err = readBounded(stdin)
	} else {
		err = in.findDockerfile(file, dir, contextDir != "-")
	}
	if err != nil {
		return in, err
	}
	return in, in.openContext(dir, file)
}

// openContext opens the directory without what the ignore file excludes.
func (in *input) openContext(dir, file string) error {
	if file == "-" {
		file = ""
	}
	patterns, _, err := copy.ReadIgnore(dir, file)
	if err != nil {
		return err
	}
	in.tree, err = copy.OpenContext(dir, patterns)
	return err
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
func (in *input) findDockerfile(file, dir string, relativeToCwd bool) error {
	if file == "" {
		for _, name := range []string{"Containerfile", "Dockerfile"} {
			if found, err := in.read(dir, name, name); found || err != nil {
				return err
			}
		}
		return fmt.Errorf("%s has neither a Containerfile nor a Dockerfile: name the file with --file", dir)
	}
	if relativeToCwd {
		if found, err := in.read("", file, file); found || err != nil {
			return err
		}
	}
	if filepath.IsLocal(file) {
		if found, err := in.read(dir, file, file); found || err != nil {
			return err
		}
	}
	return fmt.Errorf("--file %s: there is no such file", file)
}

// read reads a Dockerfile below dir, or by its path alone where dir is empty. Within a context, a symbolic link does
// not lead out of it.
func (in *input) read(dir, path, name string) (found bool, err error) {
	var f *os.File
	if dir == "" {
		f, err = os.Open(path)
	} else {
		f, err = openBelow(dir, path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening the Dockerfile: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return false, fmt.Errorf("opening the Dockerfile: %w", err)
	} else if info.IsDir() {
		return false, fmt.Errorf("%s is a directory, not a Dockerfile", name)
	}
	in.name = name
	in.text, err = readBounded(f)
	return true, err
}

func openBelow(dir, path string) (*os.File, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	f, err := root.Open(path)
	return f, errors.Join(err, root.Close())
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

// maxExcerpt bounds the lines of source that an error shows, and maxExcerptLine the bytes of each.
const (
	maxExcerpt     = 20
	maxExcerptLine = 200
)

// sourceError is an error about lines of the Dockerfile.
type sourceError struct {
	error
	first int // number of the first line, from 1
	lines []string
}

func (e *sourceError) Unwrap() error { return e.error }

// print shows the lines with their numbers.
func (e *sourceError) print(w io.Writer) {
	for i, line := range e.lines {
		fmt.Fprintf(w, "%6d | %s\n", e.first+i, line)
	}
}

// locate adds the lines of the Dockerfile that an error of the build is about.
func (in *input) locate(err error) error {
	var bad *instructions.Error
	var step *build.StepError
	switch {
	case errors.As(err, &bad) && bad.Line > 0:
		return &sourceError{err, bad.Line, bad.Source}
	case errors.As(err, &step):
		return &sourceError{err, step.Line, in.excerpt(step.Line, step.EndLine)}
	}
	return err
}

func (in *input) excerpt(first, last int) (out []string) {
	for i, line := range strings.Split(string(in.text), "\n") {
		if i+1 < first || i+1 > last || len(out) == maxExcerpt {
			continue
		}
		if len(line) > maxExcerptLine {
			line = strings.ToValidUTF8(line[:maxExcerptLine], "") + "..."
		}
		out = append(out, strings.TrimSuffix(line, "\r"))
	}
	return out
}
