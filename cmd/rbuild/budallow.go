package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/imagename"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// allowFlags say what the Dockerfile may do that it may not by default.
type allowFlags struct {
	list []string

	noRemote bool

	insecure bool
	read     []string // paths; "*": all
}

func (f *allowFlags) register(fs *pflag.FlagSet) {
	fs.StringArrayVar(&f.list, "allow", nil, "let the Dockerfile do more: security.insecure (RUN --security=insecure), fs.read=PATH (FROM oci:PATH and its kin; * for all), network.host (RUN --network=host whatever --network says)")
	fs.BoolVar(&f.noRemote, "no-remote", false,
		"refuse ADD of URLs and git repositories, also in triggers of base images; base images are still pulled")
}

func (f *allowFlags) apply(_ lookup, o *builder.Options) error {
	f.insecure, f.read = false, nil
	for _, text := range f.list {
		path, isRead := strings.CutPrefix(text, "fs.read=")
		switch {
		case text == "security.insecure":
			f.insecure = true
		case text == "network.host":
			o.Run.Network.AllowHost = true
		case isRead && path != "":
			f.read = append(f.read, path)
		default:
			return fmt.Errorf("--allow %q: choose security.insecure, network.host or fs.read=PATH", text)
		}
	}

	return nil
}

// refuse is for plan.Options: what images the Dockerfile may not name. from is the --from of the command line.
func (f *allowFlags) refuse(from string) func(image string) error {
	return func(image string) error {
		n, err := imagename.Parse(image)
		if err != nil || image == from || !n.InFiles() {
			return err
		}
		if path, _ := n.Path(); len(f.read) == 0 {
			return fmt.Errorf("%s is refused: it reads files of this machine (allow it with --allow fs.read=%s)", image, path)
		}
		return nil
	}
}

// load reads the image that a Dockerfile names by its transport, if it lies where that is allowed.
func (f *allowFlags) load(ctx context.Context, place imagePlace, image string, o transfer.Options) (string, error) {
	n, err := imagename.Parse(image)
	if err != nil {
		return "", err
	}

	path, which := n.Path()
	file, err := openPath(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", image, err)
	}
	defer file.Close()
	if err := f.mayRead(file); err != nil {
		return "", fmt.Errorf("%s: %w", image, err)
	}

	// By its descriptor it is the one that was looked at, whatever becomes of the path.
	pinned := descriptorPath(file)
	id, err := place.Load(ctx, n.Transport+":"+pinned+which, o)
	if err != nil {
		return "", &pinnedError{err, pinned, path}
	}

	return id, nil
}

// mayRead refuses a file that lies nowhere that is allowed. Real paths are compared: all links are followed.
func (f *allowFlags) mayRead(file *os.File) error {
	real, err := os.Readlink(descriptorPath(file))
	if err != nil {
		return err
	}

	for _, allowed := range f.read {
		if allowed == "*" {
			return nil
		}

		dir, err := openPath(allowed)
		if err != nil {
			return fmt.Errorf("--allow fs.read=%s: %w", allowed, err)
		}

		base, err := os.Readlink(descriptorPath(dir))
		dir.Close()
		if err != nil {
			return err
		}
		if real == base || strings.HasPrefix(real, strings.TrimSuffix(base, "/")+"/") {
			return nil
		}
	}

	return fmt.Errorf("%s is refused: it is not at or below %s (allow it with --allow fs.read=%s)", real, strings.Join(f.read, ", "), real)
}

// openPath finds a file and does not open what is in it: it may be a pipe or a device.
func openPath(path string) (*os.File, error) { return os.OpenFile(path, unix.O_PATH, 0) }

func descriptorPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// pinnedError is an error that names a file as the user does.
type pinnedError struct {
	error
	pinned, path string
}

func (e *pinnedError) Error() string { return strings.ReplaceAll(e.error.Error(), e.pinned, e.path) }
func (e *pinnedError) Unwrap() error { return e.error }
