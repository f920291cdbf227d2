package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/bounded"
	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// sandboxFlags say what RUN may do.
type sandboxFlags struct {
	capAdd, capDrop []string
	security        []string
	devices         []string
	groups          []string
	ulimits         []string
	shmSize         string
	ids             idFlags
	namespaces      namespaceFlags

	seccomp string // file of the profile
	unmask  bool   // something shall not be hidden
	conf    *containersConf
}

func (f *sandboxFlags) register(fs *pflag.FlagSet) {
	fs.StringSliceVar(&f.capAdd, "cap-add", nil, "capability that RUN has beside the default ones, or all")
	fs.StringSliceVar(&f.capDrop, "cap-drop", nil, "default capability that RUN has not, or all")
	fs.StringArrayVar(&f.security, "security-opt", nil, "seccomp=FILE or unconfined, apparmor=PROFILE, no-new-privileges, mask=PATH[:PATH], unmask=ALL or PATH[:PATH]")
	fs.StringArrayVar(&f.devices, "device", nil, "HOST-DEVICE[:PATH] to bind into RUN; a directory: all devices in it")
	fs.StringSliceVar(&f.groups, "group-add", nil, "supplementary group of RUN, or keep-groups: those of the user who builds")
	fs.StringSliceVar(&f.ulimits, "ulimit", nil, "TYPE=SOFT[:HARD], a resource limit of RUN, e.g. nofile=1024:2048")
	fs.StringVar(&f.shmSize, "shm-size", "", "size of /dev/shm in RUN, e.g. 128m (default 64m); 0: no limit")
	f.ids.register(fs)
	f.namespaces.register(fs)
}

func (f *sandboxFlags) apply(_ lookup, o *builder.Options) error {
	c := &o.Run.Security
	c.CapAdd, c.CapDrop = f.capAdd, f.capDrop
	if err := f.defaults(&o.Run); err != nil {
		return fmt.Errorf("containers.conf: %w", err)
	}
	if err := c.Check(); err != nil {
		return fmt.Errorf("--cap-add and --cap-drop: %w", err)
	}

	for _, text := range f.security {
		if err := f.securityOption(c, text); err != nil {
			return err
		}
	}

	for _, d := range f.devices {
		if _, err := parseDevice(d); err != nil {
			return err
		}
	}

	if err := f.applyGroups(c); err != nil {
		return err
	}
	if err := f.applyLimits(&o.Run.Limits); err != nil {
		return err
	}
	if err := f.namespaces.check(); err != nil {
		return err
	}

	c.CgroupNames = f.namespaces.cgroupNames(f.conf.Containers.CgroupNS)

	return f.ids.apply(c)
}

// defaults takes what containers.conf says. A limit there is no demand: where the caller's own is lower, that holds.
func (f *sandboxFlags) defaults(o *runner.Options) (err error) {
	conf := f.conf.Containers
	f.seccomp = conf.SeccompProfile
	if o.Security.Capabilities = conf.DefaultCapabilities.Get(); len(o.Security.Capabilities) == 0 {
		o.Security.Capabilities = nil
	}
	if _, err := sandbox.MergeCapabilities(o.Security.Capabilities, nil, nil); err != nil {
		return fmt.Errorf("default_capabilities: %w", err)
	}

	for _, text := range conf.DefaultUlimits.Get() {
		limit, err := parseLimit(text)
		if err != nil {
			return fmt.Errorf("default_ulimits: %w", err)
		}
		setLimit(&o.Limits, limit)
	}

	if o.Limits.ShmSize, err = parseSize(conf.ShmSize); err != nil {
		return fmt.Errorf("shm_size: %w", err)
	}
	return nil
}

// securityOption reads one --security-opt. As with docker and podman a colon may stand for the first equals sign.
func (f *sandboxFlags) securityOption(c *runner.Security, text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		name, value, ok = strings.Cut(text, ":")
	}
	refuse := func(why string) error { return fmt.Errorf("--security-opt %q: %s", text, why) }
	switch {
	case name == "no-new-privileges":
		on, err := strconv.ParseBool(value)
		if ok && err != nil {
			return refuse("want true or false")
		}
		c.NoNewPrivileges = on || !ok
	case !ok || value == "":
		return refuse("want NAME=VALUE, or no-new-privileges")
	case name == "seccomp":
		f.seccomp = value
	case name == "mask":
		return f.maskPaths(c, value, refuse)
	case name == "unmask":
		return f.unmaskPaths(c, value, refuse)
	case name == "systempaths" && value == "unconfined": // docker's
		return f.unmaskPaths(c, "all", refuse)
	case name == "label" && value == "disable": // RUN has what rbuild has
	case name == "label" && !hasSELinux(): // nothing has a label, as with podman
	case name == "label":
		return refuse("RUN has no SELinux label but rbuild's own; only label=disable, which changes nothing, is accepted")
	case name == "apparmor":
		if strings.ContainsFunc(value, unicode.IsControl) || len(value) > maxProfileName {
			return refuse("it is no name of a profile")
		}
		if c.AppArmor = value; value == "unconfined" {
			c.AppArmor = "" // RUN has what rbuild has
		}
	default:
		return refuse("choose seccomp, no-new-privileges, mask, unmask, apparmor or label=disable")
	}

	return nil
}

// hasSELinux reports whether files and processes of this machine have SELinux labels.
func hasSELinux() bool {
	_, err := os.Stat("/sys/fs/selinux/enforce")
	return err == nil
}

func (f *sandboxFlags) maskPaths(c *runner.Security, value string, refuse func(string) error) error {
	for p := range strings.SplitSeq(value, ":") {
		if clean := path.Clean(p); !path.IsAbs(p) || clean == "/" || strings.ContainsRune(p, 0) {
			return refuse(fmt.Sprintf("%q is not an absolute path below /", p))
		}
		c.Mask = append(c.Mask, path.Clean(p))
	}
	return nil
}

// unmaskPaths takes paths, and patterns of them, that would be hidden or read-only.
func (f *sandboxFlags) unmaskPaths(c *runner.Security, value string, refuse func(string) error) error {
	usual := sandbox.DefaultSpec().Linux
	hidden := slices.Concat(usual.MaskedPaths, usual.ReadonlyPaths)
	f.unmask = true
	for p := range strings.SplitSeq(value, ":") {
		if strings.EqualFold(p, "all") {
			c.Unmask = append(c.Unmask, hidden...)
			continue
		}
		if !slices.ContainsFunc(hidden, func(h string) bool { ok, err := path.Match(p, h); return ok && err == nil }) {
			return refuse(fmt.Sprintf("%q is none of what is hidden (%s) or read-only (%s)", p,
				strings.Join(usual.MaskedPaths, " "), strings.Join(usual.ReadonlyPaths, " ")))
		}
		c.Unmask = append(c.Unmask, p)
	}

	return nil
}

// keepGroups is podman's word for the caller's own groups.
const keepGroups = "keep-groups"

func (f *sandboxFlags) applyGroups(c *runner.Security) error {
	for _, g := range f.groups {
		n, err := strconv.ParseUint(g, 10, 32)
		if g == "" || strings.Trim(g, "0123456789") == "" && (err != nil || n == math.MaxUint32) {
			return fmt.Errorf("--group-add %q: want a name of the image's /etc/group, or a number", g)
		}
	}

	c.Groups = f.groups
	if slices.Contains(f.groups, keepGroups) {
		if len(f.groups) > 1 {
			return errors.New("--group-add keep-groups: no other group can be given beside it")
		}
		c.Groups, c.KeepGroups = nil, true
	}

	return nil
}

// applyLimits refuses what the kernel would.
func (f *sandboxFlags) applyLimits(l *runner.Limits) error {
	for _, text := range f.ulimits {
		limit, err := parseLimit(text)
		if err != nil {
			return fmt.Errorf("--ulimit %w", err)
		}

		highest, err := sandbox.HardLimit(limit.Type)
		if err != nil {
			return fmt.Errorf("--ulimit %q: %w", text, err)
		}
		if limit.Hard > highest {
			return fmt.Errorf("--ulimit %q: the hard limit of %s is above rbuild's own, %s, and only root can raise that (limits.conf(5), systemd's LimitXXX=)",
				text, limitText(limit.Hard), limitText(highest))
		}
		setLimit(l, limit)
	}

	size, err := parseSize(f.shmSize)
	if err != nil {
		return fmt.Errorf("--shm-size %w", err)
	}

	if size != nil {
		l.ShmSize = size
	}

	return nil
}

func limitText(n uint64) string {
	if n == math.MaxUint64 {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

// parseLimit reads TYPE=SOFT[:HARD]; -1 is unlimited.
func parseLimit(text string) (specs.POSIXRlimit, error) {
	if text == "host" {
		return specs.POSIXRlimit{}, errors.New("host: RUN has the limits of rbuild anyway, but nofile=1024:1048576 at most")
	}
	u, err := units.ParseUlimit(text)
	if err != nil {
		return specs.POSIXRlimit{}, fmt.Errorf("%q: want TYPE=SOFT[:HARD]: %w", text, err)
	}
	if u.Soft < -1 || u.Hard < -1 {
		return specs.POSIXRlimit{}, fmt.Errorf("%q: a limit is negative; -1 is unlimited", text)
	}
	return specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)}, nil
}

// setLimit lets the last of a type count.
func setLimit(l *runner.Limits, limit specs.POSIXRlimit) {
	l.Rlimits = slices.DeleteFunc(l.Rlimits, func(r specs.POSIXRlimit) bool { return r.Type == limit.Type })
	l.Rlimits = append(l.Rlimits, limit)
}

// maxShm bounds the size of /dev/shm, in bytes: the kernel counts in pages, and numbers beyond any machine are mistakes.
const maxShm = 1 << 50

// parseSize reads a size with a unit, nil if there is none.
func parseSize(text string) (*int64, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // documented
	}
	n, err := units.RAMInBytes(text)
	if err != nil || n < 0 || n > maxShm {
		return nil, fmt.Errorf("%q: want a number with a unit, e.g. 128m, and at most 1024t", text)
	}
	return &n, nil
}

// maxProfileName bounds the name of an AppArmor profile, in bytes: it is written to a file that takes a page.
const maxProfileName = 1 << 10

// maxSeccomp bounds a seccomp profile, in bytes; docker's own has 20 kB.
const maxSeccomp = 1 << 20

// open opens and checks what the flags name, and what only the builder can know.
func (f *sandboxFlags) open(o *builder.Options, state *userns.State) (err error) {
	c := &o.Run.Security
	if f.unmask && !state.Rootless() {
		return errors.New("--security-opt unmask: rbuild runs as root, and by what is hidden RUN would be root of the machine; run it as an ordinary user")
	}
	if err := f.ids.check(c, state); err != nil {
		return err
	}

	if c.AppArmor != "" {
		if err := sandbox.CheckAppArmor(c.AppArmor); err != nil {
			return fmt.Errorf("--security-opt apparmor=%s: %w", c.AppArmor, err)
		}
	}

	switch f.seccomp {
	case "":
	case "unconfined":
		c.NoSeccomp = true
	default:
		if c.Seccomp, err = readProfile(f.seccomp); err == nil {
			err = c.Check()
		}
		if err != nil && f.seccomp == f.conf.Containers.SeccompProfile {
			return fmt.Errorf("seccomp_profile of containers.conf: %w", err)
		}
		if err != nil {
			return fmt.Errorf("--security-opt seccomp=%s: %w", f.seccomp, err)
		}
	}

	o.Run.Devices, err = openDevices(f.devices)

	return err
}

// readProfile reads a seccomp profile. It may come from a pipe.
func readProfile(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return bounded.ReadAll(file, maxSeccomp, "the profile")
}
