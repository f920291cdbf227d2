package runner

import (
	"encoding/json"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"github.com/sirupsen/logrus"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/passwd"
)

// document describes the process: docker's defaults, the options and the command.
func (o Options) document(c Command, user passwd.User, mounts []specs.Mount) (*specs.Spec, error) {
	spec := sandbox.DefaultSpec()
	spec.Hostname = c.hostname()
	spec.Root = &specs.Root{Path: "rootfs"}
	spec.Mounts = mounts

	p := spec.Process
	p.Args = c.Argv
	p.Env = o.environment(c, user.Home)
	p.Cwd = path.Join("/", c.Dir)
	p.User = specs.User{UID: user.UID, GID: user.GID, AdditionalGids: user.Groups}
	p.NoNewPrivileges = o.Security.NoNewPrivileges
	p.ApparmorProfile = o.Security.AppArmor
	p.Rlimits = o.Limits.over(p.Rlimits)

	if o.Security.changesCapabilities() || c.Insecure {
		caps, err := o.Security.capabilities(c.Insecure)
		if err != nil {
			return nil, err
		}
		p.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	}

	// Where the caller is real root the default paths stay hidden, also from insecure processes: by
	// way of /proc they would be root of the machine.
	o.Security.paths(spec.Linux, c.Insecure && !o.Trusted)

	return spec, nil
}

// over returns the resource limits of a process, given docker's defaults.
func (l Limits) over(defaults []specs.POSIXRlimit) []specs.POSIXRlimit {
	defaults = slices.DeleteFunc(defaults, func(d specs.POSIXRlimit) bool {
		return slices.ContainsFunc(l.Rlimits, func(r specs.POSIXRlimit) bool { return r.Type == d.Type })
	})
	return append(defaults, l.Rlimits...)
}

// debugSpec logs the document of a process without the values of the environment: they may be
// passwords of proxies.
func debugSpec(spec *specs.Spec) {
	if !logrus.IsLevelEnabled(logrus.DebugLevel) {
		return
	}

	shown := *spec
	process := *spec.Process
	process.Env = make([]string, len(spec.Process.Env))
	for i, e := range spec.Process.Env {
		name, _, _ := strings.Cut(e, "=")
		process.Env[i] = name + "=..."
	}
	shown.Process = &process

	text, err := json.Marshal(shown)
	logrus.Debugf("RUN: %s (%v)", text, err)
}
