// Package lint checks Dockerfiles by the rules of BuildKit's build checks and by three additional
// rules.
//
// Use:
//
//	l, err := lint.New(file, buildArgs)
//	report := l.Check(lint.Options{Plan: plan, PlanOptions: options, Ignore: patterns, Bases: configs})
//	for _, finding := range report.Findings { ... }
//
// The names, texts and addresses of the rules are BuildKit's. The directive "# check=" and a
// comment of this form before an instruction have the meaning that they have in BuildKit.
// docs/checks.md has a row for each rule, with the differences.
//
// The package is pure: no files, no network, no clock. The caller passes the configs of base images
// in Options.Bases. If the config of a base image is missing there, the linter does not report a
// variable that the base image may set.
//
// The work is linear in the size of the file. Suggestions and look-ups in an ignore file have
// budgets. A Report has at most MaxFindings findings.
//
// Source: https://docs.docker.com/reference/build-checks/ (frontend 1.26).
package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// MaxFindings bounds the findings of a Report.
const MaxFindings = 1000

// checkArg is the build argument that replaces the directive "# check=".
const checkArg = "BUILDKIT_DOCKERFILE_CHECK"

// Finding is a violation of a rule.
type Finding struct {
	instructions.Place
	Range       instructions.Range // lines, counted through all texts of the file
	Rule        string             // "StageNameCasing"
	Description string             // of the rule
	URL         string             // of the documentation of the rule; may be empty
	Msg         string             // the message for this place
	Source      []string           // lines of the Range, as in instructions.Error
}

// String returns "FILE:LINE: RULE: MSG".
func (f Finding) String() string { return fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.Rule, f.Msg) }

// Text returns String and, below it, the lines of the Dockerfile with their numbers.
func (f Finding) Text() string {
	return strings.Join(append([]string{f.String()}, instructions.Numbered(f.Line, f.Source)...), "\n")
}

// Report is the result of a check.
type Report struct {
	Findings []Finding // by line
	Dropped  int       // number of findings beyond MaxFindings
	Fail     bool      // there are findings, and the Dockerfile wants them to fail the build (error=true)
}

// Linter checks one Dockerfile. It is safe for concurrent use.
type Linter struct {
	file   *instructions.File
	config linter.Config
}

// New makes a linter for a file. It reads the directive "# check=", or the build argument
// BUILDKIT_DOCKERFILE_CHECK, which replaces the directive. An invalid directive or argument is an
// error.
func New(f *instructions.File, buildArgs map[string]string) (*Linter, error) {
	text := f.Check
	given, ok := buildArgs[checkArg]
	if ok {
		text = given
	}
	config, err := linter.ParseLintOptions(text)
	if err != nil && ok {
		return nil, fmt.Errorf("%s=%s: %w", checkArg, given, err)
	}
	if err != nil {
		return nil, f.Errorf(instructions.Range{}, "directive check: %s", err)
	}
	return &Linter{file: f, config: *config}, nil
}

// Strict reports whether findings fail the build (error=true).
func (l *Linter) Strict() bool { return l.config.ReturnAsError }

// Options holds the facts that a check needs in addition to the Dockerfile.
type Options struct {
	// Plan of the same file. Nil if plan.New failed: then Check applies only the rules about the
	// whole file.
	Plan        *plan.Plan
	PlanOptions plan.Options
	AllStages   bool                               // check all stages of the file, not only those that the plan needs
	Ignore      []string                           // patterns of the context's ignore file
	Bases       map[plan.Source]instructions.Image // configs of base images and named contexts; others are unknown
}

// Check applies all rules to the file.
func (l *Linter) Check(o Options) Report {
	r := newRun(l)
	r.Options = o
	r.wholeFile()
	if o.Plan != nil {
		r.stages()
	}
	return r.report()
}

// run is one check.
type run struct {
	Options
	file     *instructions.File
	linter   *linter.Linter
	findings []Finding
	dropped  int
	budget   budget
}

func newRun(l *Linter) *run {
	r := &run{file: l.file, budget: fullBudget()}
	config := l.config
	config.Warn = r.add
	r.linter = linter.New(&config)
	return r
}

// add receives a finding from BuildKit's linter.
func (r *run) add(rule, description, url, msg string, location []parser.Range) {
	if len(r.findings) == MaxFindings {
		r.dropped++
		return
	}
	at := instructions.Range{Line: location[0].Start.Line, EndLine: location[0].End.Line}
	r.findings = append(r.findings, Finding{
		Place:       r.file.Place(at),
		Range:       at,
		Rule:        rule,
		Description: description,
		URL:         url,
		Msg:         msg,
		Source:      r.file.Excerpt(at),
	})
}

func (r *run) report() Report {
	slices.SortStableFunc(r.findings, func(a, b Finding) int { return cmp.Compare(a.Range.Line, b.Range.Line) })
	return Report{Findings: r.findings, Dropped: r.dropped, Fail: r.linter.Error() != nil}
}

// at converts lines to the type of BuildKit's linter.
func at(r instructions.Range) []parser.Range {
	return []parser.Range{{Start: parser.Position{Line: r.Line}, End: parser.Position{Line: max(r.Line, r.EndLine)}}}
}
