package main

import (
	"fmt"

	"go.podman.io/storage/pkg/configfile"
)

// containersConf is what containers.conf(5) says of steps: the keys that rbuild honours, under their names there. A key
// that no file has is at its zero value, and then rbuild's own default holds. All other keys are about containers that
// stay, or about podman.
type containersConf struct {
	Containers struct {
		// PidsLimit is how many processes a step may have; 0: as many as it likes; nil: not given.
		PidsLimit *int64 `toml:"pids_limit"`
		// Cgroups is "enabled", "disabled" or "no-conmon".
		Cgroups string `toml:"cgroups"`
		// CgroupConf are files of a step's cgroup and what to write into them, "memory.high=1073741824" (v2 only).
		CgroupConf configfile.Slice `toml:"cgroup_conf"`
		// DefaultUlimits are resource limits as --ulimit has them, "nofile=1024:2048".
		DefaultUlimits configfile.Slice `toml:"default_ulimits"`
		// ShmSize is the size of /dev/shm, a number with a unit: "65536k".
		ShmSize string `toml:"shm_size"`
		// DefaultCapabilities are the capabilities of a step, with CAP_ or without, before --cap-add and --cap-drop.
		DefaultCapabilities configfile.Slice `toml:"default_capabilities"`
		// SeccompProfile is the path of a profile.
		SeccompProfile string `toml:"seccomp_profile"`
		// ApparmorProfile is the name of a profile.
		ApparmorProfile string `toml:"apparmor_profile"`
		// CgroupNS, IPCNS, PidNS and UTSNS are "private" or "host".
		CgroupNS string `toml:"cgroupns"`
		IPCNS    string `toml:"ipcns"`
		PidNS    string `toml:"pidns"`
		UTSNS    string `toml:"utsns"`
	} `toml:"containers"`
	Engine struct {
		// CgroupManager is "systemd" or "cgroupfs".
		CgroupManager string `toml:"cgroup_manager"`
	} `toml:"engine"`
}

// readContainersConf reads the files of containers.conf(5), in its order: the first there is of
// $XDG_CONFIG_HOME/containers, /etc/containers and /usr/share/containers, then the directories containers.conf.d, by names
// of files, then $CONTAINERS_CONF_OVERRIDE. $CONTAINERS_CONF stands for all but the last. uid is the user's own, whom some
// directories are for.
//
// The library's reader of all keys (go.podman.io/common/pkg/config) links five more modules and was measured at 1 to 6 ms
// of every command's start; what it finds and merges the files with is used here.
func readContainersConf(uid int) (c containersConf, err error) {
	file := configfile.File{Name: "containers", Extension: "conf", EnvironmentName: "CONTAINERS_CONF", UserId: uid}
	if err := configfile.ParseTOML(&c, &file); err != nil {
		return c, fmt.Errorf("containers.conf: %w", err)
	}
	return c, nil
}

// outerUID is the uid of the user who runs rbuild, also in the builder, which is root of its namespace.
func (a *app) outerUID(own int) int {
	if a.state != nil {
		return a.state.UID
	}
	return own
}
