package containers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// cacheMountsDir is the directory of the store with the caches of RUN --mount=type=cache. Below it is one directory for
// each cache, named by a digest, never by what a Dockerfile says, and in that
//
//	N         the files, for N from 0: more than one where steps do not share (Private)
//	N.lock    locked as long as a step uses N
//	N.new     being filled; what an interrupted build left is removed by the next
const cacheMountsDir = "rbuild-cache-mounts"

// CacheStore is the part of a [Store] that keeps the caches of RUN --mount=type=cache. The methods may be called from several
// goroutines.
type CacheStore struct{ graphRoot string }

// Sharing says how steps share a cache.
type Sharing int

// The ways. A higher one is the stricter.
const (
	Shared  Sharing = iota // with all that share it
	Private                // with none: whoever finds it in use gets another
	Locked                 // one after the other
)

// CacheSpec describes a cache.
type CacheSpec struct {
	Identity []string // what tells it from others, in a fixed order
	Sharing  Sharing
	// Fill makes the content of a new cache in dir, which is empty, and its mode and owner. It is not called again once
	// it has returned nil.
	Fill func(dir *os.File) error
}

// Name identifies the cache: a digest over its identity, in hexadecimal.
func (c CacheSpec) Name() string {
	text, err := json.Marshal(c.Identity)
	if err != nil {
		panic(err) // a list of strings always marshals
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Cache is a cache in use, until Close.
type Cache struct {
	Dir  *os.File // its directory
	lock *os.File
}

// Close gives the cache back to others.
func (c *Cache) Close() error { return errors.Join(c.Dir.Close(), c.lock.Close()) }

// OpenCache opens a cache for use, and makes it if it is not there. It waits while others have it in a way that forbids
// that; waiting is called before, once, if it is not nil. Everything is opened by name below a descriptor and no symbolic
// link is followed. The caller keeps RemoveCaches away by a lock on the store.
func (s CacheStore) OpenCache(ctx context.Context, c CacheSpec, waiting func()) (_ *Cache, err error) {
	dir, err := s.cacheDir(c.Name())
	if err != nil {
		return nil, fmt.Errorf("opening a cache mount: %w", err)
	}
	defer dir.Close()
	for slot := 0; ; slot++ {
		cache, err := openSlot(ctx, dir, strconv.Itoa(slot), c, waiting)
		if err != nil {
			return nil, fmt.Errorf("opening a cache mount: %w", err)
		}
		if cache != nil {
			return cache, nil
		}
	}
}

// cacheDir makes and opens the directory of one cache.
func (s CacheStore) cacheDir(name string) (*os.File, error) {
	dir, err := os.Open(s.graphRoot)
	if err != nil {
		return nil, err
	}

	for _, n := range []string{cacheMountsDir, name} {
		if err := fdfs.MkdirAt(dir, n, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, errors.Join(err, dir.Close())
		}
		next, err := fdfs.OpenDirAt(dir, n)
		if err := errors.Join(err, dir.Close()); err != nil {
			return nil, err
		}
		dir = next
	}

	return dir, nil
}

// openSlot opens one of a cache's directories; nil if it is in use and another is to be taken.
func openSlot(ctx context.Context, dir *os.File, name string, c CacheSpec, waiting func()) (_ *Cache, err error) {
	lock, err := fdfs.LockFileAt(dir, name+".lock")
	if err != nil {
		return nil, err
	}
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		files, err := tryOpenSlot(dir, lock, name, c)
		switch {
		case err != nil:
			return nil, errors.Join(err, lock.Close())
		case files != nil:
			return &Cache{Dir: files, lock: lock}, nil
		case c.Sharing == Private:
			return nil, lock.Close()
		}

		if waiting != nil {
			waiting()
			waiting = nil
		}

		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), lock.Close())
		case <-time.After(wait):
		}
	}
}

// tryOpenSlot returns nil if the lock cannot be had now.
func tryOpenSlot(dir, lock *os.File, name string, c CacheSpec) (*os.File, error) {
	if c.Sharing == Shared {
		ok, err := fdfs.TryShare(lock)
		if !ok || err != nil {
			return nil, err
		}
		files, err := fdfs.OpenDirAt(dir, name)
		if !errors.Is(err, fs.ErrNotExist) {
			return files, err
		}
		if err := fdfs.Unlock(lock); err != nil {
			return nil, err
		}
	}

	ok, err := fdfs.TryLock(lock)
	if !ok || err != nil {
		return nil, err
	}

	files, err := fdfs.OpenDirAt(dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		files, err = fillSlot(dir, name, c.Fill)
	}
	if err == nil && c.Sharing == Shared {
		_, err = fdfs.TryShare(lock)
	}

	return files, err
}

// fillSlot makes the directory whole or not at all. The lock is held.
func fillSlot(dir *os.File, name string, fill func(*os.File) error) (*os.File, error) {
	temp := name + ".new"
	if err := os.RemoveAll(below(dir, temp)); err != nil {
		return nil, err
	}
	if err := fdfs.MkdirAt(dir, temp, 0o700); err != nil {
		return nil, err
	}

	files, err := fdfs.OpenDirAt(dir, temp)
	if err != nil {
		return nil, err
	}

	if err = fill(files); err == nil {
		err = os.Rename(below(dir, temp), below(dir, name))
	}
	if err != nil {
		return nil, errors.Join(err, files.Close(), os.RemoveAll(below(dir, temp)))
	}
	return files, nil
}

// below is a path of name in dir, by descriptor.
func below(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}

// CacheUse is what the caches of RUN take.
type CacheUse struct {
	Number int   // of caches
	Bytes  int64 // of their regular files
}

// Caches counts the caches.
func (s CacheStore) Caches() (use CacheUse, err error) {
	root := filepath.Join(s.graphRoot, cacheMountsDir)
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return use, nil
	}
	if err != nil {
		return use, fmt.Errorf("counting the cache mounts: %w", err)
	}

	use.Number = len(entries)
	err = filepath.WalkDir(root, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return skipGone(err)
		}
		info, err := d.Info()
		if err == nil {
			use.Bytes += info.Size()
		}
		return skipGone(err)
	})
	if err != nil {
		return use, fmt.Errorf("counting the cache mounts: %w", err)
	}

	return use, nil
}

// skipGone is err unless a running step has removed what was looked at.
func skipGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// RemoveCaches removes all caches. The caller holds a lock on the store that keeps builds away.
func (s CacheStore) RemoveCaches() error {
	if err := os.RemoveAll(filepath.Join(s.graphRoot, cacheMountsDir)); err != nil {
		return fmt.Errorf("removing the cache mounts: %w", err)
	}
	return nil
}
