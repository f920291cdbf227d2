package instructions

import (
	"path"
	"regexp"
	"strconv"
	"strings"

	"go.podman.io/image/v5/docker/reference"
)

// The newest version of the language (the image docker/dockerfile) that this package implements.
const (
	knownMajor = 1
	knownMinor = 26
)

// Syntax is the frontend image that a Dockerfile requests with "# syntax=docker/dockerfile:1". The
// image is never pulled.
type Syntax struct {
	Image string // as written; empty: none
	Line  int    // of the directive, from 1
}

// CheckSyntax checks the requested frontend image. arg is the build argument BUILDKIT_SYNTAX, which
// replaces the directive unless empty. CheckSyntax returns a warning for a version of
// docker/dockerfile that is newer than this package, and an error for another frontend, because it
// reads another language. An image is docker/dockerfile if its name ends with dockerfile, so that
// mirrors are accepted. Digests and tags that are not versions (latest, labs, master) give no
// warning.
func (f *File) CheckSyntax(override string) (*Warning, error) {
	image := f.Syntax.Image
	r := Range{Line: f.Syntax.Line}
	what := "# syntax="
	if override != "" {
		image, _, _ = strings.Cut(strings.TrimSpace(override), " ")
		r, what = Range{}, "BUILDKIT_SYNTAX="
	}

	if image == "" {
		return nil, nil
	}

	what += shown(image)
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil, f.Errorf(r, "%s: not the name of an image", what)
	}
	if name := path.Base(reference.Path(named)); name != "dockerfile" && name != "dockerfile-upstream" {
		return nil, f.Hintf(r,
			"is the file a Dockerfile after all? --build-arg BUILDKIT_SYNTAX=docker/dockerfile:1 says so",
			"%s is refused: no frontend is run, and the language is that of docker/dockerfile",
			what)
	}

	tagged, ok := named.(reference.Tagged)
	if !ok || !newer(tagged.Tag()) {
		return nil, nil
	}

	return &Warning{Range: r, Msg: what + " is newer than what is known here, version " +
		strconv.Itoa(knownMajor) + "." + strconv.Itoa(knownMinor) +
		": what was added since is refused where it is used"}, nil
}

// newer reports whether a tag is a later version than the version of this package.
func newer(tag string) bool {
	version := regexp.MustCompile(`^v?(\d{1,9})(?:\.(\d{1,9}))?(?:[.-].*)?$`).FindStringSubmatch(tag)
	if version == nil {
		return false
	}
	major, _ := strconv.Atoi(version[1]) // digits; none is 0
	minor, _ := strconv.Atoi(version[2])
	return major > knownMajor || major == knownMajor && minor > knownMinor
}
