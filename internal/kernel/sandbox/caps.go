package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// capabilityNames are the capabilities in the order of their numbers, as of Linux 5.9
// (include/uapi/linux/capability.h). Later kernels have no more.
func capabilityNames() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
		"CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE",
		"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
		"CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
		"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
		"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
		"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
		"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
		"CAP_CHECKPOINT_RESTORE",
	}
}

// MergeCapabilities returns base with the capabilities of add and without those of drop, in the
// order of their numbers. A name has the prefix CAP_ or not, in upper or lower case, for example
// "CAP_KILL" or "kill". "all" stands for all capabilities; dropping all keeps the capabilities of
// add. As with podman, a capability that is both added and dropped is an error.
func MergeCapabilities(base, add, drop []string) ([]string, error) {
	var masks [3]uint64
	var all [3]bool
	for i, list := range [][]string{base, add, drop} {
		var names []string
		for _, name := range list {
			name = "CAP_" + strings.TrimPrefix(strings.ToUpper(name), "CAP_")
			if name == "CAP_ALL" {
				all[i] = true
			} else {
				names = append(names, name)
			}
		}
		var err error
		if masks[i], err = capabilityMask(names); err != nil {
			return nil, err
		}
	}

	every := uint64(1)<<len(capabilityNames()) - 1
	switch has, added, dropped := masks[0], masks[1], masks[2]; {
	case all[1] && all[2]:
		return nil, errors.New("all capabilities cannot be both added and dropped")
	case added&dropped != 0:
		return nil, fmt.Errorf("%s cannot be both added and dropped", strings.Join(capabilityList(added&dropped), ", "))
	case all[2]:
		return capabilityList(added), nil
	case all[0], all[1]:
		return capabilityList(every &^ dropped), nil
	default:
		return capabilityList((has | added) &^ dropped), nil
	}
}

// capabilityList returns the names of a set.
func capabilityList(mask uint64) []string {
	names := []string{}
	for i, name := range capabilityNames() {
		if mask&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// capabilityMask returns the set of the named capabilities, one bit each.
func capabilityMask(names []string) (uint64, error) {
	known := capabilityNames()
	var mask uint64
	for _, name := range names {
		i := slices.Index(known, name)
		if i < 0 {
			return 0, fmt.Errorf("unknown capability %q", name)
		}
		mask |= 1 << i
	}
	return mask, nil
}
