package builder

import (
	"encoding/json"
	"slices"

	"github.com/sirupsen/logrus"
)

// notes are the warnings about the files of a step, stored with its layer as JSON. A step from the cache shows them again.
// The zero value has no notes and is not stored.
type notes struct {
	Warnings []string `json:"warnings,omitempty"`
	// Duplicated is how many bytes the layer repeats of the layers below, because of a recursive chown or chmod.
	Duplicated int64 `json:"duplicated,omitempty"`
}

// clone returns a copy, for the commit of a step in the background.
func (n notes) clone() notes {
	return notes{Warnings: slices.Clone(n.Warnings), Duplicated: n.Duplicated}
}

// encode returns the stored form, or nil if there are no notes.
func (n notes) encode() []byte {
	if len(n.Warnings) == 0 && n.Duplicated == 0 {
		return nil
	}

	data, err := json.Marshal(n)
	if err != nil { // of strings and a number
		logrus.Debugf("Encoding the notes of a step: %v", err)
	}
	return data
}

// decodeNotes reads the stored form. Notes that cannot be read are dropped.
func decodeNotes(data []byte) notes {
	var n notes
	if len(data) == 0 {
		return n
	}
	if err := json.Unmarshal(data, &n); err != nil {
		logrus.Debugf("Reading the notes of a layer: %v", err)
		return notes{}
	}
	return n
}
