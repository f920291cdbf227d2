package plan

import (
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
	Platform  ocispec.Platform  // the host's, and the only one that steps can run on
	AllStages bool              // also those before the target that it does not need
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

	// Warnings are about arguments that mean something to BuildKit and nothing to this build, one line each.
	Warnings []string

	file    *instructions.File
	options Options
	all     []*Stage            // by index, also those that are not needed
	named   map[string][]*Stage // those that have this name, by index
	globals *variables
	epoch   *string // of SetEpoch, as an argument's value

	mu sync.Mutex // guards args and ended of the stages
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

	plan         *Plan
	instructions []instructions.Instruction
	platform     string // --platform, expanded
	args         *variables
	ended        bool
}

// Source is where a stage begins, or what a COPY or a mount reads: a stage, an image by the
// name written in the file, or, with both empty, scratch.
type Source struct {
	Stage *Stage
	Image string
}

// scratch is the name of the base that has no files.
const scratch = "scratch"

// New plans the build of the target. It fails on whatever can be known
// without the base images: unknown stages, references to later stages, names
// that are empty after expansion, foreign platforms.
func New(f *instructions.File, o Options) (*Plan, error) {
	p := &Plan{file: f, options: o, named: map[string][]*Stage{}}
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

// addStage expands the FROM of stage i and finds what it stands on.
func (p *Plan) addStage(i int, in *instructions.Stage) error {
	s := &Stage{
		Range: in.Range, Index: i, Name: in.Name, Text: in.Text, plan: p, instructions: in.Instructions,
	}
	base, err := p.expandFrom(in, "base name", in.Base)
	if err != nil {
		return err
	}
	if s.platform, err = p.expandFrom(in, "platform", in.Platform); err != nil {
		return err
	}
	if base != scratch {
		if s.From.Stage = p.byName(base, i); s.From.Stage == nil {
			s.From.Image = base
		}
	}
	if s.After, err = p.after(s, in); err != nil {
		return err
	}
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

// byName finds the nearest stage before index end with that name, in any case.
func (p *Plan) byName(name string, end int) *Stage {
	named := p.named[strings.ToLower(name)]
	i := sort.Search(len(named), func(i int) bool { return named[i].Index >= end })
	if i == 0 {
		return nil
	}
	return named[i-1]
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
	if err := s.checkPlatform(); err != nil {
		return err
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
		for _, m := range c.Mounts {
			add(mountFrom, m.From())
		}
	}
	return out, err
}

// mountFrom names the option in errors.
const mountFrom = "--mount: from"

// source resolves the operand of an option, such as --from, at r of file f: the
// name of an earlier stage, its index, else an image.
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
		return Source{Stage: s.plan.all[n]}, nil
	}
	if st := s.plan.byName(from, s.Index); st != nil {
		return Source{Stage: st}, nil
	}
	if st := s.plan.byName(from, len(s.plan.all)); st != nil {
		at := r
		if f != s.plan.file { // a trigger
			at = s.Range
		}
		return Source{}, f.Errorf(r, "%s=%s: the stage (%s) is %s", option, from, s.plan.file.Refer(st.Range, at), laterOrSelf(st.Index, s.Index))
	}
	if from == scratch {
		return Source{}, nil
	}
	return Source{Image: from}, nil
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
