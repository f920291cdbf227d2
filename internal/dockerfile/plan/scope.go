package plan

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// defaultPath is the PATH of an image that sets none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Scope walks through the steps of one stage. It is not safe for concurrent
// use.
type Scope struct {
	stage  *Stage
	todo   []located
	next   int
	image  *instructions.Draft
	args   *variables
	cmdSet bool   // CMD was given in this stage
	escape rune   // of the text that the current instruction stands in; of triggers: the FROM
	growth int    // bytes that variables may still add in this stage
	texts  int    // bytes of the history's texts
	guess  *guess // of Verify; nil: the base image is known
}

// maxGrowth bounds what variables add in one stage, in bytes; each word is
// bounded by instructions.MaxExpansion.
const maxGrowth = 64 << 20

// maxHistory bounds the texts of one stage's history, in bytes: each RUN repeats the build arguments.
const maxHistory = 64 << 20

// located is an instruction with the file that it stands in.
type located struct {
	instructions.Instruction
	file    *instructions.File
	trigger bool
	flag    string // that the instruction comes from; empty: it stands in the file
}

// Begin starts the stage on a base with this config (the zero Image for
// scratch). The triggers of the base come first; they are not inherited.
func (s *Stage) Begin(base instructions.Image) (*Scope, error) {
	sc := &Scope{stage: s, image: instructions.NewDraft(base), args: newVariables(), growth: maxGrowth}
	if parent := s.From.Stage; parent != nil {
		args, err := parent.finalArgs()
		if err != nil {
			return nil, err
		}
		sc.args = args
	}

	sc.complete()
	if !s.Replaced {
		if err := sc.addTriggers(base.Config.OnBuild); err != nil {
			return nil, err
		}
	}

	sc.image.Config.OnBuild = nil
	sc.addEnv()
	for _, in := range s.instructions {
		sc.todo = append(sc.todo, located{Instruction: in, file: s.plan.file})
	}

	return sc, nil
}

// finalArgs gives the build arguments at the end of the stage.
func (s *Stage) finalArgs() (*variables, error) {
	s.plan.mu.Lock()
	defer s.plan.mu.Unlock()
	if !s.ended {
		return nil, s.plan.file.Errorf(s.Range, "a stage built on this one was begun before this one ended")
	}
	return s.args.clone(), nil
}

// complete fills in what every config has.
func (sc *Scope) complete() {
	img, from := sc.image, sc.stage.From
	if img.OS == "" && img.Architecture == "" {
		img.Platform = sc.stage.Platform
	}
	if from.Stage == nil && from.Image == "" && img.RootFS.Type == "" && img.Config.WorkingDir == "" {
		img.Config.WorkingDir = "/" // scratch, or the files of a named context
	}
	if img.RootFS.Type == "" {
		img.RootFS.Type = "layers"
	}
	if _, ok := img.Getenv("PATH"); !ok {
		img.Setenv("PATH", defaultPath)
	}
}

// addEnv puts what --env says before the stage's own instructions.
func (sc *Scope) addEnv() {
	s := sc.stage
	if len(s.plan.options.Env) == 0 {
		return
	}

	escape := string(s.plan.file.EscapeAt(s.Range))
	special := []string{escape, escape + escape, `"`, escape + `"`}
	expanded, literal := strings.NewReplacer(special...), strings.NewReplacer(append(special, "$", escape+"$")...)
	var env instructions.Env
	in := located{file: s.plan.file, flag: "--env"}
	in.Range, in.Name, in.Text = s.Range, "ENV", "ENV"
	for _, v := range s.plan.options.Env {
		quote := expanded
		if v.Literal {
			quote = literal
		}
		env.Vars = append(env.Vars, instructions.Pair{Key: v.Key, Value: `"` + quote.Replace(v.Value) + `"`})
		in.Text += " " + v.Key + "=" + v.Value
	}

	in.Command = env
	sc.todo = append(sc.todo, in)
}

// parseTrigger parses the trigger of the base with the index i.
func (s *Stage) parseTrigger(i int, text string) (*instructions.File, instructions.Instruction, error) {
	base := s.From.Image
	if s.From.Stage != nil {
		base = fmt.Sprintf("stage %s", stageName(s.From.Stage))
	}
	return instructions.ParseTrigger(fmt.Sprintf("ONBUILD trigger %d of %s", i+1, base), text)
}

// addTriggers parses the ONBUILD triggers of the base.
func (sc *Scope) addTriggers(triggers []string) error {
	s := sc.stage
	for i, text := range triggers {
		f, in, err := s.parseTrigger(i, text)
		if err != nil {
			return err
		}
		if err := s.refuseTrigger(f, in); err != nil {
			return err
		}
		if _, err := s.reads(f, in); err != nil {
			return err
		}
		if s.refused != nil {
			return s.refused
		}
		sc.todo = append(sc.todo, located{Instruction: in, file: f, trigger: true})
	}

	return nil
}

// triggerWarning returns a warning about a trigger of a base image that mounts a secret or the user's SSH agent, because
// the author of the image decides what the trigger does with them. Triggers of a stage are in the user's own file.
func (s *Stage) triggerWarning(text string, op Op) string {
	run, ok := op.(*Run)
	if !ok || s.From.Stage != nil {
		return ""
	}

	base := s.From.Image
	if base == "" {
		base = s.From.Context
	}
	var gets []string
	for _, m := range run.Mounts {
		switch m.Type {
		case instructions.MountSecret:
			gets = append(gets, "the secret "+m.ID)
		case instructions.MountSSH:
			gets = append(gets, "the SSH agent "+m.ID)
		}
	}

	if len(gets) == 0 {
		return ""
	}

	return fmt.Sprintf("the base image %s brings a step that gets %s and can send it anywhere: ONBUILD %s",
		base, strings.Join(gets, " and "), text)
}

func stageName(s *Stage) string {
	if s.Name != "" {
		return s.Name
	}
	return fmt.Sprint(s.Index)
}

// Len is the number of steps of the stage, triggers included, FROM not.
func (sc *Scope) Len() int { return len(sc.todo) }

// Image is the config as it stands. It is the scope's: the caller does not change it, and another Next may change what it
// holds.
func (sc *Scope) Image() instructions.Image { return sc.image.Image }

// Next gives the next step, or nil at the end.
func (sc *Scope) Next() (*Step, error) {
	if sc.next == len(sc.todo) {
		sc.end()
		return nil, nil
	}

	in := sc.todo[sc.next]
	sc.next++
	step := stepAt(in.file.Place(in.Range), in.Text)
	if in.trigger {
		step = stepAt(sc.stage.place(), "ONBUILD "+in.Text)
	}
	sc.guess.begin()
	err := sc.apply(in, step)
	sc.guess.end(in.Command)
	if err != nil {
		if in.flag != "" {
			err = fmt.Errorf("%s: %w", in.flag, err)
		}
		return nil, in.file.At(in.Range, err)
	}

	if in.trigger {
		step.Warning = sc.stage.triggerWarning(in.Text, step.Op)
	}
	if sc.texts += len(step.CreatedBy); sc.texts > maxHistory {
		return nil, in.file.Errorf(in.Range, "the history of the stage would have more than %d bytes", maxHistory)
	}

	if sc.next == len(sc.todo) {
		sc.end()
	}

	return step, nil
}

// Arg is the value of a build argument as it stands, if it has one.
func (sc *Scope) Arg(name string) (string, bool) { return sc.args.lookup(name) }

// end leaves the stage's arguments to the stages built on it.
func (sc *Scope) end() {
	sc.stage.plan.mu.Lock()
	defer sc.stage.plan.mu.Unlock()
	sc.stage.args, sc.stage.ended = sc.args, true
}

// apply carries out the instruction on the scope and fills in the step.
func (sc *Scope) apply(in located, step *Step) error {
	sc.escape = sc.stage.plan.file.EscapeAt(sc.stage.Range)
	if !in.trigger {
		sc.escape = in.file.EscapeAt(in.Range)
	}
	cmd, err := sc.expander().Command(in.Command)
	if err != nil {
		return err
	}

	switch c := cmd.(type) {
	case instructions.Arg:
		return sc.arg(c, step)
	case instructions.Run:
		return sc.run(in, c, step)
	case instructions.Copy:
		return sc.copy(in, c, step)
	case instructions.Workdir:
		return sc.workdir(c, step)
	case instructions.Entrypoint:
		c.KeepCmd = sc.cmdSet
		return sc.edit(c, step)
	case instructions.Cmd:
		sc.cmdSet = true
		return sc.edit(c, step)
	case instructions.Editor:
		return sc.edit(c, step)
	}

	return fmt.Errorf("%s cannot stand in a stage", in.Name)
}

func (sc *Scope) edit(c instructions.Editor, step *Step) error {
	text, err := c.Edit(sc.image)
	if err != nil {
		return err
	}
	if !utf8.ValidString(text) {
		return errors.New("a value that is not UTF-8, which an image's config cannot hold")
	}
	step.CreatedBy = text
	step.Canon = fmt.Sprintf("%#v", c) // strings are quoted, so nothing runs together
	return nil
}

func (sc *Scope) expander() instructions.Expander {
	return instructions.Expander{Escape: sc.escape, Lookup: sc.lookup, Total: &sc.growth}
}

// lookup is the value of a variable: ENV before ARG.
func (sc *Scope) lookup(name string) (string, bool) {
	v, ok := sc.image.Getenv(name)
	if !ok {
		v, ok = sc.args.lookup(name)
	}
	sc.guess.look(name, ok)
	return v, ok
}

// arg declares build arguments: --build-arg, else the default, else the
// global of that name.
func (sc *Scope) arg(c instructions.Arg, step *Step) error {
	p := sc.stage.plan
	step.CreatedBy = "ARG"
	for _, v := range c.Vars {
		value := v.Default
		if given, ok := p.buildArg(v.Key); ok {
			value = &given
		} else if value != nil {
			word, err := sc.expander().Word(*value)
			if err != nil {
				return err
			}
			value = &word
		} else if global, ok := p.globals.lookup(v.Key); ok {
			value = &global
		}

		sc.args.declare(v.Key, value)
		step.CreatedBy += " " + v.Key
		if value != nil {
			step.CreatedBy += "=" + *value
		}
	}

	step.Canon = canon("ARG", step.CreatedBy)

	return nil
}
