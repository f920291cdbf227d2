package sandbox

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/program"
)

const (
	whatFindAppArmor = "finding where AppArmor takes profiles"
	whatAppArmor     = "setting the AppArmor profile"
)

// appArmor adds the operations that give the process the profile at its next execve
// (aa_change_onexec(3)). The file is opened below proc, the root of a procfs; a mount over the file
// is not followed (CVE-2025-52881).
func appArmor(p *program.Program, proc any, profile string) {
	how := &unix.OpenHow{
		Flags:   unix.O_WRONLY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_MAGICLINKS,
	}

	file, older, opened := p.Reg(), p.Label(), p.Label()
	p.Do(whatFindAppArmor, unix.SYS_OPENAT2, proc, "self/attr/apparmor/exec", program.Pointer(how), unix.SizeofOpenHow).
		Into(file).Tolerate(unix.ENOENT).Else(older).Then(opened)
	p.Mark(older) // before Linux 5.8
	p.Do(whatFindAppArmor, unix.SYS_OPENAT2, proc, "self/attr/exec", program.Pointer(how), unix.SizeofOpenHow).Into(file)
	p.Mark(opened)
	text := "exec " + profile
	p.Do(whatAppArmor, unix.SYS_WRITE, file, []byte(text), len(text))
}

// appArmor adds the profile of the process, through the /proc of the process.
func (l *launch) appArmor() error {
	profile := l.c.Spec.Process.ApparmorProfile
	if profile == "" {
		return nil
	}
	for _, m := range l.tree.mounts {
		if m.fsType == "proc" {
			appArmor(l.p, m.root, profile)
			return nil
		}
	}
	return errors.New("starting a process: an AppArmor profile needs a /proc")
}

// CheckAppArmor reports whether a process can have an AppArmor profile: it starts a process with
// the profile that ends at once.
func CheckAppArmor(profile string) error {
	proc, err := os.Open("/proc")
	if err != nil {
		return err
	}
	defer proc.Close()

	p := new(program.Program)
	appArmor(p, proc, profile)
	p.Do("", unix.SYS_EXIT_GROUP, 0)
	child, err := p.Start(0)
	if err != nil {
		return explainAppArmor(err, profile)
	}

	_, err = child.Wait()
	return err
}

// explainAppArmor adds the likely reason to the failure of an operation of appArmor.
func explainAppArmor(err error, profile string) error {
	f, ok := errors.AsType[*program.Failure](err)
	switch {
	case !ok:
	case f.What == whatFindAppArmor && f.Errno == unix.ENOENT, f.What == whatAppArmor && f.Errno == unix.EINVAL:
		return fmt.Errorf("%w: AppArmor is not enabled on this machine", err)
	case f.What == whatAppArmor && f.Errno == unix.ENOENT:
		return fmt.Errorf("%w: no profile of the name %s is loaded", err, profile)
	case f.What == whatAppArmor && (f.Errno == unix.EPERM || f.Errno == unix.EACCES):
		return fmt.Errorf("%w: the profile that rbuild has forbids it", err)
	}
	return err
}
