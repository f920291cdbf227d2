package plan_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// stepsOf gives the steps of the last stage on a base whose trigger sets OB.
func stepsOf(t *testing.T, text string, o plan.Options) (texts []string, image instructions.Image, err error) {
	t.Helper()
	f, err := instructions.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	o.Platform = amd64
	p, err := plan.New(f, o)
	if err != nil {
		t.Fatal(err)
	}
	var base instructions.Image
	base.Config.Env, base.Config.OnBuild = []string{"PATH=/bin", "OLD=base"}, []string{"ENV OB=$A"}
	scope, err := p.Target.Begin(base, nil)
	if err != nil {
		t.Fatal(err)
	}
	for {
		step, err := scope.Next()
		if step == nil || err != nil {
			return texts, scope.Image(), err
		}
		texts = append(texts, step.Text)
	}
}

func TestEnv(t *testing.T) {
	o := plan.Options{
		BuildArgs: map[string]string{"A": "argument"},
		Env: []plan.EnvVar{
			{Key: "A", Value: "flag"},
			{Key: "OLD", Value: "new"},
			{Key: "P", Value: `$PATH:/x "q" 'q' \y`},
			{Key: "L", Value: `$PATH \$ "q"`, Literal: true},
			{Key: "B", Value: "flag"},
			{Key: "EMPTY"},
		},
	}

	for _, escape := range []string{"", "# escape=`\n"} {
		texts, image, err := stepsOf(t, escape+"FROM x\nENV B=file\nARG A\nENV C=$A\n", o)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"PATH=/bin", "OLD=new", "OB=", "A=flag", `P=/bin:/x "q" 'q' \y`, `L=$PATH \$ "q"`, "B=file", "EMPTY=", "C=flag",
		}
		if diff := cmp.Diff(want, image.Config.Env); diff != "" {
			t.Errorf("environment (-want +got):\n%s", diff)
		}
		if len(texts) != 5 || !strings.HasPrefix(texts[1], "ENV A=flag OLD=new") {
			t.Errorf("steps %q", texts)
		}
	}

	_, _, err := stepsOf(t, "\nFROM x\n", plan.Options{Env: []plan.EnvVar{{Key: "A", Value: "${x:?gone}"}}})
	if err == nil || !strings.HasPrefix(err.Error(), "Dockerfile:2: --env: ") || !strings.HasSuffix(err.Error(), ": x: gone") {
		t.Error(err)
	}
}

func TestAllStages(t *testing.T) {
	f, err := instructions.Parse("Dockerfile", []byte("FROM x AS a\nFROM x AS b\nFROM a AS c\nFROM x AS d\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		all  bool
		want string
	}{{false, "0a 2c"}, {true, "0a 1b 2c"}} {
		p, err := plan.New(f, plan.Options{Target: "c", Platform: amd64, AllStages: tc.all})
		if err != nil {
			t.Fatal(err)
		}
		if got := names(p); got != tc.want {
			t.Errorf("all %v: %s, want %s", tc.all, got, tc.want)
		}
	}
}

// TestTexts: in a file of several texts, an instruction has the escape character, the name and the
// lines of its text.
func TestTexts(t *testing.T) {
	f, err := instructions.ParseTexts(
		instructions.Text{Name: "one", Data: []byte("# escape=`\nFROM x AS a\nENV A=`$x B=\\d\n")},
		instructions.Text{Name: "two", Data: []byte("ENV C=\\$x D=`d\nFROM a\n\nRUN true\n")},
	)
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.New(f, plan.Options{Platform: amd64})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	scopes := map[*plan.Stage]*plan.Scope{}
	for _, s := range p.Stages {
		scope, err := s.Begin(instructions.Image{}, argsOf(scopes[s.From.Stage]))
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, s.Heading().File)
		for {
			step, err := scope.Next()
			if err != nil {
				t.Fatal(err)
			}
			if step == nil {
				break
			}
			got = append(got, strings.Join([]string{step.File, string(rune('0' + step.Line)), step.CreatedBy}, " "))
		}
		scopes[s] = scope
	}

	want := []string{"one", `one 3 ENV A=$x B=\d`, "two 1 ENV C=$x D=`d", "two", "two 4 RUN /bin/sh -c true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
