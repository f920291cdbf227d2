package lint

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// FuzzCheck: a check of any file ends, and every finding has a rule, a text and lines in the file.
func FuzzCheck(f *testing.F) {
	for _, text := range []string{
		"# check=experimental=all;error=true\n# x\nARG TAG\nFROM --platform=$TARGETPLATFORM a:$TAG AS Base\nMAINTAINER me\nENV a b",
		"from a as b\nRun x \\\n\n y\nWORKDIR $a\nENV password=${b:-$c}\nCOPY $u .\nEXPOSE 80/TCP [::1]:1:1\nCMD a\nCMD b",
		"FROM scratch AS s\nONBUILD ARG A=$B\nFROM s\n# check=skip=all\nCOPY . .\nRUN --mount=type=cache,target=/$x npm ci; pip install -r r",
		"FROM a\nADD <<E <<'F' /\n$a\nE\n$b\nF\nHEALTHCHECK CMD x\nSHELL [\"a\"]\nENTRYPOINT b\nLABEL a b",
	} {
		f.Add(text, "skip=FromAsCasing")
	}

	f.Fuzz(func(t *testing.T, text, check string) {
		file, err := instructions.Parse("Dockerfile", []byte(text))
		if err != nil {
			return
		}

		args := map[string]string{"GIVEN": "1"}
		if check != "" {
			args[checkArg] = check
		}
		l, err := New(file, args)
		if err != nil {
			return
		}

		o := Options{
			PlanOptions: plan.Options{BuildArgs: args, Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}},
			AllStages:   true, Ignore: []string{"a*", "**/b"},
		}

		o.Plan, _ = plan.New(file, o.PlanOptions) // nil after an error
		r := l.Check(o)
		if len(r.Findings) > MaxFindings || r.Dropped > 0 && len(r.Findings) < MaxFindings || r.Fail && len(r.Findings) == 0 {
			t.Errorf("%d findings, %d more, fail %v", len(r.Findings), r.Dropped, r.Fail)
		}
		for _, f := range r.Findings {
			if f.Rule == "" || f.Msg == "" || f.Line < 1 || f.EndLine < f.Line || f.EndLine > len(file.Lines) || len(f.Source) == 0 {
				t.Errorf("%+v", f)
			}
		}
	})
}
