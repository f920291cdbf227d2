package plan

import "codeberg.org/rbuild/rbuild/pkg/instructions"

// RunRefused is the error for a RUN on a machine on which no process can run.
type RunRefused struct {
	err error // with the place of the RUN
}

func (e *RunRefused) Error() string { return e.err.Error() }

// Unwrap returns the error of the RUN, with file and line.
func (e *RunRefused) Unwrap() error { return e.err }

// WithoutRun returns the same plan for a machine on which no process can run; why is the reason.
// The error is a *RunRefused for the first RUN of the needed stages. If a trigger of a base image
// is a RUN, the Begin of its stage returns a *RunRefused.
func (p *Plan) WithoutRun(why error) (*Plan, error) {
	o := p.options
	o.noRun = why
	return New(p.file, o)
}

// refuseRun returns a *RunRefused for the first RUN of the plan if no process can run.
func (p *planner) refuseRun() error {
	if p.options.noRun == nil {
		return nil
	}
	for _, s := range p.Stages {
		for _, in := range s.instructions {
			if isRun(in) {
				return &RunRefused{p.file.At(in.Range, p.options.noRun)}
			}
		}
	}
	return nil
}

func isRun(in instructions.Instruction) bool {
	_, ok := in.Command.(instructions.Run)
	return ok
}

// CheckTriggers returns the error that the triggers of a base image would cause in Begin, before
// the layers of the image are pulled. image is the name as written in the Dockerfile. The error is
// a *RunRefused if a trigger is a RUN and the plan comes from WithoutRun.
func (p *Plan) CheckTriggers(image string, triggers []string) error {
	for _, s := range p.Stages {
		if s.From.Image != image || s.Replaced {
			continue
		}
		for i, text := range triggers {
			f, in, err := s.parseTrigger(i, text)
			if err != nil {
				return err
			}
			if err := s.refuseTrigger(f, in); err != nil {
				return err
			}
		}
	}

	return nil
}

// refuseTrigger refuses a trigger that is a RUN if no process can run.
func (s *Stage) refuseTrigger(f *instructions.File, in instructions.Instruction) error {
	if s.plan.options.noRun == nil || !isRun(in) {
		return nil
	}
	return &RunRefused{f.At(in.Range, s.plan.options.noRun)}
}
