package progress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	t0     = time.Date(2026, 11, 20, 18, 0, 0, 0, time.UTC)
	build  = &Step{Stage: "build", Number: 4, Total: 7, Text: "RUN make", File: "Dockerfile", Line: 9}
	test   = &Step{Stage: "test", Number: 1, Total: 2, Text: "RUN make test", File: "Dockerfile", Line: 20}
	plain1 = &Step{Number: 2, Total: 3, Text: "COPY . ."}
)

func at(seconds float64, kind Kind, s *Step) Event {
	return Event{Kind: kind, Step: s, Time: t0.Add(time.Duration(seconds * float64(time.Second)))}
}

func out(s *Step, data string) Event {
	return Event{Kind: StepOutput, Step: s, Time: t0, Data: []byte(data)}
}

func TestPlain(t *testing.T) {
	esc := &Step{Number: 1, Total: 1, Text: "RUN echo \x1b[31m\u202e\xff\ttab"}
	for _, tc := range []struct {
		name   string
		events []Event
		want   string
	}{
		{
			"one step after the other, output untouched",
			[]Event{
				at(0, StepStarted, build), out(build, "cc\n"), out(build, "\x1b[1mbold\x1b[0m \xff\r\n"), at(1.23, StepDone, build),
				at(2, StepCached, plain1), at(2, StepStarted, test), out(test, "ok\n"), at(3, StepDone, test),
			},
			"[build 4/7] RUN make\ncc\n\x1b[1mbold\x1b[0m \xff\r\n[build 4/7] RUN make  1.2s\n[2/3] CACHED COPY . .\n" +
				"[test 1/2] RUN make test\nok\n[test 1/2] RUN make test  1.0s\n",
		},
		{
			"a long wait is shown apart, unless the step was cached",
			[]Event{
				{Kind: StepDone, Step: build, Elapsed: time.Second, Waited: 2100 * time.Millisecond},
				{Kind: StepFailed, Step: build, Elapsed: time.Second, Waited: time.Minute, Usage: &Usage{CPUSeconds: 1, Written: 1 << 20}},
				{Kind: StepDone, Step: test, Elapsed: time.Second, Waited: longWait - 1},
				{Kind: StepCached, Step: plain1, Waited: time.Hour},
			},
			"[build 4/7] RUN make  1.0s (waited 2.1s)\n[build 4/7] FAILED RUN make  1.0s, cpu 1.00s, memory 0 B, read 0 B, written 1 MiB (waited 1m00s)\n" +
				"[test 1/2] RUN make test  1.0s\n[2/3] CACHED COPY . .\n",
		},
		{
			"lines of parallel steps can be told apart",
			[]Event{
				at(0, StepStarted, build), out(build, "a\n"), at(0, StepStarted, test), out(build, "b\nc\n"), out(test, "d\n"),
				at(1, StepDone, test), out(build, "e\n"), at(2, StepDone, build),
			},
			"[build 4/7] RUN make\na\n[test 1/2] RUN make test\n[build 4/7] b\n[build 4/7] c\n[test 1/2] d\n" +
				"[test 1/2] RUN make test  1.0s\n[build 4/7] e\n[build 4/7] RUN make  2.0s\n",
		},
		{
			"an unfinished line is ended before anything else, and continued without a second label",
			[]Event{
				at(0, StepStarted, build), at(0, StepStarted, test), out(build, "par"), out(build, "t one\n"), out(build, "two"),
				out(test, "other"),
				{Kind: Notice, Text: "hello"},
				at(1, StepDone, build), out(test, "last"), at(1, StepFailed, test),
			},
			"[build 4/7] RUN make\n[test 1/2] RUN make test\n[build 4/7] part one\n[build 4/7] two\n[test 1/2] other\nhello\n" +
				"[build 4/7] RUN make  1.0s\n[test 1/2] last\n[test 1/2] FAILED RUN make test  1.0s\n",
		},
		{
			"notices do not come between a step and its output",
			[]Event{
				at(0, StepStarted, build),
				{Kind: Warning, Text: "no space\nleft\x07\n"},
				out(build, "a\n"),
				{Kind: Notice, Step: build, Text: "using overlay"},
				at(61.6, StepDone, build),
			},
			"[build 4/7] RUN make\nWarning: no space\nleft\\a\na\n[build 4/7] using overlay\n[build 4/7] RUN make  1m02s\n",
		},
		{
			"instructions cannot drive the terminal",
			[]Event{at(0, StepStarted, esc), at(0, StepDone, esc)},
			"[1/1] RUN echo \\x1b[31m\\u202e\\xff tab\n[1/1] RUN echo \\x1b[31m\\u202e\\xff tab  0.0s\n",
		},
		{
			"a long instruction is cut",
			[]Event{at(0, StepCached, &Step{Number: 1, Total: 1, Text: strings.Repeat("x", 200)})},
			"[1/1] CACHED " + strings.Repeat("x", 100) + "…\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var buf bytes.Buffer
			l := Plain(&buf)
			for _, e := range tc.events {
				l.Event(e)
			}
			if diff := cmp.Diff(tc.want, buf.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHuman(t *testing.T) {
	for _, tc := range []struct {
		d    time.Duration
		want string
	}{
		{-time.Second, "0.0s"},
		{0, "0.0s"},
		{251 * time.Millisecond, "0.3s"},
		{59_940 * time.Millisecond, "59.9s"},
		{59_960 * time.Millisecond, "1m00s"},
		{62 * time.Second, "1m02s"},
		{3599600 * time.Millisecond, "1h00m"},
		{26*time.Hour + 4*time.Minute, "26h04m"},
	} {
		if got := human(tc.d); got != tc.want {
			t.Errorf("human(%v) = %q, want %q", tc.d, got, tc.want)
		}
	}
}

func TestQuiet(t *testing.T) {
	var buf bytes.Buffer
	l := Quiet(&buf)
	for _, e := range []Event{
		at(0, StepStarted, build), at(0, StepStarted, test), out(build, "fine\n"), out(test, "bad"),
		{Kind: Notice, Text: "n"},
		{Kind: Warning, Text: "w"},
		at(1, StepDone, build), at(1, StepFailed, test),
	} {
		l.Event(e)
	}

	want := "Warning: w\nbad\n[test 1/2] FAILED RUN make test  1.0s\n"
	if diff := cmp.Diff(want, buf.String()); diff != "" {
		t.Error(diff)
	}
}

func TestTailIsBounded(t *testing.T) {
	for _, tc := range []struct {
		name      string
		piece     string
		count     int
		wantFirst string
		wantLast  string
	}{
		{"nothing dropped", "short\n", 10, "short", "short"},
		{"many lines", strings.Repeat("0123456789", 7) + "\n", 5000, "[earlier output left out]", strings.Repeat("0123456789", 7)},
		{"one piece beyond the bound", strings.Repeat("x", 3*tailSize) + "\nend", 1, "[earlier output left out]", "end"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var tl tail
			for range tc.count {
				tl.add([]byte(tc.piece))
			}
			if cap(tl.buf) > 4*tailSize {
				t.Errorf("holds %d bytes", cap(tl.buf))
			}
			lines := strings.Split(strings.TrimSuffix(string(tl.lines()), "\n"), "\n")
			if got := lines[0]; got != tc.wantFirst {
				t.Errorf("first line %.40q, want %q", got, tc.wantFirst)
			}
			if got := lines[len(lines)-1]; got != tc.wantLast {
				t.Errorf("last line %.40q, want %q", got, tc.wantLast)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	var buf bytes.Buffer
	l := JSON(&buf)
	failed := at(1.5, StepFailed, build)
	failed.Err = errors.New("exit status 2")
	for _, e := range []Event{
		at(0, StepStarted, build), out(build, "<a> \xff\n"), failed,
		{Kind: Warning, Time: t0, Text: "careful"},
		at(0, StepCached, plain1),
	} {
		l.Event(e)
	}

	want := `{"time":"2026-11-20T18:00:00Z","kind":"started","stage":"build","number":4,"total":7,"instruction":"RUN make","file":"Dockerfile","line":9}
{"time":"2026-11-20T18:00:00Z","kind":"output","stage":"build","number":4,"total":7,"data":"<a> \ufffd\n"}
{"time":"2026-11-20T18:00:01.5Z","kind":"failed","stage":"build","number":4,"total":7,"instruction":"RUN make","file":"Dockerfile","line":9,"seconds":1.5,"error":"exit status 2"}
{"time":"2026-11-20T18:00:00Z","kind":"warning","text":"careful"}
{"time":"2026-11-20T18:00:00Z","kind":"cached","number":2,"total":3,"instruction":"COPY . .","seconds":0}
`

	if diff := cmp.Diff(want, buf.String()); diff != "" {
		t.Error(diff)
	}
}

func TestKindNames(t *testing.T) {
	for k := StepStarted; k <= Warning; k++ {
		if k.String() == "unknown" || k.String() == "" {
			t.Errorf("kind %d has no name", k)
		}
	}
	if got := Kind(0).String() + Kind(99).String(); got != "unknownunknown" {
		t.Error(got)
	}
}

func must(t *testing.T, w io.Writer, data []byte) {
	t.Helper()
	if _, err := w.Write(data); err != nil {
		t.Error(err)
	}
}

// recorder keeps copies of what it is told.
type recorder struct{ data []string }

func (r *recorder) Event(e Event) { r.data = append(r.data, string(e.Data)) }

func TestStepWriter(t *testing.T) {
	long := strings.Repeat("x", maxLine-1)
	for _, tc := range []struct {
		name   string
		writes []string
		want   []string
	}{
		{"whole lines go at once", []string{"a\nb\n", "c\n"}, []string{"a\nb\n", "c\n"}},
		{"a line is put together", []string{"a", "b", "c\nd\ne"}, []string{"abc\n", "d\n", "e"}},
		{"the rest comes at Close", []string{"a\nrest"}, []string{"a\n", "rest"}},
		{"empty writes", []string{"", "a\n", ""}, []string{"a\n"}},
		{"a long line comes in parts", []string{long + "yz", "\n"}, []string{long + "y", "z\n"}},
		{"parts end with whole characters", []string{long + "é", "\n"}, []string{long, "é\n"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var r recorder
			w := StepWriter(&r, build)
			for _, p := range tc.writes {
				if n, err := io.WriteString(w, p); n != len(p) || err != nil {
					t.Fatalf("Write: %d, %v", n, err)
				}
			}

			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, r.data); diff != "" {
				t.Error(diff)
			}
			if _, err := io.WriteString(w, "late"); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("Write after Close: %v", err)
			}
		})
	}
}

// FuzzStepWriter checks that no byte is lost or moved whatever the writes look like.
func FuzzStepWriter(f *testing.F) {
	f.Add([]byte("a\nb\xff\xc3"), 3)
	f.Fuzz(func(t *testing.T, data []byte, step int) {
		step = max(1, min(step, 100_000))
		data = bytes.Repeat(data, 1+70_000/(len(data)+1))
		var r recorder
		w := StepWriter(&r, build)
		for rest := data; len(rest) > 0; {
			n := min(step, len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}

		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(r.data, ""); got != string(data) {
			t.Errorf("%d bytes came out as %d", len(data), len(got))
		}
	})
}

// TestFloodIsBounded sends 80 MB of lines and one line of 20 MB through each listener.
func TestFloodIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("100 MB take seconds")
	}
	line := []byte(strings.Repeat("y", 79) + "\n")
	block := bytes.Repeat(line, 1000)
	noEnd := bytes.Repeat([]byte("z"), 1<<20)
	for name, l := range map[string]Listener{"plain": Plain(io.Discard), "quiet": Quiet(io.Discard), "json": JSON(io.Discard)} {
		t.Run(name, func(t *testing.T) {
			w := StepWriter(l, build)
			l.Event(at(0, StepStarted, build))
			for range 1000 {
				must(t, w, block)
			}
			for range 20 {
				must(t, w, noEnd)
			}
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			if m.HeapAlloc > 8<<20 {
				t.Errorf("%d MiB are held", m.HeapAlloc>>20)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestConcurrent runs steps at a time through each listener: the race detector looks on, and no line may be torn.
func TestConcurrent(t *testing.T) {
	var plainOut, quietOut, jsonOut bytes.Buffer
	for _, l := range []Listener{Plain(&plainOut), Quiet(&quietOut), JSON(&jsonOut)} {
		var wg sync.WaitGroup
		for n := range 8 {
			wg.Go(func() {
				s := &Step{Stage: fmt.Sprint("s", n), Number: 1, Total: 1, Text: "RUN x"}
				l.Event(Event{Kind: StepStarted, Step: s})
				w := StepWriter(l, s)
				for i := range 100 {
					must(t, w, fmt.Appendf(nil, "line %d of %d\n", i, n))
				}
				_ = w.Close()
				l.Event(Event{Kind: StepDone, Step: s})
			})
		}
		wg.Wait()
	}

	if got := strings.Count(plainOut.String(), " of "); got != 800 {
		t.Errorf("plain: %d lines of output, want 800", got)
	}
	dec := json.NewDecoder(&jsonOut)
	count := 0
	for ; dec.More(); count++ {
		var v map[string]any
		if err := dec.Decode(&v); err != nil {
			t.Fatal(err)
		}
	}

	if count != 8*102 {
		t.Errorf("json: %d records, want %d", count, 8*102)
	}
	if quietOut.Len() != 0 {
		t.Errorf("quiet: %q", quietOut.String())
	}
}
