package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"
)

// Below these a file system is full, and nearly so.
const (
	fullBytes, lowBytes   = 1 << 20, 1 << 30
	fullInodes, lowInodes = 16, 10000
)

// place is a directory that builds write to.
type place struct {
	what          string // "the store"
	dir           string // it, or the next one above it that is there
	disk, inodes  string // ids of findings
	fix           string // what helps beside making room
	bytes, number room
	kind          string // of file system
	readOnly      bool
	dev           uint64
}

// room is what is free of what.
type room struct{ free, of uint64 }

// storePlace looks at the directory of the store.
func storePlace(dir string) (place, error) {
	p := place{what: "the store", disk: idStoreDisk, inodes: idStoreInodes}
	p.fix = "rbuild prune, or pass --root with a directory of a larger one; in a pod raise sizeLimit of the store's emptyDir"
	return p, p.look(dir)
}

// tempPlace looks at the directory of temporary files.
func tempPlace(dir string) (place, error) {
	p := place{what: "temporary files", disk: idTempDisk, inodes: idTempInodes}
	p.fix = "set TMPDIR to a directory of a larger one"
	return p, p.look(dir)
}

// look asks the file system of dir, or of the next directory above it that is there.
func (p *place) look(dir string) error {
	var err error
	if p.dir, err = existing(dir); err != nil {
		return err
	}

	var s unix.Statfs_t
	if err := unix.Statfs(p.dir, &s); err != nil {
		return &os.PathError{Op: "statfs", Path: p.dir, Err: err}
	}

	unit := uint64(s.Frsize)
	if unit == 0 {
		unit = uint64(s.Bsize)
	}
	p.bytes, p.number = room{s.Bavail * unit, s.Blocks * unit}, room{s.Ffree, s.Files}
	p.readOnly = s.Flags&unix.ST_RDONLY != 0
	p.kind = fsName(s.Type)
	var st unix.Stat_t
	if err := unix.Stat(p.dir, &st); err != nil {
		return &os.PathError{Op: "stat", Path: p.dir, Err: err}
	}

	p.dev = st.Dev

	return nil
}

// existing is dir, or the next directory above it that is there.
func existing(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			return "", &os.PathError{Op: "stat", Path: dir, Err: unix.ENOTDIR}
		case err == nil:
			return dir, nil
		case !errors.Is(err, fs.ErrNotExist) || dir == "/":
			return "", err
		}
		dir = filepath.Dir(dir)
	}
}

// findings says how much room there is.
func (p *place) findings() []Finding {
	disk := Finding{ID: p.disk, Status: OK, Summary: fmt.Sprintf("%s of %s are free for %s (%s)", size(p.bytes.free), size(p.bytes.of), p.what, p.dir)}
	switch {
	case p.bytes.of == 0: // a file system without bounds
		disk.Summary = fmt.Sprintf("the file system of %s does not tell its size (%s)", p.what, p.dir)
	case p.bytes.free < fullBytes:
		disk = Finding{p.disk, Missing, fmt.Sprintf("the file system of %s is full: %s of %s are free at %s", p.what, size(p.bytes.free), size(p.bytes.of), p.dir), "", p.fix}
	case p.bytes.free < lowBytes:
		disk.Status, disk.Fix = Degraded, p.fix
	}

	if p.number.of == 0 { // btrfs makes inodes as it needs them
		return []Finding{disk}
	}

	inodes := Finding{ID: p.inodes, Status: OK, Summary: fmt.Sprintf("%d of %d inodes are free for %s", p.number.free, p.number.of, p.what)}
	switch {
	case p.number.free < fullInodes:
		inodes = Finding{p.inodes, Missing, fmt.Sprintf("the file system of %s has no inodes left: %d of %d are free at %s", p.what, p.number.free, p.number.of, p.dir), "", p.fix}
	case p.number.free < lowInodes:
		inodes.Status, inodes.Fix = Degraded, p.fix
	}

	return []Finding{disk, inodes}
}

// full is the finding that says that nothing can be written, if that is so.
func (p *place) full() (Finding, bool) {
	for _, f := range p.findings() {
		if f.Status == Missing {
			return f, true
		}
	}
	return Finding{}, false
}

func size(n uint64) string {
	return units.CustomSize("%.4g %s", float64(n), 1024, []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"})
}

// fsName names the file systems that matter, by the number of statfs(2), which is of another width on some architectures.
func fsName[N int32 | int64 | uint32](kind N) string {
	names := map[uint32]string{
		unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "NFS", unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs",
		unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs", unix.F2FS_SUPER_MAGIC: "f2fs", unix.FUSE_SUPER_MAGIC: "fuse",
		unix.V9FS_MAGIC: "9p", 0x2fc12fc1: "zfs", unix.SMB2_SUPER_MAGIC: "smb", unix.CIFS_SUPER_MAGIC: "cifs", 0xca451a4e: "bcachefs",
	}
	if name, ok := names[uint32(kind)]; ok {
		return name
	}
	return fmt.Sprintf("file system %#x", uint32(kind))
}
