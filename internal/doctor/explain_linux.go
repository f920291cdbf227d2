package doctor

import (
	"errors"
	"strings"

	graphdriver "go.podman.io/storage/drivers"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/remedy"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// Explain adds to the error of a build the thing that the host lacks, if that is why the build failed; else it returns err,
// also if err has a cause and a remedy (package remedy). The added text is that of the finding of the doctor. Explain looks at
// the host as it is now. Call it before the files of the build are removed, which may have filled the disk.
func Explain(err error, o Options) error {
	if err == nil {
		return nil
	}
	if _, ok := remedy.Of(err); ok {
		return err
	}
	if f, ok := setup(err); ok {
		return &remedy.Error{Why: f.Summary, Do: f.Fix, Err: err} // the summary repeats err
	}
	if f, ok := o.cause(err); ok {
		return explained(err, f)
	}
	return err
}

// ExplainFull adds to err that a file system of the build is full, if it is, whatever err says: a command of RUN that fails for
// that reason reports it in its own words.
func ExplainFull(err error, o Options) error {
	if f, ok := o.full(); ok && err != nil {
		return explained(err, f)
	}
	return err
}

// explained is err with the finding that explains it: "err; summary; fix".
func explained(err error, f Finding) error {
	return &remedy.Error{Why: remedy.Text(err.Error(), f.Summary), Do: f.Fix, Err: err}
}

// cause finds what is behind an error.
func (o Options) cause(err error) (Finding, bool) {
	if e, ok := errors.AsType[*overlay.Error](err); ok {
		return Finding{idOverlay, Missing, e.Detail, e.Err.Error(), e.Fix}, true
	}
	if f, ok := setup(err); ok {
		return f, true
	}
	if _, ok := errors.AsType[*sandbox.NetworkError](err); ok {
		if why, fix := tunDevice(); fix != "" {
			return Finding{ID: idNetwork, Status: Degraded, Summary: why, Fix: fix}, true
		}
		return Finding{}, false
	}

	switch {
	case errors.Is(err, graphdriver.ErrIncompatibleFS), o.remembered(err): // the library found it out by itself
		if f := overlays(o); len(f) > 0 && f[0].Status != OK {
			return f[0], true
		}
	case says(err, unix.ENOSPC):
		return o.noSpace(), true
	case says(err, unix.EDQUOT):
		return Finding{
			ID: idStoreDisk, Status: Missing, Summary: "the user's quota is used up", Detail: err.Error(),
			Fix: "rbuild prune, or pass --root, or set TMPDIR to a directory of another file system",
		}, true
	case says(err, unix.EROFS):
		if p, e := storePlace(o.Store); e == nil && p.readOnly {
			return p.readOnlyFinding(), true
		}
	}

	return o.denied(err, o.Store)
}

// remembered tells whether err is what the library keeps of an earlier attempt.
func (o Options) remembered(err error) bool {
	_, text := containers.Refusal(o.RunRoot)
	return text != "" && strings.Contains(err.Error(), text)
}

// says tells whether err is this error of the kernel, or was in another process: the library unpacks layers in one, of
// whose errors only the text is left.
func says(err error, errno unix.Errno) bool {
	return errors.Is(err, errno) || strings.Contains(err.Error(), errno.Error())
}

// full is the finding of a file system that nothing can be written to.
func (o Options) full() (Finding, bool) {
	if p, err := storePlace(o.Store); o.Store != "" && err == nil {
		if f, ok := p.full(); ok {
			return f, true
		}
	}
	if p, err := tempPlace(o.Temp); err == nil {
		return p.full()
	}
	return Finding{}, false
}

// noSpace says which file system is full. What failed may have been removed again, and with it the evidence.
func (o Options) noSpace() Finding {
	if f, ok := o.full(); ok {
		return f
	}
	p, err := storePlace(o.Store)
	if err != nil {
		return Finding{ID: idStoreDisk, Status: Missing, Summary: "the store cannot be looked at: " + err.Error()}
	}
	f := p.findings()[0]
	f.Status, f.Summary, f.Fix = Missing, "now "+f.Summary, p.fix
	return f
}
