package instructions

import (
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// Image is an image's config document as docker writes it. Values of it are
// treated as immutable: whoever edits one makes a Draft of it.
type Image = dockerspec.DockerOCIImage

// Instruction is one instruction of a stage.
type Instruction struct {
	Range
	Name     string   // upper case: "RUN"
	Word     string   // the name as written: "run"
	Text     string   // as written, continuations joined into one line
	Comments []string // before the instruction, each without its #
	Command  Command
}

// Command is what an instruction says: one of the types of this file.
type Command interface{ command() }

// Pair is NAME=VALUE.
type Pair struct{ Key, Value string }

// ArgPair is one variable of ARG; a nil Default means that it has none.
type ArgPair struct {
	Key     string
	Default *string
}

// InlineFile is a here-document that becomes a file.
type InlineFile struct {
	Name   string // the delimiter, one path element
	Data   string
	Expand bool // variables in Data are to be replaced (delimiter not quoted)
}

// CmdLine is the operand of RUN, CMD and ENTRYPOINT.
type CmdLine struct {
	Args  []string // shell form: one element
	Shell bool     // shell form: the SHELL goes before it
}

// Arg is ARG. Fields here and below hold words as written until
// Expander.Command has replaced the variables in them.
type Arg struct{ Vars []ArgPair }

// Env is ENV.
type Env struct {
	Vars   []Pair
	Legacy bool // "NAME VALUE", without =
}

// Label is LABEL.
type Label struct {
	Labels []Pair
	Legacy bool // "NAME VALUE", without =
}

// User is USER.
type User struct{ User string }

// Workdir is WORKDIR.
type Workdir struct{ Path string }

// Expose is EXPOSE.
type Expose struct{ Ports []string }

// Volume is VOLUME.
type Volume struct{ Paths []string }

// StopSignal is STOPSIGNAL.
type StopSignal struct{ Signal string }

// Shell is SHELL.
type Shell struct{ Args []string }

// Maintainer is MAINTAINER.
type Maintainer struct{ Author string }

// Onbuild is ONBUILD; the trigger is the text of an instruction.
type Onbuild struct{ Trigger string }

// Cmd is CMD.
type Cmd struct{ CmdLine }

// Entrypoint is ENTRYPOINT.
type Entrypoint struct {
	CmdLine
	KeepCmd bool // CMD was set in this stage, so it is not the base's
}

// Healthcheck is HEALTHCHECK.
type Healthcheck struct{ Check dockerspec.HealthcheckConfig }

// Run is RUN in shell, exec or here-document form.
type Run struct {
	CmdLine
	Docs     []Heredoc // here-documents in their order
	Network  string    // "default", "none" or "host"
	Insecure bool      // --security=insecure
	Mounts   []MountFlag
}

// Copy is COPY, or ADD if Add is set.
type Copy struct {
	Add      bool
	From     string // --from as written: stage, index or image; empty: the context
	Sources  []string
	Inline   []InlineFile // sources that are here-documents
	Dest     string
	Chown    string
	Chmod    string
	Checksum string
	Exclude  []string
	Parents  bool
	Link     bool
	Unpack   *bool // nil: not given

	KeepGitDir *bool // of ADD; nil: not given
}

// Heredoc is a here-document of RUN.
type Heredoc struct {
	Name  string
	Data  string // as written, up to and without the delimiter's line
	Strip bool   // <<-: leading tabs are stripped
}

func (Arg) command()         {}
func (Env) command()         {}
func (Label) command()       {}
func (User) command()        {}
func (Workdir) command()     {}
func (Expose) command()      {}
func (Volume) command()      {}
func (StopSignal) command()  {}
func (Shell) command()       {}
func (Maintainer) command()  {}
func (Onbuild) command()     {}
func (Cmd) command()         {}
func (Entrypoint) command()  {}
func (Healthcheck) command() {}
func (Run) command()         {}
func (Copy) command()        {}

// Script is the here-document's content, without leading tabs if <<- was written.
func (h Heredoc) Script() string {
	if h.Strip {
		return parser.ChompHeredocContent(h.Data)
	}
	return h.Data
}

// IsHeredoc tells whether a command line is nothing but the <<NAME of a
// here-document.
func IsHeredoc(line string) bool {
	doc, err := parser.ParseHeredoc(line)
	return err == nil && doc != nil
}
