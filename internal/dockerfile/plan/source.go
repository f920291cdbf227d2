package plan

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"go.podman.io/image/v5/docker/reference"

	"codeberg.org/rbuild/rbuild/internal/imagename"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// mountFrom names the option from= of RUN --mount in errors.
const mountFrom = "--mount: from"

// reads resolves the --from of COPY and the from= of the mounts of RUN. refused is the first source
// or option that the options of the plan do not allow; it matters only if the stage is built.
func (s *Stage) reads(f *instructions.File, in instructions.Instruction) (out []Source, refused, err error) {
	add := func(option, from string) error {
		if from == "" {
			return nil
		}
		src, err := s.source(f, in.Range, option, from)
		if err != nil {
			return err
		}
		if src.Image != "" {
			refused = cmp.Or(refused, s.refuseImage(f, in.Range, option, src.Image))
		}
		out = append(out, src)
		return nil
	}

	switch c := in.Command.(type) {
	case instructions.Copy:
		err = add("--from", c.From)
	case instructions.Run:
		if c.Insecure && !s.plan.options.Insecure {
			refused = f.Hintf(in.Range, "allow it with --allow security.insecure",
				"RUN --security=insecure is refused: it takes the step's sandbox away")
		}
		for _, m := range s.plan.mounts(c) {
			if err := add(mountFrom, m.From()); err != nil {
				return nil, nil, err
			}
		}
	}

	return out, refused, err
}

// source resolves the operand of an option, for example --from=build, at r of file f. The order is:
// the index of an earlier stage, the name of an earlier stage, a named context, an image. Images
// are for the platform of Options, whatever the platform of the stage is, as in BuildKit.
func (s *Stage) source(f *instructions.File, r instructions.Range, option, from string) (Source, error) {
	p := s.plan
	if strings.Contains(from, "$") {
		return Source{}, f.Hintf(r, "give the image a name with FROM ... AS, where variables work",
			"%s=%s: variables are not expanded in %s", option, from, option)
	}

	if n, err := strconv.Atoi(from); err == nil {
		switch {
		case n < 0 || n >= len(p.all):
			return Source{}, f.Errorf(r, "%s=%s: the file has %d stages, the first is 0", option, from, len(p.all))
		case n >= s.Index:
			return Source{}, f.Errorf(r, "%s=%s: stage %d is %s", option, from, n, laterOrSelf(n, s.Index))
		}
		return p.all[n].result(), nil
	}

	if earlier := p.byName(from, s.Index); earlier != nil {
		return earlier.result(), nil
	}
	if later := p.byName(from, len(p.all)); later != nil {
		if later.Replaced {
			return later.result(), nil
		}
		at := r
		if f != p.file { // r is a place in a trigger
			at = s.Range
		}
		return Source{}, f.Errorf(r, "%s=%s: the stage (%s) is %s",
			option, from, p.file.Refer(later.Range, at), laterOrSelf(later.Index, s.Index))
	}

	if from == scratch {
		return Source{}, nil
	}

	platform := p.imagePlatform(p.options.Platform)
	if name := p.context(from, p.options.Platform); name != "" {
		return Source{Context: name, Platform: platform}, nil
	}
	return Source{Image: from, Platform: platform}, nil
}

// result returns the source of the stage's files: the stage, or the named context that replaces the
// stage.
func (s *Stage) result() Source {
	if s.Replaced {
		return s.From
	}
	return Source{Stage: s}
}

func laterOrSelf(n, self int) string {
	if n == self {
		return "this one: a stage cannot copy from itself"
	}
	return "defined after this one"
}

// refuseImage returns an error if no image can have the name, or if Options.Refuse does not allow
// the image.
func (s *Stage) refuseImage(f *instructions.File, r instructions.Range, option, image string) error {
	if err := checkImageName(image); err != nil {
		return s.badName(f, r, option, image, err)
	}
	if s.plan.options.Refuse == nil {
		return nil
	}
	return f.At(r, s.plan.options.Refuse(image))
}

// badName adds the stage that the author may mean to an error about an image name.
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

// checkImageName applies the rules of package imagename. It accepts the name of an image, an ID,
// docker://NAME, and a transport of files, for example oci:/dir. Paths are not checked.
func checkImageName(text string) error {
	n, err := imagename.Parse(text)
	if err != nil {
		return err
	}

	switch {
	case n.InFiles():
		return nil
	case n.Transport == imagename.Store:
		return fmt.Errorf("%s: an image in a Dockerfile is a name; pull it first with rbuild pull, and use the name",
			text)
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
