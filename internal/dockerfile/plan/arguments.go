package plan

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// Build arguments that change the build. They have an effect without an ARG.
const (
	argEpoch      = "SOURCE_DATE_EPOCH"
	argHostname   = "BUILDKIT_SANDBOX_HOSTNAME" // host name in RUN
	argCacheSpace = "BUILDKIT_CACHE_MOUNT_NS"   // prefix of the ids of cache mounts
	argKeepGit    = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"
	argCheck      = "BUILDKIT_DOCKERFILE_CHECK" // replaces the directive check; read by package lint
	argSyntax     = "BUILDKIT_SYNTAX"           // replaces the directive syntax
)

// scanArgs select the stages for a scanner of BuildKit. A RUN does not see these arguments, as in
// BuildKit.
var scanArgs = []string{"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"}

// idleArg lists arguments that have an effect in BuildKit and none in rbuild, with the reason for
// the warning.
var idleArg = map[string]string{
	"BUILDKIT_BUILD_NAME":        "builds have no names",
	"BUILDKIT_GIT_ADVICE":        "git is not asked for advice",
	"BUILDKIT_INLINE_CACHE":      "the cache is in the store, not in the image",
	"BUILDKIT_MULTI_PLATFORM":    "the image is of one platform",
	"BUILDKIT_SBOM_SCAN_CONTEXT": "nothing is scanned",
	"BUILDKIT_SBOM_SCAN_STAGE":   "nothing is scanned",
}

// idleArgs returns a warning for each given argument without an effect. An argument with the value
// false needs no warning.
func idleArgs(given map[string]string) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(given)) {
		why, idle := idleArg[name]
		if on, err := strconv.ParseBool(given[name]); idle && given[name] != "" && (on || err != nil) {
			out = append(out, fmt.Sprintf("build argument %s has no effect: %s", name, why))
		}
	}
	return out
}

// maxHostname is the limit of the kernel, in bytes (HOST_NAME_MAX of hostname(7)).
const maxHostname = 64

// checkHostname refuses text that is not a host name, because the name is written into files of
// /etc.
func (p *Plan) checkHostname() error {
	name := p.options.BuildArgs[argHostname]
	ok := len(name) <= maxHostname
	for i, c := range name {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		ok = ok && (letter || i > 0 && (c == '-' || c == '.' || c == '_'))
	}
	if !ok {
		return p.file.Errorf(
			instructions.Range{},
			"%s=%s: want up to %d letters, digits, dots and dashes",
			argHostname,
			shown(name),
			maxHostname,
		)
	}
	return nil
}

// shown cuts an argument to a length that fits into a message.
func shown(s string) string { return fmt.Sprintf("%.60q", s) }
