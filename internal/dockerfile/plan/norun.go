package plan

import "codeberg.org/rbuild/rbuild/pkg/instructions"

// RunRefused is the error for a RUN where nothing can be run.
type RunRefused struct {
	err error // with the place of the RUN
}

func (e *RunRefused) Error() string { return e.err.Error() }

// Unwrap gives the error with its place.
func (e *RunRefused) Unwrap() error { return e.err }

// WithoutRun says that nothing can be run, and why: a *RunRefused for the first RUN of the stages that are needed. If there is
// none, one that a trigger of a base image brings is refused when its stage begins.
func (p *Plan) WithoutRun(why error) error {
	for _, s := range p.Stages {
		if s.Replaced {
			continue
		}
		for _, in := range s.instructions {
			if isRun(in) {
				return &RunRefused{p.file.At(in.Range, why)}
			}
		}
	}

	p.noRun = why
	return nil
}

func isRun(in instructions.Instruction) bool {
	_, ok := in.Command.(instructions.Run)
	return ok
}

// CheckTriggers refuses the triggers of a base image, by the name that the file gives it, as the stages that stand on it
// would: before its layers are there.
func (p *Plan) CheckTriggers(image string, triggers []string) error {
	for _, s := range p.Stages {
		if s.From.Image != image || s.Replaced {
			continue
		}
		for i, text := range triggers {
			f, in, err := s.parseTrigger(i, text)
			if err == nil {
				err = s.refuseTrigger(f, in)
			}
			if err != nil {
				return err
			}
		}
	}

	return nil
}

// refuseTrigger refuses a trigger that runs something, where nothing can be run.
func (s *Stage) refuseTrigger(f *instructions.File, in instructions.Instruction) error {
	if s.plan.noRun == nil || !isRun(in) {
		return nil
	}
	return &RunRefused{f.At(in.Range, s.plan.noRun)}
}
