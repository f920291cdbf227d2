package lint

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/patternmatcher"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// walk visits the stages, each after the stage below, with the variables that the stage can see.
// The changes of a stage are undone after the stages above were visited, so that no variables are
// copied.
type walk struct {
	*run
	children   map[*plan.Stage][]*plan.Stage
	globals    func(string) (string, bool)
	declared   map[string]bool // names in an ARG or ENV anywhere in the file
	ignore     *patternmatcher.PatternMatcher
	secret     *regexp.Regexp // matches names of variables that hold secrets ...
	public     *regexp.Regexp // ... except these names
	installers []installer
	triggers   int // number of triggers that may still be checked

	env  map[string]string
	args map[string]*string
	undo []change
}

// change is the earlier value of a variable.
type change struct {
	name  string
	isArg bool
	known bool
	value *string
}

// inherited holds the facts that a stage gets from the stage or image below.
type inherited struct {
	unknown   bool     // the config of the base image is not known
	shell     bool     // there was a SHELL
	workdir   bool     // there was a WORKDIR in this file
	triggers  []string // of ONBUILD
	installed []string // tools that have installed dependencies
}

// stages checks the instructions of the stages.
func (r *run) stages() {
	w := &walk{
		run:      r,
		children: map[*plan.Stage][]*plan.Stage{},
		env:      map[string]string{},
		args:     map[string]*string{},
		triggers: 1000,
		secret: regexp.MustCompile(
			`(?i)(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)`,
		),
		public:     regexp.MustCompile(`(?i)(?:_|^)(?:public|file|version)(?:_|$)`),
		installers: installers(),
	}

	var err error
	if _, w.globals, err = plan.Globals(r.file, r.PlanOptions); err != nil {
		return
	}

	if m, _ := patternmatcher.New(r.Ignore); m != nil && len(m.Patterns()) > 0 && !m.Exclusions() {
		w.ignore = m
	}
	w.declared = declared(r.file)
	stages := r.Plan.Stages
	if r.AllStages {
		stages = r.Plan.All()
	}
	var roots []*plan.Stage
	for _, s := range stages {
		if s.From.Stage == nil {
			roots = append(roots, s)
		} else {
			w.children[s.From.Stage] = append(w.children[s.From.Stage], s)
		}
	}

	for _, s := range roots {
		mark := len(w.undo)
		w.stage(s, w.begin(s))
		w.rewind(mark)
	}
}

// declared returns the names of all variables with an ARG or ENV in the file.
func declared(f *instructions.File) map[string]bool {
	names := map[string]bool{}
	note := func(list []instructions.Instruction) {
		for _, in := range list {
			switch c := in.Command.(type) {
			case instructions.Arg:
				for _, v := range c.Vars {
					names[v.Key] = true
				}
			case instructions.Env:
				for _, v := range c.Vars {
					names[v.Key] = true
				}
			}
		}
	}

	note(f.Args)
	for _, st := range f.Stages {
		note(st.Instructions)
	}

	return names
}

// begin returns the facts for a stage on an image or on scratch, and sets the variables of the
// image.
func (w *walk) begin(s *plan.Stage) inherited {
	base, known := w.Bases[s.From]
	in := inherited{unknown: s.From.Image+s.From.Context != "" && !known}
	if known {
		if s.From.Image != "" {
			w.basePlatform(s, base)
		}
		in.shell, in.triggers = len(base.Config.Shell) > 0, base.Config.OnBuild
	}

	for _, kv := range base.Config.Env {
		name, value, _ := strings.Cut(kv, "=")
		w.setEnv(name, value)
	}

	if _, ok := w.env["PATH"]; !ok {
		w.setEnv("PATH", "/usr/bin:/bin") // every image has a PATH; the value does not matter
	}
	return in
}

// basePlatform compares the platform of a base image with the platform of the stage.
func (w *walk) basePlatform(s *plan.Stage, base instructions.Image) {
	want := s.Platform
	if got := base.Platform; len(base.RootFS.DiffIDs) > 0 && got.OS+got.Architecture != "" &&
		(got.OS != want.OS || got.Architecture != want.Architecture) {
		msg := linter.RuleInvalidBaseImagePlatform.Format(s.From.Image, platforms.Format(want), platforms.Format(got))
		w.linter.Run(&linter.RuleInvalidBaseImagePlatform, at(s.Range), msg)
	}
}

func (w *walk) setEnv(name, value string) {
	old, known := w.env[name]
	w.undo = append(w.undo, change{name: name, known: known, value: &old})
	w.env[name] = value
}

func (w *walk) setArg(name string, value *string) {
	old, known := w.args[name]
	w.undo = append(w.undo, change{name: name, isArg: true, known: known, value: old})
	if value == nil {
		value = old
	}
	w.args[name] = value
}

// rewind undoes all changes after the first mark changes.
func (w *walk) rewind(mark int) {
	for _, c := range slices.Backward(w.undo[mark:]) {
		switch {
		case c.isArg && c.known:
			w.args[c.name] = c.value
		case c.isArg:
			delete(w.args, c.name)
		case c.known:
			w.env[c.name] = *c.value
		default:
			delete(w.env, c.name)
		}
	}

	w.undo = w.undo[:mark]
}

// lookup returns the value of a variable. ENV wins over ARG.
func (w *walk) lookup(name string) (string, bool) {
	if v, ok := w.env[name]; ok {
		return v, true
	}
	if v := w.args[name]; v != nil {
		return *v, true
	}
	return "", false
}

// stageWalk is the state of the walk through one stage.
type stageWalk struct {
	*walk
	inherited
	onbuild []string                             // triggers of the stage, for the stages built on it
	once    map[string]*instructions.Instruction // the last CMD, ENTRYPOINT and HEALTHCHECK
	whole   *instructions.Instruction            // the last COPY of the whole context
}

// stage checks a stage and the stages built on the stage.
func (w *walk) stage(s *plan.Stage, in inherited) {
	st := stageWalk{walk: w, inherited: in, once: map[string]*instructions.Instruction{}}
	for _, text := range in.triggers {
		if w.triggers--; w.triggers < 0 {
			break
		}
		_, trigger, err := instructions.ParseTrigger(w.file.Name, text)
		if err != nil {
			continue // the plan reports the error
		}
		trigger.Range = s.Range
		st.instruction(&trigger)
	}

	for _, v := range w.PlanOptions.Env {
		w.setEnv(v.Key, v.Value)
	}
	for i := range w.file.Stages[s.Index].Instructions {
		st.instruction(&w.file.Stages[s.Index].Instructions[i])
	}
	out := st.inherited
	out.triggers, out.installed = st.onbuild, slices.Clip(st.installed)
	for _, child := range w.children[s] {
		mark := len(w.undo)
		w.stage(child, out)
		w.rewind(mark)
	}
}

// instruction checks one instruction.
func (st *stageWalk) instruction(in *instructions.Instruction) {
	l := st.linter.WithMergedConfigFromComments(in.Comments)
	switch c := in.Command.(type) {
	case instructions.Arg:
		st.arg(l, in, c)
		return
	case instructions.Onbuild:
		st.onbuild = append(st.onbuild, c.Trigger)
		return
	}

	var unset []string
	x := st.expander(in, &unset)
	cmd, _ := x.Command(in.Command) // the build reports the error
	if _, ok := cmd.(instructions.Expose); !ok {
		st.undefined(l, in, unset)
	}
	switch c := cmd.(type) {
	case instructions.Env:
		st.setEnvs(l, in, c)
	case instructions.Label:
		if c.Legacy {
			l.Run(&linter.RuleLegacyKeyValueFormat, at(in.Range), linter.RuleLegacyKeyValueFormat.Format(in.Word))
		}
	case instructions.Workdir:
		if !st.workdir && !path.IsAbs(c.Path) {
			l.Run(&linter.RuleWorkdirRelativePath, at(in.Range), linter.RuleWorkdirRelativePath.Format(c.Path))
		}
		st.workdir = true
	case instructions.Shell:
		st.shell = len(c.Args) > 0
	case instructions.Cmd:
		st.command(l, in, c.Shell)
	case instructions.Entrypoint:
		st.command(l, in, c.Shell)
	case instructions.Healthcheck:
		st.command(l, in, false)
	case instructions.Expose:
		expose(l, in, c.Ports)
	case instructions.Copy:
		if written, ok := in.Command.(instructions.Copy); ok {
			st.emptySources(l, in, written)
		}
		st.copy(l, in, c)
	case instructions.Run:
		st.installs(in, c)
	}
}

// expander returns an expander for an instruction. It appends the names of unset variables to
// unset.
func (st *stageWalk) expander(in *instructions.Instruction, unset *[]string) instructions.Expander {
	return instructions.Expander{
		Escape: st.file.EscapeAt(in.Range),
		Total:  &st.budget.growth,
		Lookup: func(name string) (string, bool) {
			v, ok := st.lookup(name)
			if !ok {
				*unset = append(*unset, name)
			}
			return v, ok
		},
	}
}

// undefined reports variables without an ARG or ENV.
func (st *stageWalk) undefined(l *linter.Linter, in *instructions.Instruction, unset []string) {
	seen := map[string]bool{}
	for _, name := range unset {
		if _, ok := st.args[name]; ok || seen[name] {
			continue
		}
		seen[name] = true
		match := st.suggest(name, len(st.env)+len(st.args), st.visible())
		if st.unknown && !st.doubtful(name, match) {
			continue
		}
		l.Run(&linter.RuleUndefinedVar, at(in.Range), linter.RuleUndefinedVar.Format(name, match))
	}
}

// visible returns the names of the variables with a value.
func (st *stageWalk) visible() func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for name := range st.env {
			if !yield(name) {
				return
			}
		}
		for name, value := range st.args {
			if value != nil && !yield(name) {
				return
			}
		}
	}
}

// doubtful reports whether an unknown base image probably does not set the variable: the name has
// small letters, the file declares the name elsewhere, or the name differs from a known name by one
// typing error.
func (st *stageWalk) doubtful(name, match string) bool {
	return name != strings.ToUpper(name) || st.declared[name] || match != "" && near(name, match)
}

// arg declares build arguments.
func (st *stageWalk) arg(l *linter.Linter, in *instructions.Instruction, c instructions.Arg) {
	for _, v := range c.Vars {
		st.secrets(l, in, "ARG", v.Key)
		value := v.Default
		if given, ok := st.PlanOptions.BuildArgs[v.Key]; ok {
			value = &given
		} else if value != nil {
			var unset []string
			word, _ := st.expander(in, &unset).Word(*value) // the build reports the error
			st.undefined(l, in, unset)
			value = &word
		} else if global, ok := st.globals(v.Key); ok {
			value = &global
		}
		st.setArg(v.Key, value)
	}
}

func (st *stageWalk) setEnvs(l *linter.Linter, in *instructions.Instruction, c instructions.Env) {
	if c.Legacy {
		l.Run(&linter.RuleLegacyKeyValueFormat, at(in.Range), linter.RuleLegacyKeyValueFormat.Format(in.Word))
	}
	for _, v := range c.Vars {
		st.secrets(l, in, "ENV", v.Key)
		st.setEnv(v.Key, v.Value)
	}
}

// secrets checks the name of a variable.
func (st *stageWalk) secrets(l *linter.Linter, in *instructions.Instruction, what, name string) {
	if st.secret.MatchString(name) && !st.public.MatchString(name) {
		l.Run(&linter.RuleSecretsUsedInArgOrEnv, at(in.Range), linter.RuleSecretsUsedInArgOrEnv.Format(what, name))
	}
}

// command checks CMD, ENTRYPOINT and HEALTHCHECK, of which only the last counts. The finding is
// about the earlier instruction.
func (st *stageWalk) command(l *linter.Linter, in *instructions.Instruction, shell bool) {
	if last := st.once[in.Name]; last != nil {
		l.Run(&linter.RuleMultipleInstructionsDisallowed, at(last.Range),
			linter.RuleMultipleInstructionsDisallowed.Format(in.Word))
	}
	st.once[in.Name] = in
	if shell && !st.shell {
		l.Run(&linter.RuleJSONArgsRecommended, at(in.Range), linter.RuleJSONArgsRecommended.Format(in.Word))
	}
}

// expose checks the operands of EXPOSE, [[IP:]HOST:]PORT[/PROTOCOL].
func expose(l *linter.Linter, in *instructions.Instruction, ports []string) {
	for _, port := range ports {
		i := strings.LastIndexByte(port, ':')
		_, proto, _ := strings.Cut(port[i+1:], "/")
		if proto != strings.ToLower(proto) {
			l.Run(&linter.RuleExposeProtoCasing, at(in.Range), linter.RuleExposeProtoCasing.Format(port))
		}
		if i > 0 {
			l.Run(&linter.RuleExposeInvalidFormat, at(in.Range), linter.RuleExposeInvalidFormat.Format(port))
		}
	}
}

// copy checks the sources of COPY and ADD in the build context.
func (st *stageWalk) copy(l *linter.Linter, in *instructions.Instruction, c instructions.Copy) {
	if c.From != "" {
		return
	}

	if slices.ContainsFunc(c.Sources, isWhole) && len(c.Exclude) == 0 {
		st.whole = in
	}
	if st.ignore == nil {
		return
	}

	verb := "Copy"
	if c.Add {
		verb = "Add"
	}
	for _, src := range c.Sources {
		st.budget.ignored -= len(st.ignore.Patterns()) * (1 + len(src)/100)
		if st.budget.ignored < 0 || c.Add && (instructions.IsURL(src) || instructions.IsGit(src)) {
			continue
		}
		src = path.Clean(src)
		if (src == "." || src == "/") && !slices.ContainsFunc(st.ignore.Patterns(), ignoresAll) {
			continue
		}
		if ok, _ := st.ignore.MatchesOrParentMatches(src); ok { // false after an error
			l.Run(&linter.RuleCopyIgnoredFile, at(in.Range), linter.RuleCopyIgnoredFile.Format(verb, src))
		}
	}
}

func ignoresAll(p *patternmatcher.Pattern) bool {
	return slices.Contains([]string{"*", "**", "**/*"}, p.String())
}
