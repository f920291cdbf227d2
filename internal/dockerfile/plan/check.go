package plan

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// symbolicMode matches the operand of chmod(1): who, operator, permissions.
var symbolicMode = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[ugoa]*([-+=]([rwxXst]*|[ugo]))+(,[ugoa]*([-+=]([rwxXst]*|[ugo]))+)*$`)
})

// checkCopy reports the errors of a COPY or ADD that do not depend on files. dest is the
// destination as written.
func checkCopy(c *Copy, dest string) error {
	if n := len(c.Sources) + len(c.Inline); n > 1 && !strings.HasSuffix(c.Dest, "/") {
		return fmt.Errorf("the destination %s of %d sources has to end with a slash", dest, n)
	}
	if err := checkMode(c.Chmod); err != nil {
		return err
	}

	for _, src := range c.Sources {
		if err := checkSource(c, src); err != nil {
			return err
		}
	}

	if c.Checksum == "" {
		return nil
	}
	if len(c.Sources) != 1 || len(c.Inline) > 0 ||
		!instructions.IsURL(c.Sources[0]) && !instructions.IsGit(c.Sources[0]) {
		return fmt.Errorf("--checksum=%s needs exactly one source, a URL or a git repository", c.Checksum)
	}
	return nil
}

// checkRemote refuses URLs and git repositories as sources of ADD if Options.NoRemote is set.
func (p *Plan) checkRemote(add bool, sources []string) error {
	if !p.options.NoRemote || !add {
		return nil
	}
	for _, src := range sources {
		if instructions.IsURL(src) || instructions.IsGit(src) {
			return fmt.Errorf(
				"ADD of %s is refused by --no-remote: copy the file into the build context, or build without the flag",
				instructions.Redact(src),
			)
		}
	}
	return nil
}

func checkMode(mode string) error {
	n, err := strconv.ParseUint(mode, 8, 32)
	octal := err == nil && n <= 0o7777
	if mode != "" && !octal && !symbolicMode().MatchString(mode) {
		return fmt.Errorf("--chmod=%s is neither octal from 0 to 7777 nor symbolic like u=rwX,go=rX", mode)
	}
	return nil
}

func checkSource(c *Copy, src string) error {
	switch {
	case src == "" && c.Parents:
		return errors.New("a source is empty after expansion, and --parents needs a path")
	case !c.Add && (instructions.IsGit(src) || instructions.IsURL(src)):
		return fmt.Errorf("the source %s is no path: COPY takes files, ADD also URLs", instructions.Redact(src))
	}
	return nil
}
