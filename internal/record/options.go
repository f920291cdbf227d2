package record

import (
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// Options says what becomes of the target.
type Options struct {
	None      bool             // record no image: only the files are wanted
	Names     []string         // full references
	Platform  ocispec.Platform // of the image's config; the zero value: that of the last stage
	Format    commit.Format
	AnyFormat bool // Format is a default: an image that the build does not change keeps its own
	NoHistory bool // the config has no history

	Labels      LabelOptions
	Annotations AnnotationOptions
	System      SystemOptions
	Stages      StageImages
	UnsetEnv    []string // variables that the image does not have, wherever they come from; steps still see them
}

// Label is a label of the command line.
type Label struct{ Key, Value string }

// LabelOptions says which labels the image has.
type LabelOptions struct {
	Set    []Label  // over the labels of the Dockerfile, in this order
	Unset  []string // removed, wherever they come from; steps still see them
	NoBase bool     // no stage inherits the labels of its base
}

// AnnotationOptions says which annotations the manifest has.
type AnnotationOptions struct {
	Set     map[string]string
	Unset   []string // of the base's and the default annotations
	NoBase  bool     // the manifest inherits none of its base
	Created bool     // annotate the manifest with the time of the image
}

// SystemOptions describes the operating system of the image's config.
type SystemOptions struct {
	Version  string   // os.version; empty: the base's
	Features []string // for os.features, beside the base's; "NAME-" removes NAME
}

// StageImages are images of the stages before the target.
type StageImages struct {
	Save     bool    // record an image without a name of each stage
	Describe bool    // label these images, and the target's, with the stage's name and base
	Labels   []Label // of these images alone
}

// Base is the image that a stage is based on, for the annotations of the image that the stage becomes.
type Base struct {
	Name   string        // full name; empty: unknown
	Digest digest.Digest // of the manifest; empty: there is no base
}
