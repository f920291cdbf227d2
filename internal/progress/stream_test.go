package progress

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hostile has what may not reach a terminal, and escaped is what does.
const (
	hostile = "a\x1b]0;title\x07\x1b[2J\x00\b\r\x7f\u0085\u009b31m\u202e\u2066\u200f\u2028\ufeff\U000e0001\xff\xc3b"
	escaped = `a\x1b]0;title\a\x1b[2J\x00\b\r\u007f\u0085\u009b31m\u202e\u2066\u200f\u2028\ufeff\U000e0001\xff\xc3b`
)

func TestEscape(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"graphic", "ls -l\tzwölf 🙂 \uFFFD\n", "ls -l\tzwölf 🙂 \uFFFD\n"},
		{"hostile", hostile, strings.ReplaceAll(escaped, `\u007f`, `\x7f`)},
		{"empty", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, escape(tc.text)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(strings.NewReplacer("\t", " ", "\n", " ").Replace(tc.want), Line(tc.text)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestStream: a terminal gets what is safe, whatever the writes are cut into; a file gets the bytes.
func TestStream(t *testing.T) {
	master, slave := openPTY(t, 80, 24)
	all := collect(master)
	s := NewStream(slave, true)
	if !s.Terminal() {
		t.Error("the pseudo terminal is none")
	}
	for _, c := range []byte("é\u202e🙂") {
		must(t, s, []byte{c})
	}
	must(t, s, []byte(hostile))
	if err := Print(s, Piece{Style: Bold.And(Red), Text: "\x1b[8mhidden"}, Piece{Text: "\u202e\n"}); err != nil {
		t.Error(err)
	}
	if err := slave.Close(); err != nil {
		t.Error(err)
	}
	want := "é\\u202e🙂" + escape(hostile) + "\x1b[1;31m\\x1b[8mhidden\x1b[0m\\u202e\r\n"
	if diff := cmp.Diff(want, <-all); diff != "" {
		t.Error(diff)
	}

	name := t.TempDir() + "/file"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	s = NewStream(f, true)
	must(t, s, []byte(hostile))
	if err := Print(s, Piece{Style: Bold, Text: hostile}); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(name); err != nil || string(text) != hostile+hostile {
		t.Errorf("%q %v", text, err)
	}
}

// TestJSONWriter: what is escaped reads as it was.
func TestJSONWriter(t *testing.T) {
	text := strings.ToValidUTF8(hostile, "?")
	var b strings.Builder
	if err := json.NewEncoder(JSONWriter(&b)).Encode(text); err != nil {
		t.Fatal(err)
	}
	if got := escape(b.String()); got != b.String() {
		t.Errorf("not safe: %q", b.String())
	}
	var back string
	if err := json.Unmarshal([]byte(b.String()), &back); err != nil || back != text {
		t.Errorf("%q reads as %q, %v; want %q", b.String(), back, err, text)
	}
}
