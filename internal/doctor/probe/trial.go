package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/doctor"
	"codeberg.org/rbuild/rbuild/internal/kernel/binfmt"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// trials runs a process as RUN does, with files on the file system of the store or, if that cannot
// hold them, of temporary files. ran is the directory where a process ran; empty: no process could
// be run.
func trials(ctx context.Context, o Options) (findings []doctor.Finding, ran string) {
	var failed error
	for _, dir := range []string{o.Store, o.Temp} {
		t, dir, err := tryBelow(ctx, dir, o.Trusted)
		if err == nil {
			return t.findings(), dir
		}
		if _, explained := refusedSetup(failed); !explained {
			failed = err
		}
	}

	if isOverlay(failed) {
		return []doctor.Finding{untriedBecause(doctor.Sandbox, doctor.Overlay, failed)}, ""
	}
	return []doctor.Finding{o.untried(doctor.Sandbox, failed)}, ""
}

// tryBelow is try in dir, or in the next ancestor that exists, and returns that directory.
func tryBelow(ctx context.Context, dir string, trusted bool) (trial, string, error) {
	dir, err := existing(dir)
	if err != nil {
		return trial{}, "", err
	}
	t, err := try(ctx, dir, trusted)
	return t, dir, err
}

// trial is a process that ran.
type trial struct {
	proc     sandbox.ProcMount // the best /proc that the process could have
	degraded []string          // as in sandbox.Process
}

// try runs a program that does nothing, in the sandbox of RUN, with files below a directory in dir
// that is removed again.
func try(ctx context.Context, dir string, trusted bool) (t trial, err error) {
	base, err := os.MkdirTemp(dir, Prefix)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(base)) }()
	if err := overlay.Probe(base, trusted); err != nil {
		return t, err
	}

	for _, t.proc = range []sandbox.ProcMount{sandbox.ProcFresh, sandbox.ProcSubset, sandbox.ProcBind} {
		config, err := trialConfig(filepath.Join(base, strconv.Itoa(int(t.proc))), trusted)
		if err != nil {
			return t, err
		}

		config.Proc = t.proc
		process, err := sandbox.Start(config) //nolint:contextcheck // its start is bounded
		if err == nil {
			t.degraded = process.Degraded
			return t, wait(ctx, process)
		}
		if !fdfs.IsRefused(err) || t.proc == sandbox.ProcBind {
			return t, err
		}
	}

	return t, nil
}

// trialConfig describes the process, and makes the directory base for the files of the process.
func trialConfig(base string, trusted bool) (sandbox.Config, error) {
	at := func(name string) string { return filepath.Join(base, name) }
	for _, name := range []string{"", "lower", "upper", "work"} {
		if err := os.Mkdir(at(name), 0o755); err != nil {
			return sandbox.Config{}, err
		}
	}

	program := binfmt.Program(runtime.GOARCH)
	if err := os.WriteFile(at("lower/probe"), program, 0o755); err != nil { //nolint:gosec // it is executed
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
		Spec:   spec,
		Filter: filter,
		Stubs:  at("stubs"),
		Root: overlay.Mount{
			Lowers:   []string{at("lower")},
			Upper:    at("upper"),
			Work:     at("work"),
			Trusted:  trusted,
			Volatile: true,
		},
	}, nil
}

// wait waits for the process, which has nothing to do.
func wait(ctx context.Context, p *sandbox.Process) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = p.Kill() }) // it may have ended just now
	defer stop()

	state, err := p.Wait()
	if err != nil {
		return err
	}
	if state.Signal != 0 || state.ExitCode != 0 {
		return fmt.Errorf("a trial process ended with status %d, signal %d", state.ExitCode, int(state.Signal))
	}
	return nil
}

// findings says how the process ran.
func (t trial) findings() []doctor.Finding {
	out := []doctor.Finding{
		{ID: doctor.Sandbox, Status: doctor.OK, Summary: "a process ran as those of RUN do"},
		t.procFinding(),
	}
	if len(t.degraded) > 0 {
		out = append(out, doctor.Finding{
			ID: doctor.PivotRoot, Status: doctor.Degraded, Summary: strings.Join(t.degraded, "; "),
			Fix: "allow pivot_root in the seccomp profile: in a pod set seccompProfile.type: Unconfined",
		})
	}
	return out
}

// procFinding says which /proc the process had.
func (t trial) procFinding() doctor.Finding {
	f := doctor.Finding{ID: doctor.Proc, Status: doctor.OK, Summary: "RUN has a /proc of its own"}
	switch t.proc {
	case sandbox.ProcAuto, sandbox.ProcFresh:
		return f
	case sandbox.ProcSubset:
		f.Summary = "RUN has a /proc of its own with processes only (subset=pid)"
	case sandbox.ProcBind:
		f.Summary = "RUN sees the processes around the builder in /proc, under other numbers: " +
			"a /proc of its own is refused"
	}

	f.Status = doctor.Degraded
	f.Detail = "the /proc of this process is partly masked"
	f.Fix = "in a pod set procMount: Unmasked with hostUsers: false, or use Linux 7.2; " +
		"in a container use --security-opt unmask=ALL"
	return f
}
