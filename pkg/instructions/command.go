package instructions

import (
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// Image is the config document of an image, with the fields that docker adds to the OCI image
// config. An Image is not changed after it was made; NewDraft makes a copy for edits.
type Image = dockerspec.DockerOCIImage

// Instruction is one instruction of a stage.
type Instruction struct {
	Range
	Name     string   // upper case: "RUN"
	Word     string   // the name as written: "run"
	Text     string   // as written, with continuation lines joined: "RUN a && b"
	Comments []string // before the instruction, each without its #
	Command  Command
}

// Command is the parsed form of an instruction: Arg, Env, Label, User, Workdir, Expose, Volume,
// StopSignal, Shell, Maintainer, Onbuild, Cmd, Entrypoint, Healthcheck, Run or Copy.
type Command interface{ command() }

// Pair is NAME=VALUE of ENV and LABEL.
type Pair struct{ Key, Value string }

// ArgPair is one variable of ARG. Default is nil for ARG NAME, and points to "" for ARG NAME=.
type ArgPair struct {
	Key     string
	Default *string
}

// InlineFile is a here-document of COPY or ADD. COPY and ADD make a file of it.
type InlineFile struct {
	Name   string // the delimiter, one path element
	Data   string
	Expand bool // the delimiter is not quoted, so variables in Data are replaced: <<EOF, but not <<"EOF"
}

// CmdLine is the operand of RUN, CMD and ENTRYPOINT.
type CmdLine struct {
	Args  []string // of the exec form: the arguments; of the shell form: one element, the whole line
	Shell bool     // the shell form: SHELL is put before the line, see CmdLine.Argv
}

// Arg is ARG. The strings in Arg and in the types below are as written. Expander.Command returns a
// copy with the variables replaced.
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

// Onbuild is ONBUILD. Trigger is the text of the instruction after ONBUILD: "COPY . /src".
type Onbuild struct{ Trigger string }

// Cmd is CMD.
type Cmd struct{ CmdLine }

// Entrypoint is ENTRYPOINT.
type Entrypoint struct {
	CmdLine
	KeepCmd bool // a CMD of the same stage precedes the ENTRYPOINT; set by the caller before Edit
}

// Healthcheck is HEALTHCHECK.
type Healthcheck struct{ Check dockerspec.HealthcheckConfig }

// Run is RUN in shell, exec or here-document form.
type Run struct {
	CmdLine
	Docs     []Heredoc // here-documents, in order
	Network  string    // "default", "none" or "host"
	Insecure bool      // --security=insecure
	Mounts   []MountFlag
}

// Copy is COPY, or ADD if Add is set.
type Copy struct {
	Add      bool
	From     string // of --from: a stage name, a stage index or an image; empty: the build context
	Sources  []string
	Inline   []InlineFile // sources that are here-documents
	Dest     string
	Chown    string
	Chmod    string
	Checksum string
	Exclude  []string
	Parents  bool
	Link     bool
	Unpack   *bool // of ADD --unpack; nil: not given

	KeepGitDir *bool // of ADD --keep-git-dir; nil: not given
}

// Heredoc is a here-document of RUN.
type Heredoc struct {
	Name  string
	Data  string // as written, without the line of the delimiter
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

// Script returns the content of the here-document, without leading tabs if Strip is set.
func (h Heredoc) Script() string {
	if h.Strip {
		return parser.ChompHeredocContent(h.Data)
	}
	return h.Data
}

// IsHeredoc reports whether a command line consists of the start of one here-document, for example
// "<<EOF".
func IsHeredoc(line string) bool {
	doc, _ := parser.ParseHeredoc(line) // nil after an error
	return doc != nil
}
