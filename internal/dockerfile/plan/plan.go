package plan

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Options say what is to be built.
type Options struct {
	Target    string            // name of the stage to build, in any case; empty: the last
	BuildArgs map[string]string // --build-arg
	Env       []EnvVar          // --env
	Platform  ocispec.Platform  // what is built for, where FROM does not say it
	Host      ocispec.Platform  // this machine's; the zero value: Platform
	AllStages bool              // also those before the target that it does not need
	From      string            // stands in place of what the first FROM names; empty: as written
	Contexts  []string          // names of the named contexts, as ContextName gives them
	Insecure  bool              // RUN --security=insecure is allowed
	NoRemote  bool              // ADD may not fetch URLs and git repositories

	Mounts []instructions.MountFlag // of every RUN, below its own; variables in them are not replaced

	// Refuse says why the file may not use an image of that name; nil: it may use any.
	Refuse func(image string) error
}

// EnvVar is a variable that every stage sets first, as by ENV.
type EnvVar struct {
	Key, Value string
	Literal    bool // a $ in Value is a dollar
}

// Plan is what a target needs.
type Plan struct {
	Stages []*Stage // needed by the target, dependencies first, the target last
	Target *Stage
	Epoch  *time.Time // of build argument SOURCE_DATE_EPOCH; nil: not given, or known by EpochOf only

	// EpochOf is what has the time that SOURCE_DATE_EPOCH means where it names the context or a stage; nil: it is a number.
	// Whoever knows the time calls SetEpoch before the first stage begins.
	EpochOf *EpochSource

	// Unused are the build arguments, sorted, that no ARG of the file declares
	// and that are not predefined. An ONBUILD trigger of a base image may
	// still declare one.
	Unused []string

	// Warnings are about arguments that mean something to BuildKit and nothing to this build, and about stages that a
	// named context replaces, one line each.
	Warnings []string

	// UnusedContexts are the named contexts, sorted, that nothing in the file
	// names. A trigger may, as above.
	UnusedContexts []string

	file    *instructions.File
	options Options
	all     []*Stage            // by index, also those that are not needed
	named   map[string][]*Stage // those that have this name, by index
	globals *variables
	epoch   *string         // of SetEpoch, as an argument's value
	used    map[string]bool // named contexts
	noRun   error           // why nothing can be run; nil: it can

	mu sync.Mutex // guards used, and args and ended of the stages
}

// Stage is one stage of the file.
type Stage struct {
	instructions.Range
	Index int
	Name  string // lower case; may be empty
	From  Source
	Needs []Source // what COPY --from and the mounts of RUN read, in order, each once; triggers of the base can add to it
	After []*Stage // of FROM --after: stages to be run before this one begins, and before its base is looked for
	Text  string   // the FROM as written

	// Platform is what the stage is made for: that of the stage it stands on, else
	// of --platform, else of Options. What the base image itself is for stands
	// in its config.
	Platform ocispec.Platform

	// Replaced: a named context has the stage's name. It is the whole stage.
	Replaced bool

	plan         *Plan
	instructions []instructions.Instruction
	refused      error // the first thing in the stage that must not be done
	args         *variables
	ended        bool
}

// Source is where a stage begins, or what a COPY or a mount reads: a stage, an image by the
// name written in the file, a named context, or, with all three empty, scratch.
type Source struct {
	Stage   *Stage
	Image   string
	Context string // as Options.Contexts has it

	// Platform of the image that is wanted, as FormatPlatform writes it; empty: the host's.
	Platform string
}

// scratch is the name of the base that has no files.
const scratch = "scratch"

// New plans the build of the target. It fails on whatever can be known
// without the base images: unknown stages, references to later stages, names
// that are empty after expansion, what the options do not allow.
func New(f *instructions.File, o Options) (*Plan, error) {
	p := newPlan(f, o)
	p.Unused, p.Warnings = p.unused(), idleArgs(o.BuildArgs)
	if err := p.checkHostname(); err != nil {
		return nil, err
	}
	if err := p.setGlobals(); err != nil {
		return nil, err
	}
	if err := p.setEpoch(); err != nil {
		return nil, err
	}

	for i := range f.Stages {
		if err := p.addStage(i, &f.Stages[i]); err != nil {
			return nil, err
		}
	}

	for _, s := range p.all {
		if err := s.findNeeds(); err != nil {
			return nil, err
		}
	}

	if err := p.checkCircles(); err != nil {
		return nil, err
	}

	p.UnusedContexts = p.unusedContexts()
	target, err := p.target()
	if err != nil {
		return nil, err
	}

	p.Target = target
	roots := []*Stage{target}
	if o.AllStages {
		roots = p.all[:target.Index+1]
	}
	seen := map[*Stage]bool{}
	for _, s := range roots {
		if err := p.reach(s, seen); err != nil {
			return nil, err
		}
	}

	return p, nil
}

// File is what the plan was made of.
func (p *Plan) File() *instructions.File { return p.file }

// All gives the stages by their index, also those that are not needed.
func (p *Plan) All() []*Stage { return p.all }

func newPlan(f *instructions.File, o Options) *Plan {
	if o.Host.OS == "" {
		o.Host = o.Platform
	}
	return &Plan{file: f, options: o, used: map[string]bool{}, named: map[string][]*Stage{}}
}

// addStage expands the FROM of stage i and finds what it stands on.
func (p *Plan) addStage(i int, in *instructions.Stage) error {
	s := &Stage{
		Range: in.Range, Index: i, Name: in.Name, Text: in.Text, plan: p, instructions: in.Instructions,
	}
	name := in.Base
	if i == 0 && p.options.From != "" {
		name = p.options.From
		s.Text += " (--from " + name + ")"
	}

	base, err := p.expandFrom(in, "base name", name)
	if err != nil {
		return err
	}

	platform, err := p.expandFrom(in, "platform", in.Platform)
	if err != nil {
		return err
	}

	if err := s.setPlatform(platform); err != nil {
		s.refused = p.file.At(in.Range, err)
	}
	if s.After, err = p.after(s, in); err != nil {
		return err
	}

	s.setFrom(base)
	p.all = append(p.all, s)
	if name := strings.ToLower(s.Name); name != "" {
		p.named[name] = append(p.named[name], s)
	}

	return nil
}

// after finds the stages that --after names.
func (p *Plan) after(s *Stage, in *instructions.Stage) (out []*Stage, err error) {
	for _, name := range in.After {
		if strings.Contains(name, "$") {
			return nil, p.file.Errorf(in.Range, "--after=%s: variables are not expanded in --after", name)
		}
		src, err := s.source(p.file, in.Range, "--after", name)
		if err != nil {
			return nil, err
		}
		if src.Stage == nil {
			return nil, p.file.Errorf(in.Range, "--after=%s: no stage above this one has that name", name)
		}
		out = append(out, src.Stage)
	}

	return out, nil
}

// setFrom finds what the stage stands on: a named context that has the stage's
// own name, an earlier stage, a named context, an image.
func (s *Stage) setFrom(base string) {
	p := s.plan
	if s.Name != "" {
		if s.From.Context = p.context(s.Name, s.Platform); s.From.Context != "" {
			at := s.place()
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s:%d: stage %s is not built: build context %s takes its place",
				at.File, at.Line, s.Name, s.From.Context))
			s.From.Platform, s.Replaced, s.instructions = p.wanted(s.Platform), true, nil
			return
		}
	}

	if base == scratch {
		return
	}

	if s.From.Stage = p.byName(base, s.Index); s.From.Stage == nil {
		s.From.Stage = p.byNumber(base)
	}
	if s.From.Stage != nil {
		s.Platform = s.From.Stage.Platform
		return
	}

	s.From.Platform = p.wanted(s.Platform)
	if s.From.Context = p.context(base, s.Platform); s.From.Context == "" {
		s.From.Image = base
		s.refuse(p.file, s.Range, "FROM", base)
	}
}

// refuse records the error of an image that cannot or must not be used. It is returned if the stage is needed.
func (s *Stage) refuse(f *instructions.File, r instructions.Range, option, image string) {
	if err := checkImageName(image); err != nil && s.refused == nil {
		s.refused = s.badName(f, r, option, image, err)
	}
	if check := s.plan.options.Refuse; check != nil && s.refused == nil {
		if err := check(image); err != nil {
			s.refused = f.At(r, err)
		}
	}
}

// byName finds the nearest stage before index end with that name, in any case.
func (p *Plan) byName(name string, end int) *Stage {
	named := p.named[strings.ToLower(name)]
	i := sort.Search(len(named), func(i int) bool { return named[i].Index >= end })
	if i == 0 {
		return nil
	}
	return named[i-1]
}

// byNumber finds the stage with that index among those added so far, as buildah does: FROM 0. Other numbers are names of
// images.
func (p *Plan) byNumber(name string) *Stage {
	n, err := strconv.ParseUint(name, 10, 31)
	if err != nil || n >= uint64(len(p.all)) || strconv.FormatUint(n, 10) != name {
		return nil
	}
	return p.all[n]
}

// target finds the stage to build.
func (p *Plan) target() (*Stage, error) {
	want := p.options.Target
	if want == "" {
		return p.all[len(p.all)-1], nil
	}
	if s := p.byName(want, len(p.all)); s != nil {
		return s, nil
	}

	var names []string
	for _, s := range p.all {
		if s.Name != "" {
			names = append(names, s.Name)
		}
	}

	hint := "no stage of the file has a name"
	if len(names) > 0 {
		hint = "stages: " + strings.Join(names, ", ")
	}
	if match := instructions.Suggest(want, names); match != "" {
		hint = "did you mean " + match + "?"
	} else if _, err := strconv.Atoi(want); err == nil {
		hint = "a target is a name; " + hint
	}

	return nil, p.file.Hintf(instructions.Range{}, hint, "no stage is named %q", want)
}

// reach appends s and what it needs to p.Stages, dependencies first. The
// references go to earlier stages only, so there are no cycles.
func (p *Plan) reach(s *Stage, seen map[*Stage]bool) error {
	if seen[s] {
		return nil
	}

	seen[s] = true
	if s.refused != nil {
		return s.refused
	}

	below := slices.Clone(s.After)
	for _, src := range append([]Source{s.From}, s.Needs...) {
		if src.Stage != nil {
			below = append(below, src.Stage)
		}
	}

	for _, stage := range below {
		if err := p.reach(stage, seen); err != nil {
			return err
		}
	}

	p.Stages = append(p.Stages, s)

	return nil
}

// findNeeds resolves what the stage's COPYs and mounts read.
func (s *Stage) findNeeds() error {
	known := map[Source]bool{}
	for _, in := range s.instructions {
		sources, err := s.reads(s.plan.file, in)
		if err != nil {
			return err
		}
		for _, src := range sources {
			if !known[src] {
				known[src] = true
				s.Needs = append(s.Needs, src)
			}
		}
	}

	return nil
}

// reads resolves the --from of COPY and the from= of the mounts of RUN.
func (s *Stage) reads(f *instructions.File, in instructions.Instruction) (out []Source, err error) {
	add := func(option, from string) {
		if from == "" || err != nil {
			return
		}
		var src Source
		if src, err = s.source(f, in.Range, option, from); err == nil {
			out = append(out, src)
		}
	}

	switch c := in.Command.(type) {
	case instructions.Copy:
		add("--from", c.From)
	case instructions.Run:
		if c.Insecure && !s.plan.options.Insecure && s.refused == nil {
			s.refused = f.Hintf(in.Range, "allow it with --allow security.insecure", "RUN --security=insecure is refused: it takes the step's sandbox away")
		}
		for _, m := range s.plan.mounts(c) {
			add(mountFrom, m.From())
		}
	}

	return out, err
}

// mountFrom names the option in errors.
const mountFrom = "--mount: from"

// source resolves the operand of an option, such as --from, at r of file f: the
// index of an earlier stage, its name, a named context, else an image. Images are
// those for the platform that is built for, whatever the stage's is, as in BuildKit.
func (s *Stage) source(f *instructions.File, r instructions.Range, option, from string) (Source, error) {
	if strings.Contains(from, "$") {
		return Source{}, f.Hintf(r, "give the image a name with FROM ... AS, where variables work",
			"%s=%s: variables are not expanded in %s", option, from, option)
	}
	if n, err := strconv.Atoi(from); err == nil {
		switch {
		case n < 0 || n >= len(s.plan.all):
			return Source{}, f.Errorf(r, "%s=%s: the file has %d stages, the first is 0", option, from, len(s.plan.all))
		case n >= s.Index:
			return Source{}, f.Errorf(r, "%s=%s: stage %d is %s", option, from, n, laterOrSelf(n, s.Index))
		}
		return s.plan.all[n].result(), nil
	}
	if st := s.plan.byName(from, s.Index); st != nil {
		return st.result(), nil
	}
	if st := s.plan.byName(from, len(s.plan.all)); st != nil {
		if st.Replaced {
			return st.result(), nil
		}
		at := r
		if f != s.plan.file { // a trigger
			at = s.Range
		}
		return Source{}, f.Errorf(r, "%s=%s: the stage (%s) is %s", option, from, s.plan.file.Refer(st.Range, at), laterOrSelf(st.Index, s.Index))
	}
	if from == scratch {
		return Source{}, nil
	}

	target := s.plan.options.Platform
	if name := s.plan.context(from, target); name != "" {
		return Source{Context: name, Platform: s.plan.wanted(target)}, nil
	}

	s.refuse(f, r, option, from)

	return Source{Image: from, Platform: s.plan.wanted(target)}, nil
}

// result is where the files of the stage are.
func (s *Stage) result() Source {
	if s.Replaced {
		return s.From
	}
	return Source{Stage: s}
}

func laterOrSelf(n, self int) string {
	if n == self {
		return "this one: a stage cannot copy from itself"
	}
	return "defined after this one"
}

// unused gives the build arguments, sorted, that no ARG of the file declares
// and that are not predefined.
func (p *Plan) unused() []string {
	declared := map[string]bool{}
	note := func(in instructions.Instruction) {
		arg, _ := in.Command.(instructions.Arg)
		for _, v := range arg.Vars {
			declared[v.Key] = true
		}
	}

	for _, in := range p.file.Args {
		note(in)
	}
	for _, s := range p.file.Stages {
		for _, in := range s.Instructions {
			note(in)
		}
	}

	var out []string
	for name := range p.options.BuildArgs {
		if !declared[name] && !predefined(name) {
			out = append(out, name)
		}
	}

	slices.Sort(out)

	return out
}
