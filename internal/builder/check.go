package builder

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/lint"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/rootfs/upperdir"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// check tells what the linter finds, as soon as the configs of all base images are known. No step begins before if
// findings fail the build, or if all steps wait for the one base anyway.
func (b *builder) check(ctx context.Context) error {
	if b.Lint == nil {
		return nil
	}

	roots, bases := map[plan.Source]bool{}, map[plan.Source]*future{}
	for _, s := range b.Plan.Stages {
		if s.From.Stage != nil {
			continue
		}
		if roots[s.From] = true; s.From != (plan.Source{}) {
			bases[s.From] = b.image(ctx, s.From)
		}
	}

	if b.Lint.Strict() || len(roots) == 1 {
		return b.tellFindings(ctx, bases)
	}

	b.background.Go(func() { _ = b.tellFindings(ctx, bases) }) // not strict: no error
	return nil
}

// tellFindings waits for the base images. What those set that could not be had stays unknown to the linter.
func (b *builder) tellFindings(ctx context.Context, bases map[plan.Source]*future) error {
	o := b.LintOptions
	o.Plan, o.Bases = b.Plan, map[plan.Source]instructions.Image{}
	for from, f := range bases {
		_, _ = f.wait(ctx) // what fails tells the stage
		select {
		case <-f.done:
			if f.err == nil {
				o.Bases[from] = f.snap.config
			}
		default:
		}
	}

	report := b.Lint.Check(o)
	for _, f := range report.Findings {
		b.finding(f)
	}
	if report.Dropped > 0 {
		b.warn(fmt.Sprintf("%s: %d more findings of the checks are not shown", b.Plan.File().Name, report.Dropped))
	}
	if report.Fail {
		var rules []string
		for _, f := range report.Findings {
			rules = append(rules, f.Rule)
		}
		slices.Sort(rules)
		return &CheckError{File: b.Plan.File().Name, Rules: slices.Compact(rules)}
	}

	return nil
}

// CheckError says that the Dockerfile wants a build to fail for what the checks have found.
type CheckError struct {
	File  string
	Rules []string // that are violated
}

func (e *CheckError) Error() string {
	return fmt.Sprintf("%s: nothing was run: check=error=true makes violated rules fatal: %s", e.File, strings.Join(e.Rules, ", "))
}

// finding shows a finding with its lines.
func (b *builder) finding(f lint.Finding) { b.warn(f.Text()) }

// duplicates notes what a recursive chown or chmod has stored once more. It looks at the step's directory before that
// becomes a layer, and only for such a step. The build does not fail if it cannot.
func (s *stage) duplicates(ctx context.Context, step *plan.Step, op *plan.Run, u upper) {
	if s.Lint == nil || s.OneLayer || s.Flatten || !lint.Recursive(op) {
		return
	}
	bytes, err := s.unchangedBytes(ctx, u)
	if err != nil {
		logrus.Debugf("%s:%d: %v", step.File, step.Line, err)
	}
	s.notes.kept.Duplicated = bytes
}

func (s *stage) unchangedBytes(ctx context.Context, u upper) (int64, error) {
	below, err := s.view()
	if err != nil {
		return 0, err
	}
	dir, err := os.Open(u.Upper)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	return upperdir.Unchanged(ctx, dir, below)
}

// perhapsStage adds to the error about an image that it was perhaps meant to be a stage.
func (b *builder) perhapsStage(name string, err error) error {
	var stages []string
	for _, s := range b.Plan.All() {
		if s.Name != "" {
			stages = append(stages, s.Name)
		}
	}
	if match := instructions.Suggest(name, stages); match != "" {
		return fmt.Errorf("%w (did you mean the stage %s?)", err, match)
	}
	return err
}
