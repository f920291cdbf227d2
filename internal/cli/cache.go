package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/spec"
)

// cacheFlags choose the layers of earlier builds that are used, and the layers that are made.
type cacheFlags struct {
	noCache  bool
	uncached []string
	ttl      string
	layers   bool
	squash   bool
	jobs     int
	flags    *pflag.FlagSet
}

func (f *cacheFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectCache, func(fs *pflag.FlagSet) {
		fs.BoolVar(&f.noCache, "no-cache", false, "Run every step, and use no layers of earlier builds")
		fs.StringSliceVar(&f.uncached, "no-cache-filter", nil,
			"Stages of which every step is run, as STAGE[,STAGE...], e.g. test")
		fs.StringVar(&f.ttl, "cache-ttl", "", "Run steps again that were run longer ago, e.g. 24h")
		fs.BoolVar(&f.layers, "layers", true,
			"Make a layer for each instruction and keep it for later builds; false: one layer for all (default: "+
				"$BUILDAH_LAYERS, else true)")
		fs.BoolVar(&f.squash, "squash", false, "Make one layer for the whole image, with the layers of the base")
		fs.BoolVar(&f.squash, "squash-all", false, "Same as --squash") // podman's, whose --squash keeps the base's layers
		hide(fs, "squash-all")
		fs.IntVar(&f.jobs, "jobs", 0,
			"Number of steps that may run at the same time, e.g. 4 (default: as many as there are processors)")
		f.flags = fs
	})
}

func (f *cacheFlags) parse(h *Host, b *spec.Build) error {
	if f.jobs < 0 {
		return fmt.Errorf("--jobs %d: want how many steps may run at the same time; 0 leaves it to rbuild", f.jobs)
	}

	layers := f.layers
	if text, _ := h.Env("BUILDAH_LAYERS"); text != "" && !f.flags.Changed("layers") {
		var err error
		if layers, err = boolVariable("BUILDAH_LAYERS", text); err != nil {
			return err
		}
	}

	c := &b.Cache
	c.Off = f.noCache
	c.OneLayer = !layers
	c.Uncached = f.uncached
	c.UncachedFrom = "--no-cache-filter"
	c.Squash = f.squash
	c.Jobs = f.jobs
	if f.ttl == "" {
		return nil
	}

	ttl, err := time.ParseDuration(f.ttl)
	if err != nil || ttl < 0 {
		return fmt.Errorf("--cache-ttl %q: want a duration, e.g. 90m or 24h", f.ttl)
	}
	c.TTL = ttl
	if ttl > 0 {
		return nil
	}

	// As with buildah, no layer is new enough for 0.
	if f.flags.Changed("no-cache") && !f.noCache {
		return errors.New("--cache-ttl 0 and --no-cache=false contradict each other: give one of them")
	}
	c.Off = true
	return nil
}
