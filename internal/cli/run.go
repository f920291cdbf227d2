package cli

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/tonistiigi/go-csvvalue"

	"codeberg.org/rbuild/rbuild/internal/spec"
)

// runFlags name the files, secrets and agents that RUN can use.
type runFlags struct {
	compat    bool // --compat-volumes
	stdin     bool
	isolation string
	volumes   []string
	secrets   []string
	ssh       []string
}

func (f *runFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectRun, func(fs *pflag.FlagSet) {
		fs.BoolVar(&f.compat, "compat-volumes", false, "Discard files that RUN writes below a VOLUME")
		fs.BoolVar(&f.stdin, "stdin", false, "Pass standard input to RUN")
		fs.StringArrayVarP(&f.volumes, "volume", "v", nil,
			"Path of the host for RUN as HOST-PATH:PATH[:OPTION,...], e.g. /srv/data:/data:ro; options: ro, "+
				"noexec, nosuid, nodev, O")
		fs.StringArrayVar(&f.secrets, "secret", nil,
			"Secret for RUN --mount=type=secret as id=ID[,src=FILE|,env=VARIABLE], e.g. id=npm,src=.npmrc")
		fs.StringArrayVar(&f.ssh, "ssh", nil,
			"SSH agent or keys for RUN --mount=type=ssh as ID[=SOCKET|=KEY[,KEY]], e.g. default; "+
				"ID alone is the agent at $SSH_AUTH_SOCK")
	})
	section(fs, SubjectCompatibility, func(fs *pflag.FlagSet) {
		fs.StringVar(&f.isolation, "isolation", "",
			"Isolation of RUN, accepted as oci, rootless, chroot or default: RUN always has rbuild's own sandbox")
	})
}

func (f *runFlags) parse(h *Host, b *spec.Build) (err error) {
	if err := f.checkIsolation(h.Env); err != nil {
		return err
	}

	r := &b.Run
	r.Stdin = f.stdin
	r.StdinFrom = "--stdin"
	r.CompatVolumes = f.compat
	for _, text := range f.volumes {
		v, warnings, err := parseVolume(text, h.SELinux)
		if err != nil {
			return err
		}
		r.Volumes = append(r.Volumes, v)
		r.Warnings = append(r.Warnings, warnings...)
	}

	if r.Secrets, err = parseSecrets(f.secrets); err != nil {
		return err
	}
	r.Agents, err = parseAgents(f.ssh, h.Env)
	return err
}

// checkIsolation refuses words that buildah does not know. The words that buildah knows all mean the sandbox of rbuild.
func (f *runFlags) checkIsolation(env spec.Lookup) error {
	word := f.isolation
	from := "--isolation"
	if word == "" {
		word, _ = env("BUILDAH_ISOLATION")
		from = "BUILDAH_ISOLATION in the environment:"
	}
	if !slices.Contains([]string{"", "default", "oci", "rootless", "chroot"}, strings.ToLower(word)) {
		return fmt.Errorf("%s %q: RUN always has rbuild's own sandbox, for which oci, rootless and chroot are accepted",
			from, word)
	}
	return nil
}

// idleVolumeOptions are options of --volume that describe the default: mounts of RUN are private, all of the source is
// bound, and nothing is copied into the source. RUN's processes have the SELinux label of rbuild itself, so that no file
// needs another label (z, Z).
var idleVolumeOptions = []string{"rw", "z", "Z", "bind", "rbind", "private", "rprivate", "nocopy", "exec"}

const privateMounts = "the mounts of RUN are private"

// refusedVolumeOptions maps options of --volume that buildah, podman and docker have, and rbuild has not, to the reason.
var refusedVolumeOptions = map[string]string{
	"U":          "the owners of the source are not changed; change them with rbuild unshare chown",
	"copy":       "nothing is copied into the source",
	"dev":        "no mount of RUN has devices; give one with --device",
	"suid":       "it is no choice: a mount without nosuid has what the source has",
	"idmap":      "the source has the ids of the builder's user namespace",
	"shared":     privateMounts,
	"rshared":    privateMounts,
	"slave":      privateMounts,
	"rslave":     privateMounts,
	"unbindable": privateMounts, "runbindable": privateMounts,
	"upperdir": "the upper directory of O is thrown away",
	"workdir":  "the upper directory of O is thrown away",
}

// parseVolume reads one --volume: HOST-PATH:PATH[:OPTION,...].
func parseVolume(text string, selinux bool) (v spec.Volume, warnings []string, err error) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || !path.IsAbs(parts[1]) {
		return v, nil, fmt.Errorf("--volume %q: want HOST-PATH:PATH[:OPTION,...]", text)
	}

	v = spec.Volume{Path: parts[0], Dest: path.Clean(parts[1]), Text: text, From: fmt.Sprintf("--volume %q", text)}
	if len(parts) == 2 {
		return v, nil, nil
	}

	for option := range strings.SplitSeq(parts[2], ",") {
		if strings.EqualFold(option, "z") && selinux {
			warnings = append(warnings,
				fmt.Sprintf("--volume %s: option %s relabels no file: RUN has the SELinux label of rbuild itself", text,
					option))
		}
		if err := setVolumeOption(&v, option); err != nil {
			return v, nil, fmt.Errorf("%s: %w", v.From, err)
		}
	}
	return v, warnings, nil
}

func setVolumeOption(v *spec.Volume, option string) error {
	name, _, _ := strings.Cut(option, "=")
	switch {
	case option == "ro":
		v.ReadOnly = true
	case option == "O":
		v.Overlay = true
	case option == "nosuid", option == "nodev", option == "noexec":
		v.Options = append(v.Options, option)
	case slices.Contains(idleVolumeOptions, option):
	case refusedVolumeOptions[name] != "":
		return fmt.Errorf("option %q is not supported: %s", option, refusedVolumeOptions[name])
	default:
		return fmt.Errorf("option %q is not known; choose from ro, rw, z, Z, O, noexec, nosuid and nodev", option)
	}
	return nil
}

// parseSecrets reads --secret. Its errors never hold a value.
func parseSecrets(list []string) (out []spec.Secret, err error) {
	for _, text := range list {
		s, err := parseSecret(text)
		if err != nil {
			return nil, fmt.Errorf("--secret %q: %w", text, err)
		}
		if slices.ContainsFunc(out, func(o spec.Secret) bool { return o.ID == s.ID }) {
			return nil, fmt.Errorf("--secret %q: there is another with this id", text)
		}
		s.From = fmt.Sprintf("--secret %q", text)
		out = append(out, s)
	}
	return out, nil
}

// parseSecret reads id=ID with src=FILE or env=VARIABLE, or with type=env and the variable as src. With neither, the ID is
// the name of the variable if there is one, else of the file.
func parseSecret(text string) (s spec.Secret, err error) {
	if text == "" {
		return s, errors.New("want id=ID[,src=FILE|,env=VARIABLE]")
	}

	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return s, err
	}

	kind := ""
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return s, fmt.Errorf("%q is not KEY=VALUE", field)
		}
		switch strings.ToLower(key) {
		case "id":
			s.ID = value
		case "type":
			kind = value
		case "src", "source":
			s.File = value
		case "env":
			s.Variable = value
		default:
			return s, fmt.Errorf("unknown key %q: want id, src, env and type", key)
		}
	}

	switch {
	case s.ID == "":
		return s, errors.New("an id is needed: id=ID,src=FILE or id=ID,env=VARIABLE")
	case kind != "" && kind != "file" && kind != "env":
		return s, fmt.Errorf("type %q is neither file nor env", kind)
	case s.File != "" && s.Variable != "":
		return s, errors.New("src and env contradict each other: give one of them")
	case kind == "file" && s.Variable != "":
		return s, errors.New("env is for type=env")
	}

	switch {
	case kind == "env" && s.Variable == "":
		s.Variable = s.File
		s.File = ""
		if s.Variable == "" {
			s.Variable = s.ID
		}
	case s.File == "" && s.Variable == "" && kind == "file":
		s.File = s.ID
	case s.File == "" && s.Variable == "":
		s.Guess = true
	}
	return s, nil
}

// parseAgents reads --ssh: ID[=SOCKET|=KEY[,KEY...]].
func parseAgents(list []string, env spec.Lookup) (out []spec.Agent, err error) {
	for _, text := range list {
		id, rest, given := strings.Cut(text, "=")
		if id == "" {
			return nil, fmt.Errorf("--ssh %q: want ID[=SOCKET|=KEY[,KEY]], e.g. default", text)
		}
		if slices.ContainsFunc(out, func(a spec.Agent) bool { return a.ID == id }) {
			return nil, fmt.Errorf("--ssh %q: there is another with this id", text)
		}

		paths := strings.Split(rest, ",")
		if !given || rest == "" {
			socket, _ := env("SSH_AUTH_SOCK")
			if socket == "" {
				return nil, fmt.Errorf("--ssh %q: no agent runs ($SSH_AUTH_SOCK is not set): start one, "+
					"or give a key's file", text)
			}
			paths = []string{socket}
		}
		out = append(out, spec.Agent{ID: id, Paths: paths, From: fmt.Sprintf("--ssh %q", text)})
	}
	return out, nil
}
