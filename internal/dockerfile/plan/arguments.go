package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Build arguments that change how the build is done. They work without an ARG.
const (
	argEpoch      = "SOURCE_DATE_EPOCH"
	argHostname   = "BUILDKIT_SANDBOX_HOSTNAME" // name of the host that RUN sees
	argCacheSpace = "BUILDKIT_CACHE_MOUNT_NS"   // goes before the ids of cache mounts
	argKeepGit    = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"
	argCheck      = "BUILDKIT_DOCKERFILE_CHECK" // as the directive check; internal/dockerfile/lint reads it
	argSyntax     = "BUILDKIT_SYNTAX"           // as the directive syntax
)

// scanArgs say to BuildKit which stages a scanner looks at. As there, a RUN does not see them.
var scanArgs = []string{"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"}

// idleArg are the other arguments that change what BuildKit does, and why there is nothing for them to do here.
var idleArg = map[string]string{
	"BUILDKIT_BUILD_NAME":        "builds have no names",
	"BUILDKIT_GIT_ADVICE":        "git is not asked for advice",
	"BUILDKIT_INLINE_CACHE":      "the cache is in the store, not in the image",
	"BUILDKIT_MULTI_PLATFORM":    "the image is of one platform",
	"BUILDKIT_SBOM_SCAN_CONTEXT": "nothing is scanned",
	"BUILDKIT_SBOM_SCAN_STAGE":   "nothing is scanned",
}

// idleArgs gives a warning for each argument given that has no effect, but for those that ask for none.
func idleArgs(given map[string]string) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		why, idle := idleArg[name]
		if on, err := strconv.ParseBool(given[name]); idle && given[name] != "" && (on || err != nil) {
			out = append(out, fmt.Sprintf("build argument %s has no effect: %s", name, why))
		}
	}
	return out
}

// maxHostname is the kernel's bound, in bytes (HOST_NAME_MAX of hostname(7)).
const maxHostname = 64

// checkHostname refuses what is no name of a host, which goes into files of /etc.
func (p *Plan) checkHostname() error {
	name := p.options.BuildArgs[argHostname]
	ok := len(name) <= maxHostname
	for i, c := range name {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (letter || i > 0 && (c == '-' || c == '.' || c == '_'))
	}
	if !ok {
		return p.file.Errorf(instructions.Range{}, "%s=%s: want up to %d letters, digits, dots and dashes", argHostname, shown(name), maxHostname)
	}
	return nil
}

// shown cuts what a message repeats of an argument.
func shown(s string) string { return fmt.Sprintf("%.60q", s) }
