package containers

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	cs "go.podman.io/storage"
)

func TestUnneededLayers(t *testing.T) {
	now := time.Unix(1e9, 0)
	young, old := now.Add(-time.Hour), now.Add(-48*time.Hour)
	layers := []cs.Layer{
		{ID: "base", Created: old},
		{ID: "image", Parent: "base", Created: old},
		{ID: "cached", Parent: "base", Metadata: madeByUs, Created: young},
		{ID: "cached2", Parent: "cached", Metadata: madeByUs, Created: young},
		{ID: "leftover", Created: old},
		{ID: "pulling", Created: young},
		{ID: "under", Metadata: madeByUs, Created: old},
		{ID: "over", Parent: "under", Created: young},
		{ID: "additional", ReadOnly: true, Metadata: madeByUs, Created: old},
		{ID: "container", Parent: "base", Created: old},
		{ID: "hold", Parent: "image", Names: []string{"rbuild-hold-x-y"}, Created: young},
	}

	got := unneeded(layers, []string{"image", "container", ""}, now)
	if diff := cmp.Diff([]string{"cached2", "hold", "cached", "leftover"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
