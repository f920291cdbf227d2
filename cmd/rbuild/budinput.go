package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/bounded"
	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/source"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// maxDockerfile bounds what is read as a Dockerfile, in bytes; the parser's own bound is lower.
const maxDockerfile = 32 << 20

// input is what a build reads: the Dockerfile and the context.
type input struct {
	texts []instructions.Text // of the Dockerfile, or of several
	files []copier.Dockerfile // where they were found
	tree  *copier.Tree        // nil: there is no context
	time  time.Time           // of a context that was fetched; zero: unknown

	ignore []string // patterns of the context's ignore file

	far     elsewhere    // how other contexts are fetched
	from    string       // what was fetched or read, for messages; empty: the context is a directory of the user's
	release func() error // removes a context that came as a tar or was fetched; nil: none did
}

func (in *input) close() error {
	var errs []error
	if in.tree != nil {
		errs = append(errs, in.tree.Close())
	}
	if in.release != nil {
		errs = append(errs, in.release())
	}
	return errors.Join(errs...)
}

// add notes a text of the Dockerfile.
func (in *input) add(name string, file copier.Dockerfile, text []byte) {
	in.texts = append(in.texts, instructions.Text{Name: name, Data: text})
	in.files = append(in.files, file)
}

// addStdin notes the text that came on standard input.
func (in *input) addStdin(text []byte) {
	in.add("Dockerfile from standard input", copier.Dockerfile{}, text)
}

// inputFlags say what is read.
type inputFlags struct {
	files      []string
	ignoreFile string
	context    string // the argument
}

func (f *inputFlags) register(fs *pflag.FlagSet) {
	fs.StringArrayVarP(&f.files, "file", "f", nil, "Dockerfile, or its URL; - for standard input; several are read as one")
	fs.StringVar(&f.ignoreFile, "ignorefile", "", "ignore file to use instead of those of the Dockerfile and the context")
}

func (f *inputFlags) apply(lookup, *builder.Options) error {
	stdin := 0
	for _, name := range f.files {
		switch {
		case name == "-":
			stdin++
		case name == "":
			return errors.New("--file: the name is empty")
		case strings.HasSuffix(name, ".in"):
			return fmt.Errorf("--file %s: text for the C preprocessor is not supported: give the output of cpp -E -traditional", name)
		}
	}

	switch {
	case stdin > 1:
		return errors.New("--file - can be given once: there is one standard input")
	case stdin > 0 && f.context == "-":
		return errors.New("the Dockerfile and the context cannot both be standard input")
	}

	return nil
}

// fromStdin tells whether standard input is read.
func (f *inputFlags) fromStdin() bool { return f.context == "-" || slices.Contains(f.files, "-") }

// open finds the Dockerfile and opens the context, by the rules of buildah: --file is relative to the working directory,
// else to the context; for a context that is not a directory of the user's to that alone.
func (f *inputFlags) open(ctx context.Context, place imagePlace, far elsewhere, stdin io.Reader) (in *input, err error) {
	in = &input{}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()

	dir, files := f.context, f.files
	switch {
	case dir == "-":
		dir, err = in.readStdin(ctx, place, far, interruptible(ctx, stdin))
	case isElsewhere(dir):
		dir, err = in.fetchContext(ctx, place, far, dir)
	default:
		dir, files, err = f.localContext()
	}
	if err != nil {
		return in, err
	}
	if dir == "" { // a Dockerfile without a context
		if len(files) > 0 || f.ignoreFile != "" {
			err = fmt.Errorf("what %s has is no tar: a context is needed beside --file and --ignorefile", in.from)
		}
		return in, err
	}

	if len(files) == 0 {
		err = in.findDockerfile(dir, cmp.Or(in.from, dir))
	}
	for _, file := range files {
		switch {
		case file == "-":
			var text []byte
			text, err = readBounded(interruptible(ctx, stdin))
			in.addStdin(text)
		case source.IsURL(file):
			err = in.fetchDockerfile(ctx, place, far, file)
		default:
			err = in.openDockerfile(ctx, file, dir, f.context == "-")
		}
		if err != nil {
			return in, err
		}
	}
	if err != nil {
		return in, err
	}
	if in.ignore, err = f.ignored(dir, in.from, in.files); err != nil {
		return in, err
	}

	in.tree, err = copier.OpenContext(dir, in.ignore)

	return in, err
}

// local tells whether open needs no store.
func (f *inputFlags) local() bool {
	info, err := os.Stat(f.context)
	return err == nil && (info.IsDir() || info.Mode().IsRegular()) && !slices.ContainsFunc(f.files, source.IsURL)
}

// localContext is the directory that the argument names, and the Dockerfiles. As with buildah the argument may be a
// Dockerfile: its directory is the context then.
func (f *inputFlags) localContext() (dir string, files []string, err error) {
	info, err := os.Stat(f.context)
	switch {
	case f.context == "":
		return "", nil, errors.New("the context has an empty name: give a directory, . for the working directory")
	case errors.Is(err, fs.ErrNotExist):
		return "", nil, fmt.Errorf("the context %s: there is no such directory", f.context)
	case err != nil:
		return "", nil, fmt.Errorf("opening the context: %w", err)
	case info.IsDir():
		return f.context, f.files, nil
	case !info.Mode().IsRegular():
		return "", nil, fmt.Errorf("the context %s is neither a directory nor a Dockerfile", f.context)
	case len(f.files) > 0:
		return "", nil, fmt.Errorf("the context %s is a file: beside --file give a directory", f.context)
	}

	return filepath.Dir(f.context), []string{f.context}, nil
}

// ignored returns the patterns that exclude files of the context. from is the name of the context in messages; if it is
// empty, messages use dir.
func (f *inputFlags) ignored(dir, from string, files []copier.Dockerfile) (patterns []string, err error) {
	if f.ignoreFile == "" {
		patterns, _, err = copier.ReadIgnore(dir, files...)
		if bad := (*copier.IgnoreError)(nil); from != "" && errors.As(err, &bad) {
			return nil, unpacked(from, bad)
		}
		return patterns, err
	}
	if patterns, err = copier.ReadIgnoreFile(f.ignoreFile); err != nil {
		return nil, fmt.Errorf("--ignorefile: %w", err)
	}
	return patterns, nil
}

// unpacked names the line of an ignore file in a context that was unpacked somewhere.
func unpacked(from string, bad *copier.IgnoreError) error {
	return fmt.Errorf("%s: %s:%d: %w", from, bad.Name, bad.Line, bad.Err)
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
func (in *input) readStdin(ctx context.Context, place imagePlace, e elsewhere, stdin io.Reader) (dir string, err error) {
	in.from = "standard input"
	r := bufio.NewReaderSize(stdin, 1<<16)
	isTar, err := copier.IsTar(r)
	if err != nil {
		return "", fmt.Errorf("reading the context from standard input: %w", err)
	}
	if !isTar {
		text, err := readBounded(r)
		in.addStdin(text)
		return "", err
	}
	if dir, in.release, err = place.NewScratch(); err != nil {
		return "", err
	}

	in.from = "the tar on standard input"
	devices, err := copier.ExtractContext(ctx, r, dir)
	if text := devices.Text(); text != "" {
		e.warn("the build context: " + text)
	}

	return dir, err
}

// findDockerfile reads the context's own Dockerfile. name is what messages call the context.
func (in *input) findDockerfile(dir, name string) error {
	for _, file := range []string{"Containerfile", "Dockerfile"} {
		if found, err := in.readBelow(dir, file); found || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s has neither a Containerfile nor a Dockerfile: name the file with --file", name)
}

// openDockerfile reads the file that --file names. stdin says that standard input is the context.
func (in *input) openDockerfile(ctx context.Context, file, dir string, stdin bool) error {
	if in.from == "" {
		if found, err := in.readFile(ctx, file); found || err != nil {
			return err
		}
	}

	if filepath.IsLocal(file) {
		if found, err := in.readBelow(dir, file); found || err != nil {
			return err
		}
	}

	if in.from != "" {
		hint := ""
		if info, err := os.Stat(file); err == nil && !info.IsDir() && !stdin {
			hint = fmt.Sprintf("; for the file of this machine give it on standard input: --file - < %s", file)
		}
		return fmt.Errorf("--file %s: the context has no such file (%s)%s", file, in.from, hint)
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

	text, err := readBounded(interruptible(ctx, &lazyFile{path: path}))
	in.add(path, copier.Dockerfile{Path: path}, text)
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

	text, err := readBounded(f)
	in.add(path, copier.Dockerfile{Path: path, InContext: true}, text)

	return true, err
}

func readBounded(r io.Reader) ([]byte, error) {
	text, err := bounded.ReadAll(r, maxDockerfile, "the Dockerfile")
	if err != nil {
		return nil, fmt.Errorf("reading the Dockerfile: %w", err)
	}
	return text, nil
}
