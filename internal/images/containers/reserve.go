package containers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// The reserve is disk space for the removal of images. To remove an image, the library writes its
// records again, which fails on a full disk. Then the reserve is removed first. The next command
// that finds enough room makes the reserve again.
const (
	reserveDir    = "rbuild-reserve"
	reserveBytes  = 2 << 20 // of one file; the records of a layer take about 700 bytes
	reserveInodes = 32      // as empty files; the removal of an image takes an inode for each record and two for each layer
)

// reserve is the reserve of the store at graphRoot.
type reserve struct{ graphRoot string }

// keep makes the reserve if there is none, and room for twice as much.
func (r reserve) keep() error {
	dir := filepath.Join(r.graphRoot, reserveDir)
	whole := filepath.Join(dir, "space")
	if _, err := os.Lstat(whole); err == nil {
		return nil
	}
	if room, err := fdfs.RoomAt(r.graphRoot); err != nil || room.Bytes < 2*reserveBytes || room.Inodes < 2*reserveInodes {
		return err
	}

	err := makeReserve(dir, whole)
	switch {
	case fdfs.NoRoom(err):
		return os.RemoveAll(dir)
	case errors.Is(err, fs.ErrNotExist): // another process has just removed the reserve
		return nil
	case err != nil:
		return fmt.Errorf("making the reserve of the store: %w", err)
	}

	return nil
}

// makeReserve makes the reserve, unless another process is making it. The file whole is made last:
// the reserve is complete if this file exists.
func makeReserve(dir, whole string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}

	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if free, err := fdfs.TryLock(lock); err != nil || !free {
		return err
	}

	for i := range reserveInodes {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600); err != nil {
			return err
		}
	}

	part := whole + ".new"
	if err := allocate(part, reserveBytes); err != nil {
		return err
	}

	return os.Rename(part, whole)
}

// allocate makes a file for which the file system sets size bytes aside.
func allocate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(fdfs.Allocate(f, size), f.Close())
}

// freeing runs fn, which removes images or layers. If the disk or the user's quota is full, freeing
// gives up the reserve first. If only fn finds that there is no room, fn runs a second time without
// the reserve.
func (r reserve) freeing(fn func() error) error {
	if room, err := fdfs.RoomAt(r.graphRoot); err == nil && (room.Bytes < reserveBytes || room.Inodes < reserveInodes) {
		r.giveUp()
	}

	err := fn()
	if fdfs.NoRoom(err) && r.giveUp() {
		err = fn()
	}
	return err
}

// giveUp removes the reserve, and reports whether there was a reserve.
func (r reserve) giveUp() bool {
	dir := filepath.Join(r.graphRoot, reserveDir)
	_, err := os.Lstat(dir)
	return err == nil && os.RemoveAll(dir) == nil
}
