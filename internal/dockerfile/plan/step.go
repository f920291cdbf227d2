package plan

import (
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Step is one instruction of a stage, with all variables expanded.
type Step struct {
	File          string // name of the text with the instruction; for a trigger: of the text with the FROM
	Line, EndLine int    // lines in that text, from 1
	Text          string // for progress: the instruction as written, on one line
	CreatedBy     string // text of the history entry; empty: no entry (ONBUILD)

	// Canon is an unambiguous encoding of everything that the result depends on, except files: the
	// operands after expansion, and for RUN also the environment, user and directory. Canon does
	// not contain the contents of the build context, of stages and of images, nor proxies.
	Canon string

	// Args are the build arguments that the process of a RUN sees, each NAME=VALUE, in order of
	// declaration, without arguments that ENV hides.
	Args  []string
	Proxy []string // of RUN: NAME=VALUE of predefined proxy arguments; part of Run.Env, never of a key
	Op    Op       // nil: the step changes the config only

	Warning string // for the user, before the step runs, also if the step is cached; may be empty
}

// stepAt makes a step for the instruction at a place.
func stepAt(at instructions.Place, text string) *Step {
	return &Step{File: at.File, Line: at.Line, EndLine: at.EndLine, Text: text}
}

// Place returns the file and the lines of the step.
func (s *Step) Place() instructions.Place {
	return instructions.Place{File: s.File, Line: s.Line, EndLine: s.EndLine}
}

// Heading returns the FROM as a step, for messages.
func (s *Stage) Heading() *Step { return stepAt(s.place(), s.Text) }

func (s *Stage) place() instructions.Place { return s.plan.file.Place(s.Range) }

// Op is the effect of a step on files: *Run, *Copy or *Workdir.
type Op interface{ op() }

// InlineFile is a file with a content from the Dockerfile (a here-document).
type InlineFile struct {
	Name string // one path element
	Data []byte
}

// PipesDir is the directory of Run.Files in the step.
const PipesDir = "/dev/pipes"

// Run runs a process.
type Run struct {
	Argv    []string
	Env     []string // of the image, build arguments, PATH, then proxies; each name once
	User    string   // of USER; empty: root
	Dir     string   // of WORKDIR; empty: /
	Network string   // "default", "none" or "host"

	Hostname string // of build argument BUILDKIT_SANDBOX_HOSTNAME; empty: the builder chooses

	// Insecure removes the system call filter, the limit of capabilities and the masked paths
	// (--security=insecure).
	Insecure bool

	// Mounts of --mount, in the order in which they must be made: a mount comes after the mounts
	// that may contain its target. Targets are different; a secret may have an empty target.
	Mounts []Mount

	// Files are here-documents that begin with #!. The process finds them as PipesDir/NAME,
	// read-only and with mode 755.
	Files []InlineFile
}

// Mount is a --mount of RUN. Target is absolute and clean, or empty for a secret that is only a
// variable.
type Mount struct {
	instructions.Mount
	Files  *Source // source that From names; nil: the build context for a bind mount, no files for a cache
	Number int     // index among the mounts of the instruction as written, from 0
}

// Copy is COPY or ADD.
type Copy struct {
	Add      bool
	From     *Source  // nil: the build context
	Sources  []string // patterns; with Add, also URLs and git repositories (instructions.IsURL, IsGit)
	Inline   []InlineFile
	Dest     string // absolute and clean; with a slash at the end it must be a directory
	Chown    string // USER[:GROUP], names or numbers; empty: 0:0, or the owners in an archive
	Chmod    string // octal up to 7777, or symbolic such as u=rwX; empty: unchanged
	Checksum string // of the one URL or git repository
	Exclude  []string
	Parents  bool
	Link     bool
	Unpack   *bool // nil: Add unpacks local archives and does not unpack URLs

	KeepGitDir *bool // nil: the URL decides
}

// Workdir creates a missing directory and its missing parents, with mode 755.
type Workdir struct {
	Path string // absolute, as in WorkingDir of the config; may contain ".."
	User string // owner of the created directories, as in Run
}

func (*Run) op()     {}
func (*Copy) op()    {}
func (*Workdir) op() {}
