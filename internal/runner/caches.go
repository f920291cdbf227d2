package runner

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Sharing says how processes that run at the same time share a cache.
type Sharing int

// The ways to share. A higher value is stricter.
const (
	Shared        Sharing = iota // all use the directory at the same time
	PrivateCopies                // a process that finds the directory in use gets another
	Locked                       // one process after the other
)

// Caches keeps the directories of caches.
type Caches interface {
	// CacheName returns the name of the cache with an identity. Different identities have different
	// names.
	CacheName(identity []string) string
	// OpenCache opens a cache, and makes its directory if there is none. OpenCache waits while
	// other processes use the cache in a way that forbids that.
	OpenCache(ctx context.Context, c CacheSpec) (OpenCache, error)
}

// CacheSpec describes the cache to open.
type CacheSpec struct {
	Identity []string // what tells the cache from others, in a fixed order
	ID       string   // as the user has it, for messages
	Sharing  Sharing
	// Fill gives the directory of a new cache, which is empty, its content, mode and owner. A cache
	// that Fill has filled once is never filled again.
	Fill func(dir *os.File) error
	// Waiting is called when OpenCache begins to wait for another process. Nil: nobody is told.
	Waiting func()
}

// OpenCache is a cache in use, until Close.
type OpenCache interface {
	Dir() *os.File
	Close() error
}

// identity tells the cache from others. As in BuildKit, a cache with another first content, or
// whose directory has another mode or owner, is another cache, whatever its ID is.
func (c Cache) identity() []string {
	out := []string{"cache mount, version 1", c.ID, optional(c.Mode), optional(c.UID), optional(c.GID)}
	if c.Content != nil {
		out = append(out, c.Content.Digest, c.Content.Path)
	}
	return out
}

func optional(n *uint32) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}

// openCaches opens the caches of the list, each once and in the order of their names, so that two
// processes cannot wait for each other. A cache with several mounts is shared in the strictest of
// their ways. The sources of the mounts become the opened directories.
func (ms *mounts) openCaches(ctx context.Context, list []mount, caches Caches) error {
	wanted := map[string]CacheSpec{}
	users := map[string][]int{} // indexes of list
	for i, m := range list {
		c, ok := m.source.(Cache)
		if !ok {
			continue
		}
		name := caches.CacheName(c.identity())
		wanted[name] = CacheSpec{
			Identity: c.identity(), ID: c.ID, Sharing: max(c.Sharing, wanted[name].Sharing),
			Fill: func(dir *os.File) error { return c.fill(ctx, dir) },
		}
		users[name] = append(users[name], i)
	}

	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		open, err := caches.OpenCache(ctx, wanted[name])
		if err != nil {
			return fmt.Errorf("--mount: cache %s: %w", wanted[name].ID, err)
		}
		ms.caches = append(ms.caches, open)
		for _, i := range users[name] {
			list[i].source = openedCache{open.Dir()}
		}
	}

	return nil
}

// openedCache is the source of a mount of a cache that is in use.
type openedCache struct{ dir *os.File }

// fill gives a new cache its first content, mode and owner.
func (c Cache) fill(ctx context.Context, dir *os.File) error {
	top := fdfs.Stat{Mode: 0o755}
	if c.Content != nil {
		if err := c.Content.Pour(ctx, dir); err != nil {
			return err
		}
		var err error
		if top, err = fdfs.FileStat(dir); err != nil {
			return err
		}
	}

	if err := fdfs.Chown(dir, given(c.UID, top.UID), given(c.GID, top.GID)); err != nil {
		return err
	}
	return fdfs.Chmod(dir, given(c.Mode, top.Mode))
}
