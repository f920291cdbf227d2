package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/lint"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/outline"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// The methods of --call.
const (
	callBuild   = "build"
	callCheck   = "check"
	callOutline = "outline"
	callTargets = "targets"
)

// callFlags say what is told of the Dockerfile instead of building it. They are docker's.
type callFlags struct {
	call  string
	check bool

	method       string // of both
	json         bool
	ignoreStatus bool // findings are no failure
}

func (f *callFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.call, "call", callBuild, "build, check, outline or targets; with ,format=json for programs")
	fs.BoolVar(&f.check, "check", false, "look for mistakes in the Dockerfile, and build nothing (--call=check)")
}

// apply reads METHOD[,format=text|json][,ignorestatus[=BOOL]].
func (f *callFlags) apply(_ lookup, _ *builder.Options) (err error) {
	for i, field := range strings.Split(f.call, ",") {
		key, value, hasValue := strings.Cut(field, "=")
		switch {
		case i == 0 && !hasValue:
			f.method = strings.ToLower(key)
		case key == "format" && (value == "json" || value == "text"):
			f.json = value == "json"
		case key == "ignorestatus":
			f.ignoreStatus = !hasValue
			if hasValue {
				f.ignoreStatus, err = strconv.ParseBool(value)
			}
			if err != nil {
				return fmt.Errorf("--call %q: ignorestatus is true or false", f.call)
			}
		default:
			return fmt.Errorf("--call %q: want METHOD[,format=text|json][,ignorestatus]", f.call)
		}
	}

	if f.method == "lint" { // BuildKit's name for it
		f.method = callCheck
	}
	methods := []string{callBuild, callCheck, callOutline, callTargets}
	if !slices.Contains(methods, f.method) {
		hint := ""
		if match := instructions.Suggest(f.method, methods); match != "" {
			hint = "; did you mean " + match + "?"
		}
		return fmt.Errorf("--call %q: choose %s%s", f.call, strings.Join(methods, ", "), hint)
	}
	if f.check && f.method != callBuild && f.method != callCheck {
		return errors.New("--check is --call=check, which contradicts the --call that was given")
	}

	if f.check {
		f.method = callCheck
	}

	return nil
}

// call tells what --call asks for. place is needed for a context that is no directory only.
func (a *app) call(ctx context.Context, place imagePlace, f *budFlags, o builder.Options) (err error) {
	o.Listener = progress.Plain(a.stderr.Steps())
	in, err := f.open(ctx, place, &o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.close()) }()

	file, err := f.plan.make(in, &o, os.LookupEnv, f.described())
	if file == nil || err != nil && f.call.method == callOutline {
		return in.locate(err)
	}

	switch f.call.method {
	case callTargets:
		t := outline.ListTargets(file)
		t.Sources = in.sources()
		return f.call.print(a.stdout, t)
	case callOutline:
		if err := o.Plan.Verify(); err != nil {
			return in.locate(err)
		}
		out, err := outline.New(file, o.Plan, o.Checks.Options.PlanOptions)
		if err != nil {
			return in.locate(err)
		}
		out.Sources = in.sources()
		return f.call.print(a.stdout, out)
	}

	o.Checks.Options.Plan, o.Checks.Options.AllStages = o.Plan, f.plan.target == ""
	report := o.Checks.Linter.Check(o.Checks.Options)
	if err == nil {
		err = o.Plan.Verify()
	}
	if perr := f.call.print(a.stdout, newChecked(in, file, report, err)); perr != nil || err != nil {
		return errors.Join(perr, in.locate(err))
	}
	if len(report.Findings) > 0 && !f.call.ignoreStatus {
		return &exitError{code: 1}
	}

	return nil
}

// described plans a call that builds nothing. Permissions to build (--allow) have no effect on the call. A check looks at
// all stages unless --target names a stage.
func (f *budFlags) described() plan.Options {
	o := f.planned()
	o.Insecure, o.Refuse = true, nil
	o.AllStages = f.call.method == callCheck && f.plan.target == ""
	return o
}

// print writes v as JSON or for people.
func (f *callFlags) print(w io.Writer, v interface{ WriteText(w io.Writer) error }) error {
	if f.json {
		return writeJSON(w, v)
	}
	return v.WriteText(w)
}

// checked is a report in the form that docker's --call=check,format=json has.
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

// newChecked makes it of a report, and of the error that keeps the Dockerfile from being built.
func newChecked(in *input, file *instructions.File, r lint.Report, err error) *checked {
	c := &checked{Warnings: []checkedWarning{}, report: r}
	for _, t := range in.texts {
		c.Sources = append(c.Sources, checkedSource{t.Name, "Dockerfile", t.Data})
	}
	for _, f := range r.Findings {
		c.Warnings = append(c.Warnings, checkedWarning{f.Rule, f.Description, f.URL, f.Msg, outline.At(file, f.Range)})
	}
	if err != nil {
		c.Error = &checkedError{Message: err.Error()}
		var bad *instructions.Error
		if errors.As(err, &bad) && bad.Line > 0 {
			at := outline.At(file, file.RangeOf(instructions.Place{File: bad.File, Line: bad.Line, EndLine: bad.EndLine}))
			c.Error.Location = &at
		}
	}

	return c
}

// sources are the texts as the JSON has them.
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
