package plan

import (
	"strings"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Verify walks through the stages of the plan without base images. It returns the first error that
// the build would return with any base images. Errors that depend on a variable of a base image are
// not reported.
func (p *Plan) Verify() error {
	ends := map[*Stage]*Scope{}
	for _, s := range p.Stages { // dependencies first
		var base instructions.Image
		var args *Args
		var g *guess
		switch parent := ends[s.From.Stage]; {
		case parent != nil:
			base = parent.Image()
			args = parent.Args()
			g = parent.guess.clone()
		case s.From.Image+s.From.Context != "":
			g = &guess{vague: map[string]bool{"PATH": true}}
		}

		sc, err := s.Begin(base, args)
		if err != nil {
			return err
		}

		sc.guess = g
		for range sc.Len() {
			if _, err := sc.Next(); err != nil && (g == nil || !g.used) {
				return err
			}
		}

		ends[s] = sc
	}

	return nil
}

// guess records which variables a Scope does not know because the base image is unknown. If guess
// is nil, the Scope knows all variables.
type guess struct {
	vague map[string]bool // variables whose value depends on the base image
	used  bool            // the current instruction has used a vague or unset variable
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

// end records the variables that the instruction has set. cmd is the instruction before expansion.
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
