package instructions

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var testEnv = map[string]string{
	"x": "val", "e": "", "abc": "bye", "path": "/usr/local/lib/libfoo.so.1", "star": "a*b", "bytes": "\xff\xfe",
}

func testLookup(name string) (string, bool) {
	v, ok := testEnv[name]
	return v, ok
}

func TestWord(t *testing.T) {
	for _, tc := range []struct{ word, want, err string }{
		{"plain", "plain", ""},
		{"$x${x}$nope", "valval", ""},
		{"${x:-y} ${nope:-y} ${e:-y} ${e-y} ${nope-y}", "val y y  y", ""},
		{"${x:+y} ${nope:+y} ${e:+y} ${e+y} ${nope+y}", "y   y ", ""},
		{"${nope:-${x:-deep}}", "val", ""},
		{"${x:?m} ${x?m} ${e?m}", "val val ", ""},
		{`"${nope:?must be set}"`, "", "nope: must be set"},
		{"${nope?}", "", "nope: is not allowed to be unset"},
		{"${e:?}", "", "e: is not allowed to be empty"},
		{"${path#*/}", "usr/local/lib/libfoo.so.1", ""},
		{"${path##*/}", "libfoo.so.1", ""},
		{"${path%.*}", "/usr/local/lib/libfoo.so", ""},
		{"${path%%.*}", "/usr/local/lib/libfoo", ""},
		{"${path/lib/LIB}", "/usr/local/LIB/libfoo.so.1", ""},
		{"${path//lib/LIB}", "/usr/local/LIB/LIBfoo.so.1", ""},
		{`${path//\//-}`, "-usr-local-lib-libfoo.so.1", ""},
		{`${star/\*/$x}`, "avalb", ""},
		{"${star//?/$x}", "valvalval", ""},
		{"${x//a/\\$1}", "v\\$1l", ""}, // literal
		{`\$x \${x} "\$x" '$x' "a\"b" a\ b`, `$x ${x} $x $x a"b a b`, ""},
		{`un"quo"ted 'single $abc' "$abc"`, "unquoted single $abc bye", ""},
		{`"it's" '"'`, `it's "`, ""},
		{"$ $$ $1a ${", "", "missing '}'"},
		{"$. $- $", "$.  $", ""},
		{"${x", "", "missing '}'"},
		{"${}", "", "bad substitution"},
		{"${x:=y}", "", "unsupported modifier (:=)"},
		{"${x^y}", "", "unsupported modifier (^)"},
		{"${x/a}", "", "missing '/'"},
		{`${x/\a/b}`, "", `invalid escape '\a'`},
		{`"x`, "", "matching double-quote"},
		{`'x`, "", "matching single-quote"},
		{"a\xff$bytes\xfe", "a\xff\xff\xfe\xfe", ""}, // bytes that are not UTF-8 stay
		{strings.Repeat("${x:-", 60) + strings.Repeat("}", 60), "", "nested more than 50 deep"},
	} {
		t.Run(tc.word, func(t *testing.T) {
			got, err := Expander{Escape: '\\', Lookup: testLookup}.Word(tc.word)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("got %q, %v, want an error with %q", got, err, tc.err)
				}
				return
			}
			if err != nil || got != tc.want {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

func TestEscapeDirective(t *testing.T) {
	x := Expander{Escape: '`', Lookup: testLookup}
	for word, want := range map[string]string{
		`C:\dir\$x`: `C:\dir\val`, "a` b": "a b", "`$P": "$P", `"a\b"`: `a\b`, "\"`\"\"": `"`,
	} {
		if got, err := x.Word(word); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", word, got, err, want)
		}
	}
	if got, err := x.Text("`$x \\$x \"'$x"); err != nil || got != "`val $x \"'val" {
		t.Errorf("here-document: got %q, %v", got, err)
	}
}

func TestExpandCommand(t *testing.T) {
	x := Expander{Escape: '\\', Lookup: testLookup}
	for _, tc := range []struct {
		name    string
		in, out Command
	}{
		{"env", Env{Vars: []Pair{{"a$x", "$x 1"}}}, Env{Vars: []Pair{{"aval", "val 1"}}}},
		{"expose", Expose{[]string{"$x", "1-2"}}, Expose{[]string{"val", "1-2"}}},
		{"copy", Copy{
			From: "$x", Chown: "$x", Chmod: "$x", Checksum: "$x", Sources: []string{"$x"}, Dest: "/$x/", Exclude: []string{"$x"},
			Inline: []InlineFile{{Name: "A", Data: "\"$x\" \\$x", Expand: true}, {Name: "B", Data: "$x"}},
		}, Copy{
			From: "$x", Chown: "val", Chmod: "val", Checksum: "val", Sources: []string{"val"}, Dest: "/val/", Exclude: []string{"$x"},
			Inline: []InlineFile{{Name: "A", Data: "\"val\" $x"}, {Name: "B", Data: "$x"}},
		}},
		{"run is the shell's", Run{CmdLine: CmdLine{Args: []string{"$x"}}}, Run{CmdLine: CmdLine{Args: []string{"$x"}}}},
		{"cmd is the shell's", Cmd{CmdLine{Args: []string{"$x"}}}, Cmd{CmdLine{Args: []string{"$x"}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := x.Command(tc.in)
			if d := cmp.Diff(tc.out, got); err != nil || d != "" {
				t.Error(err, d)
			}
		})
	}

	if got, err := x.Command(Env{Vars: []Pair{{"$nope", "1"}}}); err == nil {
		t.Errorf("a name that is empty: got %v", got)
	}
}

func TestExpansionBounds(t *testing.T) {
	env := map[string]string{"a": strings.Repeat("a", 1000), "k": strings.Repeat("a", 100_000)}
	x := Expander{Escape: '\\', Lookup: func(n string) (string, bool) { v, ok := env[n]; return v, ok }}
	start := time.Now()
	for _, word := range []string{
		strings.Repeat("$k", 11),
		"${k//a/" + strings.Repeat("b", 11) + "}",
		"${a//a/${a//a/${a//a/xx}}}",
		"${k#" + strings.Repeat("?", 1000) + "}",
	} {
		if got, err := x.Word(word); err == nil {
			t.Errorf("%.60q gave %d bytes", word, len(got))
		}
	}

	if got, err := x.Word(strings.Repeat("$k", 10)); err != nil || len(got) != 1_000_000 {
		t.Errorf("within the bound: %d bytes, %v", len(got), err)
	}
	total := 250_000
	x.Total = &total
	for i, fits := range []bool{true, true, false} {
		if _, err := x.Word("$k"); (err == nil) != fits {
			t.Errorf("word %d: %v with %d left", i, err, total)
		}
	}

	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("took %s", d)
	}
}
