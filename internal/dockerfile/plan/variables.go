package plan

import (
	"maps"
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// variables is an ordered set of build arguments.
type variables struct {
	names  []string           // in order of their first declaration
	values map[string]*string // nil: declared without a value
	made   []string           // list, if it is up to date
}

func newVariables() *variables { return &variables{values: map[string]*string{}} }

func (v *variables) clone() *variables {
	return &variables{names: slices.Clone(v.names), values: maps.Clone(v.values)}
}

// declare adds a variable. Without a value, one that it has stays.
func (v *variables) declare(name string, value *string) {
	old, known := v.values[name]
	if !known {
		v.names = append(v.names, name)
	}
	if value == nil {
		value = old
	}
	v.values[name] = value
	switch {
	case value == old:
	case old == nil && !known && v.made != nil: // the usual case, without which n ARGs would cost n*n
		v.made = append(v.made, name+"="+*value)
	default:
		v.made = nil
	}
}

func (v *variables) lookup(name string) (string, bool) {
	if val := v.values[name]; val != nil {
		return *val, true
	}
	return "", false
}

// list gives those that have a value as K=V. It is not to be changed.
func (v *variables) list() []string {
	if v.made == nil {
		for _, name := range v.names {
			if val, ok := v.lookup(name); ok {
				v.made = append(v.made, name+"="+val)
			}
		}
	}
	return v.made
}

// Globals gives the build arguments that FROM sees: their names, also of those without a value, and a look-up of the values.
func Globals(f *instructions.File, o Options) (names []string, lookup func(name string) (value string, ok bool), err error) {
	p := newPlan(f, o)
	if err := p.setGlobals(); err != nil {
		return nil, nil, err
	}
	return p.globals.names, p.globals.lookup, nil
}

// setGlobals evaluates the platform arguments and the ARGs before the first
// FROM.
func (p *Plan) setGlobals() error {
	p.globals = newVariables()
	for _, kv := range p.platformArgs() {
		value := kv[1]
		if given, ok := p.options.BuildArgs[kv[0]]; ok {
			value = given
		}
		p.globals.declare(kv[0], &value)
	}

	for _, in := range p.file.Args {
		x := instructions.Expander{Escape: p.file.EscapeAt(in.Range), Lookup: p.globals.lookup}
		arg, _ := in.Command.(instructions.Arg) // nothing else may stand there
		if err := p.declare(arg, x, p.globals); err != nil {
			return p.file.At(in.Range, err)
		}
	}

	return nil
}

// declare evaluates an ARG outside of a build: what is given on the command line counts, then the default, in which x
// replaces the variables.
func (p *Plan) declare(arg instructions.Arg, x instructions.Expander, vars *variables) error {
	for _, a := range arg.Vars {
		value := a.Default
		if given, ok := p.options.BuildArgs[a.Key]; ok {
			value = &given
		} else if value != nil {
			word, err := x.Word(*value)
			if err != nil {
				return err
			}
			value = &word
		}
		vars.declare(a.Key, value)
	}

	return nil
}

// platformArgs are the arguments that every file has.
func (p *Plan) platformArgs() [][2]string {
	host, target := p.options.Host, p.options.Platform
	stage := p.options.Target
	if stage == "" {
		stage = p.file.Stages[len(p.file.Stages)-1].Name
	}
	if stage == "" {
		stage = "default"
	}

	return [][2]string{
		{"BUILDPLATFORM", FormatPlatform(host)},
		{"BUILDOS", host.OS},
		{"BUILDOSVERSION", host.OSVersion},
		{"BUILDARCH", host.Architecture},
		{"BUILDVARIANT", host.Variant},
		{"TARGETPLATFORM", FormatPlatform(target)},
		{"TARGETOS", target.OS},
		{"TARGETOSVERSION", target.OSVersion},
		{"TARGETARCH", target.Architecture},
		{"TARGETVARIANT", target.Variant},
		{"TARGETSTAGE", stage},
	}
}

// expandFrom expands a word of FROM with the global arguments. what names it
// in errors.
func (p *Plan) expandFrom(s *instructions.Stage, what, word string) (string, error) {
	var unset []string
	x := instructions.Expander{Escape: p.file.EscapeAt(s.Range), Lookup: func(name string) (string, bool) {
		v, ok := p.globals.lookup(name)
		if v == "" {
			unset = append(unset, name)
		}
		return v, ok
	}}

	out, err := x.Word(word)
	if err != nil {
		return "", p.file.At(s.Range, err)
	}
	if word != "" && (out == "" || strings.HasSuffix(out, ":") || strings.HasSuffix(out, "@") || strings.HasSuffix(out, "/")) {
		hint := ""
		if len(unset) > 0 {
			hint = "FROM sees the ARGs before the first FROM: " + strings.Join(unset, ", ") + " has no value there"
			if match := instructions.Suggest(unset[0], p.globals.names); match != "" {
				hint += "; did you mean " + match + "?"
			}
		}
		return "", p.file.Hintf(s.Range, hint, "the %s %s is %q", what, word, out)
	}

	return out, nil
}

// proxyNames are predefined: a RUN sees them in both cases without ARG, and
// they enter neither history nor cache key.
var proxyNames = []string{"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"}

// predefined tells whether a build argument has a use without an ARG.
func predefined(name string) bool {
	_, idle := idleArg[name]
	return idle || slices.Contains(proxyNames, strings.ToLower(name)) ||
		slices.Contains([]string{
			argEpoch, argHostname, argCacheSpace, argKeepGit, argCheck, argSyntax, "BUILDPLATFORM", "BUILDOS", "BUILDOSVERSION", "BUILDARCH", "BUILDVARIANT",
			"TARGETPLATFORM", "TARGETOS", "TARGETOSVERSION", "TARGETARCH", "TARGETVARIANT", "TARGETSTAGE",
		}, name)
}
