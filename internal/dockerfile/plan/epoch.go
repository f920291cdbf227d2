package plan

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// EpochSource is what the build argument SOURCE_DATE_EPOCH takes its time from where it is a name.
type EpochSource struct {
	Context  bool   // the time of the build context, if that has one
	URL      string // else: of the commit or the file that a stage of nothing else adds, or of the newest file in that archive
	Checksum string // that the ADD asks for; may be empty
	Step     *Step  // the ADD, for messages
}

// epochContext is the value that means the build context.
const epochContext = "context"

// setEpoch reads SOURCE_DATE_EPOCH.
func (p *Plan) setEpoch() error {
	value, ok := p.options.BuildArgs[argEpoch]
	if !ok {
		value, _ = p.globals.lookup(argEpoch)
	}
	if value == "" {
		p.SetEpoch(nil)
		return nil
	}
	if _, err := strconv.ParseInt(value, 10, 64); err != nil {
		return p.findEpoch(value)
	}

	t, err := ParseEpoch(value)
	if err != nil {
		return p.file.Errorf(instructions.Range{}, "%s=%s: %v", argEpoch, value, err)
	}

	p.SetEpoch(&t)
	return nil
}

// findEpoch finds what a value that is no number means.
func (p *Plan) findEpoch(value string) error {
	p.SetEpoch(nil)
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

	return p.file.Errorf(instructions.Range{}, "%s=%s: want seconds since 1970, %s, or the name of a stage", argEpoch, shown(value), epochContext)
}

// SetEpoch says what time SOURCE_DATE_EPOCH means; nil is none, and then no ARG of that name has a value from outside.
// It is to be called before the first stage begins.
func (p *Plan) SetEpoch(t *time.Time) {
	p.Epoch = t
	var value *string
	if t != nil {
		text := strconv.FormatInt(t.Unix(), 10)
		value = &text
	}
	p.epoch = value
	if _, declared := p.globals.values[argEpoch]; declared {
		p.globals.values[argEpoch] = value
	}
}

// buildArg is the value that the command line gives a build argument.
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

// epochStage reads a stage that says where the time is: FROM scratch, ARGs, and the ADD of one file from elsewhere.
func (p *Plan) epochStage(st *instructions.Stage) (*EpochSource, error) {
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
			if err = p.checkRemote(c.Add, c.Sources); err == nil {
				out, err = epochAdd(c)
			}
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

func epochAdd(c instructions.Copy) (*EpochSource, error) {
	if !c.Add || len(c.Sources) != 1 || len(c.Inline) > 0 || !instructions.IsURL(c.Sources[0]) && !instructions.IsGit(c.Sources[0]) {
		return nil, errors.New(argEpoch + ": the stage has to ADD one URL or git repository, and nothing else")
	}
	return &EpochSource{URL: c.Sources[0], Checksum: c.Checksum}, nil
}

// maxEpoch is the end of the year 9999, where RFC 3339 ends.
const maxEpoch = 253402300799

// ParseEpoch reads seconds since 1970, as SOURCE_DATE_EPOCH has them.
func ParseEpoch(text string) (time.Time, error) {
	sec, err := strconv.ParseInt(text, 10, 64)
	if err != nil || sec < 0 || sec > maxEpoch {
		return time.Time{}, errors.New("want seconds since 1970")
	}
	return time.Unix(sec, 0).UTC(), nil
}
