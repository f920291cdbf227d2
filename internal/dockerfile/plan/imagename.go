package plan

import (
	"fmt"
	"strings"

	"go.podman.io/image/v5/docker/reference"

	"codeberg.org/rbuild/rbuild/internal/imagename"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// checkImageName refuses text that names no image by the rules of package imagename: neither the name of an image, nor
// an ID, nor a name with docker:// or a transport of files. Paths, as of oci:, are not looked at.
func checkImageName(text string) error {
	n, err := imagename.Parse(text)
	if err != nil {
		return err
	}

	switch {
	case n.InFiles():
		return nil
	case n.Transport == imagename.Store:
		return fmt.Errorf("%s: an image in a Dockerfile is a name; pull it first with rbuild pull, and use the name", text)
	}

	id := strings.TrimPrefix(strings.TrimPrefix(n.Rest, "@"), "sha256:")
	if n.Transport != imagename.Registry && reference.IsFullIdentifier(id) {
		return nil
	}
	if _, err := reference.ParseNormalizedNamed(n.Rest); err != nil {
		return fmt.Errorf("%q is neither a stage above nor a name that an image can have: %w", text, err)
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
