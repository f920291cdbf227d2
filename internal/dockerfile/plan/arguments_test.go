package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

const epochName = "SOURCE_DATE_EPOCH"

// lastRun is the last step of the only stage.
func lastRun(t *testing.T, text string, args map[string]string) *plan.Run {
	t.Helper()
	steps := walk(t, text, "", args).steps["0"]
	run, ok := steps[len(steps)-1].Op.(*plan.Run)
	if !ok {
		t.Fatalf("%s does not end with RUN", text)
	}
	return run
}

func TestEpoch(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		args       map[string]string
		want       int64 // -1: none
	}{
		{"none", "FROM a", nil, -1},
		{"given", "FROM a", map[string]string{epochName: "1600000000"}, 1600000000},
		{"global", "ARG SOURCE_DATE_EPOCH=1600000000\nFROM a", nil, 1600000000},
		{"given over global", "ARG SOURCE_DATE_EPOCH=5\nFROM a", map[string]string{epochName: "7"}, 7},
		{"given empty", "ARG SOURCE_DATE_EPOCH=5\nFROM a", map[string]string{epochName: ""}, -1},
		{"of a stage only", "FROM a\nARG SOURCE_DATE_EPOCH=5", nil, -1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := walk(t, tc.text, "", tc.args).plan
			switch {
			case tc.want < 0 && p.Epoch != nil, tc.want >= 0 && (p.Epoch == nil || p.Epoch.Unix() != tc.want):
				t.Errorf("got %v, want %d", p.Epoch, tc.want)
			}
		})
	}
}

// TestEpochOf: the sources of a time that the plan names and does not know.
func TestEpochOf(t *testing.T) {
	const stage = "FROM scratch AS Src\nARG V=1\nADD --checksum=sha256:$V http://h/$V/f /\nFROM a\nARG SOURCE_DATE_EPOCH\nRUN x"
	for _, tc := range []struct {
		name, text, value string
		want              *plan.EpochSource
		fails             string
	}{
		{"context", "FROM a", "context", &plan.EpochSource{Context: true}, ""},
		{"stage", stage, "src", &plan.EpochSource{URL: "http://h/1/f", Checksum: "sha256:1", Step: &plan.Step{File: "F", Line: 3, EndLine: 3, Text: "ADD --checksum=sha256:$V http://h/$V/f /"}}, ""},
		{"unknown", "FROM a AS b", "c", nil, `F: SOURCE_DATE_EPOCH="c": want seconds since 1970, context, or the name of a stage`},
		{"negative", "FROM a", "-1", nil, "F: SOURCE_DATE_EPOCH=-1: want seconds since 1970"},
		{"base", "FROM b AS x\nADD http://h/f /", "x", nil, "F:1: SOURCE_DATE_EPOCH: the stage has to begin with FROM scratch"},
		{"RUN", "FROM scratch AS x\nRUN y", "x", nil, "F:2: SOURCE_DATE_EPOCH: the stage may have ARG and ADD only, not RUN"},
		{"two", "FROM scratch AS x\nADD http://h/f /\nADD http://h/g /", "x", nil, "F:3: SOURCE_DATE_EPOCH: the stage may have one ADD only"},
		{"none", "FROM scratch AS x", "x", nil, "F:1: SOURCE_DATE_EPOCH: the stage has no ADD"},
		{"file", "FROM scratch AS x\nADD f /", "x", nil, "F:2: SOURCE_DATE_EPOCH: the stage has to ADD one URL or git repository, and nothing else"},
		{"COPY", "FROM scratch AS x\nCOPY f /", "x", nil, "F:2: SOURCE_DATE_EPOCH: the stage has to ADD one URL or git repository, and nothing else"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := instructions.Parse("F", []byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			p, err := plan.New(f, plan.Options{BuildArgs: map[string]string{epochName: tc.value}, Platform: amd64})
			if err != nil || tc.fails != "" {
				if err == nil || err.Error() != tc.fails {
					t.Errorf("got  %v\nwant %s", err, tc.fails)
				}
				return
			}
			if d := cmp.Diff(tc.want, p.EpochOf); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestWithEpoch: ARG SOURCE_DATE_EPOCH has the time of WithEpoch, and the plan before does not
// change.
func TestWithEpoch(t *testing.T) {
	f, err := instructions.Parse("F", []byte("ARG SOURCE_DATE_EPOCH\nFROM a\nARG SOURCE_DATE_EPOCH=9\nRUN x"))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(7, 0)
	for want, set := range map[string]*time.Time{"SOURCE_DATE_EPOCH=7": &at, "SOURCE_DATE_EPOCH=9": nil} {
		p, err := plan.New(f, plan.Options{BuildArgs: map[string]string{epochName: "context"}, Platform: amd64})
		if err != nil {
			t.Fatal(err)
		}
		before := p
		if p, err = p.WithEpoch(set); err != nil {
			t.Fatal(err)
		}
		if p.Epoch != set || before.Epoch != nil {
			t.Errorf("the epoch is %v, and %v in the plan before", p.Epoch, before.Epoch)
		}

		scope, err := p.Target.Begin(instructions.Image{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var last *plan.Step
		for step, err := scope.Next(); step != nil; step, err = scope.Next() {
			if err != nil {
				t.Fatal(err)
			}
			last = step
		}

		if d := cmp.Diff([]string{want}, last.Args); d != "" {
			t.Error(d)
		}
	}
}

// TestBuildKitArguments: arguments with an effect work without ARG, and arguments without an effect
// give a warning.
func TestBuildKitArguments(t *testing.T) {
	const text = "FROM a\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t x"
	plain := walk(t, text, "", nil)
	args := map[string]string{
		"BUILDKIT_SANDBOX_HOSTNAME": "my-host.example", "BUILDKIT_CACHE_MOUNT_NS": "team", "BUILDKIT_INLINE_CACHE": "1",
		"BUILDKIT_MULTI_PLATFORM": "0", "BUILDKIT_BUILD_NAME": "x", "BUILDKIT_OTHER": "1",
	}

	run := lastRun(t, text, args)
	if run.Hostname != "my-host.example" || run.Mounts[0].ID != "team//c" {
		t.Errorf("host %q, cache %q", run.Hostname, run.Mounts[0].ID)
	}
	if d := cmp.Diff([]string{"PATH=" + pathValue}, run.Env); d != "" {
		t.Error(d)
	}
	given := walk(t, text, "", args)
	if last := len(plain.steps["0"]) - 1; plain.steps["0"][last].Canon == given.steps["0"][last].Canon {
		t.Error("host and caches are not in the canonical form")
	}
	want := []string{
		"build argument BUILDKIT_BUILD_NAME has no effect: builds have no names",
		"build argument BUILDKIT_INLINE_CACHE has no effect: the cache is in the store, not in the image",
	}

	if d := cmp.Diff(want, given.plan.Warnings); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"BUILDKIT_OTHER"}, given.plan.Unused); d != "" {
		t.Error(d)
	}
	for _, host := range []string{"a b", "a\nb", "-a", strings.Repeat("a", 65)} {
		if _, err := try(text, "", map[string]string{"BUILDKIT_SANDBOX_HOSTNAME": host}); err == nil {
			t.Errorf("the host name %q is accepted", host)
		}
	}
}

// TestAfter: the edge that FROM --after makes.
func TestAfter(t *testing.T) {
	const text = "FROM a AS one\nFROM a AS two\nFROM a AS three\nFROM --after=ONE --after=1 b"
	w := walk(t, text, "", nil)
	if got := names(w.plan); got != "0one 1two 3" {
		t.Errorf("stages %s", got)
	}
	if after := w.plan.Target.After; len(after) != 2 || after[0].Name != "one" || after[1].Name != "two" {
		t.Errorf("after %v", after)
	}
	for text, want := range map[string]string{
		"FROM --after=x a":                        "Dockerfile:1: --after=x: no stage above this one has that name",
		"FROM --after=x a AS x":                   "Dockerfile:1: --after=x: no stage above this one has that name",
		"FROM --after=y a AS x\nFROM a AS y":      "Dockerfile:1: --after=y: no stage above this one has that name",
		"ARG Y=y\nFROM a AS y\nFROM --after=$Y a": "Dockerfile:3: --after=$Y: variables are not expanded in --after",
	} {
		if _, err := try(text, "", nil); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}
