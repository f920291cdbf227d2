package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/builder"
)

// cacheFlags say what of earlier builds is used, and what is left to later ones.
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
	fs.BoolVar(&f.noCache, "no-cache", false, "run every step, whatever earlier builds left")
	fs.StringSliceVar(&f.uncached, "no-cache-filter", nil, "STAGE[,STAGE...] of which to run every step")
	fs.StringVar(&f.ttl, "cache-ttl", "", "run steps again that were run longer ago, e.g. 24h")
	fs.BoolVar(&f.layers, "layers", true, "a layer for each instruction, kept for later builds; false: one layer for all (default: $BUILDAH_LAYERS, else true)")
	fs.BoolVar(&f.squash, "squash", false, "one layer for all of the image, that of the base included")
	fs.BoolVar(&f.squash, "squash-all", false, "same as --squash") // podman's, whose --squash keeps the base's layers
	_ = fs.MarkHidden("squash-all")                                // the flag was defined on the line before
	fs.IntVar(&f.jobs, "jobs", 0, "how many steps may run at the same time (default: as many as there are processors)")
	f.flags = fs
}

func (f *cacheFlags) apply(env lookup, o *builder.Options) error {
	if f.jobs < 0 {
		return fmt.Errorf("--jobs %d: want how many steps may run at the same time; 0 leaves it to rbuild", f.jobs)
	}

	layers := f.layers
	if text, _ := env("BUILDAH_LAYERS"); text != "" && !f.flags.Changed("layers") {
		var err error
		if layers, err = boolVariable("BUILDAH_LAYERS", text); err != nil {
			return err
		}
	}

	o.Cache.Refresh, o.Layers.OnePerStage, o.Cache.Uncached, o.Layers.Squash, o.Limits.Jobs = f.noCache, !layers, f.uncached, f.squash, f.jobs
	if f.ttl == "" {
		return nil
	}

	ttl, err := time.ParseDuration(f.ttl)
	if err != nil || ttl < 0 {
		return fmt.Errorf("--cache-ttl %q: want a duration, e.g. 90m or 24h", f.ttl)
	}

	if ttl == 0 { // as with buildah, nothing is new enough
		if f.flags.Changed("no-cache") && !f.noCache {
			return errors.New("--cache-ttl 0 and --no-cache=false contradict each other: give one of them")
		}
		o.Cache.Refresh = true
	}

	o.Cache.MaxAge = ttl

	return nil
}
