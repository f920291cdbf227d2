package plan_test

import (
	"errors"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// FuzzPlan: no file and no trigger make the plan or its walk panic, and every
// error has a place.
func FuzzPlan(f *testing.F) {
	f.Add("ARG A=1\nFROM a:$A AS b\nCOPY --from=0 c d\nFROM b\nARG A\nRUN x\nWORKDIR ../$A\n", "COPY --from=b c d", "1")
	f.Add("FROM scratch\nADD --chmod=u+x a http://b/c <<D /e/\n$x\nD\nENTRYPOINT x\nEXPOSE $A\n", "ENV A=$A", "8-9/udp")
	f.Fuzz(func(t *testing.T, text, trigger, value string) {
		file, err := instructions.Parse("Dockerfile", []byte(text))
		if err != nil {
			return
		}

		placed := func(err error) {
			var e *instructions.Error
			if err != nil && !errors.As(err, &e) {
				t.Fatalf("%T is no *Error: %v", err, err)
			}
		}

		p, err := plan.New(file, plan.Options{BuildArgs: map[string]string{"A": value}, Platform: amd64})
		if err != nil {
			placed(err)
			return
		}
		scopes := map[*plan.Stage]*plan.Scope{}
		for _, s := range p.Stages {
			base := bases(s.From.Image)
			base.Config.OnBuild = []string{trigger}
			scope, err := s.Begin(base, argsOf(scopes[s.From.Stage]))
			placed(err)
			for err == nil {
				var step *plan.Step
				if step, err = scope.Next(); step == nil {
					break
				}
				if err == nil && (step.Canon == "" || step.Line < 1) {
					t.Fatalf("step %+v", step)
				}
			}

			placed(err)
			if err != nil {
				return
			}
			scopes[s] = scope
		}
	})
}
