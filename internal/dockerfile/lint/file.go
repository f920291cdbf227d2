package lint

import (
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"go.podman.io/image/v5/docker/reference"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/imagename"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// wholeFile applies the rules that need no plan.
func (r *run) wholeFile() {
	for _, place := range r.file.EmptyContinuations {
		r.linter.Run(&linter.RuleNoEmptyContinuation, at(place), linter.RuleNoEmptyContinuation.Format())
	}
	for _, in := range r.file.Args {
		r.words(in)
	}
	for i := range r.file.Stages {
		st := &r.file.Stages[i]
		r.fromWords(st)
		for _, in := range st.Instructions {
			r.words(in)
		}
	}

	r.stageNames()
	r.casing()
	r.defaultArgs()
	r.fromArgs()
}

// words applies the rules about a single instruction.
func (r *run) words(in instructions.Instruction) {
	switch c := in.Command.(type) {
	case instructions.Maintainer:
		l := r.linter.WithMergedConfigFromComments(in.Comments)
		l.Run(&linter.RuleMaintainerDeprecated, at(in.Range), linter.RuleMaintainerDeprecated.Format())
	case instructions.Arg:
		var names []string
		for _, v := range c.Vars {
			names = append(names, v.Key)
		}
		r.description("ARG", names, in.Comments, in.Range)
	}
}

func (r *run) fromWords(st *instructions.Stage) {
	l := r.linter.WithMergedConfigFromComments(st.Comments)
	if len(st.Words) > 3 {
		from, as := st.Words[0], st.Words[2]
		name := st.Words[3]
		if name != strings.ToLower(name) {
			l.Run(&linter.RuleStageNameCasing, at(st.Range), linter.RuleStageNameCasing.Format(name))
		}
		if from == strings.ToLower(from) && as != strings.ToLower(as) ||
			from == strings.ToUpper(from) && as != strings.ToUpper(as) {
			l.Run(&linter.RuleFromAsCasing, at(st.Range), linter.RuleFromAsCasing.Format(from, as))
		}
	}

	if st.Name != "" {
		r.description("FROM", []string{st.Name}, st.Comments, st.Range)
	}
}

// description checks the comment directly above a FROM or an ARG.
func (r *run) description(instruction string, names, comments []string, place instructions.Range) {
	above := r.file.RightAbove(place, comments)
	if len(above) == 0 {
		return
	}

	word, _, _ := strings.Cut(above[len(above)-1], " ")
	if slices.Contains(names, word) {
		return
	}

	example := names[0]
	if len(names) > 1 {
		example = "<arg_key>"
	}
	l := r.linter.WithMergedConfigFromComments(comments)
	l.Run(&linter.RuleInvalidDefinitionDescription, at(place),
		linter.RuleInvalidDefinitionDescription.Format(instruction, example))
}

func (r *run) stageNames() {
	seen := map[string]bool{}
	for _, st := range r.file.Stages {
		switch st.Name {
		case "":
			continue
		case "scratch", "context":
			r.linter.Run(&linter.RuleReservedStageName, at(st.Range), linter.RuleReservedStageName.Format(st.Name))
		}
		if seen[st.Name] {
			r.linter.Run(&linter.RuleDuplicateStageName, at(st.Range), linter.RuleDuplicateStageName.Format(st.Name))
		}
		seen[st.Name] = true
	}
}

// casing reports instructions in another case than most instructions of the file.
func (r *run) casing() {
	type word struct {
		text  string
		place instructions.Range
	}

	var words []word
	for _, st := range r.file.Stages {
		words = append(words, word{st.Words[0], st.Range})
		for _, in := range st.Instructions {
			words = append(words, word{in.Word, in.Range})
		}
	}

	lower, upper := 0, 0
	for _, w := range words {
		switch w.text {
		case strings.ToLower(w.text):
			lower++
		case strings.ToUpper(w.text):
			upper++
		}
	}

	same, want := strings.ToUpper, "uppercase"
	if lower > upper {
		same, want = strings.ToLower, "lowercase"
	}
	for _, w := range words {
		if w.text != same(w.text) {
			r.linter.Run(&linter.RuleConsistentInstructionCasing, at(w.place),
				linter.RuleConsistentInstructionCasing.Format(w.text, want))
		}
	}
}

// used holds the variables of a word.
type used struct{ set, unset []string }

// expand returns an expanded word of FROM and the variables in the word.
func (r *run) expand(st *instructions.Stage, word string, lookup func(string) (string, bool)) (string, used, error) {
	var u used
	seen := map[string]bool{}
	out, err := instructions.Expander{
		Escape: r.file.EscapeAt(st.Range),
		Total:  &r.budget.growth,
		Lookup: func(name string) (string, bool) {
			v, ok := lookup(name)
			switch {
			case seen[name]:
			case ok:
				u.set = append(u.set, name)
			default:
				u.unset = append(u.unset, name)
			}
			seen[name] = true
			return v, ok
		},
	}.Word(word)

	return out, u, err
}

// defaultArgs checks the base name that FROM would have without build arguments. The rule does not
// apply to a name without variables or with a transport.
func (r *run) defaultArgs() {
	o := r.PlanOptions
	o.BuildArgs = nil
	_, lookup, err := plan.Globals(r.file, o)
	if err != nil {
		return
	}
	for _, st := range r.file.Stages {
		name, u, err := r.expand(&st, st.Base, lookup)
		if err != nil || len(u.set)+len(u.unset) == 0 || isPlace(name) {
			continue
		}
		if _, err := reference.ParseNormalizedNamed(name); err != nil {
			r.linter.Run(&linter.RuleInvalidDefaultArgInFrom, at(st.Range),
				linter.RuleInvalidDefaultArgInFrom.Format(st.Base))
		}
	}
}

// isPlace reports whether a name has a transport, supported or not.
func isPlace(name string) bool {
	n, err := imagename.Parse(name)
	return err != nil || n.Transport != ""
}

// fromArgs checks the variables of FROM.
func (r *run) fromArgs() {
	names, lookup, err := plan.Globals(r.file, r.PlanOptions)
	if err != nil {
		return
	}

	declared := map[string]bool{}
	for _, name := range names {
		declared[name] = true
	}
	for _, st := range r.file.Stages {
		l := r.linter.WithMergedConfigFromComments(st.Comments)
		undefined := func(u used) {
			for _, name := range u.unset {
				if !declared[name] {
					msg := linter.RuleUndefinedArgInFrom.Format(name, r.suggest(name, len(names), slices.Values(names)))
					l.Run(&linter.RuleUndefinedArgInFrom, at(st.Range), msg)
				}
			}
		}

		_, u, _ := r.expand(&st, st.Base, lookup) // the plan reports the error
		undefined(u)
		if st.Platform == "" {
			continue
		}

		platform, u, err := r.expand(&st, st.Platform, lookup)
		undefined(u)
		if err != nil {
			continue // the plan reports the error
		}
		r.platform(l, st, platform, u, lookup)
	}
}

// platform checks --platform of FROM.
func (r *run) platform(
	l *linter.Linter, st instructions.Stage, value string, u used, lookup func(string) (string, bool),
) {
	const target = "TARGETPLATFORM"
	if len(u.set) == 1 && len(u.unset) == 0 && u.set[0] == target {
		if v, _ := lookup(target); v == value {
			l.Run(&linter.RuleRedundantTargetPlatform, at(st.Range),
				linter.RuleRedundantTargetPlatform.Format(st.Platform))
		}
	}

	if len(u.set)+len(u.unset) > 0 {
		return
	}

	p, ok := plan.ParsePlatform(value, r.PlanOptions.Platform)
	if ok && !strings.Contains(st.Name, p.OS) && !strings.Contains(st.Name, p.Architecture) {
		l.Run(&linter.RuleFromPlatformFlagConstDisallowed, at(st.Range),
			linter.RuleFromPlatformFlagConstDisallowed.Format(value))
	}
}
