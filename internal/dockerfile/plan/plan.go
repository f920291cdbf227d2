package plan

import (
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Options select the stages to build and set the facts that a Dockerfile does not contain.
type Options struct {
	Target    string            // name of the stage to build, in any case; empty: the last stage
	BuildArgs map[string]string // of --build-arg: VERSION -> 1.2
	Env       []EnvVar          // of --env
	Platform  ocispec.Platform  // of every stage whose FROM has no --platform
	Host      ocispec.Platform  // of this machine; the zero value: the same as Platform
	AllStages bool              // also plan the stages before the target that the target does not need
	From      string            // replaces the base name of the first FROM, for example alpine:3.20; empty: no change
	Contexts  []string          // names of the named contexts, in the form of ContextName
	Insecure  bool              // RUN --security=insecure is allowed
	NoRemote  bool              // ADD of URLs and git repositories is refused

	// Mounts are added to every RUN. A mount of the RUN with the same target hides them. Variables
	// are not expanded.
	Mounts []instructions.MountFlag

	// Refuse returns an error if a Dockerfile may not use the image. Nil allows every image.
	Refuse func(image string) error

	noRun error       // of WithoutRun: no process can run, and why
	epoch *knownEpoch // of WithEpoch; nil: the plan is not told
}

// EnvVar is a variable that every stage sets first, as an ENV instruction would.
type EnvVar struct {
	Key, Value string
	Literal    bool // a $ in Value is a dollar sign; otherwise Value may refer to variables, as in $PATH:/opt/bin
}

// Plan holds the stages that a target needs. A Plan does not change after New and may be used by
// several goroutines at the same time; callers do not change the fields. WithEpoch and WithoutRun
// return another Plan.
type Plan struct {
	Stages []*Stage // that the target needs, dependencies first, the target last
	Target *Stage

	// Epoch is the time of build argument SOURCE_DATE_EPOCH. It is nil if the argument is not
	// given, or if it is a name (EpochOf) and WithEpoch has not set the time.
	Epoch *time.Time

	// EpochOf describes where the time comes from if SOURCE_DATE_EPOCH names the build context or a
	// stage. Nil: the argument is a number, or not given.
	EpochOf *EpochSource

	// Unused lists, sorted, the build arguments that no ARG of the file declares and that are not
	// predefined. An ONBUILD trigger of a base image may still declare an unused argument.
	Unused []string

	// Warnings are lines for the user: about arguments that have an effect in BuildKit and none in
	// rbuild, and about stages that a named context replaces.
	Warnings []string

	// UnusedContexts lists, sorted, the named contexts that the file does not use. A trigger may
	// still use them.
	UnusedContexts []string

	file    *instructions.File
	options Options
	all     []*Stage            // every stage of the file, by index
	named   map[string][]*Stage // lower-case name -> stages with the name, by index
	globals *Args               // build arguments before the first FROM
	epoch   *string             // value of the argument SOURCE_DATE_EPOCH, for example "1700000000"
}

// Stage is one stage of the file. Like its Plan, a Stage does not change.
type Stage struct {
	instructions.Range
	Index int
	Name  string // lower case; may be empty
	From  Source
	// Needs are the sources of COPY --from and RUN --mount=from=, in order, without repetition.
	// Triggers of the base can add more sources.
	Needs []Source
	After []*Stage // of FROM --after: these stages run before this stage begins and before its base is resolved
	Text  string   // the FROM instruction as written

	// Platform is the platform that the stage is made for. It comes from the stage below, from FROM
	// --platform or from Options.Platform, in this order. The config of the base image may name
	// another platform.
	Platform ocispec.Platform

	// Replaced is set if a named context has the name of the stage. The context then replaces all
	// instructions.
	Replaced bool

	plan         *Plan
	instructions []instructions.Instruction
	refused      error // the first image or instruction of the stage that the options do not allow
}

// Source is the place where a stage begins, or from which a COPY or a mount reads. At most one of
// Stage, Image and Context is set; if all three are empty, the source is scratch.
type Source struct {
	Stage   *Stage
	Image   string // as written in the Dockerfile, for example alpine:3.20
	Context string // an element of Options.Contexts

	// Platform of the image, for example linux/arm64; empty: the platform of the host.
	Platform string
}

// scratch is the name of the base without files.
const scratch = "scratch"

// New plans the build of a target. It reports every error that does not depend on base images:
// unknown stages, references to later stages, names that are empty after expansion, and
// instructions that the options do not allow.
func New(f *instructions.File, o Options) (*Plan, error) {
	p := newPlanner(f, o)
	p.Unused = p.unusedArgs()
	p.Warnings = idleArgs(o.BuildArgs)
	if err := p.checkHostname(); err != nil {
		return nil, err
	}
	if err := p.setGlobals(); err != nil {
		return nil, err
	}
	if err := p.readEpoch(); err != nil {
		return nil, err
	}

	for i := range f.Stages {
		if err := p.addStage(i, &f.Stages[i]); err != nil {
			return nil, err
		}
	}
	for _, s := range p.all {
		if err := p.findNeeds(s); err != nil {
			return nil, err
		}
	}
	if err := p.checkCircles(); err != nil {
		return nil, err
	}

	p.UnusedContexts = p.unusedContexts()
	if err := p.selectStages(); err != nil {
		return nil, err
	}
	if err := p.refuseRun(); err != nil {
		return nil, err
	}

	if o.epoch != nil {
		p.setEpoch(o.epoch.time)
	}
	return p.Plan, nil
}

// File returns the file that the plan was made from.
func (p *Plan) File() *instructions.File { return p.file }

// All returns every stage of the file by index, also stages that the target does not need.
func (p *Plan) All() []*Stage { return p.all }

// byName returns the nearest stage before index end that has the name, in any case, or nil.
func (p *Plan) byName(name string, end int) *Stage {
	named := p.named[strings.ToLower(name)]
	i := sort.Search(len(named), func(i int) bool { return named[i].Index >= end })
	if i == 0 {
		return nil
	}
	return named[i-1]
}

// byNumber returns the stage with an index among the stages added so far: FROM 0 names a stage, as
// in buildah. A number that is not such an index names an image.
func (p *Plan) byNumber(name string) *Stage {
	n, err := strconv.ParseUint(name, 10, 31)
	if err != nil || n >= uint64(len(p.all)) || strconv.FormatUint(n, 10) != name {
		return nil
	}
	return p.all[n]
}

// mounts returns the mounts of a RUN, preceded by the mounts of Options. If two mounts have the
// same target, the later mount wins.
func (p *Plan) mounts(c instructions.Run) []instructions.MountFlag {
	return slices.Concat(p.options.Mounts, c.Mounts)
}

// label names the stage in messages: by its name, or by its index.
func (s *Stage) label() string {
	if s.Name != "" {
		return s.Name
	}
	return strconv.Itoa(s.Index)
}
