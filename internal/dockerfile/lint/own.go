package lint

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/buildkit/frontend/dockerfile/linter"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Rules that BuildKit does not have.
const (
	CopyAllBeforeInstall           = "CopyAllBeforeInstall"
	EmptyCopySource                = "EmptyCopySource"
	RecursiveChangeDuplicatesFiles = "RecursiveChangeDuplicatesFiles"
)

// ownRule makes one of these rules for BuildKit's linter.
func ownRule(name, description string) *linter.LinterRule[struct{}] {
	return &linter.LinterRule[struct{}]{
		Name: name, Description: description,
		URL: "https://codeberg.org/rbuild/rbuild/src/branch/main/docs/checks.md#" + strings.ToLower(name),
	}
}

// MinDuplicated is the number of duplicated bytes from which a step gives a finding.
const MinDuplicated = 1 << 20

// Duplicated returns the finding about a RUN whose layer stores files of lower layers again. bytes
// is the size of the files in the layer whose attributes changed and whose content did not. where
// is the RUN; for a trigger it is the FROM. ok is false if there is no finding.
func (l *Linter) Duplicated(where instructions.Place, bytes int64) (f Finding, ok bool) {
	if bytes < MinDuplicated {
		return f, false
	}

	r := newRun(l)
	place, rules := l.file.RangeOf(where), r.linter
	for _, st := range l.file.Stages {
		for _, in := range st.Instructions {
			if in.Line == place.Line {
				rules = r.linter.WithMergedConfigFromComments(in.Comments)
			}
		}
	}

	rules.Run(
		ownRule(RecursiveChangeDuplicatesFiles,
			"A recursive chown or chmod stores the files of lower layers once more"),
		at(place),
		fmt.Sprintf(
			"%s of this layer are files of lower layers with another owner or mode; "+
				"set them where the files are made, "+
				"with COPY --chown or --chmod or in the same RUN",
			units.HumanSizeWithPrecision(float64(bytes), 3),
		),
	)
	if len(r.findings) == 0 {
		return f, false
	}
	return r.findings[0], true
}

// Recursive reports whether a RUN contains a recursive chown, chmod or chgrp, such as chown -R app
// /srv.
func Recursive(op *plan.Run) bool {
	texts := op.Argv
	for _, f := range op.Files {
		texts = append(slices.Clip(texts), string(f.Data))
	}
	text := strings.ReplaceAll(strings.Join(texts, " "), "\\\n", " ")
	return regexp.MustCompile(`\b(?:chown|chmod|chgrp)\b[^;&|\n]*\s(?:-[A-Za-z]*R|--recursive\b)`).MatchString(text)
}

// emptySources reports empty sources of COPY and ADD. An empty source copies all files. c has the
// operands as written.
func (st *stageWalk) emptySources(l *linter.Linter, in *instructions.Instruction, c instructions.Copy) {
	if c.Parents { // the plan reports an error
		return
	}

	all := "the whole build context is copied"
	if c.From != "" {
		all = "all files of " + c.From + " are copied"
	}
	for _, src := range c.Sources {
		var empty []string
		unknown := false
		out, err := instructions.Expander{
			Escape: st.file.EscapeAt(in.Range),
			Total:  &st.budget.growth,
			Lookup: func(name string) (string, bool) {
				v, ok := st.lookup(name)
				if v == "" && !slices.Contains(empty, name) {
					empty = append(empty, name)
				}
				_, isArg := st.args[name]
				unknown = unknown || !ok && !isArg && st.unknown && !st.doubtful(name, "")
				return v, ok
			},
		}.Word(src)

		if err != nil || out != "" || unknown {
			continue
		}

		msg := fmt.Sprintf("Source %q is empty: %s. Write . if that is meant", src, all)
		if len(empty) > 0 {
			msg = fmt.Sprintf(
				"Source %q is empty, because of %s: %s. Give the variable a value, or write . if that is meant",
				src,
				strings.Join(empty, ", "),
				all,
			)
		}

		l.Run(ownRule(EmptyCopySource, "A source of COPY or ADD that is empty stands for all files"), at(in.Range), msg)
	}
}

// isWhole reports whether a source is the whole context.
func isWhole(src string) bool {
	src = path.Clean(src)
	return src == "." || src == "/" || src == "*"
}

// installer is a command that installs dependencies which files of the context list.
type installer struct {
	match     *regexp.Regexp // matches the words of the command
	tool      string
	manifests string // the files that list the dependencies
}

// installers returns the commands that CopyAllBeforeInstall knows. Each command downloads packages
// and needs only the named files of the context. A command with an argument that is not a flag
// installs that package, so the rule does not apply.
func installers() []installer {
	const flags = `(?: --?[a-z]\S*)*$`
	of := func(tool, manifests, pattern string) installer {
		return installer{match: regexp.MustCompile(`^` + pattern), tool: tool, manifests: manifests}
	}
	return []installer{
		of("npm", "package.json and package-lock.json", `npm(?: --?\S+)* (?:ci|clean-install|install|i)`+flags),
		of("yarn", "package.json and yarn.lock", `yarn(?: install)?`+flags),
		of("pnpm", "package.json and pnpm-lock.yaml", `pnpm (?:install|i|fetch)`+flags),
		of("pip", "the requirements file",
			`(?:python[0-9.]* -m )?pip[0-9.]* install (?:.* )?(?:-r|--requirement)[ =]?\S`),
		of("go", "go.mod and go.sum", `go mod download`),
		of("bundle", "Gemfile and Gemfile.lock", `bundle install\b`),
		of("composer", "composer.json and composer.lock", `composer install\b`),
		of("cargo", "Cargo.toml and Cargo.lock", `cargo (?:build|fetch)\b`),
		of("mvn", "pom.xml", `(?:\./)?mvnw?(?: --?\S+)* dependency:`),
	}
}

// installs reports a RUN that installs dependencies after the whole context was copied, because any
// change of the context then installs them again. There is no finding if the tool has run before,
// if the RUN has a cache mount (both leave little to download), or if it has a bind mount (which
// provides the files).
func (st *stageWalk) installs(in *instructions.Instruction, c instructions.Run) {
	mounted := slices.ContainsFunc(c.Mounts, func(m instructions.MountFlag) bool {
		mount, err := m.Mount()
		if err != nil {
			return false
		}
		return mount.Type == instructions.MountCache || mount.Type == instructions.MountBind
	})

	for _, words := range st.commands(c) {
		for _, known := range st.installers {
			if !known.match.MatchString(words) || slices.Contains(st.installed, known.tool) {
				continue
			}
			st.installed = append(st.installed, known.tool)
			if st.whole == nil || mounted {
				continue
			}
			l := st.linter.WithMergedConfigFromComments(st.whole.Comments).WithMergedConfigFromComments(in.Comments)
			l.Run(
				ownRule(CopyAllBeforeInstall,
					"What is needed to install dependencies should be copied before the rest of the context"),
				at(st.whole.Range),
				fmt.Sprintf(
					"Any change of the context runs %q in line %d again; "+
						"copy %s first, install, and then copy the rest",
					short(words),
					in.Line,
					known.manifests,
				),
			)
		}
	}
}

// short cuts a command for a message.
func short(words string) string {
	const most = 60
	if len(words) > most {
		return strings.ToValidUTF8(words[:most], "") + "..."
	}
	return words
}

// commands splits a RUN into simple commands, as far as that is possible without a shell. Each
// result has the words of one command, joined by blanks.
func (st *stageWalk) commands(c instructions.Run) []string {
	lines := []string{strings.Join(c.Args, " ")}
	for _, doc := range c.Docs {
		lines = append(lines, doc.Data)
	}
	text := strings.Join(lines, "\n")
	if st.budget.scripts -= len(text); st.budget.scripts < 0 {
		return nil
	}
	if !c.Shell {
		return []string{text}
	}

	var out []string
	for _, part := range strings.FieldsFunc(strings.ReplaceAll(text, "\\\n", " "), endsCommand) {
		words := strings.Fields(part)
		for len(words) > 0 && isPrefix(words[0]) {
			words = words[1:]
		}
		if i := slices.IndexFunc(words, func(w string) bool { return strings.ContainsAny(w, "<>") }); i >= 0 {
			words = words[:i]
		}
		if len(words) > 0 {
			out = append(out, strings.Join(words, " "))
		}
	}

	return out
}

func endsCommand(r rune) bool { return strings.ContainsRune(";&|\n(){}", r) }

// isPrefix reports whether a word can precede a command: a keyword of the shell, an assignment such
// as A=1, or sudo.
func isPrefix(word string) bool {
	name, _, ok := strings.Cut(word, "=")
	return ok && !strings.HasPrefix(name, "-") ||
		slices.Contains([]string{"if", "then", "else", "elif", "do", "while", "!", "exec", "sudo", "time", "env"}, word)
}
