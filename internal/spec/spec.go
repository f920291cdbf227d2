// Package spec describes one build as data: the files to read, the stages to build, the limits of RUN, the destinations
// of the image.
//
// Package cli makes a Build from flags, package rbuild (the library) from its options, and package engine carries a
// Build out. A Build holds no open file and no secret: a file is named by its path, a secret by the file or variable
// that has its value. The zero value of each struct is the default, unless a field says otherwise.
//
// An error about a value must name the value as its user knows it, for example --volume "/a:/b". Package engine does not
// know flags, so values that can fail when they are opened carry this text in a field From.
package spec

import (
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/internal/transfer"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Build is one build.
type Build struct {
	Input     Input
	Plan      Plan
	Arguments Arguments
	Allow     Allow
	Pull      Pull
	Run       Run
	Network   Network
	Limits    Limits
	Security  Security
	Time      Time
	Cache     Cache
	Image     Image
	Result    Result
	Output    Output
	Call      Call
}

// File is a file that the engine opens.
type File struct {
	Path string // empty: there is no file
	From string // for errors: the flag that names the file, for example --iidfile
}

// Input is the source of the build: the Dockerfile and the build context.
type Input struct {
	Context     string   // a directory, a Dockerfile, a git repository, a URL, or "-" for standard input
	Dockerfiles []string // paths, URLs or "-"; several are read as one; none: Containerfile or Dockerfile of the context
	IgnoreFile  File     // replaces the ignore files of the Dockerfile and the context

	From   string // for errors about Dockerfiles, for example "--file"
	Remedy string // for errors about a file that a fetched context lacks: how the user gives a file of this machine
}

// FromStdin reports whether the Dockerfile or the context is read from standard input.
func (i Input) FromStdin() bool { return i.Context == "-" || slices.Contains(i.Dockerfiles, "-") }

// Plan says which stages are built, and for which platform.
type Plan struct {
	Target    string                   // name of the last stage to build, in any case; empty: the last stage of the file
	AllStages bool                     // build the stages before the target too, needed or not
	From      string                   // image in place of the image of the first FROM
	Env       []plan.EnvVar            // environment of RUN and of the image, over the Dockerfile's
	Mounts    []instructions.MountFlag // mounts of every RUN, for example type=cache,target=/root/.cache
	Contexts  map[string]string        // named contexts: name, as plan.ContextName returns it, to location

	Host          ocispec.Platform // the platform of this machine
	Platform      ocispec.Platform // the platform to build for; never empty
	PlatformGiven bool             // the user chose Platform; the image is marked with it
}

// Arguments are the build arguments.
type Arguments struct {
	List    []string // NAME=VALUE, or NAME for the value of the environment; checked by package cli
	Files   []File   // files of such lines; List wins
	Proxies bool     // pass HTTP_PROXY and its relatives of the environment to RUN
	Epoch   string   // default of SOURCE_DATE_EPOCH, in seconds since 1970; empty: none
}

// Allow lists permissions that a Dockerfile does not have by default.
type Allow struct {
	Insecure    bool     // RUN --security=insecure
	HostNetwork bool     // RUN --network=host, whatever Network.Mode is
	NoRemote    bool     // no permission: refuse ADD of URLs and git repositories
	Read        []string // paths from which FROM oci:PATH and its relatives may read; "*": every path
	ReadFrom    string   // for errors: the text before a path that grants the permission, for example "--allow fs.read="
}

// Pull says when base images are pulled, and how registries are reached.
type Pull struct {
	Policy transfer.Policy // empty: missing
	Access Access
	Quiet  bool // report no progress of pulls and pushes
}

// Access says how a registry is reached. The values replace those of the environment and of configuration files.
type Access struct {
	AuthFile   File   // credentials
	CertDir    string // directory with *.crt, *.cert and *.key
	Creds      string // USER:PASSWORD
	TLSVerify  *bool  // nil: true, except for registries that registries.conf marks insecure
	Retries    int    // attempts after the first; 0: 3; negative: none
	RetryDelay time.Duration
}

// Run says which files, secrets and agents RUN can use.
type Run struct {
	Stdin         bool // RUN reads the standard input of the process
	StdinFrom     string
	CompatVolumes bool // discard files that RUN writes below a VOLUME
	Volumes       []Volume
	Secrets       []Secret
	Agents        []Agent
	Warnings      []string // about volumes, for the log
}

// Volume binds a path of the host into RUN.
type Volume struct {
	Path, Dest string // Dest is absolute, in the image
	ReadOnly   bool
	Overlay    bool     // Path is a directory; files that RUN writes there are discarded
	Options    []string // nosuid, nodev, noexec
	Text, From string   // Text is the volume as the user wrote it, for example "/srv:/data:ro"
}

// Secret is a value for RUN --mount=type=secret. The engine reads the value where the build runs.
type Secret struct {
	ID       string
	File     string // path
	Variable string // of the environment
	// Guess means that neither File nor Variable is given: ID is the name of a variable if there is one, else a path.
	Guess bool
	From  string
}

// Agent is an SSH agent for RUN --mount=type=ssh, or keys for an agent that the build runs itself.
type Agent struct {
	ID    string
	Paths []string // one socket, or files of keys
	From  string
}

// Network is the network of RUN and the files below /etc that name hosts.
type Network struct {
	Mode runner.NetworkMode // empty: the host's network
	From string             // for errors about Mode, for example "--network private"

	runner.Etc
}

// Time bounds how long things may take; 0: no bound.
type Time struct {
	Build     time.Duration // the build as a whole
	BuildFrom string        // for errors about Build
	Step      time.Duration // one step, or one pull
	Silence   time.Duration // the time in which a RUN prints nothing
}

// Cache says which layers of earlier builds are used, and how many layers are made.
type Cache struct {
	Off          bool          // run every step; its result replaces the cached result
	Uncached     []string      // names of stages of which every step is run
	UncachedFrom string        // for warnings about Uncached
	TTL          time.Duration // run steps again that were last run longer ago; 0: no layer is too old
	OneLayer     bool          // one layer for all steps of a stage, and no cache
	Squash       bool          // one layer for the image, the base included
	Jobs         int           // steps that run at the same time; 0: as many as there are processors
}

// Output says what the user sees while the build runs.
type Output struct {
	Progress  string // auto, plain, tty, quiet, none or rawjson; empty: auto
	Quiet     bool
	LogFile   File // replaces standard error
	Usage     bool // report the time and the resources of each step
	UsageFile File // for the lines of Usage
}

// The values of Call.Method.
const (
	CallBuild   = "build"
	CallCheck   = "check"
	CallOutline = "outline"
	CallTargets = "targets"
)

// Call asks for a description of the Dockerfile in place of a build.
type Call struct {
	Method       string // empty: build
	JSON         bool
	IgnoreStatus bool // findings of a check are no failure
}

// Describes reports whether the Dockerfile is described and nothing is built.
func (c Call) Describes() bool { return c.Method != "" && c.Method != CallBuild }

// LayoutScheme begins the location of a named context that is an image of an OCI layout: oci-layout://DIR[:TAG|@DIGEST].
const LayoutScheme = "oci-layout://"

// ImageSchemes returns the beginnings of the location of a named context that is an image: docker's and buildah's.
func ImageSchemes() []string {
	return []string{"docker-image://", "container-image://", "docker://"}
}
