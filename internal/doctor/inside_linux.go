package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/binfmt"
	"codeberg.org/rbuild/rbuild/internal/kernel/program"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/internal/remedy"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// Inside makes the probes of the builder, in its namespaces.
func Inside(ctx context.Context, state *userns.State, o Options) []Finding {
	out := []Finding{{ID: idUserns, Status: OK, Summary: usernsSummary(state.Mode)}}
	if state.Mode != userns.Single { // why there is but one id, Refused tells
		out = append(out, idMap(state))
	}
	if !state.PIDNamespace {
		out = append(out, Finding{
			ID: idPIDs, Status: Degraded, Summary: "the builder has no PID namespace of its own", Detail: strings.Join(state.Warnings, "\n"),
			Fix: "in a pod set procMount: Unmasked with hostUsers: false",
		})
	}

	out = append(out, overlays(o)...)
	tried, dir := trials(ctx, o)
	out = append(out, tried...)
	if dir == "" {
		return out
	}
	return append(out, network(ctx, o, dir), emulators(ctx, o))
}

func usernsSummary(m userns.Mode) string {
	switch m {
	case userns.Root:
		return "not needed by root of the machine"
	case userns.Identity:
		return "the one in which rbuild was started is used as it is"
	case userns.Direct, userns.Helper, userns.Single:
	}
	return "the builder has a user namespace of its own"
}

// idMap says which ids are there.
func idMap(state *userns.State) Finding {
	f := Finding{ID: idIDMap, Status: OK}
	uids, gids := count(state.UIDMap), count(state.GIDMap)
	f.Summary = fmt.Sprintf("%d user ids and %d group ids", uids, gids)
	switch state.Mode {
	case userns.Helper:
		f.Summary += ", mapped by newuidmap and newgidmap"
	case userns.Direct:
		f.Summary += ", mapped by root itself"
	case userns.Root:
		f.Summary = "all ids of the machine"
	case userns.Identity, userns.Single:
	}

	return f
}

func count(m []userns.IDMap) (n uint64) {
	for _, e := range m {
		n += uint64(e.Size)
	}
	return n
}

// Refused is the finding that no namespace, or none with enough ids, could be made: err is that of userns.Enter without
// Options.AllowSingle. It is Degraded where a single id may be had.
func Refused(err error) Finding {
	f := Finding{ID: idUserns, Status: Missing, Summary: err.Error()}
	e, ok := errors.AsType[*userns.Error](err)
	if !ok {
		return f
	}

	f.Summary, f.Fix = e.Detail, e.Fix
	if e.Err != nil {
		f.Detail = e.Err.Error()
	}
	if e.Reason.AboutIDs() {
		f.ID, f.Status = idIDMap, Degraded
	}
	return f
}

// overlays tries an overlay where the store is.
func overlays(o Options) []Finding {
	if o.Store == "" {
		return nil
	}

	dir, err := existing(o.Store)
	if err == nil {
		err = overlay.Probe(dir, o.Trusted)
	}
	if err != nil {
		return []Finding{o.untried(idOverlay, err)}
	}
	if file, text := containers.Refusal(o.RunRoot); file != "" {
		return []Finding{{idOverlay, Missing, "overlays work on the store's file system, but the storage library remembers that once they did not", text, "rm " + file}}
	}
	return []Finding{{ID: idOverlay, Status: OK, Summary: "overlays work on the store's file system"}}
}

// untried is the finding for a trial that failed with err. What Outside has told already is not told again.
func (o Options) untried(id string, err error) Finding {
	dir, e := existing(o.Store)
	f, ok := o.cause(err)
	if !ok && e == nil {
		f, ok = o.denied(err, dir)
	}
	switch {
	case !ok:
		return Finding{ID: id, Status: Missing, Summary: err.Error()}
	case f.ID == idStore && e == nil && !says(err, unix.EROFS):
	case slices.Contains([]string{idStoreDisk, idStoreInodes, idTempDisk, idTempInodes, idStore}, f.ID):
		return Finding{ID: id, Status: Missing, Summary: "could not be tried: see " + f.ID, Detail: err.Error()}
	}

	f.ID = id
	return f
}

// trials runs a process as RUN would, on the store's file system, or where that cannot hold it, on that of temporary
// files. It returns the directory where a process ran; empty: none did.
func trials(ctx context.Context, o Options) (out []Finding, ran string) {
	var failed error
	for _, dir := range []string{o.Store, o.Temp} {
		dir, err := existing(dir)
		if err == nil {
			var t trial
			if t, err = try(ctx, dir, o.Trusted); err == nil {
				return t.findings(), dir
			}
		}
		if _, explained := setup(failed); !explained {
			failed = err
		}
	}

	if isOverlay(failed) {
		return []Finding{{ID: idSandbox, Status: Missing, Summary: "could not be tried: see " + idOverlay, Detail: failed.Error()}}, ""
	}
	return []Finding{o.untried(idSandbox, failed)}, ""
}

func isOverlay(err error) bool {
	_, ok := errors.AsType[*overlay.Error](err)
	return ok
}

// trial is a process that ran.
type trial struct {
	proc     sandbox.ProcMount
	degraded []string
}

// try runs a program that does nothing, in the sandbox of RUN, below a directory in dir that is removed again.
func try(ctx context.Context, dir string, trusted bool) (t trial, err error) {
	base, err := os.MkdirTemp(dir, ProbePrefix)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	if err := overlay.Probe(base, trusted); err != nil {
		return t, err
	}

	for _, t.proc = range []sandbox.ProcMount{sandbox.ProcFresh, sandbox.ProcSubset, sandbox.ProcBind} {
		var config sandbox.Config
		if config, err = trialConfig(filepath.Join(base, strconv.Itoa(int(t.proc))), trusted); err != nil {
			return t, err
		}

		config.Proc = t.proc
		var process *sandbox.Process
		if process, err = sandbox.Start(config); err == nil { //nolint:contextcheck // its start is bounded
			t.degraded = process.Degraded
			return t, wait(ctx, process)
		}
		if !refused(err) {
			break
		}
	}

	return t, err
}

// trialConfig describes the process. Its files are below base, which it makes.
func trialConfig(base string, trusted bool) (sandbox.Config, error) {
	at := func(name string) string { return filepath.Join(base, name) }
	for _, name := range []string{"", "lower", "upper", "work"} {
		if err := os.Mkdir(at(name), 0o755); err != nil {
			return sandbox.Config{}, err
		}
	}

	if err := os.WriteFile(at("lower/probe"), binfmt.Program(runtime.GOARCH), 0o755); err != nil { //nolint:gosec // it is executed
		return sandbox.Config{}, err
	}

	profile, err := sandbox.DefaultSeccomp(sandbox.DefaultCapabilities())
	if err != nil {
		return sandbox.Config{}, err
	}

	filter, err := sandbox.NewFilter(profile)
	if err != nil {
		return sandbox.Config{}, err
	}

	spec := sandbox.DefaultSpec()
	spec.Process.Args = []string{"/probe"}

	return sandbox.Config{
		Spec: spec, Filter: filter, Stubs: at("stubs"),
		Root: overlay.Mount{Lowers: []string{at("lower")}, Upper: at("upper"), Work: at("work"), Trusted: trusted, Volatile: true},
	}, nil
}

func refused(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) }

// wait waits for the process, which has nothing to do.
func wait(ctx context.Context, p *sandbox.Process) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = p.Kill() }) // it may have ended just now
	defer stop()
	state, err := p.Wait()
	if err == nil && (state.Signal != 0 || state.ExitCode != 0) {
		err = fmt.Errorf("a trial process ended with status %d, signal %d", state.ExitCode, int(state.Signal))
	}
	return err
}

// findings says how the process ran.
func (t trial) findings() []Finding {
	out := []Finding{{ID: idSandbox, Status: OK, Summary: "a process ran as those of RUN do"}}
	proc := Finding{ID: idProc, Status: OK, Summary: "RUN has a /proc of its own"}
	switch t.proc {
	case sandbox.ProcSubset:
		proc.Status, proc.Summary = Degraded, "RUN has a /proc of its own with processes only (subset=pid)"
	case sandbox.ProcBind:
		proc.Status, proc.Summary = Degraded, "RUN sees the processes around the builder in /proc, under other numbers: a /proc of its own is refused"
	case sandbox.ProcAuto, sandbox.ProcFresh:
	}

	if proc.Status != OK {
		proc.Detail = "the /proc of this process is partly masked"
		proc.Fix = "in a pod set procMount: Unmasked with hostUsers: false, or use Linux 7.2; in a container use --security-opt unmask=ALL"
	}

	out = append(out, proc)
	if len(t.degraded) > 0 {
		out = append(out, Finding{
			ID: idPivot, Status: Degraded, Summary: strings.Join(t.degraded, "; "),
			Fix: "allow pivot_root in the seccomp profile: in a pod set seccompProfile.type: Unconfined",
		})
	}

	return out
}

// emulators tries the programs of every architecture.
func emulators(ctx context.Context, o Options) Finding {
	dir, err := existing(o.Temp)
	if err != nil {
		return Finding{ID: idEmulators, Status: Degraded, Summary: "could not be tried: " + err.Error()}
	}

	e := binfmt.New(o.Path)
	var can, cannot []string
	var why *remedy.Error
	for _, architecture := range binfmt.Architectures() {
		err := e.Ensure(ctx, architecture, dir)
		failed, ok := errors.AsType[*remedy.Error](err)
		switch {
		case err == nil:
			can = append(can, architecture)
		case ok:
			cannot, why = append(cannot, architecture), failed
		}
	}

	if err := e.Close(); err != nil || len(cannot)+len(can) == 0 {
		return Finding{ID: idEmulators, Status: Degraded, Summary: "programs of other architectures could not be tried"}
	}

	f := Finding{ID: idEmulators, Status: OK, Summary: "RUN executes programs of " + strings.Join(can, ", ")}
	if len(cannot) > 0 {
		f.Status, f.Detail, f.Fix = Degraded, why.Error(), why.Do
		f.Summary += ", not of " + strings.Join(cannot, ", ")
	}

	return f
}

// setup explains the failure of a process's set-up by the kernel: errors of package sandbox.
func setup(err error) (Finding, bool) {
	var what string
	var errno syscall.Errno
	if f, ok := errors.AsType[*program.Failure](err); ok && refused(f.Errno) {
		what, errno = f.What, f.Errno
	} else if f, ok := errors.AsType[*os.SyscallError](err); ok && f.Syscall == "clone" {
		if n, isErrno := errors.AsType[syscall.Errno](f.Err); isErrno {
			what, errno = "creating the user namespace of RUN", n
		}
	}

	if what == "" {
		return Finding{}, false
	}

	e := userns.Explain(what, errno)
	return Finding{ID: idSandbox, Status: Missing, Summary: e.Detail, Detail: err.Error(), Fix: e.Fix}, true
}

// denied explains that the store's directory belongs to somebody else, if err is about something below dir, or on the way to
// the store.
func (o Options) denied(err error, dir string) (Finding, bool) {
	var path *fs.PathError
	if !errors.As(err, &path) || !refused(err) || o.Store == "" || !within(path.Path, dir) && !within(o.Store, path.Path) {
		return Finding{}, false
	}
	return Finding{
		ID: idStore, Status: Missing, Summary: "this user cannot use the store's directory " + o.Store, Detail: path.Error(),
		Fix: "pass --root with a directory of your own; in a pod give the volume to the user with fsGroup",
	}, true
}

// within tells whether path is dir or below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
