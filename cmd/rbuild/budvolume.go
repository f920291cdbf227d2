package main

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"codeberg.org/rbuild/rbuild/internal/runner"
)

// idleVolumeOptions are options of --volume that describe the default: mounts of RUN are private, all of the source is
// bound, and nothing is copied into the source. RUN's processes have the SELinux label of rbuild itself, so that no file
// needs another label (z, Z).
var idleVolumeOptions = []string{"rw", "z", "Z", "bind", "rbind", "private", "rprivate", "nocopy", "exec"}

const privateMounts = "the mounts of RUN are private"

// refusedVolumeOptions are options of the peers' --volume, with the reason why RUN has none of them.
var refusedVolumeOptions = map[string]string{
	"U":      "the owners of the source are not changed; change them with rbuild unshare chown",
	"copy":   "nothing is copied into the source",
	"dev":    "no mount of RUN has devices; give one with --device",
	"suid":   "it is no choice: a mount without nosuid has what the source has",
	"idmap":  "the source has the ids of the builder's user namespace",
	"shared": privateMounts, "rshared": privateMounts, "slave": privateMounts, "rslave": privateMounts,
	"unbindable": privateMounts, "runbindable": privateMounts,
	"upperdir": "the upper directory of O is thrown away", "workdir": "the upper directory of O is thrown away",
}

// parseVolumes opens the files and directories of --volume. They stay open for the life of the process.
func parseVolumes(list []string) ([]runner.Volume, error) {
	var out []runner.Volume
	for _, text := range list {
		parts := strings.Split(text, ":")
		if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || !path.IsAbs(parts[1]) {
			return nil, fmt.Errorf("--volume %q: want HOST-PATH:PATH[:OPTION,...]", text)
		}

		v := runner.Volume{Text: text, Dest: path.Clean(parts[1])}
		if len(parts) == 3 {
			if err := volumeOptions(&v, parts[2]); err != nil {
				return nil, fmt.Errorf("--volume %q: %w", text, err)
			}
		}

		var err error
		if v.Source, err = openPath(parts[0]); err != nil { // without waiting for the writer of a pipe
			return nil, fmt.Errorf("--volume %q: %w", text, err)
		}
		if info, err := v.Source.Stat(); err != nil || v.Overlay && !info.IsDir() {
			return nil, errors.Join(fmt.Errorf("--volume %q: option O needs a directory", text), err)
		}
		out = append(out, v)
	}

	return out, nil
}

// volumeOptions reads the options of a --volume, separated by commas.
func volumeOptions(v *runner.Volume, text string) error {
	for option := range strings.SplitSeq(text, ",") {
		name, _, _ := strings.Cut(option, "=")
		if strings.EqualFold(option, "z") && hasSELinux() {
			logrus.Warnf("--volume %s: option %s relabels no file: RUN has the SELinux label of rbuild itself", v.Text, option)
		}
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
	}

	return nil
}
