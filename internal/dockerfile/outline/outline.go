// Package outline lists the targets of a Dockerfile, and the build arguments, secrets, SSH agents
// and caches of a target.
//
// Use:
//
//	targets := outline.ListTargets(file)
//	o, err := outline.New(file, plan, options)
//	o.WriteText(os.Stdout)
//
// A description is the comment directly above a FROM or an ARG, if the comment begins with the name
// of the stage or argument.
//
// The package is pure: no files, no network, no clock. It does not know the configs of base images.
//
// Source: https://docs.docker.com/reference/cli/docker/buildx/build/#call. The JSON has the form of
// BuildKit's subrequests frontend.targets and frontend.outline.
package outline

import (
	"cmp"
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Location is a place in the Dockerfile.
type Location struct {
	SourceIndex int     `json:"sourceIndex,omitempty"` // index of the text, if the Dockerfile has several
	Ranges      []Lines `json:"ranges"`
}

// Lines holds a first and a last line.
type Lines struct {
	Start Line `json:"start"`
	End   Line `json:"end"`
}

// Line is the number of a line, from 1.
type Line struct {
	Line int `json:"line"`
}

// At converts lines of the file to a Location.
func At(f *instructions.File, r instructions.Range) Location {
	at := f.Place(r)
	return Location{SourceIndex: f.PartOf(r), Ranges: []Lines{{Line{at.Line}, Line{at.EndLine}}}}
}

// compare orders locations by their position in the file.
func (l Location) compare(o Location) int {
	return cmp.Or(cmp.Compare(l.SourceIndex, o.SourceIndex),
		cmp.Compare(l.Ranges[0].Start.Line, o.Ranges[0].Start.Line))
}

// Targets lists the stages of a file.
type Targets struct {
	Targets []Target `json:"targets"`
	Sources [][]byte `json:"sources"` // the texts of the Dockerfile
}

// Target describes a stage.
type Target struct {
	Name        string   `json:"name,omitempty"`
	Default     bool     `json:"default,omitempty"`
	Description string   `json:"description,omitempty"`
	Base        string   `json:"base,omitempty"`     // as written
	Platform    string   `json:"platform,omitempty"` // as written
	Location    Location `json:"location"`
}

// ListTargets returns the stages of a file.
func ListTargets(f *instructions.File) Targets {
	var out Targets
	for i, st := range f.Stages {
		out.Targets = append(out.Targets, Target{
			Name: st.Name, Default: i == len(f.Stages)-1, Description: describe(f, st.Range, st.Comments, st.Name),
			Base: st.Base, Platform: st.Platform, Location: At(f, st.Range),
		})
	}
	return out
}

// describe returns the description of a name in comments, or an empty string.
func describe(f *instructions.File, r instructions.Range, comments []string, name string) string {
	if name == "" {
		return ""
	}
	for _, text := range f.RightAbove(r, comments) {
		if text, ok := strings.CutPrefix(text, name+" "); ok {
			return text
		}
	}
	return ""
}

// Outline lists the values that a user can set for a target. Each list has the order of the file.
type Outline struct {
	Name        string   `json:"name,omitempty"`
	Description string   `json:"description,omitempty"`
	Args        []Arg    `json:"args,omitempty"`
	Secrets     []Mount  `json:"secrets,omitempty"`
	SSH         []Mount  `json:"ssh,omitempty"`
	Cache       []Cache  `json:"cache,omitempty"`
	Sources     [][]byte `json:"sources,omitempty"` // the texts of the Dockerfile
}

// Arg describes a build argument.
type Arg struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Value       string   `json:"value,omitempty"` // the given value, else the default
	Location    Location `json:"location"`
}

// Mount describes a secret or an SSH agent.
type Mount struct {
	Name     string   `json:"name"`
	Required bool     `json:"required,omitempty"`
	Location Location `json:"location"`
}

// Cache describes a cache mount.
type Cache struct {
	ID       string   `json:"ID"`
	Location Location `json:"location"`
}

// New returns the outline of the target of the plan, with the values of all stages that the target
// needs. The plan does not change.
func New(f *instructions.File, p *plan.Plan, o plan.Options) (Outline, error) {
	c := collector{
		file:    f,
		options: o,
		globals: map[string]*global{},
		scopes:  map[*plan.Stage]*plan.Scope{},
		args:    map[string]Arg{},
		seen:    map[[2]string]int{},
	}
	if err := c.setGlobals(); err != nil {
		return Outline{}, err
	}

	st := f.Stages[p.Target.Index]
	c.out.Name, c.out.Description = st.Name, describe(f, st.Range, st.Comments, st.Name)
	// Dependencies come first, so that an argument of the target replaces an argument with the same
	// name.
	for _, s := range p.Stages {
		if err := c.stage(s); err != nil {
			return Outline{}, err
		}
	}

	for _, a := range c.args {
		c.out.Args = append(c.out.Args, a)
	}
	slices.SortFunc(c.out.Args, func(a, b Arg) int {
		return cmp.Or(a.Location.compare(b.Location), cmp.Compare(a.Name, b.Name))
	})
	byLine := func(a, b Mount) int { return a.Location.compare(b.Location) }
	slices.SortStableFunc(c.out.Secrets, byLine)
	slices.SortStableFunc(c.out.SSH, byLine)
	slices.SortStableFunc(c.out.Cache, func(a, b Cache) int { return a.Location.compare(b.Location) })

	return c.out, nil
}

// collector collects the parts of an Outline.
type collector struct {
	file    *instructions.File
	options plan.Options
	lookup  func(string) (string, bool) // looks up a global argument
	globals map[string]*global
	scopes  map[*plan.Stage]*plan.Scope // scopes of the stages, at the end of each stage
	args    map[string]Arg
	seen    map[[2]string]int // type and id of a mount -> index in its list
	out     Outline
}

// global describes an argument before the first FROM.
type global struct {
	arg  Arg
	uses []string // arguments in its default
}

// expand returns the arguments that a word uses.
func (c *collector) expand(r instructions.Range, word string) (used []string) {
	_, _ = instructions.Expander{Escape: c.file.EscapeAt(r), Lookup: func(name string) (string, bool) {
		used = append(used, name)
		return c.lookup(name)
	}}.Word(word) // the plan reports an error
	return used
}

func (c *collector) setGlobals() (err error) {
	if _, c.lookup, err = plan.Globals(c.file, c.options); err != nil {
		return err
	}

	for _, in := range c.file.Args {
		arg, _ := in.Command.(instructions.Arg) // only ARG precedes the first FROM
		for _, v := range arg.Vars {
			g := &global{arg: c.arg(in, v.Key)}
			g.arg.Value, _ = c.lookup(v.Key)
			if _, given := c.options.BuildArgs[v.Key]; !given && v.Default != nil {
				// Arguments that are declared below have no effect here.
				below := func(name string) bool { return c.globals[name] == nil }
				g.uses = slices.DeleteFunc(c.expand(in.Range, *v.Default), below)
			}
			if old := c.globals[v.Key]; old != nil && slices.Contains(g.uses, v.Key) {
				g.uses = append(g.uses, old.uses...)
			}
			c.globals[v.Key] = g
		}
	}

	return nil
}

func (c *collector) arg(in instructions.Instruction, name string) Arg {
	return Arg{Name: name, Description: describe(c.file, in.Range, in.Comments, name), Location: At(c.file, in.Range)}
}

// use adds global arguments and the arguments in their defaults.
func (c *collector) use(names []string) {
	for len(names) > 0 {
		name := names[0]
		names = names[1:]
		g := c.globals[name]
		if g == nil {
			continue
		}
		delete(c.globals, name)
		c.args[name] = g.arg
		names = append(names, g.uses...)
	}
}

// stage collects the arguments and mounts of a stage.
func (c *collector) stage(s *plan.Stage) error {
	st := c.file.Stages[s.Index]
	c.use(c.expand(st.Range, st.Base))
	c.use(c.expand(st.Range, st.Platform))
	var inherited *plan.Args
	if below := c.scopes[s.From.Stage]; below != nil {
		inherited = below.Args()
	}
	scope, err := s.Begin(instructions.Image{}, inherited)
	if err != nil {
		return err
	}
	c.scopes[s] = scope

	args := map[int]instructions.Instruction{}
	for _, in := range st.Instructions {
		if in.Name == "ARG" {
			args[in.Line] = in
		}
	}

	for range scope.Len() {
		step, err := scope.Next()
		if err != nil || step == nil {
			continue // the instruction may depend on the unknown base image
		}
		if in, ok := args[c.file.RangeOf(step.Place()).Line]; ok {
			c.stageArgs(in, scope)
		}
		if run, ok := step.Op.(*plan.Run); ok {
			c.mounts(step, run)
		}
	}

	return nil
}

// stageArgs adds the arguments of an ARG. An argument without a default may refer to a global
// argument.
func (c *collector) stageArgs(in instructions.Instruction, scope *plan.Scope) {
	cmd, _ := in.Command.(instructions.Arg)
	for _, v := range cmd.Vars {
		_, given := c.options.BuildArgs[v.Key]
		if _, isGlobal := c.lookup(v.Key); isGlobal && v.Default == nil && !given {
			c.use([]string{v.Key})
			continue
		}
		a := c.arg(in, v.Key)
		a.Value, _ = scope.Arg(v.Key)
		c.args[v.Key] = a
	}
}

// mounts adds the mounts of a RUN. A mount of several RUNs is required if one of them requires the
// mount.
func (c *collector) mounts(step *plan.Step, run *plan.Run) {
	place := At(c.file, c.file.RangeOf(step.Place()))
	for _, m := range run.Mounts {
		if m.ID == "" {
			continue
		}

		key := [2]string{m.Type, m.ID}
		i, seen := c.seen[key]
		switch m.Type {
		case instructions.MountSecret, instructions.MountSSH:
			list := &c.out.Secrets
			if m.Type == instructions.MountSSH {
				list = &c.out.SSH
			}
			if !seen {
				i = len(*list)
				*list = append(*list, Mount{Name: m.ID, Location: place})
			}
			(*list)[i].Required = (*list)[i].Required || m.Required
		case instructions.MountCache:
			if !seen {
				c.out.Cache = append(c.out.Cache, Cache{ID: m.ID, Location: place})
			}
		}

		c.seen[key] = i
	}
}
