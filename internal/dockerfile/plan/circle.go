package plan

import (
	"strconv"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// checkCircles refuses stages that need themselves or each other. That is possible only if a named context has the name
// of a stage: such a stage may be named from anywhere, and what it would copy itself is read no more. As the reference
// engine does, the check looks at the instructions that the context replaces, too: a file that is circular without the
// context is not what its author means.
func (p *Plan) checkCircles() error {
	c := circles{plan: p, state: map[*Stage]visit{}}
	for _, s := range p.all {
		if s.Replaced && c.state[s] == unseen {
			if err := c.follow(s); err != nil {
				return err
			}
		}
	}
	return nil
}

type visit int

const (
	unseen visit = iota
	open         // on the way from the stage where the search began
	done
)

// circles is a search in depth.
type circles struct {
	plan  *Plan
	state map[*Stage]visit
}

func (c *circles) follow(s *Stage) error {
	c.state[s] = open
	for _, in := range c.plan.file.Stages[s.Index].Instructions {
		for _, ref := range references(in) {
			to := c.plan.stageOf(ref.name, s.Index)
			if to == nil || c.state[to] == done {
				continue
			}
			if c.state[to] == open {
				return c.plan.file.Hintf(in.Range, "give the stage or the build context another name",
					"%s=%s: circular: stage %s needs itself, and a build context has the name of a stage, which it replaces",
					ref.option, ref.name, stageName(to))
			}
			if err := c.follow(to); err != nil {
				return err
			}
		}
	}

	c.state[s] = done
	return nil
}

// stageRef is the operand of an option that may name a stage.
type stageRef struct{ option, name string }

// references are the --from of COPY and the from= of the mounts of RUN.
func references(in instructions.Instruction) (out []stageRef) {
	switch c := in.Command.(type) {
	case instructions.Copy:
		if c.From != "" {
			out = append(out, stageRef{"--from", c.From})
		}
	case instructions.Run:
		for _, m := range c.Mounts {
			if from := m.From(); from != "" {
				out = append(out, stageRef{mountFrom, from})
			}
		}
	}

	return out
}

// stageOf is the stage that an option of stage i names, also one that comes later; nil: none.
func (p *Plan) stageOf(name string, i int) *Stage {
	if n, err := strconv.Atoi(name); err == nil {
		if n < 0 || n >= len(p.all) {
			return nil
		}
		return p.all[n]
	}
	if s := p.byName(name, i); s != nil {
		return s
	}
	return p.byName(name, len(p.all))
}
