package userns

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mapper writes the ID maps of a new user namespace.
type mapper struct {
	plan  plan
	deleg delegation
}

// write writes the ID maps of the user namespace of the process pid, if the plan has any.
func (m mapper) write(ctx context.Context, pid int) error {
	switch {
	case !m.plan.newUserNS():
		return nil
	case m.plan.Mode == Helper:
		return m.callHelpers(ctx, pid)
	}
	return writeMaps(pid, m.plan, m.plan.Mode == Direct)
}

// callHelpers runs newuidmap and newgidmap at the same time, because each takes as long as the
// start of the Go runtime in the builder.
func (m mapper) callHelpers(ctx context.Context, pid int) error {
	gids := make(chan error, 1)
	go func() { gids <- m.callHelper(ctx, m.deleg.GIDTool, pid, m.plan.GIDMap) }()
	uidErr := m.callHelper(ctx, m.deleg.UIDTool, pid, m.plan.UIDMap)
	gidErr := <-gids
	if uidErr != nil {
		return uidErr
	}
	return gidErr
}

// callHelper runs newuidmap or newgidmap and explains its failure.
func (m mapper) callHelper(ctx context.Context, tool string, pid int, ids []IDMap) error {
	text := strings.TrimSpace(formatIDMap(ids))
	out, err := run(ctx, tool, append([]string{strconv.Itoa(pid)}, strings.Fields(text)...)...)
	if err != nil {
		return explainHelper(m.failure(tool, text, out, err), readSituation())
	}
	return nil
}

// failure describes a failed run of a tool. A fact about its file that cannot be read counts as
// false.
func (m mapper) failure(tool, ids, out string, err error) helperFailure {
	f := helperFailure{
		Path:     tool,
		Output:   out,
		Err:      err,
		FileCaps: hasFileCaps(tool),
		User:     m.deleg.User,
		Ranges:   strings.ReplaceAll(ids, "\n", ", "),
	}

	var st unix.Stat_t
	if unix.Stat(tool, &st) == nil {
		f.SetUID = st.Mode&unix.S_ISUID != 0 && st.Uid == 0
	}
	var fs unix.Statfs_t
	if unix.Statfs(tool, &fs) == nil {
		f.NoSUID = fs.Flags&unix.ST_NOSUID != 0
	}
	return f
}

// writeMaps writes the ID maps as the parent of the namespace. With setgroups false it forbids
// setgroups(2) in the namespace for ever, without which the kernel accepts no group map from a
// process that lacks CAP_SETGID (user_namespaces(7)).
func writeMaps(pid int, p plan, setgroups bool) error {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	if !setgroups {
		if err := writeProc(filepath.Join(dir, "setgroups"), "deny"); err != nil {
			return err
		}
	}
	if err := writeProc(filepath.Join(dir, "uid_map"), formatIDMap(p.UIDMap)); err != nil {
		return err
	}
	return writeProc(filepath.Join(dir, "gid_map"), formatIDMap(p.GIDMap))
}

// writeProc writes text with one write(2), as the kernel requires for ID maps.
func writeProc(path, text string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("mapping ids: %w", err)
	}
	defer func() { err = cmp.Or(err, f.Close()) }()

	if _, err := f.WriteString(text); err != nil {
		return &Error{
			Reason: Forbidden,
			Err:    err,
			Detail: fmt.Sprintf("mapping ids: writing %q: %v", strings.TrimSpace(text), err),
			Fix:    "in a container add the capabilities SETUID, SETGID and SETFCAP",
		}
	}
	return nil
}
