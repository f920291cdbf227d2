package progress

import (
	"bytes"
	"strings"
	"testing"
)

func TestSafe(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"text", "a b\tc\r\n\u00e9\u4e16\n", "a b\tc\r\n\u00e9\u4e16\n"},
		{"colours", "\x1b[1;31mred\x1b[0m \x1b[38:2::1:2:3mx\x1b[m", "\x1b[1;31mred\x1b[0m \x1b[38:2::1:2:3mx\x1b[m"},
		{"title", "a\x1b]0;title\x07b\x1b]2;title\x1b\\c", "abc"},
		{"reports", "a\x1b[6n\x1b[c\x1b[>c\x1b[5nb\x1bP+q544e\x1b\\c\x1bZd", "abcd"},
		{"erasing", "a\x1b[2J\x1b[H\x1b[1A\x1b[2K\x1bcb", "ab"},
		{"private attributes", "a\x1b[?25m\x1b[>4;2mb", "ab"},
		{"control characters", "a\b\b\x07\x00\x0e\x7fb", "ab"},
		{"controls of 8 bits", "a\u009b31mb\x9bc", "a31mbc"},
		{"an unknown sequence", "a\x1b(0b\x1b#8c", "abc"},
		{"direction of writing", "a\u202eb", "ab"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for size := 1; size <= len(tc.in); size++ {
				var buf bytes.Buffer
				w := Safe(&buf)
				for in := tc.in; len(in) > 0; {
					n := min(size, len(in))
					if got, err := w.Write([]byte(in[:n])); got != n || err != nil {
						t.Fatal(got, err)
					}
					in = in[n:]
				}
				if got := buf.String(); got != tc.want {
					t.Fatalf("in writes of %d: %q, want %q", size, got, tc.want)
				}
			}
		})
	}
}

// A sequence without an end holds back no more than a bound.
func TestSafeUnended(t *testing.T) {
	var buf bytes.Buffer
	w := Safe(&buf)
	for range 10 {
		if _, err := w.Write([]byte("\x1b]" + strings.Repeat("x", 1000) + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(buf.String(), "\x1b") || strings.Count(buf.String(), "x") < 4000 {
		t.Errorf("%d bytes of 10000: %.100q", buf.Len(), buf.String())
	}
}
