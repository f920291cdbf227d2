package plan

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// EpochSource is the origin of the time of SOURCE_DATE_EPOCH if the argument is a name:
// SOURCE_DATE_EPOCH=context for the build context, or SOURCE_DATE_EPOCH=STAGE for a stage whose
// only content is an ADD of a URL or a git repository.
type EpochSource struct {
	Context  bool   // the build context; the other fields are empty
	URL      string // of the ADD. The time is that of the git commit, of the file, or of the newest file in an archive
	Checksum string // of ADD --checksum; may be empty
	Step     *Step  // the ADD, for messages
}

// knownEpoch is the time that the caller found for an EpochSource.
type knownEpoch struct {
	time *time.Time // nil: the source has no time
}

// epochContext is the value of SOURCE_DATE_EPOCH that names the build context.
const epochContext = "context"

// WithEpoch returns the same plan with the time of EpochOf: seconds since 1970 in the argument
// SOURCE_DATE_EPOCH. Nil means that the source has no time; then no ARG SOURCE_DATE_EPOCH gets a
// value from the command line.
func (p *Plan) WithEpoch(t *time.Time) (*Plan, error) {
	o := p.options
	o.epoch = &knownEpoch{t}
	return New(p.file, o)
}

// readEpoch reads SOURCE_DATE_EPOCH. The value is a number, "context" or the name of a stage.
func (p *planner) readEpoch() error {
	value, ok := p.options.BuildArgs[argEpoch]
	if !ok {
		value, _ = p.globals.lookup(argEpoch)
	}
	p.setEpoch(nil)
	if value == "" {
		return nil
	}
	if _, err := strconv.ParseInt(value, 10, 64); err != nil {
		return p.findEpoch(value)
	}

	t, err := ParseEpoch(value)
	if err != nil {
		return p.file.Errorf(instructions.Range{}, "%s=%s: %v", argEpoch, value, err)
	}

	p.setEpoch(&t)
	return nil
}

// findEpoch finds the source of the time for a value that is not a number.
func (p *planner) findEpoch(value string) error {
	if value == epochContext {
		p.EpochOf = &EpochSource{Context: true}
		return nil
	}

	for i := range p.file.Stages {
		if st := &p.file.Stages[i]; st.Name != "" && strings.EqualFold(st.Name, value) {
			var err error
			p.EpochOf, err = p.epochStage(st)
			return p.file.At(st.Range, err)
		}
	}

	return p.file.Errorf(instructions.Range{}, "%s=%s: want seconds since 1970, %s, or the name of a stage",
		argEpoch, shown(value), epochContext)
}

// setEpoch sets the time and the value of the argument in Epoch, in the globals and for the ARGs of
// stages.
func (p *planner) setEpoch(t *time.Time) {
	var value *string
	if t != nil {
		text := strconv.FormatInt(t.Unix(), 10)
		value = &text
	}

	p.Epoch = t
	p.epoch = value
	if _, declared := p.globals.values[argEpoch]; declared {
		p.globals.values[argEpoch] = value
	}
}

// buildArg returns the value that the command line gives to a build argument.
func (p *Plan) buildArg(name string) (string, bool) {
	value, ok := p.options.BuildArgs[name]
	if !ok || name != argEpoch {
		return value, ok
	}
	if p.epoch == nil {
		return "", false
	}
	return *p.epoch, true
}

// epochStage reads a stage that names the source of the time: FROM scratch, ARGs, and one ADD of a
// URL or a git repository.
func (p *planner) epochStage(st *instructions.Stage) (*EpochSource, error) {
	base, err := p.expandFrom(st, "base name", st.Base)
	if err != nil {
		return nil, err
	}
	if base != scratch {
		return nil, errors.New(argEpoch + ": the stage has to begin with FROM scratch")
	}

	args := p.globals.clone()
	var out *EpochSource
	for _, in := range st.Instructions {
		x := instructions.Expander{Escape: p.file.EscapeAt(in.Range), Lookup: args.lookup}
		c, err := x.Command(in.Command)
		if err != nil {
			return nil, p.file.At(in.Range, err)
		}

		switch c := c.(type) {
		case instructions.Arg:
			err = p.declare(c, x, args)
		case instructions.Copy:
			if out != nil {
				return nil, p.file.Errorf(in.Range, argEpoch+": the stage may have one ADD only")
			}
			out, err = p.epochAdd(c)
		default:
			err = errors.New(argEpoch + ": the stage may have ARG and ADD only, not " + in.Name)
		}
		if err != nil {
			return nil, p.file.At(in.Range, err)
		}
		if out != nil && out.Step == nil {
			out.Step = stepAt(p.file.Place(in.Range), in.Text)
		}
	}

	if out == nil {
		return nil, errors.New(argEpoch + ": the stage has no ADD")
	}

	return out, nil
}

func (p *planner) epochAdd(c instructions.Copy) (*EpochSource, error) {
	if err := p.checkRemote(c.Add, c.Sources); err != nil {
		return nil, err
	}
	if !c.Add || len(c.Sources) != 1 || len(c.Inline) > 0 ||
		!instructions.IsURL(c.Sources[0]) && !instructions.IsGit(c.Sources[0]) {
		return nil, errors.New(argEpoch + ": the stage has to ADD one URL or git repository, and nothing else")
	}
	return &EpochSource{URL: c.Sources[0], Checksum: c.Checksum}, nil
}

// maxEpoch is the end of the year 9999, the last year of RFC 3339.
const maxEpoch = 253402300799

// ParseEpoch reads a value of SOURCE_DATE_EPOCH: seconds since 1970, for example 1700000000, up to
// the end of the year 9999.
func ParseEpoch(text string) (time.Time, error) {
	sec, err := strconv.ParseInt(text, 10, 64)
	if err != nil || sec < 0 || sec > maxEpoch {
		return time.Time{}, errors.New("want seconds since 1970")
	}
	return time.Unix(sec, 0).UTC(), nil
}
