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

// cacheMountsDir is the directory of the store with the caches of RUN --mount=type=cache. Each
// cache has a subdirectory whose name is a digest, never a text of a Dockerfile. The subdirectory
// has
//
//	N         the files of the cache, for N from 0: several if steps do not share them (Private)
//	N.lock    locked as long as a step uses N
//	N.new     files that are being filled in; the next build removes the files of an interrupted build
const cacheMountsDir = "rbuild-cache-mounts"

// CacheStore is the part of a [Store] that keeps the caches of RUN --mount=type=cache. The methods
// may be called from several goroutines.
type CacheStore struct{ graphRoot string }

// Sharing says how steps that run at the same time share a cache.
type Sharing int

// The values of --mount=type=cache,sharing=. A higher value is stricter.
const (
	Shared  Sharing = iota // all steps use the same files
	Private                // a step that finds the files in use gets other files
	Locked                 // a step waits until no other step uses the files
)

// CacheSpec describes a cache.
type CacheSpec struct {
	Identity []string // distinguishes the cache from other caches, in a fixed order
	Sharing  Sharing
	// Fill writes the first content of a new cache to the empty directory dir, and sets its mode
	// and owner. Once Fill has returned nil, it is not called again for this cache.
	Fill func(dir *os.File) error
}

// Name returns the name of the cache's directory: a SHA-256 digest of the identity, in hexadecimal.
func (c CacheSpec) Name() string {
	text, err := json.Marshal(c.Identity)
	if err != nil {
		panic(err) // a list of strings always marshals
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Cache is a cache that a step uses. The caller closes it.
type Cache struct {
	Dir  *os.File // the directory with the files
	lock *os.File
}

// Close ends the use of the cache.
func (c *Cache) Close() error { return errors.Join(c.Dir.Close(), c.lock.Close()) }

// OpenCache opens a cache, which is made if it is missing. If another step uses the cache in a way
// that forbids this, OpenCache waits until ctx ends; before it waits it calls waiting once, unless
// that is nil. Everything is opened by name below a descriptor, and no symbolic link is followed.
// The caller holds [Store.Use], so that RemoveCaches does not run.
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

// cacheDir opens the directory of a cache, which is made if it is missing.
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

// openSlot opens the files number name of a cache. The result is nil if another step uses these
// files and the next number is to be tried.
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

// tryOpenSlot is openSlot without waiting. The result is nil if another step holds the lock.
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
	if err != nil || c.Sharing != Shared {
		return files, err
	}
	_, err = fdfs.TryShare(lock)
	return files, err
}

// fillSlot makes the files of a cache, completely or not at all. The caller holds the lock.
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

	if err := fill(files); err != nil {
		return nil, errors.Join(err, files.Close(), os.RemoveAll(below(dir, temp)))
	}
	if err := os.Rename(below(dir, temp), below(dir, name)); err != nil {
		return nil, errors.Join(err, files.Close(), os.RemoveAll(below(dir, temp)))
	}
	return files, nil
}

// below returns a path of name in dir that leads through the descriptor of dir.
func below(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}

// CacheUse says how much space the caches take.
type CacheUse struct {
	Number int   // how many caches there are
	Bytes  int64 // of the regular files of all caches
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

// skipGone returns err, or nil if a running step has removed the file.
func skipGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// RemoveCaches removes all caches. The caller holds [Store.Exclusive].
func (s CacheStore) RemoveCaches() error {
	if err := os.RemoveAll(filepath.Join(s.graphRoot, cacheMountsDir)); err != nil {
		return fmt.Errorf("removing the cache mounts: %w", err)
	}
	return nil
}
