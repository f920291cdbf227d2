package plan

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// defaultPath is the PATH of an image without PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Scope walks through the steps of one stage and owns the state of the walk: the config of the
// image so far and the build arguments. A Scope is not safe for concurrent use; scopes of different
// stages are independent.
type Scope struct {
	stage  *Stage
	todo   []located
	next   int
	image  *instructions.Draft
	args   *Args
	cmdSet bool   // CMD was given in this stage
	escape rune   // escape character of the text with the current instruction; for a trigger: of the text with the FROM
	growth int    // bytes that variables may still add in this stage
	texts  int    // bytes of the texts of the history
	guess  *guess // of Verify; nil: the base image is known
}

// maxGrowth bounds the bytes that variables add in one stage. instructions.MaxExpansion bounds a
// single word.
const maxGrowth = 64 << 20

// maxHistory bounds the texts in the history of one stage, in bytes. The bound is needed because
// each RUN repeats the build arguments.
const maxHistory = 64 << 20

// located is an instruction with its file.
type located struct {
	instructions.Instruction
	file    *instructions.File
	trigger bool
	flag    string // the flag that made the instruction, for example --env; empty: the instruction is in the file
}

// Begin starts a stage. base is the config of the base: of an image, of the stage below at its end,
// or the zero Image for scratch. args are the build arguments of the stage below at its end
// (Scope.Args), and nil if From.Stage is nil. The steps of the triggers of the base come first; the
// stage does not pass them on.
func (s *Stage) Begin(base instructions.Image, args *Args) (*Scope, error) {
	sc := &Scope{stage: s, image: instructions.NewDraft(base), args: newArgs(), growth: maxGrowth}
	if parent := s.From.Stage; parent != nil {
		if args == nil {
			return nil, s.plan.file.Errorf(parent.Range, "a stage built on this one was begun before this one ended")
		}
		sc.args = args.clone()
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

// complete sets the defaults of a config: platform, WorkingDir, type of the root file system and
// PATH.
func (sc *Scope) complete() {
	img, from := sc.image, sc.stage.From
	if img.OS == "" && img.Architecture == "" {
		img.Platform = sc.stage.Platform
	}
	if from.Stage == nil && from.Image == "" && img.RootFS.Type == "" && img.Config.WorkingDir == "" {
		img.Config.WorkingDir = "/" // the base is scratch, or the files of a named context
	}
	if img.RootFS.Type == "" {
		img.RootFS.Type = "layers"
	}
	if _, ok := img.Getenv("PATH"); !ok {
		img.Setenv("PATH", defaultPath)
	}
}

// addEnv adds an ENV instruction with the variables of --env. The ENV precedes the instructions of
// the stage.
func (sc *Scope) addEnv() {
	s := sc.stage
	if len(s.plan.options.Env) == 0 {
		return
	}

	escape := string(s.plan.file.EscapeAt(s.Range))
	special := []string{escape, escape + escape, `"`, escape + `"`}
	expanded := strings.NewReplacer(special...)
	literal := strings.NewReplacer(append(special, "$", escape+"$")...)

	var env instructions.Env
	in := located{file: s.plan.file, flag: "--env"}
	in.Range = s.Range
	in.Name = "ENV"
	in.Text = "ENV"
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

// parseTrigger parses trigger i of the base.
func (s *Stage) parseTrigger(i int, text string) (*instructions.File, instructions.Instruction, error) {
	base := s.From.Image
	if s.From.Stage != nil {
		base = fmt.Sprintf("stage %s", s.From.Stage.label())
	}
	return instructions.ParseTrigger(fmt.Sprintf("ONBUILD trigger %d of %s", i+1, base), text)
}

// addTriggers adds the ONBUILD triggers of the base to the steps.
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
		_, refused, err := s.reads(f, in)
		if err = cmp.Or(err, refused); err != nil {
			return err
		}
		sc.todo = append(sc.todo, located{Instruction: in, file: f, trigger: true})
	}

	return nil
}

// triggerWarning returns a warning about a trigger of a base image that mounts a secret or the
// user's SSH agent, because the author of the image decides what the trigger does with them.
// Triggers of a stage are in the user's own file.
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

// Len returns the number of steps of the stage. Triggers count; FROM does not.
func (sc *Scope) Len() int { return len(sc.todo) }

// Image returns the config after the last step. The scope owns the config: the caller does not
// change it, and the next call of Next may change its slices and maps.
func (sc *Scope) Image() instructions.Image { return sc.image.Image }

// Args returns the build arguments at the end of the stage, for Begin of the stages built on this
// stage. They do not change any more and may be used by several goroutines. Args returns nil while
// steps are left.
func (sc *Scope) Args() *Args {
	if sc.next < len(sc.todo) {
		return nil
	}
	return sc.args
}

// Next returns the next step, or nil at the end of the stage.
func (sc *Scope) Next() (*Step, error) {
	if sc.next == len(sc.todo) {
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

	return step, nil
}

// Arg returns the present value of a build argument. ok is false if the argument is not declared or
// has no value.
func (sc *Scope) Arg(name string) (value string, ok bool) { return sc.args.lookup(name) }

// apply executes an instruction on the config and the arguments, and completes the step.
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

	return fmt.Errorf("%s cannot be an instruction of a stage", in.Name)
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
	step.Canon = fmt.Sprintf("%#v", c) // strings are quoted, so that different operands give different texts
	return nil
}

func (sc *Scope) expander() instructions.Expander {
	return instructions.Expander{Escape: sc.escape, Lookup: sc.lookup, Total: &sc.growth}
}

// lookup returns the value of a variable. ENV wins over ARG.
func (sc *Scope) lookup(name string) (string, bool) {
	v, ok := sc.image.Getenv(name)
	if !ok {
		v, ok = sc.args.lookup(name)
	}
	sc.guess.look(name, ok)
	return v, ok
}

// arg declares build arguments. The value is that of --build-arg, else the default, else the value
// of the global argument with the name.
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
