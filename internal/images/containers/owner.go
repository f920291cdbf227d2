package containers

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// ownersDir is the directory of the store with a file for each process that works on it, locked as long as that lives.
// It says who the process is, and names what it has made outside the store. The lock tells whether it lives: it holds
// between PID namespaces and containers, where a number of a process means nothing, and ends with the process, whatever
// ends it. Whoever opens the store next removes what is left of those that have died.
const ownersDir = "rbuild-owners"

// maxOwner bounds the file of an owner, in bytes.
const maxOwner = 1 << 20

// ownedName tells whether path is of the form that files have which are removed with their owner: .NAME.XXXXXXXX, the end from
// rand.Text. A record that somebody else has written is no way to have another file removed.
func ownedName(path string) bool {
	name := filepath.Base(path)
	dot := strings.LastIndexByte(name, '.')
	return filepath.IsAbs(path) && dot > 1 && name[0] == '.' && len(name)-dot == 9 && strings.Trim(name[dot+1:], "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// Owner is a process as the user sees it: the one that he has started. The zero value is unknown.
type Owner struct {
	PID   int    `json:"pid,omitempty"`
	Start uint64 `json:"start,omitempty"` // when it was started, in clock ticks since boot: field 22 of /proc/PID/stat (proc(5))
	Boot  string `json:"boot,omitempty"`  // of the machine: /proc/sys/kernel/random/boot_id
}

// owned is a line of an owner's file behind the first: something outside the store that goes with the owner.
type owned struct {
	File string `json:"file,omitempty"` // its absolute path
}

// Self is this process.
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

// record is the locked file of an owner.
type record struct{ file *os.File }

// newRecord makes the file of a process that begins to work on the store. Where there is no room for it there is none,
// and nil is returned: what gives space back must not need any.
func newRecord(graphRoot string, o Owner) (*record, error) {
	dir := filepath.Join(graphRoot, ownersDir)
	if err := os.MkdirAll(dir, 0o700); fdfs.NoRoom(err) {
		return nil, nil //nolint:nilnil // documented
	} else if err != nil {
		return nil, fmt.Errorf("recording who works on the store: %w", err)
	}

	for {
		file, err := os.OpenFile(filepath.Join(dir, rand.Text()), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if fdfs.NoRoom(err) {
			return nil, nil //nolint:nilnil // documented
		}
		if err != nil {
			return nil, fmt.Errorf("recording who works on the store: %w", err)
		}

		r := &record{file}
		ok, err := fdfs.TryLock(file)
		if err == nil && ok && fdfs.Linked(file) {
			err = r.add(o)
			if err == nil {
				return r, nil
			}
		}

		if err := errors.Join(err, r.remove()); fdfs.NoRoom(err) {
			return nil, nil //nolint:nilnil // documented
		} else if err != nil {
			return nil, fmt.Errorf("recording who works on the store: %w", err)
		}
		// Another process took it for one that a dead one had left, before it was locked.
	}
}

// add writes a line.
func (r *record) add(line any) error {
	text, err := json.Marshal(line)
	if err == nil {
		_, err = r.file.Write(append(text, '\n'))
	}
	return err
}

// remove takes the file away. Of nil it does nothing.
func (r *record) remove() error {
	if r == nil {
		return nil
	}
	err := os.Remove(r.file.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, r.close())
}

// close gives up the lock, and leaves the file to others. Of nil it does nothing.
func (r *record) close() error {
	if r == nil {
		return nil
	}
	return r.file.Close()
}

// OwnFile tells that this process is about to make a file outside the store that is to go if the process dies. The path is
// absolute, its last part .NAME.XXXXXXXX with an end from rand.Text, and nobody else's: it is not told when the file has got its
// name and stays.
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

// Failed tells how the work on the store ended. Where there was no room the library could not undo all that it had begun;
// whoever opens the store next looks for it, as if this process had died.
func (s *Store) Failed(err error) { s.noRoom = s.noRoom || fdfs.NoRoom(err) }

// theDead locks the files of owners that have died and returns them.
func theDead(graphRoot string) (dead []*record, err error) {
	dir := filepath.Join(graphRoot, ownersDir)
	names, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for what interrupted builds left: %w", err)
	}

	for _, n := range names {
		file, err := os.OpenFile(filepath.Join(dir, n.Name()), os.O_RDWR, 0)
		if err != nil {
			continue // it has just ended
		}
		r := &record{file}
		if free, err := fdfs.TryLock(file); err != nil || !free || !fdfs.Linked(file) {
			_ = file.Close() // it was only looked at
			continue
		}
		dead = append(dead, r)
	}

	return dead, nil
}

// reap removes what the owner has made outside the store as far as that is still possible, and the file.
func (r *record) reap() error {
	lines := bufio.NewScanner(io.NewSectionReader(r.file, 0, maxOwner))
	for lines.Scan() {
		var o owned
		if json.Unmarshal(lines.Bytes(), &o) != nil || !ownedName(o.File) {
			continue // the first line, or one that it was killed in the middle of
		}
		if info, err := os.Lstat(o.File); err == nil && info.Mode().IsRegular() {
			_ = os.Remove(o.File) // its directory may have been made read-only since
		}
	}
	return r.remove()
}

// closeRecords gives up the locks of those that were not reaped.
func closeRecords(records []*record) error {
	var errs []error
	for _, r := range records {
		if err := r.file.Close(); !errors.Is(err, fs.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// name is the last part of the file's path. It is empty if there is no file.
func (r *record) name() string {
	if r == nil {
		return ""
	}
	return filepath.Base(r.file.Name())
}
