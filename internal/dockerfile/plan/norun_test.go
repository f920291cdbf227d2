package plan

import (
	"errors"
	"testing"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

func TestWithoutRun(t *testing.T) {
	const why = "nothing can be run"
	for _, tc := range []struct {
		name, text, target string
		all                bool
		contexts           []string
		want               string // empty: no refusal
	}{
		{"none", "FROM scratch\nCOPY a /\n", "", false, nil, ""},
		{"one", "FROM scratch\nENV A=b\nRUN a\nRUN b\n", "", false, nil, "Dockerfile:3: " + why},
		{"of a base", "FROM scratch AS a\nRUN a\nFROM a\n", "", false, nil, "Dockerfile:2: " + why},
		{"of a source", "FROM scratch AS a\nRUN a\nFROM scratch\nCOPY --from=a / /\n", "", false, nil, "Dockerfile:2: " + why},
		{"not needed", "FROM scratch AS a\nRUN a\nFROM scratch\n", "", false, nil, ""},
		{"not needed but wanted", "FROM scratch AS a\nRUN a\nFROM scratch\n", "", true, nil, "Dockerfile:2: " + why},
		{"behind the target", "FROM scratch AS a\nFROM a\nRUN a\n", "a", false, nil, ""},
		{"for those who build on it", "FROM scratch\nONBUILD RUN a\n", "", false, nil, ""},
		{"replaced", "FROM scratch AS a\nRUN a\nFROM a\n", "", false, []string{"a"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file, err := instructions.Parse("Dockerfile", []byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			p, err := New(file, Options{Target: tc.target, AllStages: tc.all, Contexts: tc.contexts})
			if err != nil {
				t.Fatal(err)
			}
			refused := (*RunRefused)(nil)
			switch _, err := p.WithoutRun(errors.New(why)); {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (!errors.As(err, &refused) || err.Error() != tc.want):
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}

func TestCheckTriggers(t *testing.T) {
	file, err := instructions.Parse("Dockerfile", []byte("FROM base\nFROM other\nCOPY --from=base / /\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(file, Options{AllStages: true})
	if err != nil {
		t.Fatal(err)
	}
	triggers := []string{"COPY a /", "run b"}
	if err := p.CheckTriggers("base", triggers); err != nil {
		t.Errorf("where it can be run: %v", err)
	}
	before := p
	if p, err = p.WithoutRun(errors.New("no")); err != nil {
		t.Fatal(err)
	}
	if err := before.CheckTriggers("base", triggers); err != nil {
		t.Errorf("WithoutRun changed the plan that it was called on: %v", err)
	}
	refused := (*RunRefused)(nil)
	if err := p.CheckTriggers("base", triggers); !errors.As(err, &refused) || err.Error() != "ONBUILD trigger 2 of base:1: no" {
		t.Errorf("a base: %v", err)
	}
	if err := p.CheckTriggers("base", triggers[:1]); err != nil {
		t.Errorf("without RUN: %v", err)
	}
	if err := p.CheckTriggers("copied", triggers); err != nil {
		t.Errorf("no base: %v", err)
	}
	if _, err := p.Stages[0].Begin(instructions.Image{}, nil); err != nil {
		t.Error(err)
	}
	base := instructions.Image{}
	base.Config.OnBuild = triggers
	if _, err := p.Stages[0].Begin(base, nil); !errors.As(err, &refused) {
		t.Errorf("a stage: %v", err)
	}
}

// TestRefusedTriggerLeavesNoTrace: an error of Begin does not change the stage, so that the next
// Begin does not return it.
func TestRefusedTriggerLeavesNoTrace(t *testing.T) {
	file, err := instructions.Parse("Dockerfile", []byte("FROM base\n"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(file, Options{})
	if err != nil {
		t.Fatal(err)
	}

	for _, tc := range []struct {
		trigger string
		fails   bool
	}{
		{"COPY --from=No! a b", true},
		{"ENV a=b", false},
		{"RUN --security=insecure a", true},
		{"ENV a=b", false},
	} {
		var base instructions.Image
		base.Config.OnBuild = []string{tc.trigger}
		if _, err := p.Target.Begin(base, nil); (err != nil) != tc.fails {
			t.Errorf("%s: error %v, want an error: %v", tc.trigger, err, tc.fails)
		}
	}
}
