package record

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

func TestEdit(t *testing.T) {
	var image instructions.Image
	image.Config.Env = []string{"A=1", "AB=2", "C=3"}
	image.Config.Labels = map[string]string{"old": "1", "gone": "1"}
	o := Options{
		Labels:   LabelOptions{Set: []Label{{"new", "1"}, {"old", "2"}, {"given", "1"}}, Unset: []string{"gone", "given", "none"}},
		UnsetEnv: []string{"A", "none"},
	}
	got := o.edit(image, nil)
	if diff := cmp.Diff(map[string]string{"old": "2", "new": "1"}, got.Config.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"AB=2", "C=3"}, got.Config.Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if len(image.Config.Labels) != 2 || image.Config.Env[0] != "A=1" || image.Config.Labels["old"] != "1" {
		t.Errorf("changed in place: %+v", image.Config)
	}
}
