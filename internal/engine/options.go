package engine

import (
	"fmt"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// This file is the only one that knows both the spec and the options of the loop. It opens nothing.

// options returns the options of the loop, as far as the spec alone decides them. path is the PATH of the environment, in
// which the helper of a private network is looked for.
func options(s *spec.Build, path string) (o builder.Options, err error) {
	o.Platform = s.Plan.Host
	o.NoImage = s.Result.NoImage
	o.NoCache = s.Cache.Off
	o.Uncached = s.Cache.Uncached
	o.CacheTTL = s.Cache.TTL
	o.OneLayer = s.Cache.OneLayer
	o.Flatten = s.Cache.Squash
	o.Jobs = s.Cache.Jobs
	o.StepTimeout = s.Time.Step
	o.SilenceTimeout = s.Time.Silence
	o.Epoch = s.Image.Time.Epoch
	o.FileTimes = fileTimes(s.Image.Time.Files)
	o.Image = imageOptions(s)
	o.Run, err = runOptions(s, path)
	return o, err
}

func fileTimes(how string) builder.FileTimes {
	switch how {
	case spec.SetTimes:
		return builder.SetTimes
	case spec.ClampTimes:
		return builder.ClampTimes
	}
	return builder.KeepTimes
}

func imageOptions(s *spec.Build) builder.ImageOptions {
	i := s.Image
	o := builder.ImageOptions{
		Names:            i.Names,
		Format:           commit.OCI,
		AnyFormat:        i.Format == "",
		Annotations:      i.Annotations,
		Labels:           labels(i.Labels),
		NoLabels:         i.NoLabels,
		NoHistory:        i.NoHistory,
		CreatedNote:      i.CreatedNote,
		NoAnnotations:    i.NoAnnotations,
		UnsetAnnotations: i.Unset.Annotations,
		UnsetLabels:      i.Unset.Labels,
		UnsetEnv:         i.Unset.Env,
		OSVersion:        i.OSVersion,
		OSFeatures:       i.OSFeatures,
		SaveStages:       i.Stages.Save,
		DescribeStages:   i.Stages.Label,
		StageLabels:      labels(i.Stages.Labels),
	}
	if i.Format == "docker" {
		o.Format = commit.Docker
	}
	if s.Plan.PlatformGiven {
		o.Platform = s.Plan.Platform
	}
	return o
}

func labels(list []spec.Label) (out []builder.Label) {
	for _, l := range list {
		out = append(out, builder.Label(l))
	}
	return out
}

func runOptions(s *spec.Build, path string) (o builder.RunOptions, err error) {
	n := s.Network
	o.Network = builder.Network(n.Mode)
	if n.Mode == "" {
		o.Network = builder.Host
	}
	if o.Network == builder.Private {
		if o.NetworkHelper, err = sandbox.FindNetworkHelper(path); err != nil {
			return o, fmt.Errorf("%s: %w", n.From, err)
		}
	}

	for _, h := range n.Hosts {
		o.AddHosts = append(o.AddHosts, builder.HostEntry(h))
	}
	o.AllowHost = s.Allow.HostNetwork
	o.DNS = n.DNS
	o.Search = n.Search
	o.ResolverOptions = n.Options
	o.NoHosts = n.NoHosts
	o.NoHostname = n.NoHostname
	o.NoResolver = n.NoResolver
	o.CompatVolumes = s.Run.CompatVolumes
	o.Confinement = confinement(s)
	return o, nil
}

// confinement leaves out the seccomp profile and the devices, which openConfinement opens.
func confinement(s *spec.Build) builder.Confinement {
	c := s.Security
	return builder.Confinement{
		Capabilities:    c.Capabilities,
		CapAdd:          c.CapAdd,
		CapDrop:         c.CapDrop,
		NoSeccomp:       c.NoSeccomp,
		AppArmor:        c.AppArmor.Path,
		NoNewPrivileges: c.NoNewPrivileges,
		Mask:            c.Mask,
		Unmask:          c.Unmask,
		Groups:          c.Groups,
		KeepGroups:      c.KeepGroups,
		UIDs:            c.IDs.UIDs,
		GIDs:            c.IDs.GIDs,
		CgroupNames:     c.CgroupNames,
		Limits:          s.Limits.Ulimits,
		ShmSize:         s.Limits.ShmSize,
	}
}
