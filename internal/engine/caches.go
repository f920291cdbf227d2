package engine

import (
	"context"
	"os"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/runner"
)

// storeCaches implements runner.Caches by directories of a store.
type storeCaches struct{ store *containers.Store }

func (c storeCaches) CacheName(identity []string) string {
	return containers.CacheSpec{Identity: identity}.Name()
}

func (c storeCaches) OpenCache(ctx context.Context, spec runner.CacheSpec) (runner.OpenCache, error) {
	sharing := map[runner.Sharing]containers.Sharing{
		runner.Shared: containers.Shared, runner.PrivateCopies: containers.Private, runner.Locked: containers.Locked,
	}
	waiting := spec.Waiting
	if waiting == nil {
		waiting = func() {}
	}

	stored := containers.CacheSpec{Identity: spec.Identity, Sharing: sharing[spec.Sharing], Fill: spec.Fill}
	opened, err := c.store.OpenCache(ctx, stored, waiting)
	if err != nil {
		return nil, err
	}
	return storeCache{opened}, nil
}

// storeCache is an open cache.
type storeCache struct{ *containers.Cache }

// Dir is the directory of the cache.
func (c storeCache) Dir() *os.File { return c.Cache.Dir }
