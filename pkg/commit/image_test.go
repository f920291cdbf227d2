package commit

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestHistory(t *testing.T) {
	at := time.Unix(1, 0).UTC()
	layer := ocispec.History{Created: &at, CreatedBy: "RUN"}
	meta := ocispec.History{Created: &at, CreatedBy: "ENV", EmptyLayer: true}
	unknown := ocispec.History{Comment: "layer without a history"}
	dated := unknown
	dated.Created = &at
	for _, tc := range []struct {
		name   string
		base   []ocispec.History
		layers int
		want   []ocispec.History
	}{
		{"agrees", []ocispec.History{layer, meta}, 1, []ocispec.History{layer, meta}},
		{"none", nil, 2, []ocispec.History{unknown, unknown}},
		{"too short", []ocispec.History{layer, meta}, 2, []ocispec.History{dated, layer, meta}},
		{"too long", []ocispec.History{layer, layer, meta}, 1, []ocispec.History{unknown}},
		{"no layers", []ocispec.History{meta}, 0, []ocispec.History{meta}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, History(tc.base, tc.layers)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
