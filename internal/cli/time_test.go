package cli

import (
	"testing"
	"time"
)

func TestTimeLimit(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "90": 90 * time.Second, "1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond, "1.5s": 1500 * time.Millisecond,
	} {
		var limit timeLimit
		if err := limit.Set(text); err != nil || time.Duration(limit) != want {
			t.Errorf("%s: %v, %v", text, time.Duration(limit), err)
		}
	}

	for _, text := range []string{"", "soon", "-1", "-1s", "1.5", "9223372037", "99999999999999999999", "s"} {
		var limit timeLimit
		if err := limit.Set(text); err == nil {
			t.Errorf("%q is %v", text, time.Duration(limit))
		}
	}
}
