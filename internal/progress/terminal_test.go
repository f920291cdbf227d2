package progress

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPrintable(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"text", "héllo\n", "héllo"},
		{"colours", "\x1b[1;31mred\x1b[0m", "red"},
		{"title of the window", "a\x1b]0;owned\x07b\x1b]0;owned\x1b\\c", "abc"},
		{"device control string", "a\x1bP1$r\x1b\\b", "ab"},
		{"character set", "a\x1b(0b\x1b7c", "abc"},
		{"unfinished", "a\x1b[12", "a"},
		{"escape at the end", "a\x1b", "a"},
		{"progress bar", "10%\r20%\r", "20%"},
		{"windows line", "a\r\n", "a"},
		{"control characters", "a\x00\x08\x9b31m\u009bb\tc\x7f", "a\uFFFD31mb c"},
		{"direction marks", "a\u202eb", "ab"},
		{"long", strings.Repeat("x", 10_000), strings.Repeat("x", 4096)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := printable([]byte(tc.in)); got != tc.want {
				t.Errorf("got %.80q, want %.80q", got, tc.want)
			}
		})
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add([]byte("\x1b[1m\x1b]x\x1b\\\x1bPq\x9c\r\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		for _, r := range printable(line) {
			if r < ' ' || (r >= 0x7f && r < 0xa0) {
				t.Errorf("%q in %q", r, line)
			}
		}
	})
}

func TestFit(t *testing.T) {
	for _, tc := range []struct {
		head, foot string
		width      int
		want       string
	}{
		{"short", "  1s", 80, "short  1s"},
		{"0123456789", "  1s", 10, "0123…  1s"},
		{"日本語日本語", "", 8, "日本語…"},
		{"x", "  long foot", 3, "x  long foot"},
	} {
		if got := fit(tc.head, tc.foot, tc.width); got != tc.want {
			t.Errorf("fit(%q, %q, %d) = %q, want %q", tc.head, tc.foot, tc.width, got, tc.want)
		}
	}
}

// TestView feeds events and checks the screen after each frame, without and with colours.
func TestView(t *testing.T) {
	type frame struct {
		seconds       float64
		width, height int // zero: as before
		events        []Event
		want          string
	}

	for _, tc := range []struct {
		name   string
		frames []frame
	}{
		{"a step runs and ends", []frame{
			{0, 40, 10, []Event{at(0, StepStarted, build)}, "[build 4/7] RUN make  0.0s\n"},
			{1, 0, 0, []Event{out(build, "cc a.c\n\n\x1b[31mcc b.c\n")}, "[build 4/7] RUN make  1.0s\n  cc a.c\n  cc b.c\n"},
			{2, 0, 0, []Event{{Kind: Notice, Text: "hello"}}, "hello\n[build 4/7] RUN make  2.0s\n  cc a.c\n  cc b.c\n"},
			{3, 0, 0, []Event{at(2.5, StepDone, build)}, "hello\n[build 4/7] RUN make  2.5s\n"},
			{4, 0, 0, []Event{at(4, StepCached, plain1)}, "hello\n[build 4/7] RUN make  2.5s\n[2/3] CACHED COPY . .\n"},
		}},
		{"the failing step shows its output, whole", []frame{
			{0, 30, 5, []Event{at(0, StepStarted, build), at(0, StepStarted, test)}, "[build 4/7] RUN make  0.0s\n[test 1/2] RUN make te…  0.0s\n"},
			{1, 0, 0, []Event{out(build, "1\n2\n3\n4\n5\n6\n7\n8\nlast")}, "[build 4/7] RUN make  1.0s\n  last\n[test 1/2] RUN make te…  1.0s\n"},
			{
				2, 0, 0,
				[]Event{at(2, StepFailed, build)},
				"1\n2\n3\n4\n5\n6\n7\n8\nlast\n[build 4/7] FAILED RUN…  2.0s\n[test 1/2] RUN make te…  2.0s\n",
			},
		}},
		{"only the last lines of a running step", []frame{
			{
				1, 40, 24,
				[]Event{at(0, StepStarted, build), out(build, "1\n2\n3\n4\n5\n6\n7\n8\n")},
				"[build 4/7] RUN make  1.0s\n  3\n  4\n  5\n  6\n  7\n  8\n",
			},
		}},
		{"long lines are cut, also wide characters", []frame{
			{0, 21, 10, []Event{at(0, StepStarted, build), out(build, "日本語日本語日本語日本語\n")}, "[build 4/7] R…  0.0s\n  日 本 語 日 本 語 日 本 …\n"},
		}},
		{"more steps than rows", []frame{
			{0, 40, 3, []Event{at(0, StepStarted, build), at(0, StepStarted, test), at(0, StepStarted, plain1)}, "[build 4/7] RUN make  0.0s\nand 2 more steps\n"},
			{0, 40, 4, nil, "[build 4/7] RUN make  0.0s\n[test 1/2] RUN make test  0.0s\n[2/3] COPY . .  0.0s\n"},
		}},
		{"no room at all", []frame{{0, 40, 1, []Event{at(0, StepStarted, build)}, ""}, {0, 40, 1, []Event{at(1, StepDone, build)}, "[build 4/7] RUN make  1.0s\n"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, color := range []bool{false, true} {
				v := view{color: color, running: clock{}}
				var s *screen
				for i, f := range tc.frames {
					if s == nil {
						s = newScreen(t, f.width, f.height)
					} else if f.width > 0 {
						s.width, s.height = f.width, f.height
					}
					for _, e := range f.events {
						v.event(e, s.width)
					}
					s.write(v.frame(t0.Add(time.Duration(f.seconds*float64(time.Second))), s.width, s.height))
					if diff := cmp.Diff(f.want, s.text()); diff != "" {
						t.Errorf("frame %d: %s", i, diff)
					}
				}
			}
		})
	}
}

// TestViewResize makes the terminal narrower between two frames: it wraps the lines that stand there, and all their
// rows must be replaced.
func TestViewResize(t *testing.T) {
	v := view{running: clock{}}
	v.event(at(0, StepStarted, build), 40)
	v.event(out(build, strings.Repeat("x", 30)+"\n"), 40)
	v.frame(t0, 40, 10)
	wrapped := newScreen(t, 20, 10)
	wrapped.write("above\n[build 4/7] RUN make  0.0s\n  " + strings.Repeat("x", 30) + "\n")
	wrapped.write(v.frame(t0, 20, 10))
	want := "above\n[build 4/7] …  0.0s\n  " + strings.Repeat("x", 16) + "…\n"
	if diff := cmp.Diff(want, wrapped.text()); diff != "" {
		t.Error(diff)
	}
}

func TestViewStop(t *testing.T) {
	v := view{running: clock{}}
	s := newScreen(t, 60, 10)
	v.event(at(0, StepStarted, build), 60)
	s.write(v.frame(t0, 60, 10))
	v.stop(t0.Add(3*time.Second), 60)
	s.write(v.frame(t0, 60, 10))
	failed := at(4, StepFailed, build) // comes late
	failed.Err = errors.New("killed")
	v.event(failed, 60)
	v.event(at(4, StepStarted, test), 60)
	s.write(v.frame(t0, 60, 10))
	want := "[build 4/7] STOPPED RUN make  3.0s\n[build 4/7] FAILED RUN make  4.0s\n"
	if diff := cmp.Diff(want, s.text()); diff != "" {
		t.Error(diff)
	}
}

// TestViewRandom runs many steps with output of any width: what stays is what was closed, in order.
func TestViewRandom(t *testing.T) {
	v := view{color: true, running: clock{}}
	s := newScreen(t, 50, 12)
	var want strings.Builder
	for i := range 200 {
		step := &Step{Stage: "s", Number: i, Total: 200, Text: "RUN x"}
		v.event(at(0, StepStarted, step), 50)
		v.event(out(step, strings.Repeat("word ", i)+"\n"), 50)
		s.write(v.frame(t0, 50, 12))
		if i%3 != 0 { // some run for ever
			v.event(at(1, StepDone, step), 50)
			fmt.Fprintf(&want, "[s %d/200] RUN x  1.0s\n", i)
		}
		if len(v.steps) > 15 {
			v.steps = v.steps[1:]
		}
		s.write(v.frame(t0, 50, 12))
	}

	v.steps = nil
	s.write(v.frame(t0, 50, 12))
	if diff := cmp.Diff(want.String(), s.text()); diff != "" {
		t.Error(diff)
	}
}
