package plan_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

// bases are the configs of the images that the tests build on.
func bases(name string) instructions.Image {
	var img instructions.Image
	if name == "" {
		return img
	}

	img.Platform = amd64
	c := &img.Config
	c.Env, c.Cmd = []string{"PATH=" + pathValue}, []string{"sh"}
	switch name {
	case "conformance-parent:1":
		c.Env = append(c.Env, "BASE=from-parent", "EMPTY=")
		c.Cmd, c.Entrypoint, c.WorkingDir, c.User = []string{"parent-cmd", "a b"}, []string{"/parent-entry"}, "/srv", "1234:100"
		c.Labels = map[string]string{"parent": "yes", "over": "parent"}
		c.ExposedPorts, c.Volumes = map[string]struct{}{"8080/tcp": {}}, map[string]struct{}{"/data": {}}
		c.StopSignal = "SIGUSR1"
		c.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"CMD-SHELL", "true"}, Interval: 5 * time.Second}
	case "conformance-onbuild:1":
		c.OnBuild = []string{"ARG OB=dflt", "ENV ONB=$OB", "RUN echo onbuild-$ONB > /onbuild.txt", "COPY . /onbuild-src/", "LABEL ob=1"}
	case "onbuild-from:1":
		c.OnBuild = []string{"COPY --from=tools /t /t"}
	case "onbuild-bad:1":
		c.OnBuild = []string{"LABEL a=1", "RUN --device=x y"}
	}

	return img
}

// walked is the result of a plan with all steps.
type walked struct {
	plan  *plan.Plan
	steps map[string][]*plan.Step // by name or index of the stage
	image instructions.Image      // of the target
}

// argsOf returns the arguments at the end of a scope. A nil scope has no arguments.
func argsOf(sc *plan.Scope) *plan.Args {
	if sc == nil {
		return nil
	}
	return sc.Args()
}

// try plans text and walks through all its steps.
func try(text, target string, args map[string]string) (walked, error) {
	f, err := instructions.Parse("Dockerfile", []byte(text))
	if err != nil {
		return walked{}, err
	}

	p, err := plan.New(f, plan.Options{Target: target, BuildArgs: args, Platform: amd64})
	if err != nil {
		return walked{}, err
	}

	out := walked{plan: p, steps: map[string][]*plan.Step{}}
	images := map[*plan.Stage]instructions.Image{}
	scopes := map[*plan.Stage]*plan.Scope{}
	for _, s := range p.Stages {
		base := bases(s.From.Image)
		if s.From.Stage != nil {
			base = images[s.From.Stage]
		}
		scope, err := s.Begin(base, argsOf(scopes[s.From.Stage]))
		if err != nil {
			return out, err
		}

		name := s.Name
		if name == "" {
			name = fmt.Sprint(s.Index)
		}
		for {
			step, err := scope.Next()
			if err != nil {
				return out, err
			}
			if step == nil {
				break
			}
			out.steps[name] = append(out.steps[name], step)
		}

		if len(out.steps[name]) != scope.Len() {
			return out, fmt.Errorf("%d steps, Len is %d", len(out.steps[name]), scope.Len())
		}
		images[s] = scope.Image()
		scopes[s] = scope
	}

	out.image = images[p.Target]

	return out, nil
}

func walk(t *testing.T, text, target string, args map[string]string) walked {
	t.Helper()
	w, err := try(text, target, args)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// names of the stages of a plan, in order.
func names(p *plan.Plan) string {
	var out []string
	for _, s := range p.Stages {
		out = append(out, fmt.Sprintf("%d%s", s.Index, s.Name))
	}
	return strings.Join(out, " ")
}

func TestPruning(t *testing.T) {
	const text = `ARG B=base
FROM busybox AS Base
FROM busybox AS unused
FROM ${B} AS tools
FROM scratch
COPY --from=TOOLS /a /
COPY --from=0 /b /
COPY --from=tools /c /
COPY --from=alpine:1 /d /
FROM tools AS last
`

	for _, tc := range []struct{ target, want string }{
		{"", "0base 2tools 4last"}, {"LAST", "0base 2tools 4last"}, {"base", "0base"}, {"tools", "0base 2tools"}, {"unused", "1unused"},
	} {
		w := walk(t, text, tc.target, nil)
		if got := names(w.plan); got != tc.want || w.plan.Target != w.plan.Stages[len(w.plan.Stages)-1] {
			t.Errorf("target %q: got %q, want %q", tc.target, got, tc.want)
		}
	}

	w := walk(t, strings.TrimSuffix(text, "FROM tools AS last\n"), "", map[string]string{"B": "alpine:2"})
	if got := names(w.plan); got != "2tools 0base 3" {
		t.Errorf("got %q", got)
	}
	tools, base, last := w.plan.Stages[0], w.plan.Stages[1], w.plan.Target
	if want := []plan.Source{{Stage: tools}, {Stage: base}, {Image: "alpine:1"}}; !slices.Equal(last.Needs, want) {
		t.Errorf("needs %v", last.Needs)
	}
	if last.From != (plan.Source{}) || tools.From.Image != "alpine:2" || last.Line != 5 {
		t.Errorf("scratch is %v, ${B} is %v, line %d", last.From, tools.From, last.Line)
	}
}

func TestErrors(t *testing.T) {
	for _, tc := range []struct{ name, text, target, want string }{
		{"target", "FROM a AS build\nFROM b AS run", "biuld", `Dockerfile: no stage is named "biuld" (did you mean build?)`},
		{"target far off", "FROM a AS build\nFROM b AS run", "xyz", `Dockerfile: no stage is named "xyz" (stages: build, run)`},
		{"target number", "FROM a AS build", "0", `Dockerfile: no stage is named "0" (a target is a name; stages: build)`},
		{"target without names", "FROM a", "x", `Dockerfile: no stage is named "x" (no stage of the file has a name)`},
		{"from itself", "FROM a AS x\nCOPY --from=x a b", "", "Dockerfile:2: --from=x: the stage (line 1) is this one: a stage cannot copy from itself"},
		{"from later", "FROM a\nCOPY --from=X a b\n\nFROM b AS x", "", "Dockerfile:2: --from=X: the stage (line 4) is defined after this one"},
		{"from own index", "FROM a\nCOPY --from=0 a b", "", "Dockerfile:2: --from=0: stage 0 is this one: a stage cannot copy from itself"},
		{"from later index", "FROM a\nCOPY --from=1 a b\nFROM b", "", "Dockerfile:2: --from=1: stage 1 is defined after this one"},
		{"from no index", "FROM a\nCOPY --from=7 a b", "", "Dockerfile:2: --from=7: the file has 1 stages, the first is 0"},
		{"from variable", "FROM a\nARG X\nCOPY --from=$X a b", "", "Dockerfile:3: --from=$X: variables are not expanded in --from (give the image a name with FROM ... AS, where variables work)"},
		{"empty base", "ARG IMAGE\nFROM $IMGAE", "", `Dockerfile:2: the base name $IMGAE is "" (FROM sees the ARGs before the first FROM: IMGAE has no value there; did you mean IMAGE?)`},
		{"empty tag", "FROM a:$TAG", "", `Dockerfile:1: the base name a:$TAG is "a:" (FROM sees the ARGs before the first FROM: TAG has no value there)`},
		{"empty platform", "FROM --platform=$P a", "", `Dockerfile:1: the platform $P is "" (FROM sees the ARGs before the first FROM: P has no value there)`},
		{"insecure", "FROM a\nRUN --security=insecure y", "", "Dockerfile:2: RUN --security=insecure is refused: it takes the step's sandbox away (allow it with --allow security.insecure)"},
		{"platform syntax", "FROM --platform=a/b/c/d a", "", "Dockerfile:1: --platform=a/b/c/d is not os/arch[/variant]"},
		{"expansion", "FROM a\nENV A=1 \\\n B=${x?y}", "", `Dockerfile:2: expanding "${x?y}": x: y`},
		{"global expansion", "ARG A=${x?y}\nFROM a", "", `Dockerfile:1: expanding "${x?y}": x: y`},
		{"arg expansion", "FROM a\nARG A=${x", "", `Dockerfile:2: expanding "${x": syntax error: missing '}'`},
		{"no slash", "FROM a\nCOPY a b /dest", "", "Dockerfile:2: the destination /dest of 2 sources has to end with a slash"},
		{"no slash heredocs", "FROM a\nCOPY a <<B /dest\nB\n", "", "Dockerfile:2: the destination /dest of 2 sources has to end with a slash"},
		{"chmod", "FROM a\nCOPY --chmod=10000 a /b", "", "Dockerfile:2: --chmod=10000 is neither octal from 0 to 7777 nor symbolic like u=rwX,go=rX"},
		{"chmod words", "FROM a\nCOPY --chmod=u=q a /b", "", "Dockerfile:2: --chmod=u=q is neither octal from 0 to 7777 nor symbolic like u=rwX,go=rX"},
		{"copy of a URL", "FROM a\nCOPY http://x/y /b", "", "Dockerfile:2: the source http://x/y is no path: COPY takes files, ADD also URLs"},
		{"empty source", "FROM a\nCOPY --parents $x /b", "", "Dockerfile:2: a source is empty after expansion, and --parents needs a path"},
		{"git by COPY", "FROM a\nCOPY https://u:p@x/y.git#v1:sub /b", "", "Dockerfile:2: the source https://xxxxx@x/y.git#v1:sub is no path: COPY takes files, ADD also URLs"},
		{"checksum of two", "FROM a\nADD --checksum=abcd git@x:y git@x:z /b/", "", "Dockerfile:2: --checksum=abcd needs exactly one source, a URL or a git repository"},
		{"checksum", "FROM a\nADD --checksum=sha256:0 f /b", "", "Dockerfile:2: --checksum=sha256:0 needs exactly one source, a URL or a git repository"},
		{"port", "FROM a\nEXPOSE 70000", "", `Dockerfile:2: invalid port "70000": a port is a number from 0 to 65535`},
		{"signal", "FROM a\nSTOPSIGNAL SIGFOO", "", `Dockerfile:2: invalid signal "SIGFOO"`},
		{"trigger", "FROM onbuild-bad:1\nRUN x", "", "ONBUILD trigger 2 of onbuild-bad:1:1: RUN --device is refused: devices are not supported yet"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := try(tc.text, tc.target, nil)
			var e *instructions.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if e.Error() != tc.want {
				t.Errorf("got  %s\nwant %s", e, tc.want)
			}
		})
	}
}

func TestForeignStageThatIsNotNeeded(t *testing.T) {
	walk(t, "FROM --platform=linux/s390x a AS x\nFROM --platform=$BUILDPLATFORM b\nFROM --platform=linux/amd64/v1 c", "", nil)
}

func TestUnused(t *testing.T) {
	w := walk(t, "ARG G\nFROM a AS unused\nARG S\nFROM b\nARG T=1\n", "", map[string]string{
		"G": "1", "S": "1", "T": "1", "X": "1", "A": "2", "http_proxy": "p", "BUILDKIT_INLINE_CACHE": "1", "TARGETARCH": "amd64",
	})
	if d := cmp.Diff([]string{"A", "X"}, w.plan.Unused); d != "" {
		t.Error(d)
	}
}

func TestParsePlatform(t *testing.T) {
	host := ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	for text, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/x86_64": "linux/amd64", "aarch64": "linux/arm64", "linux": "linux/arm/v7",
		"linux/arm64/v8": "linux/arm64", "linux/armhf": "linux/arm/v7", "linux/arm/6": "linux/arm/v6", "linux/i386": "linux/386", "Linux/AMD64/v2": "linux/amd64/v2", "": "", "linux/": "", "a/b/c/d": "", "linux/a b": "", "linux/arm\n": "",
	} {
		p, ok := plan.ParsePlatform(text, host)
		if got := platforms.Format(p); ok != (want != "") || ok && got != want {
			t.Errorf("%q: got %q, %v, want %q", text, got, ok, want)
		}
	}
}
