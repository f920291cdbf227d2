package cgroup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/lease"
)

// root is the directory at which the hierarchies are mounted (cgroups(7)).
const root = "/sys/fs/cgroup"

// The names of directories that this package makes.
const (
	prefix = "rbuild-" // of directories and scopes
	// leaf is the cgroup of this process, because a cgroup of v2 with children holds no process. On
	// v1 it holds some threads.
	leaf = "builder"
)

// Parent is a cgroup in which cgroups can be made. It is safe for concurrent use.
type Parent struct {
	tree        *Tree
	manager     Manager
	v2          bool
	name        string            // the path from the root of the hierarchy
	dirs        map[string]string // v1: the directory of each controller; v2: the only directory, under ""
	controllers []string          // sorted
	devices     bool              // as in Options
	busy        bool              // there are no controllers because the cgroup above holds processes
	leases      []*lease.Lease    // of dirs
	next        atomic.Int64
}

// Open finds or makes a Parent. With Systemd it moves this process into a scope. If cgroups are
// unavailable, the error is an *Error. The caller closes the Parent.
func Open(ctx context.Context, o Options) (*Parent, error) {
	p, err := open(ctx, o)
	if err != nil {
		return p, err
	}
	p.devices = o.Devices
	return p, nil
}

func open(ctx context.Context, o Options) (*Parent, error) {
	if o.Manager == Disabled {
		return nil, &Error{Reason: Off, Detail: "cgroups are switched off"}
	}
	if !unified() {
		if o.Manager == Systemd {
			return nil, &Error{
				Reason: NoHierarchy,
				Detail: "systemd delegates cgroups of version 2 only, and this machine has version 1",
				Fix:    fixV1,
			}
		}
		return openV1(o)
	}

	own, err := ownPath()
	if err != nil {
		return nil, err
	}
	if prepared(own) {
		return openPrepared(o.Tree, filepath.Dir(own))
	}
	if o.wantsBus() {
		return openScope(ctx, o)
	}

	// Prepare has failed in the launcher. Here it fails for the same reason, and returns the
	// reason.
	release, err := prepare(o, own)
	if err != nil {
		return nil, err
	}

	return nil, errors.Join(
		&Error{Reason: Busy, Detail: fmt.Sprintf("cgroup %s holds other processes", own), Fix: fixScope},
		release(),
	)
}

// Close removes the cgroups that Open has made.
func (p *Parent) Close() error {
	var errs []error
	for _, l := range p.leases {
		err := p.tree.remove(l.Path())
		for tries := 0; err != nil && tries < 50; tries++ {
			time.Sleep(time.Millisecond) // the threads of the cgroup end
			err = p.tree.remove(l.Path())
		}
		errs = append(errs, err, l.Leave())
	}

	p.leases = nil
	return errors.Join(errs...)
}

// unified reports whether only version 2 is mounted. Beside version 1, version 2 has no
// controllers.
func unified() bool {
	var st unix.Statfs_t
	return unix.Statfs(root, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// ownPath returns the cgroup of this process in the hierarchy of version 2.
func ownPath() (string, error) {
	own, err := cgroups.ParseCgroupFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("finding the cgroup of this process: %w", err)
	}
	p, ok := own[""]
	if !ok {
		return "", &Error{Reason: NoHierarchy, Detail: "this process is in no cgroup of version 2"}
	}
	return p, nil
}

// fresh returns a new name: ten characters of base32 after the prefix.
func fresh() string { return prefix + rand.Text()[:10] }

// isFresh reports whether name has the form of fresh's names.
func isFresh(name string) bool {
	text, ok := strings.CutPrefix(name, prefix)
	return ok && len(text) == 10 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// refusal returns the error of a directory that this process could not make or enter.
func refusal(dir string, err error) error {
	name := "/" + strings.TrimPrefix(strings.TrimPrefix(dir, root), "/")
	e := &Error{
		Reason: NotDelegated,
		Err:    err,
		Detail: fmt.Sprintf("cgroup %s is not delegated to the user (%v)", name, underlying(err)),
		Fix:    fixScope,
	}
	switch {
	case errors.Is(err, unix.EROFS):
		e.Reason = ReadOnly
		e.Detail = root + " is read-only here"
		e.Fix = fixPod
	case errors.Is(err, unix.ENOENT):
		e.Reason = NoParent
		e.Detail = fmt.Sprintf("there is no cgroup %s", name)
		e.Fix = "make it and give it to the user, or leave out --cgroup-parent"
	case !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM):
		return fmt.Errorf("making a cgroup in %s: %w", dir, underlying(err))
	}

	return e
}

// underlying returns the error number of a failed call, without names that the message has already.
func underlying(err error) error {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno
	}
	return err
}

// underSystemd reports whether systemd made the cgroup.
func (p *Parent) underSystemd() bool { return strings.Contains(p.name, ".slice/") }

// has reports whether p has a controller.
func (p *Parent) has(controller string) bool { return slices.Contains(p.controllers, controller) }
