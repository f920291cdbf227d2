package plan

import (
	"strings"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Verify walks through the stages of the plan without base images, and returns the first error that a build would end
// with whatever the base images are. An error that depends on a variable that a base image may set is left to the
// build. A plan that was verified can be walked again.
func (p *Plan) Verify() error {
	ends := map[*Stage]*Scope{}
	for _, s := range p.Stages { // dependencies first
		var base instructions.Image
		var g *guess
		switch parent := ends[s.From.Stage]; {
		case parent != nil:
			base, g = parent.Image(), parent.guess.clone()
		case s.From.Image+s.From.Context != "":
			g = &guess{vague: map[string]bool{"PATH": true}}
		}

		sc, err := s.Begin(base)
		if err != nil {
			return err
		}

		sc.guess = g
		for range sc.Len() + 1 { // the last one ends the stage
			if _, err := sc.Next(); err != nil && (g == nil || !g.used) {
				return err
			}
		}

		ends[s] = sc
	}

	return nil
}

// guess records which variables a Scope does not know because its base image is unknown. A nil guess: all are known.
type guess struct {
	vague map[string]bool // variables whose value depends on the base image
	used  bool            // the current instruction has used one of those, or one that is not set
}

func (g *guess) clone() *guess {
	if g == nil {
		return nil
	}
	out := &guess{vague: make(map[string]bool, len(g.vague))}
	for name := range g.vague {
		out.vague[name] = true
	}
	return out
}

// begin is called before each instruction.
func (g *guess) begin() {
	if g != nil {
		g.used = false
	}
}

// look records that an instruction uses a variable.
func (g *guess) look(name string, isSet bool) {
	if g != nil {
		g.used = g.used || !isSet || g.vague[name]
	}
}

// end records the variables that the instruction, as written, has set.
func (g *guess) end(cmd instructions.Command) {
	if g == nil {
		return
	}
	switch c := cmd.(type) {
	case instructions.Env:
		for _, v := range c.Vars {
			g.set(v.Key, v.Value)
		}
	case instructions.Arg:
		for _, v := range c.Vars {
			if v.Default != nil {
				g.set(v.Key, *v.Default)
			}
		}
	}
}

func (g *guess) set(name, written string) {
	if g.used && strings.Contains(written, "$") {
		g.vague[name] = true
	} else {
		delete(g.vague, name)
	}
}
