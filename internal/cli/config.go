package cli

import (
	"fmt"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"go.podman.io/storage/pkg/configfile"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

// Config holds the keys of containers.conf(5) that rbuild honours, under their names there. A key that no file has is at
// its zero value; then rbuild's own default applies. All other keys of the file are about containers that stay, or about
// podman. The struct is read by go.podman.io/storage/pkg/configfile, whose Slice merges lists of several files.
type Config struct {
	Containers struct {
		// PidsLimit bounds the processes of a step; 0: no limit; nil: not given.
		PidsLimit *int64 `toml:"pids_limit"`
		// Cgroups is "enabled", "disabled" or "no-conmon".
		Cgroups string `toml:"cgroups"`
		// CgroupConf lists files of a step's cgroup with their values: "memory.high=1073741824" (cgroup v2 only).
		CgroupConf configfile.Slice `toml:"cgroup_conf"`
		// DefaultUlimits are resource limits in the form of --ulimit: "nofile=1024:2048".
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

// limitsProcesses reports whether pids_limit is given as a limit.
func (c Config) limitsProcesses() bool {
	return c.Containers.PidsLimit != nil && *c.Containers.PidsLimit > 0
}

// cgroupFiles reads cgroup_conf.
func (c Config) cgroupFiles() (map[string]string, error) {
	var files map[string]string
	for _, text := range c.Containers.CgroupConf.Get() {
		file, value, ok := strings.Cut(text, "=")
		if !ok || !strings.Contains(file, ".") || strings.Contains(file, "/") {
			return nil, fmt.Errorf("containers.conf: cgroup_conf %q: want FILE=VALUE, e.g. memory.high=1073741824",
				text)
		}
		if files == nil {
			files = map[string]string{}
		}
		files[file] = value
	}
	return files, nil
}

// ulimits reads default_ulimits and shm_size.
func (c Config) ulimits() (list []specs.POSIXRlimit, shm *int64, err error) {
	for _, text := range c.Containers.DefaultUlimits.Get() {
		limit, err := parseUlimit(text)
		if err != nil {
			return nil, nil, fmt.Errorf("containers.conf: default_ulimits: %w", err)
		}
		list = setUlimit(list, limit)
	}

	if shm, err = parseSize(c.Containers.ShmSize); err != nil {
		return nil, nil, fmt.Errorf("containers.conf: shm_size: %w", err)
	}
	return list, shm, nil
}

// capabilities reads default_capabilities; nil: not given.
func (c Config) capabilities() ([]string, error) {
	list := c.Containers.DefaultCapabilities.Get()
	if len(list) == 0 {
		return nil, nil
	}
	if _, err := sandbox.MergeCapabilities(list, nil, nil); err != nil {
		return nil, fmt.Errorf("containers.conf: default_capabilities: %w", err)
	}
	return list, nil
}
