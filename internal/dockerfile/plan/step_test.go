package plan_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

const defaultPath = "PATH=" + pathValue

// TestRun: the command of a RUN and the text of the history.
func TestRun(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       plan.Run
		history    string
	}{
		{
			"shell", "RUN a  b", plan.Run{Argv: []string{"/bin/sh", "-c", "a  b"}}, "RUN /bin/sh -c a  b",
		},
		{
			"exec", `RUN ["a", "b c"]`, plan.Run{Argv: []string{"a", "b c"}}, "RUN a b c",
		},
		{
			"SHELL", "SHELL [\"s\", \"-e\"]\nRUN a", plan.Run{Argv: []string{"s", "-e", "a"}}, "RUN s -e a",
		},
		{
			"user, directory, network", "USER u:g\nWORKDIR /w/\nRUN --network=none a",
			plan.Run{Argv: []string{"/bin/sh", "-c", "a"}, User: "u:g", Dir: "/w/", Network: "none"},
			"RUN /bin/sh -c a",
		},
		{
			"variables are the shell's", "ENV A=1\nRUN $A",
			plan.Run{Argv: []string{"/bin/sh", "-c", "$A"}, Env: []string{defaultPath, "A=1"}},
			"RUN /bin/sh -c $A",
		},
		{
			"arguments", "ARG B=2\nENV A=1\nARG A=9 C D=\nARG B=3\nRUN x",
			plan.Run{Argv: []string{"/bin/sh", "-c", "x"}, Env: []string{defaultPath, "A=1", "B=3", "D="}},
			"RUN |4 B=3 A=1 C= D= /bin/sh -c x",
		},
		{
			"heredoc as script", "RUN <<E\na $x\n\tb\nE", plan.Run{Argv: []string{"/bin/sh", "-c", "a $x\n\tb\n"}}, "RUN /bin/sh -c a $x\n\tb\n",
		},
		{
			"heredoc without tabs", "RUN <<-'E'\n\ta\n\t\tb\n\tE", plan.Run{Argv: []string{"/bin/sh", "-c", "a\nb\n"}}, "RUN /bin/sh -c a\nb\n",
		},
		{
			"heredoc with an interpreter", "RUN <<-E\n\t#!/bin/x\n\ta\nE",
			plan.Run{
				Argv:  []string{"/bin/sh", "-c", "/dev/pipes/E"},
				Files: []plan.InlineFile{{Name: "E", Data: []byte("#!/bin/x\na\n")}},
			},
			"RUN /bin/sh -c /dev/pipes/E",
		},
		{
			"heredoc of a command", "RUN <<E /bin/sh -e\na\nE",
			plan.Run{Argv: []string{"/bin/sh", "-c", "<<E /bin/sh -e\na\nE"}},
			"RUN /bin/sh -c <<E /bin/sh -e\na\nE",
		},
		{
			"two heredocs", "RUN cat <<A > /f && cat <<-B\n1\nA\n\t2\nB",
			plan.Run{Argv: []string{"/bin/sh", "-c", "cat <<A > /f && cat <<-B\n1\nA\n\t2\nB"}},
			"RUN /bin/sh -c cat <<A > /f && cat <<-B\n1\nA\n\t2\nB",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			steps := walk(t, "FROM busybox\n"+tc.text, "", nil).steps["0"]
			last := steps[len(steps)-1]
			if tc.want.Env == nil {
				tc.want.Env = []string{defaultPath}
			}
			if tc.want.Network == "" {
				tc.want.Network = "default"
			}
			if d := cmp.Diff(&tc.want, last.Op, cmpopts.EquateEmpty()); d != "" {
				t.Error(d)
			}
			if last.CreatedBy != tc.history {
				t.Errorf("history %q, want %q", last.CreatedBy, tc.history)
			}
		})
	}
}

func TestCopy(t *testing.T) {
	no := false
	for _, tc := range []struct {
		name, text string
		want       plan.Copy
		history    string
	}{
		{"file", "COPY a b", plan.Copy{Sources: []string{"a"}, Dest: "/w/b"}, "COPY a b"},
		{"directory", "COPY a b c/", plan.Copy{Sources: []string{"a", "b"}, Dest: "/w/c/"}, "COPY a b c/"},
		{"here", "COPY a b .", plan.Copy{Sources: []string{"a", "b"}, Dest: "/w/"}, "COPY a b ."},
		{"above", "COPY a b ..", plan.Copy{Sources: []string{"a", "b"}, Dest: "/"}, "COPY a b .."},
		{"unclean", "COPY a /x/../y//z/.", plan.Copy{Sources: []string{"a"}, Dest: "/y/z/"}, "COPY a /x/../y//z/."},
		{"root", "COPY a /", plan.Copy{Sources: []string{"a"}, Dest: "/"}, "COPY a /"},
		{"empty destination", "COPY a \"\"", plan.Copy{Sources: []string{"a"}, Dest: "/w/"}, "COPY a "},
		{
			"flags", "ARG O=u\nCOPY --chown=$O:g --chmod=u=rwX,go-w --parents --link --exclude=$O a/./b c",
			plan.Copy{Sources: []string{"a/./b"}, Dest: "/w/c", Chown: "u:g", Chmod: "u=rwX,go-w", Parents: true, Link: true, Exclude: []string{"$O"}},
			"COPY --parents --chown=u:g --chmod=u=rwX,go-w a/./b c",
		},
		{
			"heredocs", "ENV V=1\nCOPY <<A b <<\"C\" /d/\n$V \\$V\nA\n$V\nC",
			plan.Copy{
				Sources: []string{"b"}, Dest: "/d/",
				Inline: []plan.InlineFile{{Name: "A", Data: []byte("1 $V\n")}, {Name: "C", Data: []byte("$V\n")}},
			},
			"COPY b <<A <<C /d/",
		},
		{
			"add", "ADD --checksum=sha256:0 --unpack=false --chmod=755 http://x/y z",
			plan.Copy{Add: true, Sources: []string{"http://x/y"}, Dest: "/w/z", Chmod: "755", Checksum: "sha256:0", Unpack: &no},
			"ADD --chmod=755 http://x/y z",
		},
		{
			"git", "ADD --keep-git-dir=false --checksum=abcd https://u:hidden@x/y.git#v z/",
			plan.Copy{Add: true, Sources: []string{"https://u:hidden@x/y.git#v"}, Dest: "/w/z/", Checksum: "abcd", KeepGitDir: &no},
			"ADD https://xxxxx@x/y.git#v z/",
		},
		{"from image", "COPY --from=img:1 a b", plan.Copy{From: &plan.Source{Image: "img:1"}, Sources: []string{"a"}, Dest: "/w/b"}, "COPY a b"},
		{"from scratch", "COPY --from=scratch a b", plan.Copy{From: &plan.Source{}, Sources: []string{"a"}, Dest: "/w/b"}, "COPY a b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			steps := walk(t, "FROM busybox\nWORKDIR /w\n"+tc.text, "", nil).steps["0"]
			last := steps[len(steps)-1]
			if d := cmp.Diff(&tc.want, last.Op, cmpopts.EquateEmpty()); d != "" {
				t.Error(d)
			}
			if last.CreatedBy != tc.history {
				t.Errorf("history %q, want %q", last.CreatedBy, tc.history)
			}
		})
	}
}

func TestWorkdir(t *testing.T) {
	steps := walk(t, "FROM scratch\nWORKDIR /\nUSER u\nWORKDIR a/\nENV B=/b\nWORKDIR $B/x/../c/\nRUN x", "", nil).steps["0"]
	var got []string
	for _, s := range steps {
		op := fmt.Sprint(nil)
		if w, ok := s.Op.(*plan.Workdir); ok {
			op = fmt.Sprint(*w)
		}
		got = append(got, s.CreatedBy+" "+op)
	}

	want := []string{
		"WORKDIR / <nil>", "USER u <nil>", "WORKDIR /a {/a u}", "ENV B=/b <nil>",
		"WORKDIR /b/x/../c/ {/b/x/../c/ u}", "RUN /bin/sh -c x <nil>",
	}

	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestKeyArgs: the value of a build argument counts for the key of a step that sees it, and for no
// other.
func TestKeyArgs(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		same       bool
	}{
		{"RUN", "FROM a\nARG A\nRUN x", false},
		{"RUN before ARG", "FROM a\nRUN x\nARG A", true},
		{"hidden by ENV", "FROM a\nENV A=0\nARG A\nRUN x", true},
		{"hidden by a later ENV", "FROM a\nARG A\nENV A=0\nRUN x", true},
		{"hidden in a stage below", "FROM a AS s\nARG A\nENV A=0\nFROM s\nRUN x", true},
		{"used by ENV", "FROM a\nARG A\nENV B=$A\nRUN x", false},
		{"COPY", "FROM a\nARG A\nCOPY x /", true},
		{"COPY with it", "FROM a\nARG A\nCOPY x /$A", false},
		{"WORKDIR", "FROM a\nARG A\nWORKDIR /x", true},
		{"ADD of a stage below", "FROM a AS s\nARG A\nFROM s\nADD x /", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			key := func(value string) (out []string) {
				w := walk(t, tc.text, "", map[string]string{"A": value})
				for _, steps := range w.steps {
					for _, s := range steps {
						if s.Op != nil {
							out = append(out, s.Canon+fmt.Sprint(s.Args))
						}
					}
				}
				return out
			}
			one, two := key("1"), key("2")
			if len(one) != 1 || cmp.Equal(one, two) != tc.same {
				t.Errorf("%q and %q", one, two)
			}
		})
	}
}

// TestStep: the text for progress, the lines and the arguments of a step.
func TestStep(t *testing.T) {
	steps := walk(t, "FROM conformance-onbuild:1\n\nrun echo \\\n  $X\nARG X=1 Y\nRUN <<E\n\na b\nc\nE\n", "", nil).steps["0"]
	var got []string
	for _, s := range steps {
		got = append(got, fmt.Sprintf("%d-%d %s %q %v", s.Line, s.EndLine, s.Text, s.Args, s.Op != nil))
	}
	want := []string{
		`1-1 ONBUILD ARG OB=dflt [] false`,
		`1-1 ONBUILD ENV ONB=$OB [] false`,
		`1-1 ONBUILD RUN echo onbuild-$ONB > /onbuild.txt ["OB=dflt"] true`,
		`1-1 ONBUILD COPY . /onbuild-src/ [] true`,
		`1-1 ONBUILD LABEL ob=1 [] false`,
		`3-4 RUN echo   $X ["OB=dflt"] true`,
		`5-5 ARG X=1 Y [] false`,
		`6-10 RUN <<E (a b...) ["OB=dflt" "X=1"] true`,
	}

	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// TestScopes: which value a variable has where.
func TestScopes(t *testing.T) {
	const probe = "\nLABEL got=$A"
	for _, tc := range []struct {
		name, text string
		args       map[string]string
		want       string
	}{
		{"unset", "FROM a" + probe, nil, ""},
		{"undeclared", "FROM a" + probe, map[string]string{"A": "cli"}, ""},
		{"default", "FROM a\nARG A=1" + probe, nil, "1"},
		{"given", "FROM a\nARG A=1" + probe, map[string]string{"A": "cli"}, "cli"},
		{"given empty", "FROM a\nARG A=1" + probe, map[string]string{"A": ""}, ""},
		{"before its line", "FROM a" + probe + "\nARG A=1", nil, ""},
		{"global unseen", "ARG A=1\nFROM a" + probe, nil, ""},
		{"global declared again", "ARG A=1\nFROM a\nARG A" + probe, nil, "1"},
		{"global overridden", "ARG A=1\nFROM a\nARG A=2" + probe, nil, "2"},
		{"global given", "ARG A=1\nFROM a\nARG A" + probe, map[string]string{"A": "cli"}, "cli"},
		{"default of global", "ARG B=1\nARG A=$B-x\nFROM a\nARG A" + probe, nil, "1-x"},
		{"default of argument", "FROM a\nARG B=1 A=$B-x" + probe, nil, "1-x"},
		{"ENV wins", "FROM a\nENV A=env\nARG A=1" + probe, map[string]string{"A": "cli"}, "env"},
		{"ENV after ARG", "FROM a\nARG A=1\nENV A=$A-env" + probe, nil, "1-env"},
		{"ENV of the base wins", "FROM conformance-parent:1\nARG BASE=1\nARG A=$BASE" + probe, map[string]string{"BASE": "cli"}, "from-parent"},
		{"one line of ENV", "FROM a\nENV A=1\nENV A=2 B=$A\nENV A=$B" + probe, nil, "1"},
		{"inherited by stages", "FROM a AS x\nARG A=1\nFROM x" + probe, nil, "1"},
		{"not by others", "FROM a AS x\nARG A=1\nFROM a\nCOPY --from=x b c" + probe, nil, ""},
		{"again without value", "FROM a\nARG A=1\nARG A" + probe, nil, "1"},
		{"platform unseen", "FROM a\nARG A=$TARGETARCH" + probe, nil, ""},
		{"platform", "FROM a\nARG TARGETARCH TARGETPLATFORM BUILDOS TARGETSTAGE A=$TARGETARCH,$TARGETPLATFORM,$BUILDOS,$TARGETSTAGE" + probe, nil, "amd64,linux/amd64,linux,default"},
		{"platform given", "FROM a\nARG TARGETARCH A=$TARGETARCH" + probe, map[string]string{"TARGETARCH": "x"}, "x"},
		{"platform given, global", "ARG A=$TARGETARCH\nFROM a\nARG A" + probe, map[string]string{"TARGETARCH": "x"}, "x"},
		{"platform global", "ARG BUILDPLATFORM=x\nFROM a\nARG BUILDPLATFORM A=$BUILDPLATFORM" + probe, nil, "x"},
		{"proxy unseen", "FROM a\nARG A=$http_proxy" + probe, map[string]string{"http_proxy": "p"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := walk(t, tc.text, "", tc.args).image.Config.Labels["got"]; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestProxies: they reach RUN in both cases, and neither key nor history.
func TestProxies(t *testing.T) {
	const text = "FROM a\nENV FTP_PROXY=env\nRUN x\nARG NO_PROXY\nRUN y"
	args := map[string]string{"http_proxy": "h", "HTTPS_PROXY": "S", "https_proxy": "s", "ftp_proxy": "f", "NO_PROXY": "n"}
	with, without := walk(t, text, "", args).steps["0"], walk(t, text, "", nil).steps["0"]
	run, ok := with[1].Op.(*plan.Run)
	if !ok {
		t.Fatalf("a %T", with[1].Op)
	}
	want := []string{"HTTP_PROXY=h", "http_proxy=h", "HTTPS_PROXY=S", "https_proxy=s", "ftp_proxy=f", "NO_PROXY=n", "no_proxy=n"}
	if d := cmp.Diff(want, with[1].Proxy); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(append([]string{defaultPath, "FTP_PROXY=env"}, want...), run.Env); d != "" {
		t.Error(d)
	}
	if with[1].Canon != without[1].Canon || with[1].CreatedBy != without[1].CreatedBy || len(with[1].Args) > 0 {
		t.Errorf("a proxy is seen in %q, %q or %q", with[1].Canon, with[1].CreatedBy, with[1].Args)
	}
	if with[3].CreatedBy != "RUN |1 NO_PROXY=n /bin/sh -c y" || with[3].Canon == without[3].Canon {
		t.Errorf("a proxy that ARG declares is an argument like others, got %q", with[3].CreatedBy)
	}
}

// fromOf returns the source of a COPY.
func fromOf(t *testing.T, step *plan.Step) *plan.Source {
	t.Helper()
	c, ok := step.Op.(*plan.Copy)
	if !ok || c.From == nil {
		t.Fatalf("%s is %T", step.Text, step.Op)
	}
	return c.From
}

// TestTriggers: ONBUILD may read stages of the file that the base knows
// nothing of.
func TestTriggers(t *testing.T) {
	w := walk(t, "FROM b AS unneeded\nFROM a AS Tools\nFROM onbuild-from:1", "", nil)
	if got := names(w.plan); got != "2" {
		t.Errorf("stages %q", got)
	}
	from := fromOf(t, w.steps["2"][0])
	if from.Stage == nil || from.Stage.Name != "tools" || from.Stage.From.Image != "a" {
		t.Fatalf("reads from %+v", from)
	}
	if _, err := from.Stage.Begin(bases("a"), nil); err != nil {
		t.Errorf("the stage cannot be begun: %v", err)
	}
	w = walk(t, "FROM onbuild-from:1", "", nil)
	if from := fromOf(t, w.steps["0"][0]); from.Image != "tools" {
		t.Errorf("without the stage it is an image, got %+v", from)
	}
	_, err := try("FROM onbuild-from:1\nFROM a AS tools\nCOPY --from=0 a b", "", nil)
	var e *instructions.Error
	if !errors.As(err, &e) || e.File != "ONBUILD trigger 1 of onbuild-from:1" || !strings.Contains(e.Msg, "defined after") {
		t.Errorf("a later stage: %v", err)
	}
	w = walk(t, "FROM a AS x\nONBUILD LABEL l=1\nONBUILD RUN <<E\nb\nE\nFROM x AS y\nFROM y", "", nil)
	if got := w.steps["y"]; len(got) != 2 || got[1].CreatedBy != "RUN /bin/sh -c b\n" {
		t.Errorf("triggers of a stage: %v", got)
	}
	if len(w.steps["2"]) != 0 || w.image.Config.OnBuild != nil {
		t.Errorf("triggers are inherited: %v", w.image.Config.OnBuild)
	}
}

func TestOrderOfStages(t *testing.T) {
	f, err := instructions.Parse("Dockerfile", []byte("FROM a AS x\nARG A\nFROM x"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.New(f, plan.Options{Platform: amd64})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Target.Begin(bases("a"), nil); err == nil {
		t.Error("a stage begins before its base has ended")
	}
}

// TestCanon: steps with different effects have different canonical texts.
func TestCanon(t *testing.T) {
	seen := map[string]string{}
	for _, text := range []string{
		"RUN a b", `RUN ["a", "b"]`, `RUN ["a b"]`, "RUN <<E\na b\nE", "RUN --network=none a b", "ENV A=1\nRUN a b", "ARG A=2\nRUN a b", "USER u\nRUN a b",
		"WORKDIR /w\nRUN a b", "SHELL [\"/bin/sh\", \"-e\"]\nRUN a b", "RUN <<E\n#!x\na\nE", "RUN <<E\n#!x\nb\nE",
		"COPY a b", "COPY a b c/", "COPY [\"a b\", \"c/\"]", "ADD a b", "COPY --from=x a b", "COPY --chown=1 a b", "COPY --chmod=1 a b", "COPY --link a b",
		"COPY --parents a b", "COPY --exclude=c a b", "ADD --unpack=true a b", "ADD --unpack=false a b", "ADD --keep-git-dir a b", "ADD --keep-git-dir=false a b", "COPY <<a b\na", "COPY <<a b\nx\na", "COPY <<c b\nc",
		"WORKDIR /a", "USER u\nWORKDIR /a", "ENV A=1 B=2", "ENV A=\"1 B=2\"", "LABEL A=1 B=2", "ONBUILD RUN a", "ONBUILD RUN b",
		"ARG A=1", "ARG A", "CMD a", `CMD ["a"]`, "ENTRYPOINT a", "HEALTHCHECK CMD a", "HEALTHCHECK --retries=1 CMD a", "VOLUME /a", "EXPOSE 1", "USER u",
	} {
		steps := walk(t, "FROM busybox\n"+text, "", nil).steps["0"]
		canon := steps[len(steps)-1].Canon
		if other, ok := seen[canon]; ok || canon == "" {
			t.Errorf("%q and %q are both %q", text, other, canon)
		}
		seen[canon] = text
	}

	again := walk(t, "FROM busybox\n\nCOPY \\\n  a \\\n b", "", nil).steps["0"]
	if _, ok := seen[again[0].Canon]; !ok {
		t.Error("blanks and lines enter the encoding")
	}
}

// TestCredentialsInURL: they are used, and neither shown nor part of the encoding.
func TestCredentialsInURL(t *testing.T) {
	var canon string
	for _, who := range []string{"u:hidden@", "other@"} {
		step := walk(t, "FROM busybox\nARG U=https://"+who+"x/y\nADD https://"+who+"x/y $U /z/", "", nil).steps["0"][1]
		if strings.Contains(step.Text+step.CreatedBy, "hidden") || !strings.Contains(step.Text, "xxxxx@x/y") {
			t.Errorf("%q, %q", step.Text, step.CreatedBy)
		}
		if canon != "" && canon != step.Canon {
			t.Errorf("%q and %q", canon, step.Canon)
		}
		canon = step.Canon
	}
}

// TestBombs: expansion that doubles ends at once.
func TestBombs(t *testing.T) {
	if raceDetector {
		t.Skip("a test of speed, run without the race detector")
	}
	for name, text := range map[string]string{
		"ENV": "ENV a=abcdefghij\n" + strings.Repeat("ENV a=$a$a\n", 40),
		"ARG": "ARG a=abcdefghij\n" + strings.Repeat("ARG a=$a$a\n", 40),
		"all": "ENV a=" + strings.Repeat("x", 100_000) + "\n" + strings.Repeat("LABEL l=$a$a$a$a$a$a$a$a$a$a\n", 100),
	} {
		start := time.Now()
		_, err := try("FROM a\n"+text, "", nil)
		if err == nil || !strings.Contains(err.Error(), "variables would add more than") {
			t.Errorf("%s: %.300v", name, err)
		}
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("%s: took %s", name, d)
		}
	}
}

// TestDuplicateNames: a stage name means the nearest stage before, as a target
// the last.
func TestDuplicateNames(t *testing.T) {
	const text = "FROM a AS x\nFROM b AS x\nFROM x AS y\nCOPY --from=x c d\nFROM c AS x\n"
	w := walk(t, text, "y", nil)
	if got := names(w.plan); got != "1x 2y" {
		t.Errorf("got %q", got)
	}
	if w = walk(t, text, "x", nil); names(w.plan) != "3x" {
		t.Errorf("got %q", names(w.plan))
	}
}

// TestSize: a file of 10,000 instructions is planned and walked in no time.
func TestSize(t *testing.T) {
	if raceDetector {
		t.Skip("a test of speed, run without the race detector")
	}
	var text strings.Builder
	text.WriteString("FROM a\n")
	for i := range 2500 {
		fmt.Fprintf(&text, "RUN echo %d\nENV A%d=b\nCOPY a $A%d/\nLABEL x=y\n", i, i%50, i%50)
	}
	start := time.Now()
	if got := len(walk(t, text.String(), "", nil).steps["0"]); got != 10_000 {
		t.Errorf("%d steps", got)
	}
	if d := time.Since(start); d > 12*time.Second {
		t.Errorf("took %s", d)
	}
}
