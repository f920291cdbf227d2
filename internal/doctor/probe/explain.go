package probe

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	graphdriver "go.podman.io/storage/drivers"

	"codeberg.org/rbuild/rbuild/internal/doctor"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/program"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/remedy"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// Explain adds the thing that the host lacks to the error of a build, if that is why the build
// failed. The added text is that of the finding. Otherwise Explain returns err, also if err has a
// cause and a remedy (package remedy).
//
// Explain looks at the present state of the host. Call Explain before the files of the build are
// removed, which may have filled the disk.
func Explain(err error, o Options) error {
	if err == nil {
		return nil
	}
	if _, ok := remedy.Of(err); ok {
		return err
	}
	if f, ok := refusedSetup(err); ok {
		return &remedy.Error{Why: f.Summary, Do: f.Fix, Err: err} // the summary repeats err
	}
	if f, ok := o.cause(err); ok {
		return explained(err, f)
	}
	return err
}

// ExplainFull adds to err that a file system of the build is full, if that is so, whatever err
// says: a command of RUN that fails for that reason reports the failure in other words.
func ExplainFull(err error, o Options) error {
	if f, ok := o.full(); ok && err != nil {
		return explained(err, f)
	}
	return err
}

// explained is err with the finding that explains it: "ERR; SUMMARY; FIX".
func explained(err error, f doctor.Finding) error {
	return &remedy.Error{Why: remedy.Text(err.Error(), f.Summary), Do: f.Fix, Err: err}
}

// cause returns the finding that is behind an error.
func (o Options) cause(err error) (doctor.Finding, bool) {
	if isOverlay(err) {
		return doctor.FromError(doctor.Overlay, doctor.Missing, err), true
	}
	if f, ok := refusedSetup(err); ok {
		return f, true
	}
	if _, ok := errors.AsType[*sandbox.NetworkError](err); ok {
		why, fix := tunDevice()
		return doctor.Finding{ID: doctor.Network, Status: doctor.Degraded, Summary: why, Fix: fix}, fix != ""
	}

	switch {
	case errors.Is(err, graphdriver.ErrIncompatibleFS), o.remembered(err): // found by the storage library
		if f := overlays(o); len(f) > 0 && f[0].Status != doctor.OK {
			return f[0], true
		}
	case says(err, fdfs.ENOSPC):
		return o.noSpace(), true
	case says(err, fdfs.EDQUOT):
		return doctor.Finding{
			ID: doctor.StoreDisk, Status: doctor.Missing, Summary: "the user's quota is used up", Detail: err.Error(),
			Fix: "rbuild prune, or pass --root, or set TMPDIR to a directory of another file system",
		}, true
	case says(err, fdfs.EROFS):
		if p, e := storePlace(o.Store); e == nil && p.ReadOnly {
			return p.readOnly(), true
		}
		if f, ok := o.full(); ok { // the kernel mounts an overlay read-only if it cannot create the directory "work"
			return f, true
		}
	}

	return o.denied(err, o.Store)
}

func isOverlay(err error) bool {
	_, ok := errors.AsType[*overlay.Error](err)
	return ok
}

// refusedSetup is the finding for a process of RUN whose set-up the kernel refused: errors of
// package sandbox.
func refusedSetup(err error) (doctor.Finding, bool) {
	var e *userns.Error
	if f, ok := errors.AsType[*program.Failure](err); ok && fdfs.IsRefused(f) {
		e = userns.Explain(f.What, f.Errno)
	} else if f, ok := errors.AsType[*os.SyscallError](err); ok && f.Syscall == "clone" {
		e = userns.Explain("creating the user namespace of RUN", f.Err)
	}
	if e == nil {
		return doctor.Finding{}, false
	}
	return doctor.Finding{
		ID:      doctor.Sandbox,
		Status:  doctor.Missing,
		Summary: e.Detail,
		Detail:  err.Error(),
		Fix:     e.Fix,
	}, true
}

// remembered reports whether err is the failure that the storage library has recorded of an earlier
// attempt.
func (o Options) remembered(err error) bool {
	_, text := containers.Refusal(o.RunRoot)
	return text != "" && strings.Contains(err.Error(), text)
}

// says reports whether err is this error number, or contains the text of the error number. The
// library unpacks layers in another process, and only the text of an error of that process is left.
func says(err, errno error) bool {
	return errors.Is(err, errno) || strings.Contains(err.Error(), errno.Error())
}

// full returns the finding of a file system that nothing can be written to.
func (o Options) full() (doctor.Finding, bool) {
	if p, err := storePlace(o.Store); o.Store != "" && err == nil {
		if f, ok := p.full(); ok {
			return f, true
		}
	}

	p, err := tempPlace(o.Temp)
	if err != nil {
		return doctor.Finding{}, false
	}
	return p.full()
}

// noSpace says which file system is full. If the file that filled the disk was removed already,
// noSpace says how much room there is now.
func (o Options) noSpace() doctor.Finding {
	if f, ok := o.full(); ok {
		return f
	}

	p, err := storePlace(o.Store)
	if err != nil {
		return doctor.Finding{
			ID:      doctor.StoreDisk,
			Status:  doctor.Missing,
			Summary: "the store cannot be looked at: " + err.Error(),
		}
	}
	f := p.diskFinding()
	f.Status = doctor.Missing
	f.Summary = "now " + f.Summary
	f.Fix = p.fix
	return f
}

// denied is the finding that the store's directory belongs to somebody else. The finding applies if
// err is about a file below dir, or about an ancestor of the store.
func (o Options) denied(err error, dir string) (doctor.Finding, bool) {
	path, ok := errors.AsType[*fs.PathError](err)
	if !ok || !fdfs.IsRefused(err) || o.Store == "" {
		return doctor.Finding{}, false
	}
	if !within(path.Path, dir) && !within(o.Store, path.Path) {
		return doctor.Finding{}, false
	}
	return doctor.Finding{
		ID:      doctor.Store,
		Status:  doctor.Missing,
		Summary: "this user cannot use the store's directory " + o.Store,
		Detail:  path.Error(),
		Fix:     "pass --root with a directory of your own; in a pod give the volume to the user with fsGroup",
	}, true
}

// within reports whether path is dir or below dir.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return false
	}
	return filepath.IsLocal(rel)
}
