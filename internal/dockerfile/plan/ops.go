package plan

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// run plans RUN.
func (sc *Scope) run(in located, c instructions.Run, step *Step) error {
	op := &Run{
		User: sc.image.Config.User, Dir: sc.image.Config.WorkingDir, Network: c.Network, Insecure: c.Insecure,
		Hostname: sc.stage.plan.options.BuildArgs[argHostname],
	}

	if op.Network == "" {
		op.Network = "default"
	}
	argv, summary := sc.runArgv(c, op)
	op.Argv = argv
	step.Text += summary
	op.Env = slices.Clone(sc.image.Config.Env)
	for _, kv := range sc.args.list() {
		name, _, _ := strings.Cut(kv, "=")
		if _, set := sc.image.Getenv(name); !set && !slices.Contains(scanArgs, name) {
			step.Args = append(step.Args, kv)
		}
	}

	op.Env = append(op.Env, step.Args...)
	var err error
	if op.Mounts, err = sc.mounts(in, sc.stage.plan.mounts(c)); err != nil {
		return err
	}

	step.Canon = canon("RUN", join(op.Argv), join(op.Env), op.User, op.Dir, op.Network, op.Hostname, inline(op.Files),
		canonMounts(op.Mounts))
	if op.Insecure {
		step.Canon += canon("insecure")
	}
	for _, kv := range sc.proxies() {
		name, _, _ := strings.Cut(kv, "=")
		if _, set := sc.lookup(name); !set {
			op.Env = append(op.Env, kv)
			step.Proxy = append(step.Proxy, kv)
		}
	}

	step.Op = op
	step.CreatedBy = "RUN " + strings.Join(append(sc.historyArgs(), argv...), " ")

	return nil
}

// runArgv returns the command line. A here-document without a command is a script for the shell or,
// if it begins with #!, a file to execute. Other here-documents are passed to the shell after the
// command.
func (sc *Scope) runArgv(c instructions.Run, op *Run) (argv []string, summary string) {
	if len(c.Docs) == 0 {
		return c.Argv(sc.image.Image), ""
	}

	line := strings.Join(c.Args, " ")
	doc := c.Docs[0]
	if !instructions.IsHeredoc(line) {
		for _, d := range c.Docs {
			line += "\n" + d.Data + d.Name
		}
		return instructions.ShellArgv(sc.image.Image, line), ""
	}

	script := doc.Script()
	if strings.HasPrefix(script, "#!") {
		op.Files = []InlineFile{{Name: doc.Name, Data: []byte(script)}}
		return instructions.ShellArgv(sc.image.Image, path.Join(PipesDir, doc.Name)), summarize(doc.Data)
	}
	return instructions.ShellArgv(sc.image.Image, script), summarize(doc.Data)
}

// summarize returns the first line of a script, for progress: " (set -e...)".
func summarize(script string) string {
	first, _, more := strings.Cut(strings.TrimSpace(script), "\n")
	first = strings.TrimSuffix(first, "\r")
	if more {
		first += "..."
	}
	return " (" + first + ")"
}

// historyArgs returns the build arguments in the form of BuildKit's history, "|2 A=1 B=2": every
// declared argument with the value that the step sees.
func (sc *Scope) historyArgs() []string {
	if len(sc.args.names) == 0 {
		return nil
	}
	out := []string{fmt.Sprintf("|%d", len(sc.args.names))}
	for _, name := range sc.args.names {
		v, _ := sc.lookup(name)
		out = append(out, name+"="+v)
	}
	return out
}

// proxies returns the given proxy arguments, each in upper and lower case.
func (sc *Scope) proxies() []string {
	var out []string
	given := sc.stage.plan.options.BuildArgs
	for _, lower := range proxyNames {
		upper := strings.ToUpper(lower)
		l, haveLower := given[lower]
		u, haveUpper := given[upper]
		if !haveLower && !haveUpper {
			continue
		}

		if !haveLower {
			l = u
		}
		if !haveUpper {
			u = l
		}
		out = append(out, upper+"="+u, lower+"="+l)
	}

	return out
}

// workdir plans WORKDIR. The root directory always exists, so WORKDIR / needs no Op.
func (sc *Scope) workdir(c instructions.Workdir, step *Step) error {
	if err := sc.edit(c, step); err != nil {
		return err
	}
	dir := sc.image.Config.WorkingDir
	if path.Clean(dir) != "/" {
		op := &Workdir{Path: dir, User: sc.image.Config.User}
		step.Op = op
		step.Canon = canon("WORKDIR", dir, op.User)
	}
	return nil
}

// copy plans COPY and ADD.
func (sc *Scope) copy(in located, c instructions.Copy, step *Step) error {
	op := &Copy{
		Add: c.Add, Sources: c.Sources, Dest: destination(sc.image.Config.WorkingDir, c.Dest),
		Chown: c.Chown, Chmod: c.Chmod, Checksum: c.Checksum,
		Exclude: c.Exclude, Parents: c.Parents, Link: c.Link, Unpack: c.Unpack, KeepGitDir: c.KeepGitDir,
	}

	for _, doc := range c.Inline {
		op.Inline = append(op.Inline, InlineFile{Name: doc.Name, Data: []byte(doc.Data)})
	}
	if c.From != "" {
		src, err := sc.stage.source(in.file, in.Range, "--from", c.From)
		if err != nil {
			return err
		}
		op.From = &src
	}

	if err := checkCopy(op, c.Dest); err != nil {
		return err
	}
	if err := sc.stage.plan.checkRemote(op.Add, op.Sources); err != nil {
		return err
	}

	op.Sources = slices.Clone(op.Sources)
	for i, src := range op.Sources {
		if src == "" { // all files, as in BuildKit; package lint reports this
			op.Sources[i] = "."
		}
	}

	step.Op = op
	step.Text, step.CreatedBy = instructions.Redact(step.Text), instructions.Redact(copyText(c))
	step.Canon = canon(
		in.Name,
		strconv.FormatBool(op.From != nil),
		join(redact(op.Sources)),
		inline(op.Inline),
		op.Dest,
		op.Chown,
		op.Chmod,
		op.Checksum,
		join(op.Exclude),
		strconv.FormatBool(op.Parents),
		strconv.FormatBool(op.Link),
		optional(op.Unpack),
		optional(op.KeepGitDir),
	)

	return nil
}

// redact removes the credentials from URLs, because the result does not depend on the credentials.
func redact(sources []string) []string {
	out := make([]string, len(sources))
	for i, src := range sources {
		out[i] = instructions.Redact(src)
	}
	return out
}

// destination makes dest absolute and clean. A slash at the end stays. A dest that can only be a
// directory ("", "." or "..") gets a slash.
func destination(dir, dest string) string {
	last := dest[strings.LastIndexByte(dest, '/')+1:]
	if !path.IsAbs(dest) {
		dest = path.Join("/", dir, dest)
	}
	dest = path.Clean(dest)
	if (last == "" || last == "." || last == "..") && dest != "/" {
		dest += "/"
	}
	return dest
}

// copyText returns the text for the history.
func copyText(c instructions.Copy) string {
	words := []string{"COPY"}
	if c.Add {
		words[0] = "ADD"
	}
	if c.Parents {
		words = append(words, "--parents")
	}
	if c.Chown != "" {
		words = append(words, "--chown="+c.Chown)
	}
	if c.Chmod != "" {
		words = append(words, "--chmod="+c.Chmod)
	}
	words = append(words, c.Sources...)
	for _, doc := range c.Inline {
		words = append(words, "<<"+doc.Name)
	}
	return strings.Join(append(words, c.Dest), " ")
}
