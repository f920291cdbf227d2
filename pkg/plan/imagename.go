package plan

import (
	"fmt"
	"slices"
	"strings"

	"go.podman.io/image/v5/docker/reference"

	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// transports are the words that may precede a path with a colon, for example "oci:./dir". The text after the colon is not
// checked here.
var transports = []string{
	"containers-storage", "dir", "docker", "docker-archive", "docker-daemon", "oci", "oci-archive",
	"sif", "tarball", "atomic", "ostree",
}

// checkImageName refuses text that is neither the name of an image, nor an ID, nor a name with a transport. It is the
// one place of this package that knows the form of names.
func checkImageName(name string) error {
	if transport, _, ok := strings.Cut(name, ":"); ok && slices.Contains(transports, transport) {
		return nil
	}
	if reference.IsFullIdentifier(strings.TrimPrefix(name, "@")) {
		return nil
	}
	if _, err := reference.ParseNormalizedNamed(name); err != nil {
		return fmt.Errorf("%q is neither a stage above nor a name that an image can have: %w", name, err)
	}
	return nil
}

// badName is the error about a name that no image can have. It adds the stage that may be meant.
func (s *Stage) badName(f *instructions.File, r instructions.Range, option, image string, err error) error {
	var names []string
	for _, other := range s.plan.all {
		if other.Name != "" && other.Index < s.Index {
			names = append(names, other.Name)
		}
	}
	hint := ""
	if match := instructions.Suggest(image, names); match != "" {
		hint = "did you mean the stage " + match + "?"
	}
	return f.Hintf(r, hint, "%s: %v", option, err)
}
