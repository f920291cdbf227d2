package containers

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/lease"
)

// ownersDir is the directory of the store with a file for each process that works on the store. The
// first line of the file describes the process, and each further line names a file that the process
// makes outside the store. The process locks the file as long as it lives: a lock has a meaning in
// every PID namespace and container, in contrast to a process ID, and ends with the process. The
// next process that opens the store removes the remains of dead processes.
const ownersDir = "rbuild-owners"

// maxOwner bounds the file of an owner, in bytes.
const maxOwner = 1 << 20

// ownedName reports whether path has the form of a file that is removed with its owner: the name is
// .NAME.XXXXXXXX, with an end from rand.Text. So nobody can have another file removed by writing
// its path to a record.
func ownedName(path string) bool {
	name := filepath.Base(path)
	dot := strings.LastIndexByte(name, '.')
	if !filepath.IsAbs(path) || dot <= 1 || name[0] != '.' || len(name)-dot != 9 {
		return false
	}
	return strings.Trim(name[dot+1:], "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// Owner identifies the process that the user has started. The zero value is unknown.
type Owner struct {
	PID   int    `json:"pid,omitempty"`
	Start uint64 `json:"start,omitempty"` // of the process, in clock ticks since boot: field 22 of /proc/PID/stat (proc(5))
	Boot  string `json:"boot,omitempty"`  // of the machine: /proc/sys/kernel/random/boot_id
}

// owned is a line of an owner's file behind the first line.
type owned struct {
	File string `json:"file,omitempty"` // its absolute path
}

// Self returns the Owner for this process.
func Self() (Owner, error) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return Owner{}, err
	}

	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Owner{}, err
	}

	// The second field is the program's name in parentheses, and can hold anything.
	_, rest, _ := strings.Cut(string(stat[max(0, strings.LastIndexByte(string(stat), ')')):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return Owner{}, fmt.Errorf("/proc/self/stat: %q is not understood", stat)
	}

	start, err := strconv.ParseUint(fields[19], 10, 64)
	return Owner{PID: os.Getpid(), Start: start, Boot: strings.TrimSpace(string(boot))}, err
}

// record is the locked file of an owner. The nil record stands for a process that had no room for
// its file.
type record struct{ *lease.Lease }

// newRecord makes the file of a process that begins to work on the store. If the disk has no room
// for the file, newRecord returns nil: a command that frees space must not need any.
func newRecord(graphRoot string, o Owner) (*record, error) {
	r, err := makeRecord(graphRoot, o)
	if fdfs.NoRoom(err) {
		return nil, nil //nolint:nilnil // documented
	}
	if err != nil {
		return nil, fmt.Errorf("recording who works on the store: %w", err)
	}
	return r, nil
}

func makeRecord(graphRoot string, o Owner) (*record, error) {
	dir := filepath.Join(graphRoot, ownersDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}

	l, err := lease.New(lease.File{}, dir, "")
	if err != nil {
		return nil, err
	}

	r := &record{l}
	if err := r.add(o); err != nil {
		return nil, errors.Join(err, l.Release())
	}
	return r, nil
}

// add writes a line.
func (r *record) add(line any) error {
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = r.File().Write(append(text, '\n'))
	return err
}

// remove removes the file. For a nil record it does nothing.
func (r *record) remove() error {
	if r == nil {
		return nil
	}
	return r.Release()
}

// leave leaves the file to the next process that opens the store. For a nil record it does nothing.
func (r *record) leave() error {
	if r == nil {
		return nil
	}
	return r.Leave()
}

// OwnFile records that this process is about to make a temporary file outside the store. If the
// process dies, the next process that opens the store removes the file. The path is absolute and
// ends with .NAME.XXXXXXXX, where X is from rand.Text; nobody else uses the path. Nothing is
// recorded when the file gets its final name.
func (s *Store) OwnFile(path string) error {
	if !ownedName(path) {
		return fmt.Errorf("recording what is to be removed: %s has no name of a temporary file", path)
	}
	if s.record == nil {
		return nil
	}
	if err := s.record.add(owned{File: path}); err != nil && !fdfs.NoRoom(err) {
		return fmt.Errorf("recording what is to be removed: %w", err)
	}
	return nil
}

// Failed reports the error of the work on the store; nil: none. If the disk was full, the library
// could not undo incomplete work. Then the next process that opens the store cleans up, as if this
// process had died.
func (s *Store) Failed(err error) { s.noRoom = s.noRoom || fdfs.NoRoom(err) }

// theDead locks the files of owners that have died and returns them. The caller ends them with
// closeRecords.
func theDead(graphRoot string) ([]*record, error) {
	leases, err := lease.Dead(lease.File{}, filepath.Join(graphRoot, ownersDir), func(string) bool { return true })
	if err != nil {
		return nil, fmt.Errorf("looking for what interrupted builds left: %w", err)
	}

	dead := make([]*record, 0, len(leases))
	for _, l := range leases {
		dead = append(dead, &record{l})
	}
	return dead, nil
}

// reap removes the files outside the store that a dead owner has recorded, as far as that is
// possible, and the record.
func (r *record) reap() error {
	lines := bufio.NewScanner(io.NewSectionReader(r.File(), 0, maxOwner))
	for lines.Scan() {
		var o owned
		if json.Unmarshal(lines.Bytes(), &o) != nil || !ownedName(o.File) {
			continue // the first line, or a line in the middle of which the owner was killed
		}
		if info, err := os.Lstat(o.File); err == nil && info.Mode().IsRegular() {
			_ = os.Remove(o.File) // its directory may have been made read-only since
		}
	}
	return r.Release()
}

// closeRecords gives back the locks of the records that were not reaped.
func closeRecords(records []*record) error {
	var errs []error
	for _, r := range records {
		errs = append(errs, r.Leave())
	}
	return errors.Join(errs...)
}

// name is the last part of the file's path. It is empty if there is no file.
func (r *record) name() string {
	if r == nil {
		return ""
	}
	return filepath.Base(r.Path())
}
