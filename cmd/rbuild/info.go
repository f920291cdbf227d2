package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

func newInfoCmd(a *app) *cobra.Command {
	var format string
	var debug bool
	cmd := &cobra.Command{
		Use:   "info",
		Short: "Show what rbuild sees of the host and the store",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.WithStore(cmd.Context(), func(_ context.Context, st *containers.Store) error {
				info, err := a.gatherInfo(st)
				if err != nil {
					return err
				}
				if debug {
					info["debug"] = debugInfo(currentVersion())
				}
				if format != "" && !cli.WantsJSON(format) {
					return cli.WriteOne(cmd.OutOrStdout(), format, info)
				}
				return progress.WriteJSON(cmd.OutOrStdout(), info)
			})
		},
	}

	cmd.Flags().StringVarP(&format, "format", "f", "", "Print with a Go template, or json")
	cmd.Flags().BoolVarP(&debug, "debug", "d", false, "Show the versions of rbuild and of the compiler too")

	return cmd
}

// info has the shape of buildah info, whose keys are in lower case in templates
// too: {{.host.os}}.
type info map[string]map[string]any

// debugInfo returns the entries that info --debug adds, with buildah's keys.
func debugInfo(v versionInfo) map[string]any {
	return map[string]any{
		"rbuild version": v.Version, "compiler": runtime.Compiler, "git commit": v.GitCommit,
		"go version": v.GoVersion,
	}
}

func (a *app) gatherInfo(st *containers.Store) (info, error) {
	store, err := st.Info()
	if err != nil {
		return nil, err
	}
	caches, err := st.Caches()
	if err != nil {
		return nil, err
	}

	return info{
		"host": a.hostInfo(),
		"store": {
			"GraphDriverName":     store.Driver,
			"GraphOptions":        store.Options,
			"GraphImageStore":     store.ImageStore,
			"GraphRoot":           st.GraphRoot(),
			"GraphStatus":         store.Status,
			"RunRoot":             st.RunRoot(),
			"GraphTransientStore": store.Transient,
			"ImageStore":          map[string]int{"number": store.Images},
			"LayerStore":          map[string]int{"number": store.Layers},
			"CacheMounts":         map[string]int64{"number": int64(caches.Number), "bytes": caches.Bytes},
			"ContainerStore":      map[string]int{"number": store.Containers},
		},
		"version": {"rbuild": currentVersion()},
	}, nil
}

func (a *app) hostInfo() map[string]any {
	memory := memoryInfo()
	host := map[string]any{
		"os":            runtime.GOOS,
		"arch":          runtime.GOARCH,
		"variant":       hostPlatform().Variant,
		"cpus":          runtime.NumCPU(),
		"kernel":        firstLine("/proc/sys/kernel/osrelease"),
		"hostname":      firstLine("/proc/sys/kernel/hostname"),
		"uptime":        uptime(firstLine("/proc/uptime")),
		"MemTotal":      memory["MemTotal"],
		"MemFree":       memory["MemFree"],
		"SwapTotal":     memory["SwapTotal"],
		"SwapFree":      memory["SwapFree"],
		"CgroupVersion": cgroupVersion(),
		"Distribution":  distribution(),
		"rootless":      a.State.Rootless(),
		"OCIRuntime":    "rbuild", // RUN is started by rbuild itself
	}

	if a.State.Rootless() {
		host["user"] = map[string]int{"uid": a.State.UID, "gid": a.State.GID}
		host["idMappings"] = map[string][]userns.IDMap{"uidmap": a.State.UIDMap, "gidmap": a.State.GIDMap}
	}

	return host
}

// firstLine is the first line of a file of /proc, or nothing.
func firstLine(name string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(data), "\n")
	return line
}

// memoryInfo is /proc/meminfo in bytes.
func memoryInfo() map[string]int64 {
	memory := make(map[string]int64)
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return memory
	}

	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[2] == "kB" {
			if n, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
				memory[strings.TrimSuffix(fields[0], ":")] = n * 1024
			}
		}
	}

	return memory
}

// uptime turns the first number of /proc/uptime into words.
func uptime(line string) string {
	text, _, _ := strings.Cut(line, " ")
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return ""
	}
	whole := int(seconds)
	return fmt.Sprintf("%dh %dm %ds", whole/3600, whole/60%60, whole%60)
}

// cgroupVersion is "v2" where that is all there is, as podman tells it.
func cgroupVersion() string {
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return "v2"
	}
	return "v1"
}

// distribution reads os-release(5).
func distribution() map[string]string {
	found := map[string]string{"distribution": "unknown", "version": "unknown"}
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return found
	}

	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "ID":
			found["distribution"] = strings.Trim(value, `"'`)
		case "VERSION_ID":
			found["version"] = strings.Trim(value, `"'`)
		}
	}

	return found
}
