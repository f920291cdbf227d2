package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	imagespec "github.com/opencontainers/image-spec/specs-go"
	runtimespec "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"
	imageversion "go.podman.io/image/v5/version"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/progress"
)

// versionInfo is what rbuild version tells; the JSON names are buildah's.
type versionInfo struct {
	Version      string `json:"version"`
	GoVersion    string `json:"goVersion"`
	ImageSpec    string `json:"imageSpec"`
	RuntimeSpec  string `json:"runtimeSpec"`
	ImageVersion string `json:"imageVersion"` // of go.podman.io/image
	GitCommit    string `json:"gitCommit"`
	Built        string `json:"built"` // time of that commit: two builds of it are the same
	OSArch       string `json:"osArch"`
}

// clientVersion is for templates: podman and docker have the fields below Client.
type clientVersion struct {
	versionInfo
	Client versionInfo
}

// version is set by the linker (-X main.version=...) in builds from a source tree without history; empty: what the Go
// command recorded.
var version string

// currentVersion reads what the Go linker recorded.
func currentVersion() versionInfo {
	v := versionInfo{
		Version:      "(devel)",
		GoVersion:    runtime.Version(),
		ImageSpec:    imagespec.Version,
		RuntimeSpec:  runtimespec.Version,
		ImageVersion: imageversion.Version,
		OSArch:       runtime.GOOS + "/" + runtime.GOARCH,
	}

	build, ok := debug.ReadBuildInfo()
	if ok && build.Main.Version != "" {
		v.Version = build.Main.Version
	}
	if version != "" {
		v.Version = version
	}
	if !ok {
		return v
	}

	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			v.GitCommit = s.Value
		case "vcs.time":
			v.Built = s.Value
		}
	}

	return v
}

// line is the text of rbuild --version after the name, with buildah's form.
func (v versionInfo) line() string {
	return fmt.Sprintf("%s (image-spec %s, runtime-spec %s)", v.Version, v.ImageSpec, v.RuntimeSpec)
}

func newVersionCmd(*app) *cobra.Command {
	var asJSON bool
	var format string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of rbuild and of its libraries",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := currentVersion()
			if asJSON || cli.WantsJSON(format) {
				return progress.WriteJSON(cmd.OutOrStdout(), v)
			}
			if format != "" {
				return cli.WriteOne(cmd.OutOrStdout(), format, clientVersion{v, v})
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "Version:         %s\nGo Version:      %s\nImage Spec:      %s\n"+
				"Runtime Spec:    %s\nimage Version:   %s\nGit Commit:      %s\nBuilt:           %s\nOS/Arch:         %s\n",
				v.Version, v.GoVersion, v.ImageSpec, v.RuntimeSpec, v.ImageVersion, v.GitCommit, v.Built, v.OSArch)
			return err
		},
	}

	cmd.Flags().BoolVar(&asJSON, "json", false, "Print JSON")
	cmd.Flags().StringVarP(&format, "format", "f", "", "Print with a Go template, e.g. {{.Version}}, or json")

	return cmd
}
