package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mountOptions are the options of one mount of a runtime-spec, sorted by the system call that takes
// them.
type mountOptions struct {
	set, clear uint64   // attributes for mount_setattr(2) and fsmount(2)
	params     []string // "key=value" or "flag", for fsconfig(2)
	device     bool     // the source of a bind mount is a device that may be opened: option dev
}

// attribute returns the mount attributes of an option that belongs to the mount rather than to the
// file system, for example "ro". The attributes in clear are cleared before those in set are set.
func attribute(option string) (set, clear uint64, ok bool) {
	switch option {
	case "ro":
		return unix.MOUNT_ATTR_RDONLY, 0, true
	case "rw":
		return 0, unix.MOUNT_ATTR_RDONLY, true
	case "nosuid":
		return unix.MOUNT_ATTR_NOSUID, 0, true
	case "suid":
		return 0, unix.MOUNT_ATTR_NOSUID, true
	case "nodev":
		return unix.MOUNT_ATTR_NODEV, 0, true
	case "dev":
		return 0, unix.MOUNT_ATTR_NODEV, true
	case "noexec":
		return unix.MOUNT_ATTR_NOEXEC, 0, true
	case "exec":
		return 0, unix.MOUNT_ATTR_NOEXEC, true
	case "noatime":
		return unix.MOUNT_ATTR_NOATIME, unix.MOUNT_ATTR__ATIME, true
	case "strictatime":
		return unix.MOUNT_ATTR_STRICTATIME, unix.MOUNT_ATTR__ATIME, true
	case "relatime":
		return 0, unix.MOUNT_ATTR__ATIME, true
	case "nodiratime":
		return unix.MOUNT_ATTR_NODIRATIME, 0, true
	}

	return 0, 0, false
}

// parameters returns the names of the fsconfig(2) parameters that a type of file system accepts
// here.
func parameters(fsType string) []string {
	switch fsType {
	case "tmpfs":
		return []string{"mode", "size", "uid", "gid", "nr_inodes"}
	case "devpts":
		return []string{"newinstance", "ptmxmode", "mode", "gid", "uid"}
	case "proc":
		return []string{"subset", "hidepid"}
	}
	return nil
}

// parseOptions sorts the options of a mount of type fsType ("bind" for binds). An unknown option is
// an error: a mount without the option could be writable, or shared with the host.
func parseOptions(fsType string, options []string) (mountOptions, error) {
	var o mountOptions
	for _, option := range options {
		if fsType == "bind" && (option == "dev" || option == "nodev") {
			o.device = option == "dev"
		}
		if set, clear, ok := attribute(option); ok {
			o.set = o.set&^clear | set
			o.clear = o.clear&^set | clear
			continue
		}

		switch option {
		case "bind", "rbind":
			if fsType == "bind" {
				continue
			}
		case "private", "rprivate", "slave", "rslave":
			continue // all mounts of a sandbox are private
		}

		key, _, _ := strings.Cut(option, "=")
		if !slices.Contains(parameters(fsType), key) {
			return o, fmt.Errorf("mount option %q is not supported for %s", option, fsType)
		}
		o.params = append(o.params, option)
	}

	return o, nil
}
