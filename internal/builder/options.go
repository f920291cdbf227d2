package builder

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/cache"
	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/lint"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/record"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/internal/source"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// Options is one build. Plan, Files, Images and Listener are required.
type Options struct {
	Plan   *plan.Plan
	Inputs Inputs

	// Files opens the backend that keeps the files of the stages: overlay mounts or memory. Build closes the backend.
	Files OpenFiles
	// Images records the images.
	Images commit.Images
	Cache  CacheOptions
	// Caches opens the directories of cache mounts. Nil where nothing can be run.
	Caches runner.Caches
	// Run has the options of the processes of all RUN steps.
	Run runner.Options

	Layers  LayerOptions
	Image   record.Options
	Outputs []Output // take the files of the target, one after the other
	Limits  Limits
	Checks  Checks

	Listener progress.Listener
	// Explain returns the reason why the host cannot do what a step needs, if that is why the step failed, and the error
	// of the step otherwise. It is called while the files of the step still exist. Nil: errors stay as they are.
	Explain func(error) error
}

// OpenFiles opens a backend. warn shows a warning once, however often it is called with the same text.
type OpenFiles func(warn func(text string)) (rootfs.Backend, error)

// Inputs are the files and images that a build reads.
type Inputs struct {
	Context *copier.Tree // the build context; nil: none was given, and COPY from it is an error
	// Contexts open the named contexts of the plan, by their names. Each is called once for a platform, by several
	// goroutines.
	Contexts map[string]OpenContext
	Remote   source.Access // how git repositories and URLs are reached
	// Pull provides an image and returns the ID of its record. platform is as in plan.Source. It must be safe for
	// concurrent use.
	Pull func(ctx context.Context, name, platform string) (id string, err error)
	// Origin returns the full name of an image that Pull returned for a name, and the digest of its manifest at the
	// registry. Nil: images get no annotations about their base.
	Origin func(name, id string) record.Base
}

// OpenContext opens a named context for a platform, as in plan.Source.
type OpenContext func(ctx context.Context, platform string) (NamedContext, error)

// NamedContext is a directory of files or an image. The zero value is scratch.
type NamedContext struct {
	Tree  *copier.Tree // stays open until the build ends; the opener closes it
	Image string       // ID of the record of an image
	Name  string       // by which the image was pulled; empty: by none
}

// CacheOptions says which results of earlier builds are used.
type CacheOptions struct {
	Cache    cache.Cache   // nil: none
	Refresh  bool          // run every step, and let its result replace the result in the cache (--no-cache)
	Uncached []string      // the same for the stages of these names, in any case (--no-cache-filter)
	MaxAge   time.Duration // run steps again whose results are older (--cache-ttl); 0: no result is too old
}

// LayerOptions says how files become layers.
type LayerOptions struct {
	OnePerStage bool       // one layer for all steps of a stage, and no cache (--layers=false)
	Squash      bool       // one layer for all of the image, the base included (--squash)
	Epoch       *time.Time // the time of the image and its history; nil: when each step was run
	FileTimes   FileTimes  // what Epoch means for the files of new layers
	// Owner returns the reason why no file can belong to that user and group. Nil: files can belong to any user.
	Owner func(uid, gid uint32) error
}

// FileTimes says what becomes of the modification times of files.
type FileTimes int

// The zero value is KeepTimes.
const (
	KeepTimes  FileTimes = iota
	SetTimes             // all are Epoch (--timestamp)
	ClampTimes           // none is later than Epoch (--rewrite-timestamp)
)

// Limits bounds a build. The zero value lets it take as long as it wants.
type Limits struct {
	Jobs int           // steps that run at the same time; 0: as many as there are processors, at least 2
	Step time.Duration // how long a step, or the pull of an image, may work (--step-timeout)
}

// Checks finds mistakes of the Dockerfile, which are shown as warnings.
type Checks struct {
	Linter  *lint.Linter // nil: nothing is checked
	Options lint.Options // but for Plan and Bases, which the build sets
}

// Result is the image that was made. The zero value: none was asked for.
type Result struct {
	ID       string             // of the image's record
	Config   digest.Digest      // of the config document
	Manifest ocispec.Descriptor // of the manifest as stored
}
