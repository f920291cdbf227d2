package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// callFlags ask for a description of the Dockerfile in place of a build. The flags are docker's.
type callFlags struct {
	call  string
	check bool
}

func (f *callFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.call, "call", spec.CallBuild,
		"Method: build, check, outline or targets; with ,format=json for programs, e.g. outline,format=json")
	fs.BoolVar(&f.check, "check", false, "Look for mistakes in the Dockerfile, and build nothing (--call=check)")
}

// parse reads METHOD[,format=text|json][,ignorestatus[=BOOL]].
func (f *callFlags) parse(_ *Host, b *spec.Build) (err error) {
	c := &b.Call
	for i, field := range strings.Split(f.call, ",") {
		key, value, hasValue := strings.Cut(field, "=")
		switch {
		case i == 0 && !hasValue:
			c.Method = strings.ToLower(key)
		case key == "format" && (value == "json" || value == "text"):
			c.JSON = value == "json"
		case key == "ignorestatus" && !hasValue:
			c.IgnoreStatus = true
		case key == "ignorestatus":
			if c.IgnoreStatus, err = strconv.ParseBool(value); err != nil {
				return fmt.Errorf("--call %q: ignorestatus is true or false", f.call)
			}
		default:
			return fmt.Errorf("--call %q: want METHOD[,format=text|json][,ignorestatus]", f.call)
		}
	}

	if c.Method == "lint" { // BuildKit's name for it
		c.Method = spec.CallCheck
	}
	methods := []string{spec.CallBuild, spec.CallCheck, spec.CallOutline, spec.CallTargets}
	if !slices.Contains(methods, c.Method) {
		hint := ""
		if match := instructions.Suggest(c.Method, methods); match != "" {
			hint = "; did you mean " + match + "?"
		}
		return fmt.Errorf("--call %q: choose %s%s", f.call, strings.Join(methods, ", "), hint)
	}

	if !f.check {
		return nil
	}
	if c.Method != spec.CallBuild && c.Method != spec.CallCheck {
		return errors.New("--check is --call=check, which contradicts the --call that was given")
	}
	c.Method = spec.CallCheck
	return nil
}
