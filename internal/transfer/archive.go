package transfer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	ocilayout "go.podman.io/image/v5/oci/layout"
	"go.podman.io/image/v5/types"

	"codeberg.org/rbuild/rbuild/internal/images"
)

// copyToArchive copies an image to an OCI archive: a tar of an OCI layout. An archive of the
// library has the times of the library's temporary files and the order of the directory. This
// archive depends on the image alone.
func copyToArchive(
	ctx context.Context, src, archive types.ImageReference, sys *types.SystemContext, mediaType string, o PushOptions,
) ([]byte, error) {
	path, name, _ := strings.Cut(archive.StringWithinTransport(), ":")
	dir := filepath.Join(sys.BigFilesTemporaryDir, "layout")
	layout, err := ocilayout.NewReference(dir, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	raw, err := copyOut(ctx, src, layout, sys, mediaType, o)
	if err != nil {
		return nil, err
	}
	return raw, errors.Join(writeArchive(ctx, path, dir), os.RemoveAll(dir))
}

// writeArchive writes a tar of the directory dir to the file path. The entries are sorted; they
// have the owner 0:0, the time 0, and the mode 0755 or 0644.
func writeArchive(ctx context.Context, path, dir string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if info, statErr := os.Lstat(path); err != nil && statErr == nil && info.Mode().IsRegular() {
			err = errors.Join(err, os.Remove(path))
		}
	}()

	w := tar.NewWriter(f)
	err = filepath.WalkDir(dir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		return archiveEntry(ctx, w, file, strings.TrimPrefix(file, dir+"/"), e)
	})

	if err := errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}

	return nil
}

func archiveEntry(ctx context.Context, w *tar.Writer, file, name string, e fs.DirEntry) error {
	if e.IsDir() {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755, ModTime: time.Unix(0, 0)})
	}

	info, err := e.Info()
	if err != nil {
		return err
	}

	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: info.Size(), ModTime: time.Unix(0, 0)}
	if err := w.WriteHeader(header); err != nil {
		return err
	}

	in, err := os.Open(file)
	if err != nil {
		return err
	}

	_, err = io.Copy(w, images.WithContext(ctx, in))
	return errors.Join(err, in.Close())
}
