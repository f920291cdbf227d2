package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"

	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// prepareCgroups makes the part of the cgroups that only the launcher can make; release removes it. An error is logged and
// not returned, because the builder meets the same reason again, unless the build goes on without a namespace, which runs
// nothing.
func prepareCgroups(o cgroup.Options) (release func()) {
	undo, err := cgroup.Prepare(o)
	if err != nil {
		logrus.Debugf("cgroups: %v", err)
	}
	return func() {
		if err := undo(); err != nil {
			logrus.Warn(err)
		}
	}
}

// stepCgroups makes the cgroups of the steps of one build.
type stepCgroups struct {
	spec    spec.Limits
	warn    func(text string)
	devices []cgroup.Device // that every step may open

	open   func() // opens the parent, once: at the first RUN, or before if limits were asked for
	tree   *cgroup.Tree
	parent *cgroup.Parent // nil: no cgroup can be made
	limits cgroup.Limits  // those of spec.Asked that are enforced
	err    error          // of open
	told   sync.Once
}

// newStepCgroups applies the requested limits to a trial cgroup. If that fails it returns an error, or with BestEffort calls
// warn once. The process must have a mount namespace of its own, in which it keeps cgroups for itself: see cgroup.Seal.
func newStepCgroups(ctx context.Context, s spec.Limits, warn func(text string)) (*stepCgroups, error) {
	c := &stepCgroups{spec: s, warn: warn}
	c.open = sync.OnceFunc(func() { c.openParent(ctx) })

	asked := s.Asked.Controllers()
	if len(asked) == 0 {
		return c, nil
	}

	c.open()
	why := c.unavailable(s.Asked)
	if why == nil {
		c.limits = s.Asked
		return c, c.try(ctx)
	}
	c.err = why
	if !s.BestEffort {
		return c, errors.Join(c.refuse(), c.close())
	}

	warn(fmt.Sprintf("not in force here: %s: %v", c.flags(c.lacking()), c.err))
	c.err = nil
	if c.parent == nil {
		c.open = func() {}
		return c, nil
	}
	c.limits = s.Asked.Only(c.parent.Controllers())
	return c, c.try(ctx)
}

// unavailable returns the reason why limits cannot be enforced, or nil if each of them can be.
func (s *stepCgroups) unavailable(l cgroup.Limits) error {
	if s.err != nil {
		return s.err
	}
	return s.parent.Missing(l)
}

func (s *stepCgroups) openParent(ctx context.Context) {
	var err error
	if s.tree, err = cgroup.Seal(); err != nil {
		s.warn(err.Error())
	}
	options := s.spec.Cgroups
	options.Tree = s.tree
	s.parent, s.err = cgroup.Open(ctx, options)
}

// refuse returns the error for limits that cannot be enforced; nil if the user asked for none of them.
func (s *stepCgroups) refuse() error {
	flags := s.flags(s.lacking())
	if flags == "" {
		return nil
	}
	return fmt.Errorf("%s cannot be enforced here: %w; %s", flags, s.err, s.spec.Remedy)
}

// flags returns the flags that asked for a limit of the controllers, for messages.
func (s *stepCgroups) flags(controllers []string) string {
	var names []string
	for _, flag := range s.spec.Flags {
		if slices.Contains(controllers, flag.Controller) && !slices.Contains(names, flag.Name) {
			names = append(names, flag.Name)
		}
	}
	return strings.Join(names, ", ")
}

// lacking returns the controllers of requested limits that are not available.
func (s *stepCgroups) lacking() []string {
	asked := s.spec.Asked.Controllers()
	if s.parent == nil {
		return asked
	}
	return slices.DeleteFunc(asked, func(c string) bool { return slices.Contains(s.parent.Controllers(), c) })
}

// try finds out whether the kernel accepts the values, for example the numbers of processors.
func (s *stepCgroups) try(ctx context.Context) error {
	refuse := func(err error) error {
		return errors.Join(fmt.Errorf("%s: %w", s.flags(s.limits.Controllers()), err), s.close())
	}
	g, err := s.new(ctx)
	if err != nil {
		return refuse(err)
	}
	if err := g.Remove(); err != nil {
		return refuse(err)
	}
	return nil
}

// new makes the cgroup of one step. It returns nil if no cgroup can be made and no limit needs one.
func (s *stepCgroups) new(context.Context) (*cgroup.Group, error) {
	s.open()
	if s.parent == nil {
		s.report(s.err)
		return nil, nil //nolint:nilnil // documented
	}

	standing := s.spec.Standing.Only(s.parent.Controllers())
	err := s.parent.Missing(s.spec.Standing)
	if s.parent.Version() == 1 && len(standing.Files) > 0 {
		err = errors.New("cgroup_conf names files of cgroup v2, and this machine has version 1")
	}
	s.report(err)

	l := s.limits
	if l.Pids == 0 {
		l.Pids = standing.Pids
	}
	l.Files = standing.Files
	return s.parent.New(l, s.devices...)
}

// confine opens the files of the sandbox, and lets RUN make cgroups in which the devices of the spec can be opened.
func (s *stepCgroups) confine(b *spec.Build, o *runner.Options, state *userns.State) error {
	if err := openSecurity(b, o, state); err != nil {
		return err
	}
	s.allow(*o)
	o.Limits.NewCgroup = s.new
	return nil
}

// allow lets every step open its devices, and volumes that are devices.
func (s *stepCgroups) allow(o runner.Options) {
	files := make([]*os.File, 0, len(o.Devices)+len(o.Volumes))
	for _, d := range o.Devices {
		files = append(files, d.Source)
	}
	for _, v := range o.Volumes {
		files = append(files, v.Source)
	}
	for _, f := range files {
		if d, ok := cgroup.DeviceOf(f); ok {
			s.devices = append(s.devices, d)
		}
	}
}

// report warns once that limits of containers.conf are not in force. Podman's default alone is only logged: the user did not
// ask for that limit.
func (s *stepCgroups) report(why error) {
	if why == nil {
		return
	}
	s.told.Do(func() {
		logrus.Debugf("cgroups: %v", why)
		if s.spec.Configured {
			s.warn(fmt.Sprintf("limits of containers.conf are not all in force here: %v", why))
		}
	})
}

// close removes the parent. A nil stepCgroups has none.
func (s *stepCgroups) close() error {
	if s == nil {
		return nil
	}
	var err error
	if s.parent != nil {
		err = s.parent.Close()
	}
	return errors.Join(err, s.tree.Close())
}
