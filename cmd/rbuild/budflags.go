package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/pkg/build"
	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/plan"
	"codeberg.org/rbuild/rbuild/pkg/registry"
	"codeberg.org/rbuild/rbuild/pkg/sandbox"
)

// options turns the flags into those of a build, and refuses what is wrong with them before anything is done.
func (f *budFlags) options(env func(string) (string, bool)) (o build.Options, err error) {
	o.NoCache, o.Squash = f.noCache, !f.layers
	o.Platform = hostPlatform()
	if o.Run, err = f.run(); err != nil {
		return o, err
	}
	if o.Image, err = f.image(env); err != nil {
		return o, err
	}
	if err = f.time(env, &o); err != nil {
		return o, err
	}
	if _, err = parsePull(f.pull); err != nil {
		return o, err
	}
	if !slices.Contains(progressModes, f.progress) {
		return o, fmt.Errorf("--progress %q: choose %s", f.progress, strings.Join(progressModes, ", "))
	}
	if _, err = buildArgs(f.buildArgs, env); err != nil {
		return o, err
	}
	if len(f.files) > 1 {
		return o, errors.New("several --file are not supported by this version of rbuild")
	}
	return o, checkPlatform(f.platform)
}

// run reads the flags for RUN, but for volumes.
func (f *budFlags) run() (o build.RunOptions, err error) {
	switch f.network {
	case "host", "none", "private":
		o.Network = build.Network(f.network)
	case "default", "":
		o.Network = build.Host
	default:
		return o, fmt.Errorf("--network %q: choose host, none or private", f.network)
	}
	if o.Network == build.Private {
		if o.NetworkHelper, err = sandbox.FindNetworkHelper(os.Getenv("PATH")); err != nil {
			return o, fmt.Errorf("--network private: %w", err)
		}
	}
	for _, text := range f.addHosts {
		name, addr, ok := strings.Cut(text, ":")
		if !ok {
			name, addr, ok = strings.Cut(text, "=")
		}
		ip, err := netip.ParseAddr(strings.Trim(addr, "[]"))
		if !ok || name == "" || err != nil || strings.ContainsAny(name, " \t\n") {
			return o, fmt.Errorf("--add-host %q: want NAME:ADDRESS, e.g. db:10.0.0.5", text)
		}
		for n := range strings.SplitSeq(name, ";") {
			o.AddHosts = append(o.AddHosts, build.HostEntry{Name: n, Addr: ip})
		}
	}
	for _, text := range f.dns {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return o, fmt.Errorf("--dns %q: want the address of a nameserver", text)
		}
		o.DNS = append(o.DNS, ip)
	}
	return o, nil
}

// image reads the flags for the image.
func (f *budFlags) image(env func(string) (string, bool)) (o build.ImageOptions, err error) {
	for _, t := range f.tags {
		if registry.HasTransport(t) {
			return o, fmt.Errorf("--tag %q: give a name, and push the image to the transport with rbuild push", t)
		}
		named, err := registry.NormalizeTag(t)
		if err != nil {
			return o, fmt.Errorf("--tag: %w", err)
		}
		o.Names = append(o.Names, named.String())
	}
	format := f.format
	if format == "" {
		format, _ = env("BUILDAH_FORMAT")
	}
	switch format {
	case "", "oci":
		o.Format = commit.OCI
	case "docker":
		o.Format = commit.Docker
	default:
		return o, fmt.Errorf("--format %q: choose oci or docker", format)
	}
	for _, text := range f.labels {
		key, value, _ := strings.Cut(text, "=")
		if key == "" {
			return o, fmt.Errorf("--label %q: want KEY=VALUE", text)
		}
		o.Labels = append(o.Labels, build.Label{Key: key, Value: value})
	}
	for _, text := range f.annotations {
		key, value, ok := strings.Cut(text, "=")
		if key == "" || !ok {
			return o, fmt.Errorf("--annotation %q: want KEY=VALUE", text)
		}
		if o.Format == commit.Docker {
			return o, errors.New("--annotation: images of --format docker have no annotations, use --label or --format oci")
		}
		if o.Annotations == nil {
			o.Annotations = map[string]string{}
		}
		o.Annotations[key] = value
	}
	return o, nil
}

// time reads the flags that replace the clock.
func (f *budFlags) time(env func(string) (string, bool), o *build.Options) error {
	if f.timestamp != "" && f.epoch != "" {
		return errors.New("--timestamp and --source-date-epoch contradict each other: give one of them")
	}
	flag, text := "--timestamp", f.timestamp
	if text == "" {
		flag, text = "--source-date-epoch", f.epoch
	}
	if text == "" {
		flag = "SOURCE_DATE_EPOCH"
		text, _ = env(flag)
	}
	if text == "" {
		return f.rewriteNeedsTime()
	}
	t, err := plan.ParseEpoch(text)
	if err != nil {
		return fmt.Errorf("%s %q: %w", flag, text, err)
	}
	o.Epoch = &t
	switch {
	case f.timestamp != "":
		o.FileTimes = build.SetTimes
	case f.rewrite:
		o.FileTimes = build.ClampTimes
	}
	return nil
}

// rewriteNeedsTime refuses --rewrite-timestamp alone.
func (f *budFlags) rewriteNeedsTime() error {
	if f.rewrite {
		return errors.New("--rewrite-timestamp needs --source-date-epoch, or SOURCE_DATE_EPOCH in the environment")
	}
	return nil
}

// hostPlatform is what builds are for.
func hostPlatform() ocispec.Platform {
	return ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}
}

// checkPlatform refuses a --platform that is not the host's own.
func checkPlatform(want string) error {
	host := hostPlatform()
	if want == "" || want == "local" {
		return nil
	}
	if p, ok := plan.ParsePlatform(want, host); !ok || plan.FormatPlatform(p) != plan.FormatPlatform(host) {
		return fmt.Errorf("--platform %q: this version of rbuild works for the host's own, %s", want, plan.FormatPlatform(host))
	}
	return nil
}

// parsePull reads --pull, with the words of docker beside podman's.
func parsePull(text string) (registry.Policy, error) {
	switch text {
	case "true":
		return registry.PullAlways, nil
	case "false":
		return registry.PullMissing, nil
	}
	policy, err := registry.ParsePolicy(text)
	if err != nil {
		return "", fmt.Errorf("--pull: %w", err)
	}
	return policy, nil
}

// buildArgs reads --build-arg. A name alone takes the value that the environment has, and is left out where there is
// none.
func buildArgs(list []string, env func(string) (string, bool)) (map[string]string, error) {
	args := map[string]string{}
	for _, text := range list {
		key, value, ok := strings.Cut(text, "=")
		if key == "" {
			return nil, fmt.Errorf("--build-arg %q: want NAME=VALUE", text)
		}
		if !ok {
			if value, ok = env(key); !ok {
				continue
			}
		}
		args[key] = value
	}
	return args, nil
}

// parseVolumes opens what --volume names; it stays open for the life of the process.
func parseVolumes(list []string) ([]build.Volume, error) {
	var out []build.Volume
	for _, text := range list {
		parts := strings.Split(text, ":")
		if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || !path.IsAbs(parts[1]) {
			return nil, fmt.Errorf("--volume %q: want HOST-PATH:PATH[:ro]", text)
		}
		v := build.Volume{Text: text, Dest: path.Clean(parts[1])}
		if len(parts) == 3 {
			for opt := range strings.SplitSeq(parts[2], ",") {
				switch {
				case opt == "ro":
					v.ReadOnly = true
				case slices.Contains([]string{"rw", "z", "Z"}, opt): // RUN has no SELinux label of its own, so nothing needs z or Z
				default:
					return nil, fmt.Errorf("--volume %q: option %q is not supported (ro, rw, z and Z are)", text, opt)
				}
			}
		}
		var err error
		if v.Source, err = os.Open(parts[0]); err != nil {
			return nil, fmt.Errorf("--volume %q: %w", text, err)
		}
		out = append(out, v)
	}
	return out, nil
}
