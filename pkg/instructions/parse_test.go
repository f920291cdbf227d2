package instructions

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// parseStage parses text after a FROM and gives the commands.
func parseStage(t *testing.T, text string) []Command {
	t.Helper()
	f, err := Parse("Dockerfile", []byte("FROM scratch\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	var out []Command
	for _, in := range f.Stages[0].Instructions {
		out = append(out, in.Command)
	}
	return out
}

func TestParseCommands(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []Command
	}{
		{"run shell", "RUN a  b \\\n  c", []Command{Run{CmdLine: CmdLine{Args: []string{"a  b   c"}, Shell: true}, Network: "default"}}},
		{"run exec", `RUN --network=none ["a", "b c"]`, []Command{Run{CmdLine: CmdLine{Args: []string{"a", "b c"}}, Network: "none"}}},
		{"run broken list", `RUN ["a"]b`, []Command{Run{CmdLine: CmdLine{Args: []string{`["a"]b`}, Shell: true}, Network: "default"}}},
		{"run security", `RUN --security=sandbox a`, []Command{Run{CmdLine: CmdLine{Args: []string{"a"}, Shell: true}, Network: "default"}}},
		{"run insecure", `RUN --security=insecure a`, []Command{Run{CmdLine: CmdLine{Args: []string{"a"}, Shell: true}, Network: "default", Insecure: true}}},
		{"run heredoc", "RUN <<A cat <<-'B'\na\nA\n\tb\n\tB", []Command{Run{
			CmdLine: CmdLine{Args: []string{"<<A cat <<-'B'"}, Shell: true}, Network: "default",
			Docs: []Heredoc{{Name: "A", Data: "a\n"}, {Name: "B", Data: "\tb\n", Strip: true}},
		}}},
		{"copy flags", "COPY --from=x --chown=a:b --chmod=u+x --link --parents --exclude=*.é --exclude=b a b/ /c/", []Command{Copy{
			From: "x", Sources: []string{"a", "b/"}, Dest: "/c/", Chown: "a:b", Chmod: "u+x",
			Exclude: []string{"*.é", "b"}, Parents: true, Link: true,
		}}},
		{"copy list", `COPY ["a b", "c"]`, []Command{Copy{Sources: []string{"a b"}, Dest: "c"}}},
		{"copy heredoc", "COPY <<A b <<-\"C\" /d/\n\t$x\nA\n\t\t\\$y\n\tC", []Command{Copy{
			Sources: []string{"b"}, Dest: "/d/",
			Inline: []InlineFile{{Name: "A", Data: "\t$x\n", Expand: true}, {Name: "C", Data: "\\$y\n"}},
		}}},
		{"copy empty heredoc", "COPY <<A /d\nA", []Command{Copy{Dest: "/d", Inline: []InlineFile{{Name: "A", Expand: true}}}}},
		{"add", "ADD --checksum=sha256:0 --unpack=false http://x/y z", []Command{Copy{
			Add: true, Sources: []string{"http://x/y"}, Dest: "z", Checksum: "sha256:0", Unpack: new(false),
		}}},
		{"arg", "ARG A=1 B C=", []Command{Arg{[]ArgPair{{"A", new("1")}, {"B", nil}, {"C", new("")}}}}},
		{"env", "ENV a=1 b='x y'\nENV c d  e", []Command{
			Env{Vars: []Pair{{"a", "1"}, {"b", "'x y'"}}}, Env{Vars: []Pair{{"c", "d  e"}}, Legacy: true},
		}},
		{"comment for the linter", "# check=skip=all\nENV a=1", []Command{Env{Vars: []Pair{{"a", "1"}}}}},
		{"lower case", "env a=1", []Command{Env{Vars: []Pair{{"a", "1"}}}}},
		{"onbuild heredoc", "ONBUILD RUN <<A\nx\nA", []Command{Onbuild{"RUN <<A\nx\nA"}}},
		{"onbuild keeps what is refused", "ONBUILD RUN --device=c x", []Command{Onbuild{"RUN --device=c x"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, parseStage(t, tc.text)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestParseFile(t *testing.T) {
	f, err := Parse("Dockerfile", []byte("\xef\xbb\xbf# syntax=docker/dockerfile:1\r\n#check=skip=all\r\n# escape=`\r\nARG A=1\r\n"+
		"FROM --platform=$P a:$A as Bin\r\nRUN a `\r\n\r\n # c\r\n b\r\nFROM bin\r\nFROM x AS bin\r\n# why\r\n#  and how\r\nhealthcheck --retries=1 NONE"))
	if err != nil {
		t.Fatal(err)
	}
	f.Lines = nil
	want := &File{
		Name: "Dockerfile", Escape: '`', Syntax: Syntax{"docker/dockerfile:1", 1}, Check: "skip=all",
		Args: []Instruction{{Range: Range{4, 4}, Name: "ARG", Word: "ARG", Text: "ARG A=1", Comments: []string{}, Command: Arg{[]ArgPair{{"A", new("1")}}}}},
		Stages: []Stage{
			{
				Range: Range{5, 5}, Name: "bin", Base: "a:$A", Platform: "$P", Text: "FROM --platform=$P a:$A as Bin",
				Words: []string{"FROM", "a:$A", "as", "Bin"},
				Instructions: []Instruction{{
					Range: Range{6, 9}, Name: "RUN", Word: "RUN", Text: "RUN a  b",
					Command: Run{CmdLine: CmdLine{Args: []string{"a  b"}, Shell: true}, Network: "default"},
				}},
			},
			{Range: Range{10, 10}, Base: "bin", Text: "FROM bin", Words: []string{"FROM", "bin"}},
			{Range: Range{11, 11}, Name: "bin", Base: "x", Text: "FROM x AS bin", Words: []string{"FROM", "x", "AS", "bin"}, Instructions: []Instruction{{
				Range: Range{14, 14}, Name: "HEALTHCHECK", Word: "healthcheck", Comments: []string{"why", "and how"}, Text: "HEALTHCHECK --retries=1 NONE",
				Command: Healthcheck{dockerspec.HealthcheckConfig{Test: []string{"NONE"}}},
			}}},
		},
		EmptyContinuations: []Range{{Line: 9}},
		Warnings:           []Warning{{Range{14, 14}, "HEALTHCHECK NONE ignores its flags"}},
	}

	if d := cmp.Diff(want, f); d != "" {
		t.Error(d)
	}
}

// TestPreprocessor: what buildah would preprocess is refused, a comment is not.
func TestPreprocessor(t *testing.T) {
	const text = "# include nothing\nFROM a\n#include \"b\"\n"
	_, err := Parse("Containerfile.in", []byte(text))
	const want = "Containerfile.in:3: #include is refused: the C preprocessor is not run on files that end with .in " +
		"(run it yourself: cpp -E -traditional -undef -P Containerfile.in)"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	for name, text := range map[string]string{"Containerfile": text, "Containerfile.in": "# include nothing\nFROM a\n"} {
		if _, err := Parse(name, []byte(text)); err != nil {
			t.Error(err)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"empty", "", "Dockerfile: file with no instructions"},
		{"only comments", "# a\n\n# b", "Dockerfile: file with no instructions"},
		{"only ARG", "ARG A", "Dockerfile: no FROM (a stage begins with FROM)"},
		{"before FROM", "\nRUN x\nFROM a", "Dockerfile:2: RUN before the first FROM (only ARG is allowed before FROM)"},
		{"zero byte", "FROM a\nRUN \x00", "Dockerfile:2: a zero byte: not a text file (is it UTF-16? a Dockerfile is UTF-8)"},
		{"unknown instruction", "FROM a\n\nFORM b", "Dockerfile:3: unknown instruction FORM (did you mean FROM?)"},
		{"unknown flag", "FROM a\nCOPY --nosuch=1 a b", "Dockerfile:2: unknown flag --nosuch for COPY"},
		{"near flag", "FROM a\nCOPY --chowm=1 a b", "Dockerfile:2: unknown flag --chowm for COPY (did you mean --chown?)"},
		{"flag of another", "FROM a\nADD --from=x a b", "Dockerfile:2: unknown flag --from for ADD"},
		{"flag of ARG", "FROM a\nARG --x=1 A", "Dockerfile:2: unknown flag --x for ARG"},
		{"flag twice", "FROM a\nCOPY --chown=1 --chown=2 a b", "Dockerfile:2: COPY: duplicate flag specified: --chown"},
		{"flag without value", "FROM a\nCOPY --chown a b", "Dockerfile:2: COPY: missing a value on flag: --chown"},
		{"bad boolean", "FROM a\nCOPY --link=2 a b", "Dockerfile:2: COPY: expecting boolean value for flag --link, not: 2"},
		{"mount", "FROM a\nRUN a\nRUN --mount=type=bnd,target=/x \\\n x", `Dockerfile:3: --mount: unknown type "bnd" (did you mean bind?)`},
		{"device", "FROM a\nRUN --device=x y", "Dockerfile:2: RUN --device is refused: devices are not supported yet"},
		{"network", "FROM a\nRUN --network=x y", `Dockerfile:2: RUN: invalid network mode "x"`},
		{"numbers in list", "FROM a\nRUN [\"a\", 1]", "Dockerfile:2: when using JSON array syntax, arrays must be comprised of strings only"},
		{"empty list", "FROM a\nRUN []", "Dockerfile:2: RUN with an empty list has no command"},
		{"SHELL without list", "FROM a\nSHELL /bin/sh", `Dockerfile:2: SHELL requires the arguments to be in JSON form`},
		{"stage name", "FROM a AS 1x", `Dockerfile:1: FROM: invalid name for build stage: "1x", name can't start with a number or contain symbols`},
		{"after nothing", "FROM --after= a", "Dockerfile:1: FROM --after needs the name of a stage"},
		{"near after", "FROM --aftr=x a", "Dockerfile:1: unknown flag --aftr for FROM (did you mean --after?)"},
		{"FROM operands", "FROM a b", "Dockerfile:1: FROM requires either one or three arguments"},
		{"one operand", "FROM a\nCOPY x", "Dockerfile:2: COPY requires at least two arguments, but only one was provided. Destination could not be determined"},
		{"open heredoc", "FROM a\nRUN <<X\na", "Dockerfile:2: unterminated heredoc"},
		{"heredoc path", "FROM a\nCOPY <<../x /\n../x", `Dockerfile:2: here-document name "../x" is no file name`},
		{"onbuild onbuild", "FROM a\nONBUILD ONBUILD RUN x", "Dockerfile:2: ONBUILD may not be the trigger of ONBUILD"},
		{"onbuild from", "FROM a\nONBUILD FROM x", "Dockerfile:2: FROM isn't allowed as an ONBUILD trigger"},
		{"onbuild unknown", "FROM a\nONBUILD COPPY x y", "Dockerfile:2: ONBUILD: unknown instruction COPPY (did you mean COPY?)"},
		{"escape", "# escape=x\nFROM a", "Dockerfile:1: the escape character \"x\" is neither \\ nor `"},
		{"directive twice", "# escape=`\n# escape=`\nFROM a", "Dockerfile:2: only one escape parser directive can be used"},
		{"check", "# check=sikp=all\nFROM a", `Dockerfile:1: directive check: invalid check option "sikp"`},
		{"retries", "FROM a\nHEALTHCHECK --retries=-1 CMD x", "Dockerfile:2: HEALTHCHECK: --retries cannot be negative (-1)"},
		{"interval", "FROM a\nHEALTHCHECK --interval=1 CMD x", "Dockerfile:2: HEALTHCHECK --interval=1: want a duration such as 30s or 1m30s"},
		{"ENV without value", "FROM a\nENV x", "Dockerfile:2: ENV must have two arguments"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse("Dockerfile", []byte(tc.text))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if e.Error() != tc.want {
				t.Errorf("got  %s\nwant %s", e, tc.want)
			}
		})
	}
}

func TestErrorSource(t *testing.T) {
	_, err := Parse("D", []byte("FROM a\nRUN --mount=x \\\n  # c\n  "+strings.Repeat("y", 300)+"\nRUN z"))
	var e *Error
	if !errors.As(err, &e) {
		t.Fatal(err)
	}
	want := []string{"RUN --mount=x \\", "  # c", "  " + strings.Repeat("y", 198) + "..."}
	if d := cmp.Diff(want, e.Source); d != "" || e.Line != 2 || e.EndLine != 4 {
		t.Errorf("lines %d-%d: %s", e.Line, e.EndLine, d)
	}
}

func TestBounds(t *testing.T) {
	long := strings.Repeat("abcdefg ", 1<<17) // 1 MiB
	for _, tc := range []struct{ name, text, want string }{
		{"1 MiB of RUN", "FROM a\nRUN echo " + long + "end", ""},
		{"1 MiB of ENV", "FROM a\nENV A=\"" + long + "end\"", ""},
		{"1 MiB of heredoc", "FROM a\nCOPY <<E /x\n" + long + "\nE", ""},
		{"1 MiB of comment", "FROM a\n#" + long + "\nRUN x", ""},
		{"a run of one character", "FROM a\nRUN " + strings.Repeat("#", 100_000), "Dockerfile:2: 60000 bytes without a place to break the line"},
		{"3 MiB of RUN", "FROM a\nRUN echo " + long + long + long, "Dockerfile:2: an instruction of more than 2097152 bytes"},
		{"3 MiB in many lines", "FROM a\nRUN echo " + strings.Repeat(strings.Repeat("abcdefgh", 99)+"\\\n", 4000), "Dockerfile:2: an instruction of more than 2097152 bytes"},
		{"17 MiB", strings.Repeat("#\n", 17<<19), "Dockerfile: 17825792 bytes, more than the 16777216 that a Dockerfile may have"},
		{"instructions", "FROM a\n" + strings.Repeat("RUN a\n", 50_000), "Dockerfile:50001: 50001 instructions, more than the 50000 that a Dockerfile may have"},
		{"a chain of ONBUILD", "FROM a\n" + strings.Repeat("ONBUILD ", 100_000) + "RUN x", "Dockerfile:2: ONBUILD may not be the trigger of ONBUILD"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if raceDetector && len(tc.text) > 100_000 {
				t.Skip("a test of size, run without the race detector")
			}
			start := time.Now()
			f, err := Parse("Dockerfile", []byte(tc.text))
			if got := fmt.Sprint(err); err != nil && got != tc.want || err == nil && tc.want != "" {
				t.Fatalf("got %.200s, want %q", got, tc.want)
			}
			if err == nil && !strings.Contains(fmt.Sprint(f.Stages[0].Instructions[0].Command), long[:len(long)-1]) && !strings.Contains(tc.name, "comment") {
				t.Error("the text is not whole")
			}
			if d := time.Since(start); d > time.Minute {
				t.Errorf("took %s", d)
			}
		})
	}
}

func BenchmarkParse10000(b *testing.B) {
	var text strings.Builder
	text.WriteString("FROM a\n")
	for i := range 2500 {
		fmt.Fprintf(&text, "RUN echo %d && make all\nENV A%d=\"b $c\" D=e\nCOPY --chown=1:2 a b /c/\nLABEL x=y\n", i, i)
	}
	for b.Loop() {
		if _, err := Parse("Dockerfile", []byte(text.String())); err != nil {
			b.Fatal(err)
		}
	}
}

func TestBytesThatAreNotUTF8(t *testing.T) {
	for _, tc := range []struct {
		text string
		line int // of the error; 0: accepted
	}{
		{"FROM a\nENV A=\xff\n", 2},
		{"FROM a\nLABEL a=\xff\n", 2},
		{"FROM a\nWORKDIR /\xff\n", 2},
		{"FROM a\nCMD \xff\n", 2},
		{"FROM a\nRUN [\"sh\", \"-c\", \"\xff\"]\n", 2},
		{"FROM a\nRUN echo \xff\n", 0},
		{"FROM a\nCOPY a\xff /b\n", 0},
		{"FROM a\n# \xff\nRUN <<E\n\xff\nE\n", 0},
	} {
		_, err := Parse("f", []byte(tc.text))
		var e *Error
		switch {
		case tc.line == 0 && err != nil:
			t.Errorf("%q: %v", tc.text, err)
		case tc.line != 0 && (!errors.As(err, &e) || e.Line != tc.line):
			t.Errorf("%q: %v, want an error in line %d", tc.text, err, tc.line)
		}
	}
}

func TestTriggerFROM(t *testing.T) {
	if _, _, err := ParseTrigger("trigger", "FROM x"); err == nil || !strings.Contains(err.Error(), "FROM cannot") {
		t.Error(err)
	}
}
