package plan

import (
	"maps"
	"slices"
	"strings"

	"github.com/containerd/platforms"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Args is an ordered set of build arguments. Callers get Args from Scope.Args and pass them to
// Stage.Begin.
type Args struct {
	names  []string           // in order of their first declaration
	values map[string]*string // nil: declared without a value
	made   []string           // the result of list; nil: list must make it
}

func newArgs() *Args { return &Args{values: map[string]*string{}} }

func (v *Args) clone() *Args {
	return &Args{names: slices.Clone(v.names), values: maps.Clone(v.values)}
}

// declare adds a build argument. A nil value keeps the value of an earlier declaration.
func (v *Args) declare(name string, value *string) {
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
	case old == nil && !known && v.made != nil: // the usual case; otherwise n ARGs would cost n*n
		v.made = append(v.made, name+"="+*value)
	default:
		v.made = nil
	}
}

func (v *Args) lookup(name string) (string, bool) {
	if val := v.values[name]; val != nil {
		return *val, true
	}
	return "", false
}

// list returns the arguments that have a value as NAME=VALUE. The caller does not change the list.
func (v *Args) list() []string {
	if v.made == nil {
		for _, name := range v.names {
			if val, ok := v.lookup(name); ok {
				v.made = append(v.made, name+"="+val)
			}
		}
	}
	return v.made
}

// Globals returns the build arguments that FROM sees: all names, also names without a value, and a
// function that looks up a value.
func Globals(
	f *instructions.File, o Options,
) (names []string, lookup func(name string) (value string, ok bool), err error) {
	p := newPlanner(f, o)
	if err := p.setGlobals(); err != nil {
		return nil, nil, err
	}
	return p.globals.names, p.globals.lookup, nil
}

// setGlobals evaluates the platform arguments and the ARGs before the first FROM.
func (p *planner) setGlobals() error {
	p.globals = newArgs()
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

// declare evaluates an ARG outside of a stage. The value is that of the command line, else the
// default with the variables expanded by x.
func (p *planner) declare(arg instructions.Arg, x instructions.Expander, vars *Args) error {
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

// platformArgs returns the arguments that are predefined for every file.
func (p *planner) platformArgs() [][2]string {
	host, target := p.options.Host, p.options.Platform
	stage := p.options.Target
	if stage == "" {
		stage = p.file.Stages[len(p.file.Stages)-1].Name
	}
	if stage == "" {
		stage = "default"
	}

	return [][2]string{
		{"BUILDPLATFORM", platforms.Format(host)},
		{"BUILDOS", host.OS},
		{"BUILDOSVERSION", host.OSVersion},
		{"BUILDARCH", host.Architecture},
		{"BUILDVARIANT", host.Variant},
		{"TARGETPLATFORM", platforms.Format(target)},
		{"TARGETOS", target.OS},
		{"TARGETOSVERSION", target.OSVersion},
		{"TARGETARCH", target.Architecture},
		{"TARGETVARIANT", target.Variant},
		{"TARGETSTAGE", stage},
	}
}

// expandFrom expands a word of FROM with the global arguments. part names the word in errors, for
// example "base name".
func (p *planner) expandFrom(s *instructions.Stage, part, word string) (string, error) {
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
	if word != "" &&
		(out == "" || strings.HasSuffix(out, ":") || strings.HasSuffix(out, "@") || strings.HasSuffix(out, "/")) {
		hint := ""
		if len(unset) > 0 {
			hint = "FROM sees the ARGs before the first FROM: " + strings.Join(unset, ", ") + " has no value there"
			if match := instructions.Suggest(unset[0], p.globals.names); match != "" {
				hint += "; did you mean " + match + "?"
			}
		}
		return "", p.file.Hintf(s.Range, hint, "the %s %s is %q", part, word, out)
	}

	return out, nil
}

// proxyNames are predefined arguments. A RUN sees them in upper and lower case without an ARG. They
// enter neither the history nor a cache key.
var proxyNames = []string{"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"}

// predefined reports whether a build argument has an effect without an ARG.
func predefined(name string) bool {
	_, idle := idleArg[name]
	return idle || slices.Contains(proxyNames, strings.ToLower(name)) ||
		slices.Contains([]string{
			argEpoch, argHostname, argCacheSpace, argKeepGit, argCheck, argSyntax,
			"BUILDPLATFORM", "BUILDOS", "BUILDOSVERSION", "BUILDARCH", "BUILDVARIANT",
			"TARGETPLATFORM", "TARGETOS", "TARGETOSVERSION", "TARGETARCH", "TARGETVARIANT", "TARGETSTAGE",
		}, name)
}
