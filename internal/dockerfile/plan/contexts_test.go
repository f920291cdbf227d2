package plan_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

func planned(t *testing.T, text string, o plan.Options) (*plan.Plan, error) {
	t.Helper()
	f, err := instructions.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if o.Host.OS == "" {
		o.Host = amd64
	}
	if o.Platform.OS == "" {
		o.Platform = o.Host
	}
	return plan.New(f, o)
}

// sources lists, for each stage, the base and the sources of COPYs and mounts.
func sources(p *plan.Plan) (out []string) {
	show := func(s plan.Source) string {
		text := s.Image
		switch {
		case s.Stage != nil:
			text = "stage " + s.Stage.Name
		case s.Context != "":
			text = "context " + s.Context
		case text == "":
			text = "scratch"
		}
		if s.Platform != "" {
			text += " for " + s.Platform
		}
		return text
	}

	for _, s := range p.Stages {
		line := show(s.From)
		for _, n := range s.Needs {
			line += ", " + show(n)
		}
		out = append(out, line)
	}

	return out
}

func TestContexts(t *testing.T) {
	arm64 := ocispec.Platform{OS: "linux", Architecture: "arm64"}
	for _, tc := range []struct {
		name, text string
		options    plan.Options
		want       []string
		unused     []string
	}{
		{"from", "FROM x", plan.Options{Contexts: []string{"x"}}, []string{"context x"}, nil},
		{"short", "FROM alpine:latest", plan.Options{Contexts: []string{"alpine"}}, []string{"context alpine"}, nil},
		{"long", "FROM docker.io/library/alpine", plan.Options{Contexts: []string{"alpine"}}, []string{"context alpine"}, nil},
		{"another tag", "FROM alpine:3", plan.Options{Contexts: []string{"alpine"}}, []string{"alpine:3"}, []string{"alpine"}},
		{"tag", "FROM alpine:3", plan.Options{Contexts: []string{"alpine:3"}}, []string{"context alpine:3"}, nil},
		{"variable", "ARG A=x\nFROM $A", plan.Options{Contexts: []string{"x"}}, []string{"context x"}, nil},
		{"copy", "FROM scratch\nCOPY --from=X a b", plan.Options{Contexts: []string{"x"}}, []string{"scratch, context x"}, nil},
		{"mount", "FROM a\nRUN --mount=from=x,target=/x y", plan.Options{Contexts: []string{"x"}}, []string{"a, context x"}, nil},
		{"scratch is scratch", "FROM scratch", plan.Options{Contexts: []string{"y"}}, []string{"scratch"}, []string{"y"}},
		{"stage before context", "FROM a AS b\nFROM b", plan.Options{Contexts: []string{"a"}}, []string{"context a", "stage b"}, nil},
		{"stage replaced", "FROM a\nRUN x\nFROM a AS B\nRUN y\nCOPY --from=0 a b\nFROM b", plan.Options{Contexts: []string{"b"}}, []string{"context b", "stage b"}, nil},
		{"stage read", "FROM a AS b\nFROM c\nCOPY --from=b a b\nCOPY --from=0 a b", plan.Options{Contexts: []string{"b"}}, []string{"c, context b"}, nil},
		{"stage to come", "FROM c\nCOPY --from=b a b\nFROM a AS b", plan.Options{Contexts: []string{"b"}, Target: "b"}, []string{"context b"}, nil},
		{"platform", "FROM x", plan.Options{Contexts: []string{"x::linux/amd64", "x"}}, []string{"context x::linux/amd64"}, []string{"x"}},
		{"other platform", "FROM --platform=arm64 x", plan.Options{Contexts: []string{"x::linux/amd64", "x"}}, []string{"context x for linux/arm64"}, []string{"x::linux/amd64"}},

		{"host", "FROM --platform=linux/x86_64 a", plan.Options{}, []string{"a"}, nil},
		{"target platform", "FROM a\nFROM --platform=$BUILDPLATFORM b AS c\nCOPY --from=d a b\nFROM e\nCOPY --from=c a b", plan.Options{Platform: arm64}, []string{"b, d for linux/arm64", "e for linux/arm64, stage c"}, nil},

		{"first", "FROM a AS b\nFROM a\nCOPY --from=b a b", plan.Options{From: "z"}, []string{"z", "a, stage b"}, nil},
		{"first is a context", "FROM a", plan.Options{From: "z", Contexts: []string{"a", "z"}}, []string{"context z"}, []string{"a"}},
		{"first is scratch", "FROM a", plan.Options{From: "scratch"}, []string{"scratch"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := planned(t, tc.text, tc.options)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, sources(p)); diff != "" {
				t.Errorf("sources (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.unused, p.UnusedContexts); diff != "" {
				t.Errorf("unused (-want +got):\n%s", diff)
			}
		})
	}
}

func TestContextName(t *testing.T) {
	for text, want := range map[string]string{
		"x": "x", "X": "x", "docker.io/library/alpine:latest": "alpine", "Alpine:3": "alpine:3", "example.org/a": "example.org/a",
		"x::arm64": "x::linux/arm64", "x::linux/arm64/v8": "x::linux/arm64", "a-": "a-",
		"": "", "scratch": "", "Context": "", "::linux/amd64": "", "x::": "", "scratch::linux/amd64": "",
	} {
		got, err := plan.ContextName(text, amd64)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

// TestRefuse: a refused image is an error only if a needed stage uses the image.
func TestRefuse(t *testing.T) {
	refuse := func(image string) error {
		if strings.HasPrefix(image, "no") {
			return errors.New(image + " is refused")
		}
		return nil
	}

	for _, tc := range []struct{ text, target, want string }{
		{"FROM no", "", "Dockerfile:1: no is refused"},
		{"FROM no AS a\nFROM b", "", ""},
		{"FROM b\nCOPY --from=no:1 a b", "", "Dockerfile:2: no:1 is refused"},
		{"FROM b\nRUN a\nRUN --mount=from=no,target=/a b", "", "Dockerfile:3: no is refused"},
		{"FROM b AS b\nFROM b\nCOPY --from=no:1 a b", "b", ""},
		{"FROM --platform=a/b/c/d b AS x\nFROM b", "", ""},
		{"FROM no AS x\nRUN --security=insecure a\nFROM b", "", ""},
	} {
		t.Run(tc.text, func(t *testing.T) {
			_, err := planned(t, tc.text, plan.Options{Refuse: refuse, Target: tc.target})
			if got := ""; err != nil {
				got = err.Error()
				if got != tc.want {
					t.Errorf("%q, want %q", got, tc.want)
				}
			} else if tc.want != "" {
				t.Errorf("accepted, want %q", tc.want)
			}
		})
	}
}

// TestTriggerRefused: a trigger of a base is the file's too.
func TestTriggerRefused(t *testing.T) {
	for trigger, want := range map[string]string{
		"RUN --security=insecure x": "allow it with --allow security.insecure",
		"COPY --from=no a b":        "refused",
		"RUN x":                     "",
	} {
		p, err := planned(t, "FROM a", plan.Options{Refuse: func(image string) error {
			if image == "no" {
				return errors.New("refused")
			}
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		var base instructions.Image
		base.Config.OnBuild = []string{trigger}
		_, err = p.Target.Begin(base, nil)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", trigger, err, want)
		}
	}
}

// TestTriggersOfContexts: the triggers of an image that replaces a stage are not executed; the
// triggers of an image in FROM are executed.
func TestTriggersOfContexts(t *testing.T) {
	for text, want := range map[string]int{"FROM a AS x": 0, "FROM x": 1} {
		p, err := planned(t, text, plan.Options{Contexts: []string{"x"}})
		if err != nil {
			t.Fatal(err)
		}
		var base instructions.Image
		base.Config.OnBuild = []string{"RUN y"}
		sc, err := p.Target.Begin(base, nil)
		if err != nil {
			t.Fatal(err)
		}
		if sc.Len() != want || len(sc.Image().Config.OnBuild) > 0 {
			t.Errorf("%s: %d steps, want %d", text, sc.Len(), want)
		}
	}
}

// TestReplaced: a named context with the name of a stage is the stage. Nothing is dropped in
// silence, and a circle that only the context would break is refused.
func TestReplaced(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		contexts   []string
		warnings   []string
		err        string
	}{
		{"target", "FROM a AS one\nRUN x", []string{"one"}, []string{"Dockerfile:1: stage one is not built: build context one takes its place"}, ""},
		{"two", "FROM a AS one\nFROM a AS Two\nCOPY --from=one x /\nFROM b\nCOPY --from=two x /", []string{"one", "two"}, []string{
			"Dockerfile:1: stage one is not built: build context one takes its place", "Dockerfile:2: stage two is not built: build context two takes its place",
		}, ""},
		{"not a stage", "FROM a AS one\nFROM b", []string{"b"}, nil, ""},
		{"itself", "FROM a AS one\nCOPY --from=one x /", []string{"one"}, nil, "Dockerfile:2: --from=one: circular: stage one needs itself"},
		{"itself by a mount", "FROM a AS one\nRUN --mount=from=ONE,target=/m x", []string{"one"}, nil, "Dockerfile:2: --mount: from=ONE: circular: stage one needs itself"},
		{"itself by its number", "FROM a AS one\nCOPY --from=0 x /", []string{"one"}, nil, "Dockerfile:2: --from=0: circular: stage one needs itself"},
		{"each other", "FROM a AS one\nCOPY --from=two x /\nFROM b AS two\nCOPY --from=one x /", []string{"two"}, nil, "Dockerfile:2: --from=two: circular: stage two needs itself"},
		{"three", "FROM a AS one\nCOPY --from=three x /\nFROM b AS two\nCOPY --from=one x /\nFROM b AS three\nCOPY --from=two x /", []string{"three"}, nil, "circular: stage three needs itself"},
		{"later", "FROM a AS one\nCOPY --from=two x /\nFROM b AS two", []string{"two"}, []string{"Dockerfile:3: stage two is not built: build context two takes its place"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := planned(t, tc.text, plan.Options{Contexts: tc.contexts})
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.warnings, p.Warnings); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestStageNames: a stage by its number, and by a name with slashes, as buildah has them.
func TestStageNames(t *testing.T) {
	for _, tc := range []struct {
		name, text, target string
		want               []string
	}{
		{"number", "FROM a\nRUN x\nFROM 0\nRUN y", "", []string{"a", "stage "}},
		{"number of a named stage", "FROM a AS s\nFROM b\nFROM 0", "", []string{"a", "stage s"}},
		{"number by a variable", "ARG N=0\nFROM a\nFROM $N", "", []string{"a", "stage "}},
		{"no stage's number", "FROM a\nFROM 1", "", []string{"1"}},
		{"not as written", "FROM a\nFROM 00", "", []string{"00"}},
		{"slashes", "FROM a AS x/Y\nFROM X/y AS z\nCOPY --from=x/y a b", "z", []string{"a", "stage x/y, stage x/y"}},
		{"slashes of the target", "FROM a AS x/y\nFROM b", "x/Y", []string{"a"}},
		{"not below it", "FROM a AS x/y\nFROM x", "", []string{"x"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := planned(t, tc.text, plan.Options{Target: tc.target})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, sources(p)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlatforms(t *testing.T) {
	p, err := planned(t, "FROM --platform=linux/arm64 a AS x\nFROM --platform=linux/riscv64 x AS y\nFROM scratch\nCOPY --from=y a b\nARG BUILDPLATFORM TARGETPLATFORM TARGETVARIANT\nRUN c",
		plan.Options{Platform: ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	scopes := map[*plan.Stage]*plan.Scope{}
	for _, s := range p.Stages {
		sc, err := s.Begin(instructions.Image{}, argsOf(scopes[s.From.Stage]))
		if err != nil {
			t.Fatal(err)
		}
		for {
			step, err := sc.Next()
			if err != nil {
				t.Fatal(err)
			}
			if step == nil {
				break
			}
			got = append(got, step.Args...)
		}
		scopes[s] = sc
		got = append(got, platforms.Format(s.Platform)+" "+platforms.Format(sc.Image().Platform))
	}

	want := []string{
		"linux/arm64 linux/arm64", "linux/arm64 linux/arm64",
		"BUILDPLATFORM=linux/amd64", "TARGETPLATFORM=linux/arm/v7", "TARGETVARIANT=v7", "linux/arm/v7 linux/arm/v7",
	}

	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestInsecureCanon: --security=insecure changes the canonical text.
func TestInsecureCanon(t *testing.T) {
	canon := func(text string) string {
		p, err := planned(t, text, plan.Options{Insecure: true})
		if err != nil {
			t.Fatal(err)
		}
		sc, err := p.Target.Begin(instructions.Image{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		step, err := sc.Next()
		if err != nil {
			t.Fatal(err)
		}
		return step.Canon
	}

	plain := canon("FROM a\nRUN x")
	if plain != canon("FROM a\nRUN --security=sandbox x") || plain == canon("FROM a\nRUN --security=insecure x") {
		t.Error("the security mode is not in the canonical text, or the default is")
	}
}
