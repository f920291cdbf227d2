package cgroup

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/cgroups"
	cgroupfs "github.com/opencontainers/cgroups/fs"
)

// hierarchies returns the controllers of version 1 that this package uses. Messages name the path
// in the first. The controller for I/O is left out: it does not know which process wrote the data
// that the page cache writes to disk later.
func hierarchies() []string {
	return []string{Memory, Pids, CPU, "cpuacct", CPUSet}
}

// openV1 makes a directory in each controller's hierarchy in which the user may make directories.
// On version 1 a cgroup with children may hold processes, and the user may move each of the user's
// processes.
func openV1(o Options) (*Parent, error) {
	p := &Parent{tree: o.Tree, manager: CgroupFS, dirs: map[string]string{}}
	wanted := hierarchies()
	if o.Devices {
		wanted = append(wanted, deviceHierarchy)
	}
	id := fresh()
	var refused error
	for _, c := range wanted {
		parent, err := parentV1(c, o.Parent)
		if err == nil {
			err = p.claimV1(c, filepath.Join(parent, id))
		}
		if cgroups.IsNotFound(err) {
			continue // the kernel lacks it
		}
		if err != nil && (refused == nil || !errors.Is(err, fs.ErrNotExist)) {
			refused = cmp.Or(refused, error(&os.PathError{Op: "making a cgroup", Path: parent, Err: underlying(err)}))
		}
	}

	if len(p.dirs) == 0 {
		return nil, refusalV1(refused)
	}

	p.controllers = slices.DeleteFunc(p.controllers, func(c string) bool { return c == deviceHierarchy }) // which limits nothing
	slices.Sort(p.controllers)

	return p, nil
}

// parentV1 returns the directory in which a controller's cgroups are made.
func parentV1(controller, parent string) (string, error) {
	if parent == "" {
		return cgroups.GetOwnCgroupPath(controller)
	}
	mount, err := cgroups.FindCgroupMountpoint(root, controller)
	if err != nil {
		return "", err
	}
	return filepath.Join(mount, filepath.Join("/", parent)), nil
}

// claimV1 makes the directory of a controller. Two controllers may share a directory.
func (p *Parent) claimV1(controller, dir string) error {
	if real, err := filepath.EvalSymlinks(filepath.Dir(dir)); err == nil {
		dir = filepath.Join(real, filepath.Base(dir))
	}
	shared := false
	for _, other := range p.dirs {
		shared = shared || other == dir
	}
	if !shared {
		p.tree.reap(filepath.Dir(dir))
		l, err := p.tree.claim(dir)
		if err != nil {
			return err
		}
		p.leases = append(p.leases, l)
	}

	if !shared {
		if err := p.tree.mkdir(filepath.Join(dir, leaf)); err != nil {
			return err
		}
	}

	if controller == CPUSet { // a new cpuset is empty and accepts no process; ApplyDir fills dir, too
		if err := new(cgroupfs.CpusetGroup).ApplyDir(filepath.Join(dir, leaf), &cgroups.Resources{}, -1); err != nil {
			return err
		}
	}

	p.dirs[controller] = dir
	p.controllers = append(p.controllers, controller)
	if controller == Memory && cgroups.PathExists(filepath.Join(dir, "memory.memsw.limit_in_bytes")) {
		p.controllers = append(p.controllers, Swap)
	}
	if p.name == "" {
		p.name = dir[strings.Index(dir[len(root)+1:], "/")+len(root)+1:]
	}

	return nil
}

func refusalV1(err error) error {
	if err == nil {
		return &Error{Reason: NoHierarchy, Detail: "no cgroup file system is mounted at " + root, Fix: "mount one, or run where the host's is visible"}
	}
	path, _ := errors.AsType[*os.PathError](err)
	refused := refusal(path.Path, err)
	if e, ok := errors.AsType[*Error](refused); ok && e.Reason == NotDelegated {
		e.Detail, e.Fix = "cgroup v1, and "+path.Path+" is not delegated to the user ("+path.Err.Error()+")", fixV1
	}
	return refused
}
