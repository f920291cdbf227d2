package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/lint"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/outline"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// ErrFindings is the result of a check that has findings. They are printed already.
var ErrFindings = errors.New("the check has findings")

// describe answers a Call. The build has no images if the input is local.
func (b *build) describe(ctx context.Context) (err error) {
	b.log = progress.Plain(b.engine.Log.Steps())
	o := b.options
	in, err := b.openSources(ctx, &o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.close()) }()

	p, err := b.makePlan(in)
	if p.file == nil {
		return in.locate(err)
	}

	switch b.spec.Call.Method {
	case spec.CallTargets:
		t := outline.ListTargets(p.file)
		t.Sources = in.sources()
		return b.print(t)
	case spec.CallOutline:
		if err != nil {
			return in.locate(err)
		}
		return in.locate(b.outline(p, in))
	}
	return b.check(p, in, err)
}

func (b *build) outline(p planned, in *input) error {
	if err := p.plan.Verify(); err != nil {
		return err
	}
	out, err := outline.New(p.file, p.plan, p.lint.PlanOptions)
	if err != nil {
		return err
	}
	out.Sources = in.sources()
	return b.print(out)
}

// check prints the findings of the linter. planErr is the error of the plan, or nil.
func (b *build) check(p planned, in *input, planErr error) error {
	o := p.lint
	o.Plan = p.plan
	o.AllStages = b.spec.Plan.Target == ""
	report := p.linter.Check(o)
	if planErr == nil {
		planErr = p.plan.Verify()
	}

	if err := b.print(newChecked(in, p.file, report, planErr)); err != nil || planErr != nil {
		return errors.Join(err, in.locate(planErr))
	}
	if len(report.Findings) > 0 && !b.spec.Call.IgnoreStatus {
		return ErrFindings
	}
	return nil
}

// print writes v as JSON or for people.
func (b *build) print(v interface{ WriteText(w io.Writer) error }) error {
	if b.spec.Call.JSON {
		return progress.WriteJSON(b.engine.Text, v)
	}
	return v.WriteText(b.engine.Text)
}

// checked is a report in the form of docker's --call=check,format=json.
type checked struct {
	Warnings []checkedWarning `json:"warnings"`
	Sources  []checkedSource  `json:"sources"`
	Error    *checkedError    `json:"buildError,omitempty"`

	report lint.Report
}

type checkedWarning struct {
	RuleName    string           `json:"ruleName"`
	Description string           `json:"description,omitempty"`
	URL         string           `json:"url,omitempty"`
	Detail      string           `json:"detail,omitempty"`
	Location    outline.Location `json:"location"`
}

type checkedSource struct {
	Filename string `json:"filename"`
	Language string `json:"language"`
	Data     []byte `json:"data"`
}

type checkedError struct {
	Message  string            `json:"message"`
	Location *outline.Location `json:"location,omitempty"`
}

// newChecked returns the document of a report. err is the reason why the Dockerfile cannot be built, or nil.
func newChecked(in *input, file *instructions.File, r lint.Report, err error) *checked {
	c := &checked{Warnings: []checkedWarning{}, report: r}
	for _, t := range in.texts {
		c.Sources = append(c.Sources, checkedSource{t.Name, "Dockerfile", t.Data})
	}
	for _, f := range r.Findings {
		c.Warnings = append(c.Warnings, checkedWarning{f.Rule, f.Description, f.URL, f.Msg, outline.At(file, f.Range)})
	}
	if err == nil {
		return c
	}

	c.Error = &checkedError{Message: err.Error()}
	var bad *instructions.Error
	if errors.As(err, &bad) && bad.Line > 0 {
		at := outline.At(file, file.RangeOf(instructions.Place{File: bad.File, Line: bad.Line, EndLine: bad.EndLine}))
		c.Error.Location = &at
	}
	return c
}

// sources returns the texts for the JSON of a description.
func (in *input) sources() (out [][]byte) {
	for _, t := range in.texts {
		out = append(out, t.Data)
	}
	return out
}

// WriteText writes the findings for people.
func (c *checked) WriteText(w io.Writer) error {
	to := progress.Plain(w)
	for _, f := range c.report.Findings {
		text := f.Text()
		if f.URL != "" {
			text += "\n       " + f.URL
		}
		warn(to, text)
	}

	var err error
	switch n := len(c.report.Findings) + c.report.Dropped; {
	case n > 1:
		_, err = fmt.Fprintf(w, "Check complete, %d warnings have been found!\n", n)
	case n == 1:
		_, err = fmt.Fprintln(w, "Check complete, 1 warning has been found!")
	case c.Error == nil:
		_, err = fmt.Fprintln(w, "Check complete, no warnings found.")
	}
	return err
}
