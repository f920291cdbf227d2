package runner

import (
	"path"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

// Check returns the error of capabilities or a seccomp profile that no process could have.
func (s Security) Check() error {
	caps, err := s.capabilities(false)
	if err != nil || s.Seccomp == nil {
		return err
	}
	filter, err := s.filter(caps)
	if err != nil {
		return err
	}
	return filter.Check(s.NoNewPrivileges)
}

func (s Security) changesCapabilities() bool {
	return len(s.Capabilities)+len(s.CapAdd)+len(s.CapDrop) > 0
}

// capabilities returns the capabilities of a process.
func (s Security) capabilities(insecure bool) ([]string, error) {
	base := s.Capabilities
	switch {
	case insecure:
		base = []string{"all"}
	case base == nil:
		base = sandbox.DefaultCapabilities()
	}
	return sandbox.MergeCapabilities(base, s.CapAdd, s.CapDrop)
}

// filter compiles the seccomp profile of processes with these capabilities, which takes longer than
// to start a process. It returns nil if there is no profile.
func (s Security) filter(caps []string) (*sandbox.Filter, error) {
	if s.NoSeccomp {
		return nil, nil //nolint:nilnil // documented
	}
	profile, err := s.profile(caps)
	if err != nil {
		return nil, err
	}
	return sandbox.NewFilter(profile)
}

func (s Security) profile(caps []string) (*specs.LinuxSeccomp, error) {
	if s.Seccomp != nil {
		return sandbox.ParseSeccomp(s.Seccomp, caps)
	}
	return sandbox.DefaultSeccomp(caps)
}

// usualFilter compiles the filter of all processes that are not insecure.
func (s Security) usualFilter() (*sandbox.Filter, error) {
	caps, err := s.capabilities(false)
	if err != nil {
		return nil, err
	}
	return s.filter(caps)
}

// paths sets the hidden and read-only paths. none removes docker's.
func (s Security) paths(l *specs.Linux, none bool) {
	shown := func(p string) bool {
		return none || slices.ContainsFunc(s.Unmask, func(pattern string) bool {
			ok, err := path.Match(pattern, p)
			return ok && err == nil
		})
	}
	if none || len(s.Unmask) > 0 {
		l.MaskedPaths = slices.DeleteFunc(l.MaskedPaths, shown)
		l.ReadonlyPaths = slices.DeleteFunc(l.ReadonlyPaths, shown)
	}
	l.MaskedPaths = append(l.MaskedPaths, s.Mask...)
}
