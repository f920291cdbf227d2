package engine

import (
	"cmp"
	"fmt"
	"time"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/record"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// This file is the only one that knows both the spec and the options of the loop. It opens nothing.

// options returns the options of the loop, as far as the spec alone decides them. path is the PATH of the environment, in
// which the helper of a private network is looked for.
func options(s *spec.Build, path string) (o builder.Options, err error) {
	o.Cache = builder.CacheOptions{Refresh: s.Cache.Off, Uncached: s.Cache.Uncached, MaxAge: s.Cache.TTL}
	o.Layers = builder.LayerOptions{
		OnePerStage: s.Cache.OneLayer,
		Squash:      s.Cache.Squash,
		Epoch:       s.Image.Time.Epoch,
		FileTimes:   fileTimes(s.Image.Time.Files),
	}
	o.Limits = builder.Limits{Jobs: s.Cache.Jobs, Step: s.Time.Step}
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

func imageOptions(s *spec.Build) record.Options {
	i := s.Image
	o := record.Options{
		None:      s.Result.NoImage,
		Names:     i.Names,
		Format:    commit.OCI,
		AnyFormat: i.Format == "",
		NoHistory: i.NoHistory,
		Labels:    record.LabelOptions{Set: labels(i.Labels), Unset: i.Unset.Labels, NoBase: i.NoLabels},
		Annotations: record.AnnotationOptions{
			Set: i.Annotations, Unset: i.Unset.Annotations, NoBase: i.NoAnnotations, Created: i.CreatedNote,
		},
		System:   record.SystemOptions{Version: i.OSVersion, Features: i.OSFeatures},
		Stages:   record.StageImages{Save: i.Stages.Save, Describe: i.Stages.Label, Labels: labels(i.Stages.Labels)},
		UnsetEnv: i.Unset.Env,
	}
	if i.Format == "docker" {
		o.Format = commit.Docker
	}
	if s.Plan.PlatformGiven {
		o.Platform = s.Plan.Platform
	}
	return o
}

func labels(list []spec.Label) (out []record.Label) {
	for _, l := range list {
		out = append(out, record.Label(l))
	}
	return out
}

// runOptions leaves out the files that openRun and openSecurity open: volumes, secrets, devices, the seccomp profile.
func runOptions(s *spec.Build, path string) (o runner.Options, err error) {
	n := s.Network
	o.Network.Mode = cmp.Or(n.Mode, runner.Host)
	o.Network.AllowHost = s.Allow.HostNetwork
	if o.Network.Mode == runner.Private {
		if o.Network.Helper, err = sandbox.FindNetworkHelper(path); err != nil {
			return o, fmt.Errorf("%s: %w", n.From, err)
		}
	}

	o.Etc = n.Etc
	o.Security = s.Security.Security
	o.Machine = s.Plan.Host
	o.CompatVolumes = s.Run.CompatVolumes
	o.Limits.Rlimits = s.Limits.Ulimits
	o.Limits.ShmSize = s.Limits.ShmSize
	o.Limits.Silence = silence(s.Time.Silence)
	return o, nil
}

// silence returns the limit for the time in which a RUN prints nothing; 0: no limit.
func silence(limit time.Duration) runner.Silence {
	return runner.Silence{
		Limit: limit,
		Err:   &builder.TimeoutError{What: "the step printed nothing for", Limit: limit, Flag: "--no-output-timeout"},
	}
}
