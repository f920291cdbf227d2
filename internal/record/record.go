// Package record makes images of finished stages: it applies the options about the image to the config of a stage, and
// stores the config and the manifest.
//
//	r := record.Recorder{Images: store, Options: record.Options{Names: []string{"localhost/app:1"}}}
//	image, kept, err := r.Keep(&stage)  // nothing changes the base image: the base image gets the names
//	image, err = r.Image(&stage)        // otherwise
//
// The package knows no Dockerfile and no files: a stage is its config and its layers.
package record

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Stage is a finished stage.
type Stage struct {
	Config instructions.Image
	Layers []commit.Layer // lowest first
	Base   Base           // the image at the bottom, by its name

	// The image at the bottom, as the store has it. The zero values: scratch.
	BaseID      string                               // of the record
	Annotations map[string]string                    // of the manifest
	Blobs       map[digest.Digest]ocispec.Descriptor // layers that are kept compressed, by DiffID; nil: none
	// Found is the config of the image at the bottom if the stage is that image. Nil: a step has been done, or there is
	// no image.
	Found *instructions.Image
}

// Recorder makes images.
type Recorder struct {
	Images  commit.Images
	Options Options
	Epoch   *time.Time // the time of all images; nil: the time of the last step
}

// Keep gives the names to the image at the bottom of the stage, if the stage is that image and no option changes anything
// of the image. kept reports whether that is so: otherwise Keep does nothing.
func (r *Recorder) Keep(s *Stage) (image commit.Recorded, kept bool, err error) {
	kept, err = r.isBase(s)
	if err != nil || !kept {
		return commit.Recorded{}, false, err
	}
	image, err = commit.Name(r.Images, s.BaseID, r.Options.Names)
	return image, true, err
}

// isBase reports whether the stage is an image that existed before, and no option changes anything of it.
func (r *Recorder) isBase(s *Stage) (bool, error) {
	was := s.Found
	o := r.Options
	switch {
	case was == nil, o.Stages.Describe, len(was.Config.OnBuild) > 0,
		len(o.Annotations.Set) > 0, o.Annotations.Created, o.Annotations.drops(s.Annotations),
		o.Labels.NoBase && len(was.Config.Labels) > 0, o.NoHistory && len(was.History) > 0:
		return false, nil
	}

	if same := reflect.DeepEqual(o.edit(*was, r.Epoch), *was); !same || o.AnyFormat {
		return same, nil
	}

	manifest, err := r.Images.NameImage(s.BaseID, nil)
	if err != nil {
		return false, err
	}
	format, err := commit.FormatOf(manifest)
	return format == o.Format, err
}

// Image makes the image of the target.
func (r *Recorder) Image(s *Stage) (commit.Recorded, error) {
	o := r.Options
	config := o.edit(s.Config, r.Epoch)
	return commit.Record(r.Images, commit.Image{
		Config: config, Layers: s.Layers, Annotations: o.Annotations.edit(s, config.Created), Format: o.Format,
		Names: o.Names, NoHistory: o.NoHistory, Blobs: s.Blobs,
	})
}

// The labels of StageImages.Describe, by buildah's names.
const (
	stageNameLabel = "io.buildah.stage.name"
	stageBaseLabel = "io.buildah.stage.base"
)

// Describe returns the labels of StageImages.Describe for a stage; nil: none are wanted. base is the base of the stage as
// FROM names it, or the ID of a saved image.
func (r *Recorder) Describe(name, base string) []Label {
	if !r.Options.Stages.Describe {
		return nil
	}
	return []Label{{stageNameLabel, name}, {stageBaseLabel, base}}
}

// Save makes an image without a name of a stage before the target. The labels of StageImages.Labels win over described.
func (r *Recorder) Save(s *Stage, described []Label) (id string, err error) {
	config := withTime(s.Config, r.Epoch)
	labels := maps.Clone(config.Config.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	for _, l := range slices.Concat(described, r.Options.Stages.Labels) {
		labels[l.Key] = l.Value
	}
	config.Config.Labels = labels

	recorded, err := commit.Record(r.Images, commit.Image{
		Config: config, Layers: s.Layers, Annotations: r.Options.Annotations.inherited(s.Annotations),
		Format: r.Options.Format, Blobs: s.Blobs,
	})
	return recorded.ID, err
}
