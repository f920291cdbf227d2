package spool

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestSpool: Tidy removes the directories of dead processes and keeps the directories of living
// processes.
func TestSpool(t *testing.T) {
	base := filepath.Join(t.TempDir(), "no[pattern", "tmp")
	live, release, err := New(base)
	if err != nil {
		t.Fatal(err)
	}

	// Killed processes leave a directory with its lock, a directory whose lock was not made yet,
	// and a lock whose directory is gone.
	for _, dir := range []string{"rbuild-1", "rbuild-2"} {
		if err := os.MkdirAll(filepath.Join(base, dir, "storage123"), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(base, dir, "storage123", "1"), "half a layer")
	}

	writeFile(t, filepath.Join(base, "rbuild-1.lock"), "")
	writeFile(t, filepath.Join(base, "rbuild-3.lock"), "")
	writeFile(t, filepath.Join(base, "of-another"), "")
	if err := Tidy(base); err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(live)
	if diff := cmp.Diff([]string{"of-another", name, name + lockSuffix, Master}, names(t, base)); diff != "" {
		t.Errorf("after tidying (-want +got):\n%s", diff)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"of-another", Master}, names(t, base)); diff != "" {
		t.Errorf("after the release (-want +got):\n%s", diff)
	}
	if err := Tidy(filepath.Join(base, "no-store")); err != nil {
		t.Errorf("tidying nothing: %v", err)
	}
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}
