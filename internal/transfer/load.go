package transfer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.podman.io/image/v5/directory"
	ociarchive "go.podman.io/image/v5/oci/archive"
	ocilayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/storage/pkg/archive"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/layout"
	"codeberg.org/rbuild/rbuild/internal/images/spool"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Load copies an image from files, for example "oci:/path:tag", into the store and returns its ID.
// The image gets no name: a name in the files is not believed, because the author of the files
// could choose the name of another image.
func Load(ctx context.Context, st Store, name string, o Options) (id string, err error) {
	p, release, err := newPuller(st, o)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	return p.load(ctx, name)
}

func (p puller) load(ctx context.Context, name string) (id string, err error) {
	t, rest, err := transport(name)
	if err != nil {
		return "", err
	}
	if t == nil || isRegistry(t) || isStore(t) {
		return "", fmt.Errorf("%s: not an image in a file or a directory", name)
	}

	path, which, _ := strings.Cut(rest, ":")
	switch t.Name() {
	case ocilayout.Transport.Name():
		return p.fromLayout(ctx, path, which, "the OCI layout "+path)
	case ociarchive.Transport.Name():
		return p.fromArchive(ctx, path, which)
	}

	if t.Name() == directory.Transport.Name() {
		err = onlyRegular(rest)
	} else {
		err = isRegular(path)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}

	ref, err := t.ParseReference(rest)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}

	return p.copy(ctx, ref, nil)
}

// LoadLayout is [Load] for an image of the OCI layout dir. which selects the image as in
// layout.Find: by the value of org.opencontainers.image.ref.name, by position ("@0"), or by the
// digest of a manifest or index; "": latest, else the only image. The digests of all documents and
// layers are verified.
func LoadLayout(ctx context.Context, st Store, dir, which string, o Options) (id string, err error) {
	p, release, err := newPuller(st, o)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	return p.fromLayout(ctx, dir, which, "the OCI layout "+dir)
}

// fromLayout pulls an image of a layout. name is the layout in messages.
func (p puller) fromLayout(ctx context.Context, dir, which, name string) (id string, err error) {
	p.what = name
	manifest, mediaType, err := layout.Find(dir, which)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", p.what, err)
	}
	ref, err := layout.NewReference(dir, manifest, mediaType)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", p.what, err)
	}
	return p.copy(ctx, ref, nil)
}

// fromArchive pulls an image of a layout in a tar file. The library is not used, because it
// resolves the path a second time.
func (p puller) fromArchive(ctx context.Context, path, which string) (id string, err error) {
	dir, release, err := spool.New(p.o.spoolDir(p.st))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()

	f, _, err := fdfs.OpenRegular(path)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", path, err)
	}
	defer f.Close()
	options := &archive.TarOptions{NoLchown: true}
	if err := archive.NewDefaultArchiver().Untar(images.WithContext(ctx, f), dir, options); err != nil {
		return "", fmt.Errorf("unpacking %s: %w", path, err)
	}
	if err := withoutLinks(dir); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return p.fromLayout(ctx, dir, which, path)
}

// withoutLinks refuses an unpacked archive with links, because links lead to files that are not in
// the archive.
func withoutLinks(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !e.Type().IsRegular() {
			err = fmt.Errorf("%s is neither a file nor a directory", strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
}

// onlyRegular refuses a directory with an entry that is not a regular file. The library would wait
// for a pipe.
func onlyRegular(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := isRegular(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func isRegular(path string) error {
	f, _, err := fdfs.OpenRegular(path)
	if err != nil {
		return err
	}
	return f.Close()
}
