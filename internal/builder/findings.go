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
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/internal/rootfs/upperdir"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// CheckError says that the Dockerfile asks for a build to fail because of findings (check=error=true).
type CheckError struct {
	File  string
	Rules []string // that are violated, sorted
}

func (e *CheckError) Error() string {
	rules := strings.Join(e.Rules, ", ")
	return fmt.Sprintf("%s: nothing was run: check=error=true makes violated rules fatal: %s", e.File, rules)
}

// findings shows the linter's findings and the notes of steps.
type findings struct {
	build  *build
	linter *lint.Linter // nil: nothing is checked
	// layered: each step has a layer, so a file that a step only chmods is in the image twice.
	layered bool
}

func newFindings(b *build) *findings {
	o := b.options.Layers
	return &findings{build: b, linter: b.options.Checks.Linter, layered: !o.OnePerStage && !o.Squash}
}

// start checks the plan as soon as the configs of all base images are known. start waits for that if findings fail the
// build, or if all steps wait for the one base anyway.
func (f *findings) start(ctx context.Context) error {
	if f.linter == nil {
		return nil
	}

	roots := map[plan.Source]bool{}
	bases := map[plan.Source]*future{}
	for _, s := range f.build.plan.Stages {
		if s.From.Stage != nil {
			continue
		}
		roots[s.From] = true
		if s.From != (plan.Source{}) {
			bases[s.From] = f.build.inputs.image(ctx, s.From)
		}
	}

	if f.linter.Strict() || len(roots) == 1 {
		return f.check(ctx, bases)
	}
	f.build.schedule.background.Go(func() { _ = f.check(ctx, bases) }) // not strict: no error
	return nil
}

// check waits for the base images. Images that failed to load are left out: the linter treats their configuration as
// unknown, and the stage reports the error.
func (f *findings) check(ctx context.Context, bases map[plan.Source]*future) error {
	o := f.build.options.Checks.Options
	o.Plan = f.build.plan
	o.Bases = map[plan.Source]instructions.Image{}
	for from, base := range bases {
		snap, err := base.wait(ctx)
		if err != nil {
			continue
		}
		o.Bases[from] = snap.config
	}

	report := f.linter.Check(o)
	for _, found := range report.Findings {
		f.build.show.warn(found.Text())
	}

	file := o.Plan.File().Name
	if report.Dropped > 0 {
		f.build.show.warn(fmt.Sprintf("%s: %d more findings of the checks are not shown", file, report.Dropped))
	}
	if !report.Fail {
		return nil
	}

	var rules []string
	for _, found := range report.Findings {
		rules = append(rules, found.Rule)
	}
	slices.Sort(rules)
	return &CheckError{File: file, Rules: slices.Compact(rules)}
}

// notes shows the warnings of a step that has ended.
func (f *findings) notes(st *step) {
	for _, text := range slices.Concat(st.notes.first, st.notes.files.Warnings) {
		if st.Line == 0 { // a directory that is a base: no line of the file names it as a step
			text = st.Text + ": " + text
		}
		f.build.show.warnAt(st.Step, text)
	}

	if f.linter == nil || f.build.options.Layers.Squash { // in a squashed image no file is there twice
		return
	}
	if found, ok := f.linter.Duplicated(st.Place(), st.notes.files.Duplicated); ok {
		f.build.show.warn(found.Text())
	}
}

// duplicates notes how many bytes a recursive chown or chmod has stored once more. It looks at the step's directory before
// that becomes a layer, and only for such a step. A failure to look does not end the build.
func (f *findings) duplicates(ctx context.Context, st *step, op *plan.Run, l rootfs.Layer) {
	if f.linter == nil || !f.layered || !lint.Recursive(op) {
		return
	}

	bytes, err := unchangedBytes(ctx, l)
	if err != nil {
		logrus.Debugf("%s:%d: %v", st.File, st.Line, err)
	}
	st.notes.files.Duplicated = bytes
}

// unchangedBytes compares the files of a layer with the layers below.
func unchangedBytes(ctx context.Context, l rootfs.Layer) (int64, error) {
	m, err := l.Mount()
	if err != nil {
		return 0, err
	}

	below, err := overlay.Open(overlay.Mount{Lowers: m.Lowers, Trusted: m.Trusted})
	if err != nil {
		return 0, err
	}
	defer below.Close()

	dir, err := os.Open(m.Upper)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	return upperdir.Unchanged(ctx, dir, below)
}
