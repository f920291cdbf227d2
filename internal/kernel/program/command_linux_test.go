package program_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/program"
)

// TestKillGroup: the end of the context kills the helpers of a command too.
func TestKillGroup(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", "sleep 100 & echo $!; wait")
	program.KillGroup(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	helper, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}

	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("the command was not killed")
	}
	for range 1000 {
		if ended(helper) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d is alive", helper)
}

// ended reports whether there is no process pid, or it has ended and nobody has waited for it (state Z of proc(5)).
func ended(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(stat), ") Z ")
}

// TestStartErrors: why a program could not be started.
func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil { //nolint:gosec // it is executed
			t.Fatal(err)
		}
		return path
	}

	open := write("open", "#!/bin/sh\n")
	f, err := os.OpenFile(open, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()

	for _, tc := range []struct {
		name, path    string
		busy, foreign bool
	}{
		{"open for writing", open, true, false},
		{"of no known format", write("garbage", "\x00\x01\x02\x03"), false, true},
		{"without its interpreter", write("script", "#!/none\n"), false, true},
		{"a directory", dir, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := exec.CommandContext(t.Context(), tc.path).Run()
			if err == nil || program.IsBusy(err) != tc.busy || program.IsForeign(err) != tc.foreign {
				t.Errorf("%v: busy %t, foreign %t", err, program.IsBusy(err), program.IsForeign(err))
			}
		})
	}
}

// TestChroot needs CAP_SYS_CHROOT: without it the start is refused.
func TestChroot(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "/none")
	program.Chroot(cmd, dir)
	err := cmd.Run()
	if cmd.Dir != "/" || !errors.Is(err, unix.EPERM) && !program.IsForeign(err) {
		t.Errorf("in %s: %v", cmd.Dir, err)
	}
}
