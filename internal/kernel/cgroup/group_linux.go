package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	cgroupfs "github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
	"golang.org/x/sys/unix"
)

// Group is a cgroup for one process and its children.
type Group struct {
	tree   *Tree
	limits Limits
	paths  map[string]string // as dirs of Parent
	dir    *os.File          // nil on v1
}

// New makes a cgroup with limits. The caller removes the cgroup. With Options.Devices, given are
// the devices that the processes may open beside the usual devices.
func (p *Parent) New(l Limits, given ...Device) (_ *Group, err error) {
	g, err := p.limited(l)
	if err != nil {
		return g, err
	}
	if p.devices {
		_ = g.holdDevices(append(ownDevices(), given...)) // a second line of defence; see Options
	}
	return g, nil
}

// limited makes a cgroup with limits.
func (p *Parent) limited(l Limits) (_ *Group, err error) {
	g := &Group{tree: p.tree, limits: l, paths: map[string]string{}}
	name := "run-" + strconv.FormatInt(p.next.Add(1), 10)
	for c, dir := range p.dirs {
		g.paths[c] = filepath.Join(dir, name)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("making a cgroup with limits: %w", err), g.Remove())
		}
	}()

	resources := l.resources(p.v2, p.has(Swap))
	config := &cgroups.Cgroup{Resources: resources}
	if !p.v2 {
		for _, dir := range g.paths { // before the library, which does not know the Tree
			if err := g.tree.mkdir(dir); err != nil && !errors.Is(err, os.ErrExist) {
				return nil, err
			}
		}
		m, err := cgroupfs.NewManager(config, g.paths)
		if err != nil {
			return nil, err
		}
		if err := m.Apply(-1); err != nil {
			return nil, err
		}
		return g, m.Set(resources)
	}

	dir := g.paths[""]
	if err := g.tree.mkdir(dir); err != nil {
		return nil, err
	}
	if g.dir, err = os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
		return nil, err
	}

	m, err := fs2.NewManager(config, dir)
	if err != nil {
		return nil, err
	}

	return g, m.Set(resources)
}

// Limits returns the limits of the group.
func (g *Group) Limits() Limits { return g.limits }

// Dir returns the directory of the group in the hierarchy of version 2, for clone3(2); nil on
// version 1. Remove closes it.
func (g *Group) Dir() *os.File { return g.dir }

// Enter moves the calling thread into the group, on version 1. leave moves the thread into another
// cgroup of the Parent. The thread must be locked to its goroutine and end with the goroutine.
// Unlike Add, Enter never waits (since Linux 5.7).
func (g *Group) Enter() (leave func() error, err error) {
	if g.dir != nil {
		return nil, errors.ErrUnsupported
	}

	leave = func() error {
		var errs []error
		for _, dir := range g.paths {
			errs = append(errs, cgroups.WriteFile(filepath.Join(filepath.Dir(dir), leaf), fileTasks, "0"))
		}
		return errors.Join(errs...)
	}

	for _, dir := range g.paths {
		if err := cgroups.WriteFile(dir, fileTasks, "0"); err != nil {
			return nil, errors.Join(err, leave())
		}
	}

	return leave, nil
}

// fileTasks lists the threads of a cgroup of version 1 (cgroup-v1/cgroups.rst).
const fileTasks = "tasks"

// Add moves a process into the group.
func (g *Group) Add(pid int) error {
	for _, dir := range g.paths {
		if err := cgroups.WriteCgroupProc(dir, pid); err != nil {
			return fmt.Errorf("moving process %d into cgroup %s: %w", pid, dir, underlying(err))
		}
	}
	return nil
}

// Kill kills all processes of the group.
func (g *Group) Kill() error {
	if dir, ok := g.paths[""]; ok {
		if cgroups.WriteFile(dir, "cgroup.kill", "1") == nil { // Linux 5.14
			return nil
		}
	}

	for _, dir := range g.paths {
		pids, err := cgroups.GetAllPids(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("killing what is in cgroup %s: %w", dir, err)
		}
		for _, pid := range pids {
			// A thread of this process that could not leave, or a process outside of this PID
			// namespace.
			if pid == os.Getpid() || pid <= 0 {
				continue
			}
			if err := syscall.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("killing process %d of cgroup %s: %w", pid, dir, err)
			}
		}
	}

	return nil
}

// Remove kills the remaining processes of the group and removes the group. A missing group is no
// error.
func (g *Group) Remove() error {
	if g.dir != nil {
		g.dir.Close()
	}
	err := g.remove()
	for delay := time.Millisecond; err != nil && delay <= time.Second; delay *= 2 {
		if kill := g.Kill(); kill != nil {
			return errors.Join(err, kill)
		}
		time.Sleep(delay) // a killed process needs time to end, up to a second if it waits for a disk
		err = g.remove()
	}
	return err
}

func (g *Group) remove() error {
	var errs []error
	for _, dir := range g.paths {
		errs = append(errs, g.tree.remove(dir))
	}
	return errors.Join(errs...)
}
