package binfmt

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/remedy"
)

func TestMain(m *testing.M) { nstest.Main(m) }

// TestEnsure makes every architecture executable for which there is an emulator.
func TestEnsure(t *testing.T) {
	nstest.Need(t)
	e := New(os.Getenv("PATH"))
	defer e.Close()

	found := 0
	for name, m := range machines() {
		program, err := e.find(m)
		if err != nil {
			continue
		}

		program.Close()
		if name != runtime.GOARCH {
			found++
		}
		if err := e.Ensure(t.Context(), name, t.TempDir()); err != nil {
			if strings.Contains(err.Error(), "Linux 6.7") {
				t.Skip(err)
			}
			t.Errorf("%s: %v", name, err)
		}
	}

	if found == 0 {
		t.Skip("no emulator in PATH: apt install qemu-user-static")
	}
}

// TestNative needs no emulator, and mounts nothing.
func TestNative(t *testing.T) {
	nstest.Need(t)
	e := New("")
	if err := e.Ensure(t.Context(), runtime.GOARCH, t.TempDir()); err != nil || e.root != nil {
		t.Errorf("%v, %v", err, e.root)
	}
}

func TestMissing(t *testing.T) {
	nstest.Need(t)
	foreign := "s390x"
	for _, tc := range []struct{ name, arch, path, want string }{
		{"unknown", "pdp11", "", "programs for pdp11 cannot be executed on this machine: no emulator of it is known"},
		{"none", foreign, t.TempDir(), "apt install qemu-user-static"},
		{"dynamic", foreign, dynamic(t), "is not linked statically"},
		{"no program", foreign, script(t), "apt install qemu-user-static"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := New(tc.path)
			err := e.Ensure(t.Context(), tc.arch, t.TempDir())
			if err == nil {
				t.Skip("the host runs programs for " + tc.arch)
			}
			var known *remedy.Error
			if !errors.As(err, &known) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v", err)
			}
			if again := e.Ensure(t.Context(), tc.arch, t.TempDir()); !errors.Is(again, err) {
				t.Errorf("found out again: %v", again)
			}
		})
	}
}

// dynamic is a directory with an emulator that needs a loader.
func dynamic(t *testing.T) string {
	ls, err := exec.LookPath("ls")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(ls, filepath.Join(dir, "qemu-s390x")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func script(t *testing.T) string {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "qemu-s390x-static"), []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}
