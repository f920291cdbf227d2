package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/docker/go-units"

	"codeberg.org/rbuild/rbuild/internal/doctor"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// A file system with less free bytes or inodes than full is full: RUN cannot work. With less than
// low it is nearly full.
const (
	fullBytes  = 1 << 20
	lowBytes   = 1 << 30
	fullInodes = 16
	lowInodes  = 10000
)

// place is a directory that builds write to, with the file system of the directory.
type place struct {
	name   string    // "the store"
	dir    string    // the directory, or its next ancestor that exists
	disk   doctor.ID // of the finding about bytes
	inodes doctor.ID // of the finding about inodes
	fix    string    // the remedy, beside removing files

	fdfs.FileSystem
}

// storePlace looks at the directory of the store, which need not exist.
func storePlace(dir string) (place, error) {
	p := place{name: "the store", disk: doctor.StoreDisk, inodes: doctor.StoreInodes}
	p.fix = "rbuild prune, or pass --root with a directory of a larger one; " +
		"in a pod raise sizeLimit of the store's emptyDir"
	return p, p.look(dir)
}

// tempPlace looks at the directory of temporary files, which need not exist.
func tempPlace(dir string) (place, error) {
	p := place{name: "temporary files", disk: doctor.TempDisk, inodes: doctor.TempInodes}
	p.fix = "set TMPDIR to a directory of a larger one"
	return p, p.look(dir)
}

// look asks the file system of dir, or of the next ancestor that exists.
func (p *place) look(dir string) (err error) {
	if p.dir, err = existing(dir); err != nil {
		return err
	}
	p.FileSystem, err = fdfs.FileSystemAt(p.dir)
	return err
}

// existing returns dir, or the next ancestor that exists.
func existing(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}

	for {
		info, err := os.Stat(dir)
		if errors.Is(err, fs.ErrNotExist) && dir != "/" {
			dir = filepath.Dir(dir)
			continue
		}
		if err != nil {
			return "", err
		}
		if !info.IsDir() {
			return "", fdfs.PathError("stat", dir, fdfs.ENOTDIR)
		}
		return dir, nil
	}
}

// findings says how many bytes are free and, if the file system counts inodes, how many inodes.
func (p *place) findings() []doctor.Finding {
	if p.Inodes.Total == 0 {
		return []doctor.Finding{p.diskFinding()}
	}
	return []doctor.Finding{p.diskFinding(), p.inodesFinding()}
}

func (p *place) diskFinding() doctor.Finding {
	free, total := size(p.Bytes.Free), size(p.Bytes.Total)
	f := doctor.Finding{
		ID:      p.disk,
		Status:  doctor.OK,
		Summary: fmt.Sprintf("%s of %s are free for %s (%s)", free, total, p.name, p.dir),
	}
	switch {
	case p.Bytes.Total == 0:
		f.Summary = fmt.Sprintf("the file system of %s does not tell its size (%s)", p.name, p.dir)
	case p.Bytes.Free < fullBytes:
		f.Status, f.Fix = doctor.Missing, p.fix
		f.Summary = fmt.Sprintf("the file system of %s is full: %s of %s are free at %s", p.name, free, total, p.dir)
	case p.Bytes.Free < lowBytes:
		f.Status, f.Fix = doctor.Degraded, p.fix
	}
	return f
}

func (p *place) inodesFinding() doctor.Finding {
	free, total := p.Inodes.Free, p.Inodes.Total
	f := doctor.Finding{
		ID:      p.inodes,
		Status:  doctor.OK,
		Summary: fmt.Sprintf("%d of %d inodes are free for %s", free, total, p.name),
	}
	switch {
	case free < fullInodes:
		f.Status, f.Fix = doctor.Missing, p.fix
		f.Summary = fmt.Sprintf("the file system of %s has no inodes left: %d of %d are free at %s",
			p.name, free, total, p.dir)
	case free < lowInodes:
		f.Status, f.Fix = doctor.Degraded, p.fix
	}
	return f
}

// full returns the finding that nothing can be written, if that is so.
func (p *place) full() (doctor.Finding, bool) {
	for _, f := range p.findings() {
		if f.Status == doctor.Missing {
			return f, true
		}
	}
	return doctor.Finding{}, false
}

// readOnly is the finding that nobody can write to the file system.
func (p *place) readOnly() doctor.Finding {
	return doctor.Finding{
		ID: doctor.Store, Status: doctor.Missing,
		Summary: fmt.Sprintf("the file system of %s is mounted read-only (%s)", p.name, p.dir),
		Fix:     "pass --root with a directory of another; in a pod mount a volume there, without readOnly: true",
	}
}

// size is a number of bytes as people read it, for example "3.217 GiB".
func size(n uint64) string {
	return units.CustomSize("%.4g %s", float64(n), 1024, []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"})
}
