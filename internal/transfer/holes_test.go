package transfer

import (
	"errors"
	"testing"
	"time"

	"codeberg.org/rbuild/rbuild/internal/images/imagetest"
	"codeberg.org/rbuild/rbuild/internal/images/layercheck"
)

// TestPullRefusesHoles: before the holes are written.
func TestPullRefusesHoles(t *testing.T) {
	for format, data := range imagetest.SparseTars(t, 1<<40) {
		t.Run(format, func(t *testing.T) {
			st, o, reg := newStore(t), insecure(t), newFakeRegistry(t)
			reg.put(t, "x", "1", makeImage(t, data))
			begun := time.Now()
			_, _, err := Pull(t.Context(), st, reg.host+"/x:1", PullAlways, o)
			if refused := (*layercheck.RefusedError)(nil); !errors.As(err, &refused) || refused.Entry != "f" {
				t.Errorf("got %v after %v", err, time.Since(begun))
			}
		})
	}
}
