package containers_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
)

// spec is a cache whose first content is a file "first".
func cacheOf(id string, sharing containers.Sharing) containers.CacheSpec {
	return containers.CacheSpec{Identity: []string{id}, Sharing: sharing, Fill: func(dir *os.File) error {
		return os.WriteFile(inside(dir, "first"), nil, 0o600)
	}}
}

func inside(dir *os.File, name string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), name)
}

func mustOpen(t *testing.T, s *containers.Store, c containers.CacheSpec, waiting func()) *containers.Cache {
	t.Helper()
	cache, err := s.OpenCache(t.Context(), c, waiting)
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

func has(c *containers.Cache, name string) bool {
	_, err := os.Lstat(inside(c.Dir, name))
	return err == nil
}

func closeCache(t *testing.T, caches ...*containers.Cache) {
	t.Helper()
	for _, c := range caches {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCacheStays(t *testing.T) {
	s := open(t)
	one := mustOpen(t, s, cacheOf("../../x", containers.Shared), nil)
	if !has(one, "first") {
		t.Error("not filled")
	}
	if err := os.WriteFile(inside(one.Dir, "second"), []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	same := mustOpen(t, s, cacheOf("../../x", containers.Shared), nil) // at the same time
	other := mustOpen(t, s, cacheOf("../../y", containers.Shared), nil)
	if !has(same, "second") || has(other, "second") {
		t.Error("the id does not tell caches apart")
	}
	closeCache(t, one, same, other)
	if use, err := s.Caches(); err != nil || use.Number != 2 || use.Bytes != 5 {
		t.Errorf("use %+v, %v", use, err)
	}
	if err := s.RemoveCaches(); err != nil {
		t.Fatal(err)
	}
	if use, err := s.Caches(); err != nil || use != (containers.CacheUse{}) {
		t.Errorf("after removal: %+v, %v", use, err)
	}
}

func TestCacheSharing(t *testing.T) {
	s := open(t)
	var waits atomic.Int32
	note := func() { waits.Add(1) }
	held := mustOpen(t, s, cacheOf("a", containers.Locked), note)

	private := mustOpen(t, s, cacheOf("a", containers.Private), note)
	if err := os.WriteFile(inside(held.Dir, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if has(private, "mine") || waits.Load() != 0 {
		t.Error("private shares, or waits")
	}
	for _, sharing := range []containers.Sharing{containers.Locked, containers.Shared} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.OpenCache(ctx, cacheOf("a", sharing), note); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("sharing %d does not wait for a locked one: %v", sharing, err)
		}
	}

	if waits.Load() != 2 {
		t.Errorf("told %d times that it waits", waits.Load())
	}
	time.AfterFunc(50*time.Millisecond, func() { held.Close() })
	next := mustOpen(t, s, cacheOf("a", containers.Locked), note)
	if !has(next, "mine") {
		t.Error("the next has another directory")
	}
	closeCache(t, next, private)
	again := mustOpen(t, s, cacheOf("a", containers.Private), nil)
	if !has(again, "mine") {
		t.Error("private does not take one that is free")
	}
	closeCache(t, again)
}

func TestCacheFilledOnce(t *testing.T) {
	s := open(t)
	var fills atomic.Int32
	failing := cacheOf("a", containers.Shared)
	failing.Fill = func(dir *os.File) error {
		return errors.Join(os.WriteFile(inside(dir, "half"), nil, 0o600), errors.New("no more"))
	}
	if _, err := s.OpenCache(t.Context(), failing, nil); err == nil {
		t.Error("a failure is not told")
	}

	// As if a build had been killed while it filled the cache.
	c := cacheOf("a", containers.Shared)
	left := filepath.Join(s.GraphRoot(), "rbuild-cache-mounts", c.Name(), "0.new")
	if err := os.MkdirAll(filepath.Join(left, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	c.Fill = func(dir *os.File) error {
		fills.Add(1)
		time.Sleep(20 * time.Millisecond)
		return os.WriteFile(inside(dir, "whole"), nil, 0o600)
	}

	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			cache, err := s.OpenCache(t.Context(), c, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if !has(cache, "whole") || has(cache, "half") || has(cache, "x") {
				t.Error("not as it was filled")
			}
			closeCache(t, cache)
		})
	}

	all.Wait()
	if fills.Load() != 1 {
		t.Errorf("filled %d times", fills.Load())
	}
}

// TestCacheLinks: no link in the store's own directories is followed.
func TestCacheLinks(t *testing.T) {
	s := open(t)
	outside := t.TempDir()
	root := filepath.Join(s.GraphRoot(), "rbuild-cache-mounts")
	name := cacheOf("a", containers.Shared).Name()
	for _, link := range []string{"", name, name + "/0", name + "/0.lock"} {
		at := filepath.Join(root, link)
		if err := errors.Join(os.RemoveAll(root), os.MkdirAll(filepath.Dir(at), 0o700), os.Symlink(outside+"/f", at)); err != nil {
			t.Fatal(err)
		}
		if c, err := s.OpenCache(t.Context(), cacheOf("a", containers.Shared), nil); err == nil {
			t.Errorf("%q is followed", link)
			closeCache(t, c)
		}
		if left, _ := os.ReadDir(outside); len(left) > 0 {
			t.Errorf("%q: made %v", link, left)
		}
	}

	if err := s.RemoveCaches(); err != nil {
		t.Error(err)
	}
}
