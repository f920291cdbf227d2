package builder

import (
	"encoding/json"
	"slices"

	"github.com/sirupsen/logrus"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
)

// notes are the warnings of a step. They are collected while the step runs and shown when it ends. Warnings about the
// files of the step are stored with its layer, and a step from the cache shows them again.
type notes struct {
	warnings []string
	kept     *keptNotes // nil: the step's files are not being made
}

// keptNotes are the notes that are stored with a layer, as JSON. The zero value has no notes and is not stored.
type keptNotes struct {
	Warnings []string `json:"warnings,omitempty"`
	// Duplicated is how many bytes the layer repeats of the layers below, because of a recursive chown or chmod.
	Duplicated int64 `json:"duplicated,omitempty"`
}

// remark adds a warning about the current step.
func (s *stage) remark(text string) {
	if k := s.notes.kept; k != nil {
		k.Warnings = append(k.Warnings, text)
		return
	}
	s.notes.warnings = append(s.notes.warnings, text)
}

// tell shows the notes of the step.
func (s *stage) tell(step *plan.Step) {
	kept := s.notes.kept
	if kept == nil {
		kept = &keptNotes{}
	}
	for _, text := range append(s.notes.warnings, kept.Warnings...) {
		if step.Line == 0 { // a directory that is a base: it stands in no line
			text = step.Text + ": " + text
		}
		s.warnAt(step, text)
	}

	if s.Lint != nil && !s.Flatten { // in a squashed image nothing is there twice
		if f, ok := s.Lint.Duplicated(step.Place(), kept.Duplicated); ok {
			s.finding(f)
		}
	}

	s.notes = notes{}
}

// clone returns a copy for the commit of the step, which runs in the background. A step without notes has an empty one.
func (k *keptNotes) clone() *keptNotes {
	if k == nil {
		return &keptNotes{}
	}
	return &keptNotes{Warnings: slices.Clone(k.Warnings), Duplicated: k.Duplicated}
}

// encode returns the stored form, or nil if there are no notes.
func (k *keptNotes) encode() []byte {
	if k == nil || len(k.Warnings) == 0 && k.Duplicated == 0 {
		return nil
	}
	data, err := json.Marshal(k)
	if err != nil { // of strings and a number
		logrus.Debugf("Encoding the notes of a step: %v", err)
	}
	return data
}

// recall reads the notes of a layer that comes from the cache. Notes that cannot be read are ignored.
func (b *builder) recall(l containers.Layer) *keptNotes {
	kept := &keptNotes{}
	if !l.Noted {
		return kept
	}

	data, err := b.Store.Notes(l.ID)
	if err == nil {
		err = json.Unmarshal(data, kept)
	}
	if err != nil {
		logrus.Debugf("Reading the notes of layer %s: %v", l.ID, err)
		return &keptNotes{}
	}
	return kept
}
