package cgroup

import (
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

// wanted are the controllers that are enabled for the cgroups of processes.
func wanted() []string { return []string{Memory, Pids, CPU, "io", CPUSet} }

// Prepare makes a place for cgroups in a delegated subtree of version 2, where systemd is not to be asked for one. It has
// to move the calling process into a cgroup of its own, for which reason it must be called by the process that starts all
// others, and before it does. Release must be called when they have ended; it moves the process back and removes what was
// made. Where another manager is at work, and on version 1, Prepare does nothing.
//
// The error is an *Error or that of a call that was to succeed. The caller may go on after it: Open meets it again.
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

// prepared tells whether a process in the cgroup own was put there by Prepare.
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

	enabled, _ := enable(parent) // Busy is told by Missing, to those who need a controller
	_, _ = enable(dir)

	return func() error {
		for _, d := range []string{dir, parent} {
			for _, c := range enabled { // others may need them in parent: then that fails, and they stay
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

// enable gives the cgroups below dir the controllers that dir has, each by itself: one that is refused must not keep the
// others away. It returns those that were not enabled before, and the first error.
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
		if err := cgroups.WriteFile(dir, fileSubtree, "+"+c); err == nil {
			enabled = append(enabled, c)
		} else if first == nil {
			first = err
		}
	}

	return enabled, first
}

func words(dir, file string) ([]string, error) {
	text, err := cgroups.ReadFile(dir, file)
	return strings.Fields(text), err
}

// openPrepared is a place that Prepare made.
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

// newV2 is a place whose controllers are enabled, with this process in its leaf.
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
