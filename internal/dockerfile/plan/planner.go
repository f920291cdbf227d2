package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// planner makes a Plan. The Plan is complete, and does not change any more, when New returns it.
type planner struct {
	*Plan
	seen map[*Stage]bool // stages that reach has visited
}

func newPlanner(f *instructions.File, o Options) *planner {
	if o.Host.OS == "" {
		o.Host = o.Platform
	}
	return &planner{Plan: &Plan{file: f, options: o, named: map[string][]*Stage{}}, seen: map[*Stage]bool{}}
}

// addStage expands the FROM of stage i and resolves the base.
func (p *planner) addStage(i int, in *instructions.Stage) error {
	s := &Stage{
		Range: in.Range, Index: i, Name: in.Name, Text: in.Text, plan: p.Plan, instructions: in.Instructions,
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
	if s.Platform, err = p.platform(platform); err != nil {
		s.refused = p.file.At(in.Range, err)
	}

	if s.After, err = p.after(s, in); err != nil {
		return err
	}

	p.setFrom(s, base)
	p.all = append(p.all, s)
	if name := strings.ToLower(s.Name); name != "" {
		p.named[name] = append(p.named[name], s)
	}

	return nil
}

// after resolves the names of FROM --after.
func (p *planner) after(s *Stage, in *instructions.Stage) (out []*Stage, err error) {
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

// setFrom resolves the base of a stage. The order is: a named context with the name of the stage,
// an earlier stage, a named context with the name of the base, an image.
func (p *planner) setFrom(s *Stage, base string) {
	if s.Name != "" {
		if context := p.context(s.Name, s.Platform); context != "" {
			p.replace(s, context)
			return
		}
	}

	if base == scratch {
		return
	}

	s.From.Stage = p.byName(base, s.Index)
	if s.From.Stage == nil {
		s.From.Stage = p.byNumber(base)
	}
	if s.From.Stage != nil {
		s.Platform = s.From.Stage.Platform
		return
	}

	s.From.Platform = p.imagePlatform(s.Platform)
	s.From.Context = p.context(base, s.Platform)
	if s.From.Context == "" {
		s.From.Image = base
		s.refused = cmp.Or(s.refused, s.refuseImage(p.file, s.Range, "FROM", base))
	}
}

// replace puts a named context in the place of the stage.
func (p *planner) replace(s *Stage, context string) {
	at := s.place()
	p.Warnings = append(p.Warnings, fmt.Sprintf("%s:%d: stage %s is not built: build context %s takes its place",
		at.File, at.Line, s.Name, context))

	s.From = Source{Context: context, Platform: p.imagePlatform(s.Platform)}
	s.Replaced = true
	s.instructions = nil
}

// findNeeds resolves the sources of the stage's COPYs and mounts.
func (p *planner) findNeeds(s *Stage) error {
	known := map[Source]bool{}
	for _, in := range s.instructions {
		sources, refused, err := s.reads(p.file, in)
		if err != nil {
			return err
		}

		s.refused = cmp.Or(s.refused, refused)
		for _, src := range sources {
			if !known[src] {
				known[src] = true
				s.Needs = append(s.Needs, src)
			}
		}
	}

	return nil
}

// unusedContexts lists the named contexts that no stage uses. After findNeeds, the stages hold all
// sources of the file.
func (p *planner) unusedContexts() (out []string) {
	used := map[string]bool{}
	for _, s := range p.all {
		used[s.From.Context] = true
		for _, src := range s.Needs {
			used[src.Context] = true
		}
	}

	for _, name := range p.options.Contexts {
		if !used[name] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// selectStages finds the target and the stages that it needs.
func (p *planner) selectStages() error {
	target, err := p.target()
	if err != nil {
		return err
	}

	p.Target = target
	roots := []*Stage{target}
	if p.options.AllStages {
		roots = p.all[:target.Index+1]
	}
	for _, s := range roots {
		if err := p.reach(s); err != nil {
			return err
		}
	}
	return nil
}

// target finds the stage to build.
func (p *planner) target() (*Stage, error) {
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

// reach appends a stage and its dependencies to Plan.Stages, dependencies first. The recursion ends
// because references go to earlier stages only.
func (p *planner) reach(s *Stage) error {
	if p.seen[s] {
		return nil
	}

	p.seen[s] = true
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
		if err := p.reach(stage); err != nil {
			return err
		}
	}

	p.Stages = append(p.Stages, s)
	return nil
}

// unusedArgs lists, sorted, the build arguments that no ARG of the file declares and that are not
// predefined.
func (p *planner) unusedArgs() []string {
	declared := map[string]bool{}
	note := func(list []instructions.Instruction) {
		for _, in := range list {
			arg, _ := in.Command.(instructions.Arg)
			for _, v := range arg.Vars {
				declared[v.Key] = true
			}
		}
	}

	note(p.file.Args)
	for _, s := range p.file.Stages {
		note(s.Instructions)
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
