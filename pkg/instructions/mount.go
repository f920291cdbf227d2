package instructions

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/tonistiigi/go-csvvalue"
)

// Types of mounts: RUN --mount=type=bind and so on.
const (
	MountBind   = "bind"
	MountCache  = "cache"
	MountTmpfs  = "tmpfs"
	MountSecret = "secret"
	MountSSH    = "ssh"
)

// Modes of a cache mount that several steps use at the same time: RUN
// --mount=type=cache,sharing=locked.
const (
	SharingShared  = "shared"  // the steps use the directory together
	SharingPrivate = "private" // a step gets a new directory if another step uses the directory
	SharingLocked  = "locked"  // a step waits until no other step uses the directory
)

// MountFlag is a --mount of RUN as written: options separated by commas and quoted as in CSV.
// Expander.Command replaces the variables in the values; Mount then reads the options.
type MountFlag struct {
	Fields []MountField
}

// MountField is one option of a MountFlag.
type MountField struct {
	Key   string // lower case
	Value string
	Bare  bool // the option has no "=", as ro
}

// Mount is a mount of RUN.
type Mount struct {
	Type     string // MountBind, MountCache, MountTmpfs, MountSecret or MountSSH
	From     string // of bind and cache: stage, index or image; empty: the build context for bind, no files for cache
	Source   string // of bind and cache: path below From; empty: the root of From
	Target   string // as written; may be relative or empty
	ReadOnly bool
	ID       string  // of cache, secret and ssh; never empty for these types
	Sharing  string  // of cache: SharingShared, SharingPrivate or SharingLocked
	Size     int64   // of tmpfs, in bytes; 0: no limit
	Env      *string // of secret: the environment variable for the value; nil: none
	Required bool    // of secret and ssh
	Mode     *uint32 // of cache, secret, ssh and tmpfs (tmpfs as in buildah); nil: the default of the type
	UID, GID *uint32 // of cache, secret and ssh; nil: 0
	// Attributes of bind, cache and tmpfs: nosuid, nodev and noexec of mount(8).
	Attributes []string

	// Idle lists the given options that have no effect for a mount of this type.
	Idle []string
}

// mountAliases maps every accepted key to the name of the option: dst -> target.
var mountAliases = map[string]string{
	"type":             "type",
	"from":             "from",
	"source":           "source",
	"src":              "source",
	"target":           "target",
	"dst":              "target",
	"destination":      "target",
	"readonly":         "ro",
	"ro":               "ro",
	"readwrite":        "rw",
	"rw":               "rw",
	"id":               "id",
	"sharing":          "sharing",
	"required":         "required",
	"size":             "size",
	"tmpfs-size":       "size",
	"tmpfs-mode":       "tmpfs-mode",
	"mode":             "mode",
	"uid":              "uid",
	"gid":              "gid",
	"env":              "env",
	"nosuid":           "nosuid",
	"nodev":            "nodev",
	"noexec":           "noexec",
	"exec":             "exec",
	"relabel":          "relabel",
	"z":                "relabel", // keys are compared without case, so Z is z
	"bind-propagation": "private",
	"private":          "private",
	"rprivate":         "private",
	"consistency":      "consistency",
}

// bareMountKeys lists the keys that need no value, for example "ro".
var bareMountKeys = []string{"ro", "rw", "required", "nosuid", "nodev", "noexec", "exec", "private", "relabel"}

// refusedMountKeys lists options of other tools, with the reason why RUN --mount does not have
// them.
var refusedMountKeys = map[string]string{
	"u": noChown, "chown": noChown,
	"slave": noPropagation, "rslave": noPropagation, "shared": noPropagation, "rshared": noPropagation,
	"bind-nonrecursive": noPropagation, "dev": "no mount of RUN has devices; give one with --device",
	"suid": noAttributes, "tmpcopyup": noAttributes, "notmpcopyup": noAttributes, "no-dereference": noAttributes,
	"idmap": noAttributes,
}

const (
	noChown       = "the owners of a source are not changed; a cache has uid= and gid="
	noPropagation = "the mounts of RUN are private"
	noAttributes  = "it is no option of a Dockerfile's mounts"
)

// mountUses lists the options of each type; every type has type and target. An option of another
// type has no effect (Idle), or is an error as in BuildKit (misplaced).
var mountUses = map[string][]string{
	MountBind: {"from", "source", "ro", "rw", "nosuid", "nodev", "noexec", "exec", "private", "relabel", "consistency"},
	MountCache: {
		"from", "source", "ro", "rw", "id", "sharing", "mode", "uid", "gid",
		"nosuid", "nodev", "noexec", "exec", "private", "relabel",
	},
	MountTmpfs:  {"ro", "rw", "size", "tmpfs-mode", "nosuid", "nodev", "noexec", "exec"},
	MountSecret: {"source", "id", "env", "required", "mode", "uid", "gid"},
	MountSSH:    {"id", "required", "mode", "uid", "gid"},
}

// misplaced lists the options that are an error for a type without them.
var misplaced = []string{"required", "size", "sharing", "mode", "tmpfs-mode", "uid", "gid"}

// ParseMountFlag parses the value of --mount on the command line, for example
// "type=cache,target=/root/.cache".
func ParseMountFlag(text string) (MountFlag, error) {
	m, err := parseMountFlag(text)
	if err != nil {
		return m, err
	}
	_, err = m.Mount()
	return m, err
}

// parseMountFlag splits the value of a --mount. It reports the errors that do not depend on
// variables.
func parseMountFlag(text string) (MountFlag, error) {
	var m MountFlag
	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return m, fmt.Errorf("--mount=%s: %w", shown(text), err)
	}

	final := true
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		f := MountField{Key: strings.ToLower(key), Value: value, Bare: !ok}
		if err := checkMountKey(f); err != nil {
			return m, err
		}
		m.Fields = append(m.Fields, f)
		final = final && !strings.ContainsAny(value, "$\\`'\"")
	}

	if from := m.From(); strings.Contains(from, "$") {
		return m, &hintError{
			"--mount: from=" + shown(from) + ": variables are not expanded in from",
			"give the image a name with FROM ... AS, where variables work",
		}
	}

	if final {
		_, err = m.Mount()
	}

	return m, err
}

func checkMountKey(f MountField) error {
	if why, ok := refusedMountKeys[f.Key]; ok {
		return fmt.Errorf("--mount: option %s is refused: %s", f.Key, why)
	}

	key, ok := mountAliases[f.Key]
	switch {
	case f.Key == "":
		return errors.New("--mount: an empty option")
	case !ok:
		return &hintError{
			"--mount: unknown option " + strconv.Quote(shown(f.Key)),
			didYouMean(f.Key, slices.Collect(maps.Keys(mountAliases)), ""),
		}
	case f.Bare && (!slices.Contains(bareMountKeys, key) || f.Key == "relabel" || f.Key == "bind-propagation"):
		return fmt.Errorf("--mount: option %s needs a value", f.Key)
	}

	return nil
}

// From returns the value of the option from, in which variables are not replaced. From returns an
// empty string if the type is known and has no such option.
func (m MountFlag) From() string {
	from := ""
	for _, f := range m.Fields {
		switch mountAliases[f.Key] {
		case "from":
			from = f.Value
		case "type":
			if uses, ok := mountUses[strings.ToLower(f.Value)]; ok && !slices.Contains(uses, "from") {
				return ""
			}
		}
	}

	return from
}

// Mount reads the options after the variables were replaced. If an option is given twice, the last
// value counts.
func (m MountFlag) Mount() (Mount, error) {
	out := Mount{Type: MountBind}
	for _, f := range m.Fields {
		if f.Key == "type" {
			out.Type = strings.ToLower(f.Value)
		}
	}

	uses, ok := mountUses[out.Type]
	if !ok {
		types := slices.Collect(maps.Keys(mountUses))
		return out, &hintError{
			"--mount: unknown type " + strconv.Quote(shown(out.Type)),
			didYouMean(out.Type, types, ""),
		}
	}

	out.ReadOnly = out.Type == MountBind
	for _, f := range m.Fields {
		key := mountAliases[f.Key]
		if key != "type" && key != "target" && !slices.Contains(uses, key) {
			if slices.Contains(misplaced, key) ||
				key == "from" && out.Type == MountSecret ||
				key == "source" && out.Type == MountSSH {
				return out, fmt.Errorf("--mount: a mount of type %s has no option %s", out.Type, f.Key)
			}
			out.Idle = append(out.Idle, f.Key)
			continue
		}
		if err := out.set(key, f); err != nil {
			return out, fmt.Errorf("--mount: %s=%s: %w", f.Key, shown(f.Value), err)
		}
	}

	return out, out.complete()
}

// set applies one option.
func (m *Mount) set(key string, f MountField) (err error) {
	switch key {
	case "from":
		m.From = f.Value
	case "source":
		m.Source = f.Value
	case "target":
		m.Target = f.Value
	case "id":
		m.ID = f.Value
	case "env":
		m.Env = &f.Value
	case "ro":
		m.ReadOnly, err = mountBool(f)
	case "rw":
		m.ReadOnly, err = mountBool(f)
		m.ReadOnly = !m.ReadOnly
	case "required":
		m.Required, err = mountBool(f)
	case "nosuid", "nodev", "noexec", "exec":
		return m.setAttribute(f)
	case "private", "relabel":
		return checkIdle(f)
	case "size":
		m.Size, err = units.RAMInBytes(f.Value)
		if m.Size < 0 {
			err = cmp.Or(err, errors.New("a size is not negative"))
		}
	case "mode", "tmpfs-mode":
		m.Mode, err = mountNumber(f.Value, 8, 0o7777, "an octal mode up to 7777")
	case "uid":
		m.UID, err = mountNumber(f.Value, 10, 1<<32-2, "a number of a user")
	case "gid":
		m.GID, err = mountNumber(f.Value, 10, 1<<32-2, "a number of a group")
	case "sharing":
		m.Sharing = strings.ToLower(f.Value)
		ways := []string{SharingShared, SharingPrivate, SharingLocked}
		if !slices.Contains(ways, m.Sharing) {
			return &hintError{"neither shared nor private nor locked", didYouMean(m.Sharing, ways, "")}
		}
	}

	return err
}

// setAttribute applies an attribute of mount(8), such as noexec. exec is the default.
func (m *Mount) setAttribute(f MountField) error {
	on, err := mountBool(f)
	if err != nil {
		return err
	}

	name := f.Key
	if name == "exec" {
		name, on = "noexec", !on
	}
	m.Attributes = slices.DeleteFunc(m.Attributes, func(a string) bool { return a == name })
	if on {
		m.Attributes = append(m.Attributes, name)
	}
	return nil
}

// checkIdle accepts an option that describes the default. Mounts of RUN are private. The processes
// of RUN have the SELinux label of rbuild, which may read all files of the user, so that no file
// needs another label.
func checkIdle(f MountField) error {
	switch f.Key {
	case "relabel":
		if f.Value != "shared" && f.Value != "private" {
			return errors.New("neither shared nor private")
		}
	case "bind-propagation":
		if f.Value != "private" && f.Value != "rprivate" {
			return errors.New(noPropagation)
		}
	default:
		if on, err := mountBool(f); err != nil || !on {
			return errors.New("want it alone")
		}
	}

	return nil
}

func mountBool(f MountField) (bool, error) {
	if f.Bare {
		return true, nil
	}
	v, err := strconv.ParseBool(f.Value)
	if err != nil {
		return false, fmt.Errorf("neither true nor false")
	}
	return v, nil
}

func mountNumber(text string, base int, most uint64, what string) (*uint32, error) {
	n, err := strconv.ParseUint(text, base, 32)
	if err != nil || n > most {
		return nil, fmt.Errorf("not %s", what)
	}
	v := uint32(n)
	return &v, nil
}

// complete sets the defaults that do not depend on the stage.
func (m *Mount) complete() error {
	switch m.Type {
	case MountCache:
		if m.ID == "" {
			m.ID = path.Clean(m.Target)
		}
		if m.Sharing == "" {
			m.Sharing = SharingShared
		}
		if m.From == "" && path.Clean("/"+m.Source) != "/" {
			return fmt.Errorf("--mount: source=%s of a cache is a path in from=, which is not given", shown(m.Source))
		}
	case MountSecret:
		if m.ID != "" && m.Source != "" {
			return fmt.Errorf("--mount: id and source of a secret are the same: give one of them")
		}
		if m.ID == "" {
			m.ID, m.Source = m.Source, ""
		}
		if m.ID == "" && m.Target == "" {
			return fmt.Errorf("--mount: a secret needs an id or a target")
		}
		if m.ID == "" {
			m.ID = path.Base(m.Target)
		}
		if m.Env != nil && !validVariable(*m.Env) {
			return fmt.Errorf("--mount: env=%s is no name of a variable", shown(*m.Env))
		}
	case MountSSH:
		if m.ID == "" {
			m.ID = "default"
		}
	}

	return nil
}

// validVariable reports whether an environment variable can have the name.
func validVariable(name string) bool { return name != "" && !strings.ContainsAny(name, "=\x00") }
