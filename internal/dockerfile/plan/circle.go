package plan

import (
	"strconv"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// checkCircles refuses stages that need themselves or each other. A circle is possible only if a
// named context has the name of a stage, because any stage may refer to a replaced stage, also an
// earlier stage. The check reads the instructions that the context replaces, as BuildKit does: a
// file that is circular without the context is a mistake of the author.
func (p *planner) checkCircles() error {
	c := circles{plan: p.Plan, state: map[*Stage]visit{}}
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
	open         // the search is below this stage
	done
)

// circles is a depth-first search.
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
				return c.plan.file.Hintf(
					in.Range,
					"give the stage or the build context another name",
					"%s=%s: circular: stage %s needs itself, "+
						"and a build context has the name of a stage, which it replaces",
					ref.option,
					ref.name,
					to.label(),
				)
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

// references returns the --from of COPY and the from= of the mounts of RUN.
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

// stageOf returns the stage that an option of stage i names, also a later stage. Nil: the name is
// no stage.
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
