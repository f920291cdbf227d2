package engine

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
	"time"

	"codeberg.org/rbuild/rbuild/internal/archive"
	"codeberg.org/rbuild/rbuild/internal/bounded"
	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/ignore"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/source"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// maxDockerfile bounds the text that is read as a Dockerfile, in bytes; the parser's own bound is lower.
const maxDockerfile = 32 << 20

// input is the source of a build: the text of the Dockerfile and the open context.
type input struct {
	build  *build
	remote remote // how contexts are fetched

	texts  []instructions.Text // of the Dockerfile, or of several
	files  []ignore.Dockerfile // where the texts were found
	tree   *copier.Tree        // nil: there is no context
	ignore []string            // patterns of the context's ignore file

	time    time.Time    // of a context that was fetched; zero: unknown
	from    string       // for messages: where the context came from; empty: it is a directory of the user's
	release func() error // removes a context that was unpacked or fetched; nil: there is none
}

func (in *input) close() error {
	var treeErr, releaseErr error
	if in.tree != nil {
		treeErr = in.tree.Close()
	}
	if in.release != nil {
		releaseErr = in.release()
	}
	return errors.Join(treeErr, releaseErr)
}

// add adds a text of the Dockerfile.
func (in *input) add(name string, file ignore.Dockerfile, text []byte) {
	in.texts = append(in.texts, instructions.Text{Name: name, Data: text})
	in.files = append(in.files, file)
}

// addStdin adds the text of standard input.
func (in *input) addStdin(text []byte) {
	in.add("Dockerfile from standard input", ignore.Dockerfile{}, text)
}

// isLocal reports whether the input can be opened without a store: it is not fetched.
func isLocal(s spec.Input) bool {
	info, err := os.Stat(s.Context)
	return err == nil && (info.IsDir() || info.Mode().IsRegular()) && !slices.ContainsFunc(s.Dockerfiles, source.IsURL)
}

// openInput finds the Dockerfile and opens the context, by the rules of buildah: a Dockerfile is relative to the working
// directory, else to the context. A context that is not a directory of the user's must hold the Dockerfile.
func (b *build) openInput(ctx context.Context, o *builder.Options) (_ *input, err error) {
	in := &input{build: b}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.close())
		}
	}()
	if in.remote, err = b.newRemote(o); err != nil {
		return nil, err
	}

	s := b.spec.Input
	dir := s.Context
	files := s.Dockerfiles
	switch {
	case dir == "-":
		dir, err = in.readStdin(ctx)
	case isRemote(dir):
		dir, err = in.fetchContext(ctx, dir)
	default:
		dir, files, err = localContext(s)
	}
	if err != nil {
		return nil, err
	}
	if dir == "" { // a Dockerfile without a context
		return in, checkAlone(s, in.from)
	}

	if err := in.readDockerfiles(ctx, dir, files); err != nil {
		return nil, err
	}
	if in.ignore, err = in.readIgnore(dir); err != nil {
		return nil, err
	}
	if in.tree, err = copier.OpenContext(dir, in.ignore); err != nil {
		return nil, err
	}
	return in, nil
}

// checkAlone refuses files of a context beside a Dockerfile that has no context. from is the source of the Dockerfile.
func checkAlone(s spec.Input, from string) error {
	if len(s.Dockerfiles) > 0 {
		return fmt.Errorf("%s is no tar: %s needs a context", from, s.From)
	}
	if s.IgnoreFile.Path != "" {
		return fmt.Errorf("%s is no tar: %s needs a context", from, s.IgnoreFile.From)
	}
	return nil
}

// localContext returns the directory of the context, and the Dockerfiles. As with buildah the argument may be a Dockerfile:
// then its directory is the context.
func localContext(s spec.Input) (dir string, files []string, err error) {
	info, err := os.Stat(s.Context)
	switch {
	case s.Context == "":
		return "", nil, errors.New("the context has an empty name: give a directory, . for the working directory")
	case errors.Is(err, fs.ErrNotExist):
		return "", nil, fmt.Errorf("the context %s: there is no such directory", s.Context)
	case err != nil:
		return "", nil, fmt.Errorf("opening the context: %w", err)
	case info.IsDir():
		return s.Context, s.Dockerfiles, nil
	case !info.Mode().IsRegular():
		return "", nil, fmt.Errorf("the context %s is neither a directory nor a Dockerfile", s.Context)
	case len(s.Dockerfiles) > 0:
		return "", nil, fmt.Errorf("the context %s is a file: beside %s give a directory", s.Context, s.From)
	}
	return filepath.Dir(s.Context), []string{s.Context}, nil
}

func (in *input) readDockerfiles(ctx context.Context, dir string, files []string) error {
	if len(files) == 0 {
		return in.findDockerfile(dir, cmp.Or(in.from, dir))
	}

	for _, file := range files {
		var err error
		switch {
		case file == "-":
			var text []byte
			text, err = readDockerfile(Interruptible(ctx, in.build.engine.Stdin))
			in.addStdin(text)
		case source.IsURL(file):
			err = in.fetchDockerfile(ctx, file)
		default:
			err = in.openDockerfile(ctx, file, dir)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readIgnore returns the patterns that exclude files of the context.
func (in *input) readIgnore(dir string) ([]string, error) {
	own := in.build.spec.Input.IgnoreFile
	if own.Path != "" {
		patterns, err := ignore.ReadFile(own.Path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", own.From, err)
		}
		return patterns, nil
	}

	patterns, _, err := ignore.Read(dir, in.files...)
	if bad := (*ignore.Error)(nil); in.from != "" && errors.As(err, &bad) {
		return nil, unpacked(in.from, bad)
	}
	return patterns, err
}

// unpacked returns the error of an ignore file in a context that was unpacked in a directory of the build.
func unpacked(from string, bad *ignore.Error) error {
	return fmt.Errorf("%s: %s:%d: %w", from, bad.Name, bad.Line, bad.Err)
}

// readStdin unpacks a tar on standard input as the context and returns its directory. Any other input is the Dockerfile,
// and there is no context.
func (in *input) readStdin(ctx context.Context) (dir string, err error) {
	in.from = "standard input"
	r := bufio.NewReaderSize(Interruptible(ctx, in.build.engine.Stdin), 1<<16)
	isTar, err := archive.IsTar(r)
	if err != nil {
		return "", fmt.Errorf("reading the context from standard input: %w", err)
	}
	if !isTar {
		text, err := readDockerfile(r)
		in.addStdin(text)
		return "", err
	}

	if dir, in.release, err = in.build.images.NewScratch(); err != nil {
		return "", err
	}
	in.from = "the tar on standard input"
	devices, err := archive.ExtractContext(ctx, r, dir)
	if text := devices.Text(); text != "" {
		warn(in.build.log, "the build context: "+text)
	}
	return dir, err
}

// findDockerfile reads the context's own Dockerfile. name is the name of the context in messages.
func (in *input) findDockerfile(dir, name string) error {
	for _, file := range []string{"Containerfile", "Dockerfile"} {
		if found, err := in.readBelow(dir, file); found || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s has neither a Containerfile nor a Dockerfile: name the file with %s", name,
		in.build.spec.Input.From)
}

// openDockerfile reads a Dockerfile that the user names.
func (in *input) openDockerfile(ctx context.Context, file, dir string) error {
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

	s := in.build.spec.Input
	if in.from == "" {
		return fmt.Errorf("%s %s: there is no such file", s.From, file)
	}
	hint := ""
	info, err := os.Stat(file)
	if err == nil && !info.IsDir() && s.Context != "-" && s.Remedy != "" {
		hint = "; " + s.Remedy + file
	}
	return fmt.Errorf("%s %s: the context has no such file (%s)%s", s.From, file, in.from, hint)
}

// readFile reads a Dockerfile at a path of the user, inside the context or not. The file may be a pipe.
func (in *input) readFile(ctx context.Context, path string) (found bool, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening the Dockerfile: %w", err)
	}
	if info.IsDir() {
		return false, fmt.Errorf("opening the Dockerfile: %s is a directory", path)
	}

	text, err := readDockerfile(Interruptible(ctx, &lazyFile{path: path}))
	in.add(path, ignore.Dockerfile{Path: path}, text)
	return true, err
}

// lazyFile opens its file when it is first read, because opening a pipe blocks until another process writes to it.
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

// readBelow reads a Dockerfile of the context. A symbolic link does not lead out of the context, and the file must be a
// regular file, because the context may belong to another user.
func (in *input) readBelow(dir, path string) (found bool, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return false, fmt.Errorf("opening the context: %w", err)
	}
	defer root.Close()

	f, err := root.OpenFile(path, os.O_RDONLY|fdfs.NonBlocking, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("opening the Dockerfile: %w", err)
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("opening the Dockerfile: %w", err)
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("opening the Dockerfile: %s is not a regular file", path)
	}

	text, err := readDockerfile(f)
	in.add(path, ignore.Dockerfile{Path: path, InContext: true}, text)
	return true, err
}

func readDockerfile(r io.Reader) ([]byte, error) {
	text, err := bounded.ReadAll(r, maxDockerfile, "the Dockerfile")
	if err != nil {
		return nil, fmt.Errorf("reading the Dockerfile: %w", err)
	}
	return text, nil
}
