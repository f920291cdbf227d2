package cgroup

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// Files of version 2 (cgroup-v2.rst, "Core Interface Files").
const (
	fileProcs     = "cgroup.procs"
	fileSubtree   = "cgroup.subtree_control"
	fileAvailable = "cgroup.controllers"
)

// wanted returns the controllers that are enabled for the cgroups of processes.
func wanted() []string { return []string{Memory, Pids, CPU, "io", CPUSet} }

// Prepare makes a cgroup for [Open] in a delegated subtree of version 2, if Open will not ask
// systemd. Prepare moves the calling process into a new cgroup. So the process that starts all
// other processes calls Prepare before it starts the first. The caller calls release after the
// other processes have ended: release moves the process back and removes the cgroups. With Systemd
// or Disabled, and on version 1, Prepare does nothing.
//
// The caller may continue after an error: Open returns the same reason. release is never nil.
func Prepare(o Options) (release func() error, err error) {
	nothing := func() error { return nil }
	if o.Manager == Disabled || o.wantsBus() || !unified() {
		return nothing, nil
	}
	own, err := ownPath()
	if err != nil {
		return nothing, err
	}
	return prepare(o, own)
}

// prepared reports whether Prepare has moved a process into the cgroup own.
func prepared(own string) bool {
	return filepath.Base(own) == leaf && isFresh(filepath.Base(filepath.Dir(own)))
}

func prepare(o Options, own string) (release func() error, err error) {
	parent := filepath.Join(root, own)
	if o.Parent != "" {
		parent = filepath.Join(root, filepath.Join("/", o.Parent))
	}
	nothing := func() error { return nil }
	o.Tree.reap(parent)
	dir := filepath.Join(parent, fresh())
	l, err := o.Tree.claim(dir)
	if err != nil {
		return nothing, refusal(parent, err)
	}
	if err := o.Tree.enter(dir); err != nil {
		return nothing, errors.Join(refusal(parent, err), l.Release())
	}

	enabled, _ := enable(parent) // Missing returns Busy to a caller that needs a controller
	_, _ = enable(dir)

	return func() error {
		for _, d := range []string{dir, parent} {
			for _, c := range enabled { // fails for a controller that other cgroups in parent use
				_ = cgroups.WriteFile(d, fileSubtree, "-"+c)
			}
		}
		err := cgroups.WriteFile(filepath.Join(root, own), fileProcs, "0")
		if err != nil {
			return errors.Join(fmt.Errorf("going back to cgroup %s: %w", own, underlying(err)), l.Leave())
		}
		return l.Release()
	}, nil
}

// enter moves this process into a leaf of dir.
func (t *Tree) enter(dir string) error {
	own := filepath.Join(dir, leaf)
	if err := t.mkdir(own); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return cgroups.WriteFile(own, fileProcs, "0")
}

// enable enables the controllers of dir for the cgroups below, one write for each controller: a
// refused controller must not prevent the others. It returns the newly enabled controllers and the
// first error.
func enable(dir string) (enabled []string, first error) {
	available, err := words(dir, fileAvailable)
	if err != nil {
		return nil, err
	}

	before, err := words(dir, fileSubtree)
	if err != nil {
		return nil, err
	}

	for _, c := range wanted() {
		if !slices.Contains(available, c) || slices.Contains(before, c) {
			continue
		}
		err := cgroups.WriteFile(dir, fileSubtree, "+"+c)
		if err != nil {
			first = cmp.Or(first, err)
			continue
		}
		enabled = append(enabled, c)
	}

	return enabled, first
}

func words(dir, file string) ([]string, error) {
	text, err := cgroups.ReadFile(dir, file)
	return strings.Fields(text), err
}

// openPrepared returns the cgroup that Prepare made as a Parent.
func openPrepared(t *Tree, name string) (*Parent, error) {
	p, err := newV2(t, CgroupFS, name)
	if err != nil {
		return nil, err
	}
	above := filepath.Dir(p.dirs[""])
	available, _ := words(above, fileAvailable)
	p.busy = len(p.controllers) == 0 && slices.ContainsFunc(wanted(), func(c string) bool { return slices.Contains(available, c) })
	return p, nil
}

// newV2 returns a cgroup with enabled controllers, whose leaf holds this process, as a Parent.
func newV2(t *Tree, m Manager, name string) (*Parent, error) {
	dir := filepath.Join(root, name)
	p := &Parent{tree: t, manager: m, v2: true, name: name, dirs: map[string]string{"": dir}}
	var err error
	if p.controllers, err = words(dir, fileSubtree); err != nil {
		return nil, fmt.Errorf("reading the controllers of cgroup %s: %w", name, underlying(err))
	}
	if unix.Access(filepath.Join(dir, leaf, "memory.swap.max"), unix.F_OK) == nil {
		p.controllers = append(p.controllers, Swap)
	}
	slices.Sort(p.controllers)
	return p, nil
}
