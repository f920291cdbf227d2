package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/lint"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/imagename"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// maxArgFile bounds a file of build arguments, in bytes.
const maxArgFile = 1 << 20

// planned is a Dockerfile with its plan.
type planned struct {
	file    *instructions.File
	plan    *plan.Plan // nil: the plan has an error
	options plan.Options
	linter  *lint.Linter
	lint    lint.Options
}

// makePlan parses the Dockerfile and plans the build. Warnings go to the listener. If the file parses and the plan has an
// error, the result holds the file and the linter all the same.
func (b *build) makePlan(in *input) (p planned, err error) {
	if p.file, err = instructions.ParseTexts(in.texts...); err != nil {
		return planned{}, err
	}

	args, err := b.arguments(in.time)
	if err != nil {
		return planned{}, err
	}
	if err := warnAbout(p.file, args, b.log); err != nil {
		return planned{}, err
	}

	p.options = planOptions(b.spec, args)
	if p.linter, err = lint.New(p.file, args); err != nil {
		return planned{}, err
	}
	p.lint = lint.Options{PlanOptions: p.options, Ignore: in.ignore}
	if p.plan, err = plan.New(p.file, p.options); err != nil {
		return p, err
	}

	b.warnUnused(p)
	return p, nil
}

// planOptions returns the options of the plan. A description needs no permission, because it builds nothing, and a check
// looks at all stages unless a target is named.
func planOptions(s *spec.Build, args spec.Args) plan.Options {
	o := plan.Options{
		Target:    s.Plan.Target,
		AllStages: s.Plan.AllStages,
		BuildArgs: args,
		Env:       s.Plan.Env,
		Platform:  s.Plan.Platform,
		Host:      s.Plan.Host,
		From:      s.Plan.From,
		Mounts:    s.Plan.Mounts,
		Contexts:  contextNames(s.Plan.Contexts),
		Insecure:  s.Allow.Insecure,
		NoRemote:  s.Allow.NoRemote,
		Refuse:    func(image string) error { return refuseImage(image, s) },
	}
	if s.Call.Describes() {
		o.Insecure = true
		o.Refuse = nil
		o.AllStages = o.AllStages || s.Call.Method == spec.CallCheck && s.Plan.Target == ""
	}
	return o
}

// refuseImage refuses a name in a Dockerfile that reads files of this machine, unless that is allowed. The image of
// Plan.From may do so, because the user has named it.
func refuseImage(image string, s *spec.Build) error {
	n, err := imagename.Parse(image)
	if err != nil || image == s.Plan.From || !n.InFiles() {
		return err
	}
	if path, _ := n.Path(); len(s.Allow.Read) == 0 {
		return fmt.Errorf("%s is refused: it reads files of this machine (allow it with %s%s)", image, s.Allow.ReadFrom,
			path)
	}
	return nil
}

// arguments returns all build arguments. contextTime is the time of a context that was fetched, or zero.
func (b *build) arguments(contextTime time.Time) (spec.Args, error) {
	s := b.spec.Arguments
	args := spec.Args{}
	for _, file := range s.Files {
		text, err := readBounded(file.Path, maxArgFile, file.Path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file.From, err)
		}
		if err := args.SetLines(file.Path, string(text), b.engine.Env); err != nil {
			return nil, fmt.Errorf("%s %w", file.From, err)
		}
	}

	if err := args.SetAll(s.List, b.engine.Env, "build argument"); err != nil {
		return nil, err
	}
	if s.Proxies {
		args.SetProxies(b.engine.Env)
	}

	const epoch = "SOURCE_DATE_EPOCH"
	if _, given := args[epoch]; !given && s.Epoch != "" {
		args[epoch] = s.Epoch
	}
	// As with BuildKit, "context" means the time of the context. A context of the user's own has no time, which the build
	// reports.
	if args[epoch] == "context" && !contextTime.IsZero() {
		args[epoch] = strconv.FormatInt(contextTime.Unix(), 10)
	}
	return args, nil
}

// warnAbout reports doubtful lines of the Dockerfile, and refuses a frontend that is not known.
func warnAbout(file *instructions.File, args spec.Args, to progress.Listener) error {
	syntax, err := file.CheckSyntax(args["BUILDKIT_SYNTAX"])
	if err != nil {
		return err
	}
	if syntax != nil {
		warn(to, file.WarningText(*syntax))
	}
	for _, w := range file.Warnings {
		warn(to, file.WarningText(w))
	}
	return nil
}

// warnUnused reports values of the user that the Dockerfile does not use.
func (b *build) warnUnused(p planned) {
	for _, name := range b.spec.Cache.Uncached {
		named := func(s instructions.Stage) bool { return s.Name != "" && strings.EqualFold(s.Name, name) }
		if !slices.ContainsFunc(p.file.Stages, named) {
			warn(b.log, fmt.Sprintf("%s %s: no stage has this name", b.spec.Cache.UncachedFrom, name))
		}
	}

	for _, name := range p.plan.Unused {
		text := fmt.Sprintf("build argument %s: no ARG declares it", name)
		if match := instructions.Suggest(name, declaredArgs(p.file)); match != "" {
			text += " (did you mean " + match + "?)"
		}
		warn(b.log, text)
	}

	for _, name := range p.plan.UnusedContexts {
		warn(b.log, fmt.Sprintf("build context %s: nothing in the file names it", name))
	}
}

// declaredArgs returns the names for which the Dockerfile has an ARG.
func declaredArgs(file *instructions.File) (names []string) {
	add := func(list []instructions.Instruction) {
		for _, in := range list {
			arg, _ := in.Command.(instructions.Arg)
			for _, v := range arg.Vars {
				names = append(names, v.Key)
			}
		}
	}

	add(file.Args)
	for _, st := range file.Stages {
		add(st.Instructions)
	}
	return names
}
