package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/passwd"
)

// Confinement is what RUN steps may do and have otherwise than by docker's defaults (package sandbox). The zero value
// changes nothing. What --security=insecure takes away are the defaults: what is asked for here holds for such a step too.
type Confinement struct {
	Capabilities    []string // what a step has to begin with; nil: docker's 14
	CapAdd, CapDrop []string // as sandbox.MergeCapabilities has them
	Seccomp         []byte   // a profile in docker's format in place of docker's own; nil: docker's
	NoSeccomp       bool     // no profile
	AppArmor        string   // name of a profile; "": the caller's
	NoNewPrivileges bool     // nothing that is executed gets more rights by it
	Mask            []string // absolute paths to be hidden
	Unmask          []string // patterns (path.Match) of those that shall not be hidden or read-only by default

	Devices    []Device
	Groups     []string // supplementary groups, names or numbers, beside those of the user
	KeepGroups bool     // the caller's supplementary groups in place of all others

	UIDs, GIDs  []sandbox.IDRange   // the ids that a step knows, 0 among them; none: all
	CgroupNames sandbox.CgroupNames // what a step sees of cgroups

	Limits  []specs.POSIXRlimit // over the defaults; above the caller's hard limit they are that
	ShmSize *int64              // of /dev/shm in bytes, 0: no limit; nil: 64 MiB
}

// Device is a device of the host that is bound into RUN steps.
type Device struct {
	Source *os.File // pinned when the command line was read
	Path   string   // where it was found
	Dest   string   // absolute path in the image
}

// capabilities are those of a step.
func (c Confinement) capabilities(insecure bool) ([]string, error) {
	base := c.Capabilities
	switch {
	case insecure:
		base = []string{"all"}
	case base == nil:
		base = sandbox.DefaultCapabilities()
	}
	return sandbox.MergeCapabilities(base, c.CapAdd, c.CapDrop)
}

// Check finds what is wrong with the capabilities and the profile, before anything is done.
func (c Confinement) Check() error {
	caps, err := c.capabilities(false)
	if err != nil || c.Seccomp == nil {
		return err
	}
	filter, err := c.filter(caps)
	if err != nil {
		return err
	}
	return filter.Check(c.NoNewPrivileges)
}

// filter compiles the profile of steps with these capabilities, which takes longer than to start a process; nil: there is
// none.
func (c Confinement) filter(caps []string) (*sandbox.Filter, error) {
	if c.NoSeccomp {
		return nil, nil //nolint:nilnil // documented
	}
	profile, err := c.profile(caps)
	if err != nil {
		return nil, err
	}
	return sandbox.NewFilter(profile)
}

func (c Confinement) profile(caps []string) (*specs.LinuxSeccomp, error) {
	if c.Seccomp != nil {
		return sandbox.ParseSeccomp(c.Seccomp, caps)
	}
	return sandbox.DefaultSeccomp(caps)
}

// newFilter is that of all steps but insecure ones.
func (c Confinement) newFilter() (*sandbox.Filter, error) {
	caps, err := c.capabilities(false)
	if err != nil {
		return nil, err
	}
	return c.filter(caps)
}

// confine sets what the process may do.
func (s *stage) confine(config *sandbox.Config, op *plan.Run) (err error) {
	c, spec := s.Run.Confinement, config.Spec
	if len(c.Capabilities)+len(c.CapAdd)+len(c.CapDrop) > 0 || op.Insecure {
		caps, err := c.capabilities(op.Insecure)
		if err != nil {
			return err
		}
		spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	}

	switch {
	case !op.Insecure:
		config.Filter, err = s.filter()
	case c.Seccomp != nil:
		config.Filter, err = c.filter(spec.Process.Capabilities.Bounding)
	}

	// Ids of real root's steps are the machine's: by what is hidden below /proc they would be root of it.
	config.LockMounts = s.Trusted && slices.Contains(spec.Process.Capabilities.Bounding, "CAP_SYS_ADMIN")
	spec.Process.NoNewPrivileges, spec.Process.ApparmorProfile = c.NoNewPrivileges, c.AppArmor
	c.paths(spec.Linux, op.Insecure && !s.Trusted)
	spec.Process.Rlimits = c.limits(spec.Process.Rlimits)
	config.UIDs, config.GIDs, config.KeepGroups, config.CgroupNames = c.UIDs, c.GIDs, c.KeepGroups, c.CgroupNames

	return err
}

// paths sets what is hidden and read-only. Where the builder is real root the defaults stay, also for insecure steps: by way
// of /proc they would be root of the machine.
func (c Confinement) paths(l *specs.Linux, none bool) {
	shown := func(p string) bool {
		return none || slices.ContainsFunc(c.Unmask, func(pattern string) bool {
			ok, err := path.Match(pattern, p)
			return ok && err == nil
		})
	}
	if none || len(c.Unmask) > 0 {
		l.MaskedPaths, l.ReadonlyPaths = slices.DeleteFunc(l.MaskedPaths, shown), slices.DeleteFunc(l.ReadonlyPaths, shown)
	}
	l.MaskedPaths = append(l.MaskedPaths, c.Mask...)
}

// limits are the resource limits of a step, given docker's defaults.
func (c Confinement) limits(defaults []specs.POSIXRlimit) []specs.POSIXRlimit {
	defaults = slices.DeleteFunc(defaults, func(l specs.POSIXRlimit) bool {
		return slices.ContainsFunc(c.Limits, func(o specs.POSIXRlimit) bool { return o.Type == l.Type })
	})
	return append(defaults, c.Limits...)
}

// mounts adds the devices to the mounts of a step, and sets the size of /dev/shm.
func (c Confinement) mounts(mounts []specs.Mount) []specs.Mount {
	for i := range mounts {
		if m := &mounts[i]; m.Destination == "/dev/shm" && c.ShmSize != nil {
			isSize := func(o string) bool { return strings.HasPrefix(o, "size=") }
			m.Options = append(slices.DeleteFunc(m.Options, isSize), fmt.Sprintf("size=%d", *c.ShmSize))
		}
	}

	for _, d := range c.Devices {
		mounts = append(mounts, specs.Mount{
			Destination: d.Dest, Type: "bind", Source: d.Path, Options: []string{"bind", "dev", "nosuid", "noexec"},
		})
	}

	return mounts
}

// groups are the supplementary groups of a user: its own, its primary one, or a file could be denied to it by its group
// (CVE-2022-36109), and those of the command line.
func (s *stage) groups(u passwd.User) ([]uint32, error) {
	groups := append([]uint32{u.GID}, u.Groups...)
	if len(s.Run.Groups) == 0 {
		return groups, nil
	}

	view, err := s.view()
	if err != nil {
		return nil, err
	}

	for _, name := range s.Run.Groups {
		gid, err := passwd.ResolveGroup(fdfs.OnDisk(view), name)
		if err != nil {
			return nil, fmt.Errorf("--group-add %s: %w", name, err)
		}
		if !slices.Contains(groups, gid) {
			groups = append(groups, gid)
		}
	}

	return groups, nil
}

// ingredients are what of it enters the key of a step. Limits do not: they may end a step, and do not change what it does.
func (c Confinement) ingredients(insecure bool) (out []string) {
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if len(c.Capabilities)+len(c.CapAdd)+len(c.CapDrop) > 0 {
		caps, err := c.capabilities(insecure)
		usual, _ := Confinement{}.capabilities(insecure) // docker's: no error
		if err != nil || strings.Join(caps, " ") != strings.Join(usual, " ") {
			add("capabilities=%q", caps)
		}
	}

	switch {
	case c.Seccomp != nil:
		sum := sha256.Sum256(c.Seccomp)
		add("seccomp=%s", hex.EncodeToString(sum[:]))
	case c.NoSeccomp && !insecure:
		add("no seccomp")
	}

	if c.AppArmor != "" {
		add("apparmor=%s", c.AppArmor)
	}
	if c.NoNewPrivileges {
		add("no new privileges")
	}
	for _, p := range c.Mask {
		add("mask=%s", p)
	}
	for _, p := range c.Unmask {
		add("unmask=%s", p)
	}
	for _, d := range c.Devices {
		add("device=%q,%q", d.Path, d.Dest)
	}
	for _, g := range c.Groups {
		add("group=%s", g)
	}
	if c.KeepGroups {
		add("keep groups")
	}
	if c.CgroupNames != sandbox.CgroupAuto {
		add("cgroup names %d", c.CgroupNames)
	}
	if len(c.UIDs)+len(c.GIDs) > 0 {
		add("uids=%v gids=%v", c.UIDs, c.GIDs)
	}

	return out
}
