package plan

import (
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Step is one instruction with everything expanded.
type Step struct {
	File          string // name of the text that it stands in; of a trigger: the FROM's
	Line, EndLine int    // in that text
	Text          string // for progress: the instruction as written, on one line
	CreatedBy     string // text of the history entry; empty: no entry (ONBUILD)

	// Canon is an unambiguous encoding of all that this step's result depends
	// on besides the files below it: the operands after expansion and, of RUN,
	// its environment, user and directory. Contents of the context, of stages
	// and of images are not in it, nor are proxies.
	Canon string

	Args  []string // of RUN: K=V of the build arguments that the process sees, in order of declaration; no ENV hides them
	Proxy []string // K=V of predefined proxy arguments, for RUN only; part of Run.Env, never of a key
	Op    Op       // nil: the step edits the config only

	Warning string // what the user should know before the step runs, cached or not; empty: nothing
}

// stepAt makes the step that stands at a place.
func stepAt(at instructions.Place, text string) *Step {
	return &Step{File: at.File, Line: at.Line, EndLine: at.EndLine, Text: text}
}

// Place is where the step stands.
func (s *Step) Place() instructions.Place {
	return instructions.Place{File: s.File, Line: s.Line, EndLine: s.EndLine}
}

// Heading is the FROM as a step, for messages.
func (s *Stage) Heading() *Step { return stepAt(s.place(), s.Text) }

func (s *Stage) place() instructions.Place { return s.plan.file.Place(s.Range) }

// Op is what a step does to files: *Run, *Copy or *Workdir.
type Op interface{ op() }

// InlineFile is a file whose content stands in the Dockerfile.
type InlineFile struct {
	Name string // one path element
	Data []byte
}

// PipesDir is where Run.Files are expected.
const PipesDir = "/dev/pipes"

// Run runs a process.
type Run struct {
	Argv    []string
	Env     []string // the image's, build arguments, PATH, then proxies; each name once
	User    string   // of USER; empty: root
	Dir     string   // of WORKDIR; empty: /
	Network string   // "default", "none" or "host"

	Hostname string // of build argument BUILDKIT_SANDBOX_HOSTNAME; empty: the builder's choice

	// Insecure: the process is not confined by a system call filter, a set of
	// capabilities or masked paths (--security=insecure).
	Insecure bool

	// Mounts are those of --mount, in the order in which they are to be made: a mount point comes after what it may lie in.
	// No two have the same target, but secrets may have none.
	Mounts []Mount

	// Files are here-documents that begin with #!: to be found, read-only
	// and with mode 755, as PipesDir/NAME.
	Files []InlineFile
}

// Mount is a --mount of RUN. Its Target is absolute and clean, or empty for a secret that is a variable only.
type Mount struct {
	instructions.Mount
	Files  *Source // what From names; nil: the build context for a bind mount, nothing for a cache
	Number int     // among the instruction's mounts as written, from 0
}

// Copy is COPY or ADD.
type Copy struct {
	Add      bool
	From     *Source  // nil: the build context
	Sources  []string // patterns; with Add, also URLs and git repositories (instructions.IsURL, IsGit)
	Inline   []InlineFile
	Dest     string // absolute and clean; a trailing slash says that it is a directory
	Chown    string // USER[:GROUP], names or numbers; empty: 0:0, or an archive's own owners
	Chmod    string // octal up to 7777, or symbolic; empty: as it is
	Checksum string // of the one URL or git repository
	Exclude  []string
	Parents  bool
	Link     bool
	Unpack   *bool // nil: Add unpacks local archives, and no URLs

	KeepGitDir *bool // nil: as the URL says
}

// Workdir makes a directory that is missing, with its parents, mode 755.
type Workdir struct {
	Path string // absolute, as WorkingDir has it; may hold ".."
	User string // owner of what is made, as in Run
}

func (*Run) op()     {}
func (*Copy) op()    {}
func (*Workdir) op() {}
