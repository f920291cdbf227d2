package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/runner"
)

// cgroupOptions is who makes cgroups for a build without flags.
func (a *app) cgroupOptions() (cgroup.Options, error) {
	uid := a.outerUID(os.Getuid())
	conf, err := readContainersConf(uid)
	if err != nil {
		return cgroup.Options{}, err
	}
	f := limitFlags{conf: &conf}
	f.register(pflag.NewFlagSet("", pflag.ContinueOnError))
	err = f.apply(os.LookupEnv, nil)
	f.cgroups.UID = uid
	return f.cgroups, err
}

// prepare makes a place for cgroups as far as the launcher must do it; release gives it back. Where it cannot, steps meets the
// reason again, unless the build goes on without a namespace, which runs nothing.
func (f *limitFlags) prepare() (release func()) {
	back, err := cgroup.Prepare(f.cgroups)
	if err != nil {
		logrus.Debugf("cgroups: %v", err)
	}
	return func() {
		if err := back(); err != nil {
			logrus.Warn(err)
		}
	}
}

// refuse is the error for limits that cannot be enforced; nil if none of them was asked for.
func (f *limitFlags) refuse(controllers []string, why error) error {
	names := f.names(controllers)
	if names == "" {
		return nil
	}
	return fmt.Errorf("%s cannot be enforced here: %w; with --limits=best-effort the build runs without", names, why)
}

// stepCgroups makes the cgroups of the steps of one build.
type stepCgroups struct {
	flags *limitFlags
	warn  func(text string)
	given []cgroup.Device // by the command line, to every step

	open   func() // the place, once; made at the first RUN unless limits were asked for
	tree   *cgroup.Tree
	parent *cgroup.Parent
	limits cgroup.Limits
	err    error
	told   sync.Once
}

// steps are the cgroups of a build. Limits that were asked for are set up for a try, and refused if that fails, unless
// best effort is enough: then warn is told once what is not in force. It is for a mount namespace of its own, in which the
// process keeps cgroups for itself: see cgroup.Seal.
func (f *limitFlags) steps(ctx context.Context, warn func(text string)) (*stepCgroups, error) {
	s := &stepCgroups{flags: f, warn: warn}
	s.open = sync.OnceFunc(func() {
		var err error
		if s.tree, err = cgroup.Seal(); err != nil {
			warn(err.Error())
		}
		options := f.cgroups
		options.Tree = s.tree
		s.parent, s.err = cgroup.Open(ctx, options)
	})

	asked := f.asked.Controllers()
	if len(asked) == 0 {
		return s, nil
	}

	s.open()
	if s.err == nil {
		s.limits, s.err = f.asked, s.parent.Missing(f.asked)
	}
	switch {
	case s.err == nil:
		return s, s.try(ctx)
	case f.effort == "required":
		return s, errors.Join(f.refuse(s.lacking(), s.err), s.close())
	}

	warn(fmt.Sprintf("not in force here: %s: %v", f.names(s.lacking()), s.err))
	s.err = nil
	if s.parent == nil {
		s.open = func() {}
		return s, nil
	}

	s.limits = f.asked.Only(s.parent.Controllers())

	return s, s.try(ctx)
}

// lacking are the controllers that limits were asked for and that cannot be had.
func (s *stepCgroups) lacking() []string {
	asked := s.flags.asked.Controllers()
	if s.parent == nil {
		return asked
	}
	return slices.DeleteFunc(asked, func(c string) bool { return slices.Contains(s.parent.Controllers(), c) })
}

// try finds out whether the kernel takes the values: processors that there are not, say.
func (s *stepCgroups) try(ctx context.Context) error {
	g, err := s.new(ctx)
	if err == nil {
		err = g.Remove()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", s.flags.names(s.limits.Controllers()), err), s.close())
	}
	return nil
}

// new makes the cgroup of one step, nil if there can be none and no limit needs one.
func (s *stepCgroups) new(context.Context) (*cgroup.Group, error) {
	s.open()
	if s.parent == nil {
		s.tell(s.err)
		return nil, nil //nolint:nilnil // documented
	}

	l, standing := s.limits, s.flags.standing.Only(s.parent.Controllers())
	err := s.parent.Missing(s.flags.standing)
	if s.parent.Version() == 1 && len(standing.Files) > 0 {
		err = errors.New("cgroup_conf names files of cgroup v2, and this machine has version 1")
	}
	s.tell(err)
	if l.Pids == 0 {
		l.Pids = standing.Pids
	}
	l.Files = standing.Files
	return s.parent.New(l, s.given...)
}

// give lets every step open the devices that the command line names.
func (s *stepCgroups) give(o runner.Options) {
	files := make([]*os.File, 0, len(o.Devices)+len(o.Volumes))
	for _, d := range o.Devices {
		files = append(files, d.Source)
	}
	for _, v := range o.Volumes {
		files = append(files, v.Source)
	}
	for _, f := range files {
		if d, ok := cgroup.DeviceOf(f); ok {
			s.given = append(s.given, d)
		}
	}
}

// tell says once which limits of containers.conf are not in force. Where only the default of podman is not, nobody asked.
func (s *stepCgroups) tell(why error) {
	if why == nil {
		return
	}
	s.told.Do(func() {
		logrus.Debugf("cgroups: %v", why)
		conf := s.flags.conf.Containers
		if conf.PidsLimit != nil && *conf.PidsLimit > 0 || len(conf.CgroupConf.Get()) > 0 {
			s.warn(fmt.Sprintf("limits of containers.conf are not all in force here: %v", why))
		}
	})
}

// close gives the place back.
func (s *stepCgroups) close() error {
	var err error
	if s.parent != nil {
		err = s.parent.Close()
	}
	return errors.Join(err, s.tree.Close())
}
