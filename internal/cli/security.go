package cli

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/spec"
)

// securityFlags say what the processes of RUN may do.
type securityFlags struct {
	capAdd, capDrop []string
	options         []string
	devices         []string
	groups          []string
	ids             idFlags
	namespaces      namespaceFlags
}

func (f *securityFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectSecurity, func(fs *pflag.FlagSet) {
		fs.StringSliceVar(&f.capAdd, "cap-add", nil, "Capability for RUN beside the default ones, e.g. NET_RAW; or all")
		fs.StringSliceVar(&f.capDrop, "cap-drop", nil, "Capability that RUN must not have, e.g. CHOWN; or all")
		fs.StringArrayVar(&f.options, "security-opt", nil,
			"Option of the sandbox: seccomp=FILE or unconfined, apparmor=PROFILE, no-new-privileges, "+
				"mask=PATH[:PATH], unmask=ALL or PATH[:PATH]; e.g. mask=/proc/cpuinfo")
		fs.StringArrayVar(&f.devices, "device", nil,
			"Device for RUN as HOST-DEVICE[:PATH], e.g. /dev/fuse; a directory stands for all devices in it")
		fs.StringSliceVar(&f.groups, "group-add", nil,
			"Supplementary group of RUN, e.g. audio or 44; keep-groups: those of the user who builds")
	})
	f.ids.register(fs)
	f.namespaces.register(fs)
}

func (f *securityFlags) parse(h *Host, b *spec.Build) (err error) {
	s := &b.Security
	if err := f.parseCapabilities(h.Config, s); err != nil {
		return err
	}

	profile := h.Config.Containers.SeccompProfile
	setSeccomp(s, profile, "seccomp_profile of containers.conf")
	for _, text := range f.options {
		if err := parseSecurityOption(s, text, h); err != nil {
			return err
		}
	}

	for _, text := range f.devices {
		d, err := parseDevice(text)
		if err != nil {
			return err
		}
		s.Devices = append(s.Devices, d)
	}

	if err := f.parseGroups(s); err != nil {
		return err
	}
	if err := f.namespaces.check(); err != nil {
		return err
	}
	s.CgroupNames = f.namespaces.cgroupNames(h.Config.Containers.CgroupNS)

	return f.ids.parse(s)
}

func (f *securityFlags) parseCapabilities(c Config, s *spec.Security) (err error) {
	if s.Capabilities, err = c.capabilities(); err != nil {
		return err
	}

	s.CapAdd = f.capAdd
	s.CapDrop = f.capDrop
	base := s.Capabilities
	if base == nil {
		base = sandbox.DefaultCapabilities()
	}
	if _, err := sandbox.MergeCapabilities(base, f.capAdd, f.capDrop); err != nil {
		return fmt.Errorf("--cap-add and --cap-drop: %w", err)
	}
	return nil
}

// setSeccomp chooses a profile in place of an earlier choice: a path, "unconfined" for none, or "" for docker's own.
func setSeccomp(s *spec.Security, profile, from string) {
	s.NoSeccomp = profile == "unconfined"
	s.SeccompFile = spec.File{}
	if profile != "" && !s.NoSeccomp {
		s.SeccompFile = spec.File{Path: profile, From: from}
	}
}

// maxProfileName bounds the name of an AppArmor profile, in bytes: it is written to a file that takes a page.
const maxProfileName = 1 << 10

// parseSecurityOption reads one --security-opt. As with docker and podman a colon may stand for the first equals sign.
func parseSecurityOption(s *spec.Security, text string, h *Host) error {
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
		s.NoNewPrivileges = on || !ok
	case !ok || value == "":
		return refuse("want NAME=VALUE, or no-new-privileges")
	case name == "seccomp":
		setSeccomp(s, value, "--security-opt seccomp="+value)
	case name == "mask":
		return maskPaths(s, value, refuse)
	case name == "unmask":
		return unmaskPaths(s, value, refuse)
	case name == "systempaths" && value == "unconfined": // docker's
		return unmaskPaths(s, "all", refuse)
	case name == "label" && value == "disable": // RUN has the label of rbuild
	case name == "label" && !h.SELinux: // nothing has a label, as with podman
	case name == "label":
		return refuse("RUN has no SELinux label but rbuild's own; only label=disable, which changes nothing, " +
			"is accepted")
	case name == "apparmor":
		if strings.ContainsFunc(value, unicode.IsControl) || len(value) > maxProfileName {
			return refuse("it is no name of a profile")
		}
		s.From.AppArmor = "--security-opt apparmor=" + value
		s.AppArmor = value
		if value == "unconfined" { // RUN has the profile of rbuild
			s.AppArmor = ""
		}
	default:
		return refuse("choose seccomp, no-new-privileges, mask, unmask, apparmor or label=disable")
	}

	return nil
}

func maskPaths(s *spec.Security, value string, refuse func(string) error) error {
	for p := range strings.SplitSeq(value, ":") {
		clean := path.Clean(p)
		if !path.IsAbs(p) || clean == "/" || strings.ContainsRune(p, 0) {
			return refuse(fmt.Sprintf("%q is not an absolute path below /", p))
		}
		s.Mask = append(s.Mask, clean)
	}
	return nil
}

// unmaskPaths reads paths, and patterns of paths, that are hidden or read-only by default.
func unmaskPaths(s *spec.Security, value string, refuse func(string) error) error {
	usual := sandbox.DefaultSpec().Linux
	hidden := slices.Concat(usual.MaskedPaths, usual.ReadonlyPaths)
	s.From.Unmask = "--security-opt unmask"
	for p := range strings.SplitSeq(value, ":") {
		if strings.EqualFold(p, "all") {
			s.Unmask = append(s.Unmask, hidden...)
			continue
		}
		matches := func(h string) bool {
			ok, err := path.Match(p, h)
			return ok && err == nil
		}
		if !slices.ContainsFunc(hidden, matches) {
			return refuse(fmt.Sprintf("%q is none of what is hidden (%s) or read-only (%s)", p,
				strings.Join(usual.MaskedPaths, " "), strings.Join(usual.ReadonlyPaths, " ")))
		}
		s.Unmask = append(s.Unmask, p)
	}
	return nil
}

// keepGroups is podman's word for the caller's own groups.
const keepGroups = "keep-groups"

func (f *securityFlags) parseGroups(s *spec.Security) error {
	for _, g := range f.groups {
		n, err := strconv.ParseUint(g, 10, 32)
		isNumber := strings.Trim(g, "0123456789") == ""
		if g == "" || isNumber && (err != nil || n == math.MaxUint32) {
			return fmt.Errorf("--group-add %q: want a name of the image's /etc/group, or a number", g)
		}
	}

	if !slices.Contains(f.groups, keepGroups) {
		s.Groups = f.groups
		return nil
	}
	if len(f.groups) > 1 {
		return errors.New("--group-add keep-groups: no other group can be given beside it")
	}
	s.KeepGroups = true
	return nil
}

// parseDevice reads HOST-DEVICE[:PATH][:PERMISSIONS]. In a user namespace there is no devices cgroup that could hold a step
// to fewer permissions than the mode of the device grants, and no permission to make device nodes. So rw and rwm mean the
// same, and fewer permissions are refused.
func parseDevice(text string) (spec.Device, error) {
	refuse := func(why string) (spec.Device, error) { return spec.Device{}, fmt.Errorf("--device %q: %s", text, why) }
	source, rest, _ := strings.Cut(text, ":")
	dest, permissions, ok := deviceParts(source, rest, strings.Contains(text, ":"))
	switch {
	case permissions != "" && (!strings.Contains(permissions, "r") || !strings.Contains(permissions, "w")):
		return refuse("permissions less than rw cannot be enforced without root: " +
			"what the mode of the device grants to the user, RUN has")
	case !path.IsAbs(source) && strings.Contains(source, "=") && strings.Contains(source, "/"):
		return refuse("devices of CDI (VENDOR/CLASS=NAME) are not supported: name the device files")
	case !ok, !path.IsAbs(source), !path.IsAbs(dest), strings.ContainsRune(text, 0):
		return refuse("want /HOST-DEVICE[:/PATH][:rwm]")
	}

	d := spec.Device{Path: path.Clean(source), Dest: path.Clean(dest), From: fmt.Sprintf("--device %q", text)}
	for _, own := range []string{"/", "/proc", "/sys", "/dev/pts", "/dev/shm", "/dev/mqueue"} {
		if d.Dest == own || own != "/" && strings.HasPrefix(d.Dest, own+"/") {
			return refuse(fmt.Sprintf("RUN has something else at %s: choose another path with %s:/PATH", own, d.Path))
		}
	}
	return d, nil
}

// deviceParts splits the text after HOST-DEVICE into a path and permissions; colon means that there is such a text.
func deviceParts(source, rest string, colon bool) (dest, permissions string, ok bool) {
	if !colon {
		return source, "", true
	}

	parts := strings.Split(rest, ":")
	last := parts[len(parts)-1]
	if last != "" && strings.Trim(last, "rwm") == "" {
		permissions = last
		parts = parts[:len(parts)-1]
	}

	switch len(parts) {
	case 0:
		return source, permissions, true
	case 1:
		return parts[0], permissions, true
	}
	return "", permissions, false
}

// idFlags choose the user and group IDs that RUN knows. On disk the files of an image have the owners that they have in the
// image, by the IDs of the builder's user namespace, so that no ID can stand for another: a map can only leave IDs out.
type idFlags struct {
	userns     string
	uids, gids []string
}

func (f *idFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectSecurity, func(fs *pflag.FlagSet) {
		fs.StringSliceVar(&f.uids, "userns-uid-map", nil,
			"User ids that RUN knows as ID:ID:COUNT, e.g. 0:0:1000; both ids are the same, and a range has id 0")
		fs.StringSliceVar(&f.gids, "userns-gid-map", nil,
			"Group ids that RUN knows as ID:ID:COUNT, e.g. 0:0:1000; one of the two flags stands for both")
	})
	section(fs, SubjectCompatibility, func(fs *pflag.FlagSet) {
		fs.StringVar(&f.userns, "userns", "",
			"User namespace of RUN: private (default) or host, both with the ids of the namespace that rbuild makes")
	})
}

func (f *idFlags) parse(s *spec.Security) (err error) {
	s.From.UIDs = "--userns-uid-map"
	s.From.GIDs = "--userns-gid-map"
	s.From.HostIDs = "--userns=host"
	how, _, _ := strings.Cut(f.userns, ":")
	switch how {
	case "", "private", "container":
	case "host":
		if len(f.uids)+len(f.gids) > 0 {
			return errors.New("--userns=host has no maps: leave --userns-uid-map and --userns-gid-map out")
		}
		s.HostIDs = true
	case "auto", "keep-id", "nomap":
		return fmt.Errorf("--userns=%s is not supported: it gives RUN other ids than the files of the image have; "+
			"private and host are", f.userns)
	default:
		return fmt.Errorf("--userns=%s is not supported: RUN has a user namespace of its own; choose private or host",
			f.userns)
	}

	if s.UIDs, err = ParseIDs(s.From.UIDs, f.uids); err != nil {
		return err
	}
	if s.GIDs, err = ParseIDs(s.From.GIDs, f.gids); err != nil {
		return err
	}

	switch { // as with buildah
	case len(s.UIDs) == 0:
		s.UIDs = s.GIDs
	case len(s.GIDs) == 0:
		s.GIDs = s.UIDs
	}
	return nil
}

// maxIDRanges is the number of ranges that the kernel accepts in a map (user_namespaces(7)).
const maxIDRanges = 340

// ParseIDs reads ID:ID:COUNT, for example 0:0:1000; several are separated by commas or colons. flag is its name in errors.
func ParseIDs(flag string, list []string) (out []sandbox.IDRange, err error) {
	zero := false
	text := strings.Join(list, ",")
	numbers := strings.FieldsFunc(text, func(r rune) bool { return r == ':' || r == ',' })
	for i := 0; i < len(numbers); i += 3 {
		var n [3]uint64
		for k := range n {
			err := errors.New("missing")
			if i+k < len(numbers) {
				n[k], err = strconv.ParseUint(numbers[i+k], 10, 32)
			}
			if err != nil {
				return nil, fmt.Errorf("%s %q: want ID:ID:COUNT, e.g. 0:0:1000", flag, text)
			}
		}

		r := sandbox.IDRange{First: uint32(n[0]), Count: uint32(n[2])}
		overlaps := func(o sandbox.IDRange) bool { return spec.CommonIDs(o, r) > 0 }
		switch {
		case n[0] != n[1]:
			return nil, fmt.Errorf("%s %q: id %d cannot be %d on disk: the store keeps the ids of the image; "+
				"choose ID:ID:COUNT", flag, text, n[0], n[1])
		case n[2] == 0 || n[0]+n[2] > 1<<32-1:
			return nil, fmt.Errorf("%s %q: %d ids from %d on are none, or beyond the last", flag, text, n[2], n[0])
		case slices.ContainsFunc(out, overlaps):
			return nil, fmt.Errorf("%s %q: an id is given twice", flag, text)
		}

		zero = zero || r.First == 0
		out = append(out, r)
	}

	if len(out) > maxIDRanges || len(out) > 0 && !zero {
		return nil, fmt.Errorf("%s %q: id 0 must be among them, and %d ranges at most", flag, text, maxIDRanges)
	}
	return out, nil
}

// namespaceFlags are buildah's flags for the other namespaces. RUN has namespaces of its own in any case.
type namespaceFlags struct{ pid, ipc, uts, cgroup string }

func (f *namespaceFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectCompatibility, func(fs *pflag.FlagSet) {
		for _, n := range f.all() {
			fs.StringVar(n.value, n.name, "",
				"Namespace of RUN, accepted as private (default): RUN has "+n.what+" of its own")
		}
	})
	section(fs, SubjectSecurity, func(fs *pflag.FlagSet) {
		fs.StringVar(&f.cgroup, "cgroupns", "",
			"Names of cgroups in RUN: private (default where RUN has a cgroup of its own) or host")
	})
}

type namespaceFlag struct {
	name, what string
	value      *string
	reach      string // what RUN would reach in the host's
}

func (f *namespaceFlags) all() []namespaceFlag {
	return []namespaceFlag{
		{
			"pid", "a PID namespace", &f.pid,
			"could signal the builder, and what it leaves running would not end with it",
		},
		{"ipc", "an IPC namespace", &f.ipc, "would share memory with the user's other programs"},
		{"uts", "a UTS namespace", &f.uts, "would see the machine's name, and the build would depend on it"},
	}
}

// cgroupNames returns the view of cgroups in RUN; usual is the value of containers.conf.
func (f *namespaceFlags) cgroupNames(usual string) sandbox.CgroupNames {
	switch cmp.Or(f.cgroup, usual) {
	case "host":
		return sandbox.CgroupHost
	case "private", "container":
		return sandbox.CgroupPrivate
	}
	return sandbox.CgroupAuto
}

func (f *namespaceFlags) check() error {
	if !slices.Contains([]string{"", "host", "private", "container"}, f.cgroup) {
		return fmt.Errorf("--cgroupns=%s is not supported: choose host or private", f.cgroup)
	}

	for _, n := range f.all() {
		switch how := *n.value; how {
		case "", "private", "container":
		case "host":
			return fmt.Errorf("--%s=host is not supported: RUN %s; it has %s of its own", n.name, n.reach, n.what)
		default:
			return fmt.Errorf("--%s=%s is not supported: RUN has %s of its own; private is the only choice", n.name,
				how, n.what)
		}
	}
	return nil
}
