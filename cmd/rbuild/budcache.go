package main

import (
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/pkg/build"
)

// cacheFlags say what of earlier builds is used, and what is left to later ones.
type cacheFlags struct {
	noCache bool
	layers  bool
}

func (f *cacheFlags) register(fs *pflag.FlagSet) {
	fs.BoolVar(&f.noCache, "no-cache", false, "run every step, whatever earlier builds left")
	fs.BoolVar(&f.layers, "layers", true, "a layer for each instruction, kept for later builds; false: one layer for all")
}

func (f *cacheFlags) apply(_ lookup, o *build.Options) error {
	o.NoCache, o.Squash = f.noCache, !f.layers
	return nil
}
