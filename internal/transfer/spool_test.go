package transfer

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSpool(t *testing.T) {
	root := filepath.Join(t.TempDir(), "no[pattern")
	base := Options{}.spoolBase(root)
	live, release, err := newSpool(base)
	if err != nil {
		t.Fatal(err)
	}

	// What killed processes leave: a directory with its lock, one that was
	// killed before the lock was made, a lock whose directory is gone.
	for _, dir := range []string{"rbuild-1", "rbuild-2"} {
		if err := os.MkdirAll(filepath.Join(base, dir, "storage123"), 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(base, dir, "storage123", "1"), "half a layer")
	}

	writeFile(t, filepath.Join(base, "rbuild-1.lock"), "")
	writeFile(t, filepath.Join(base, "rbuild-3.lock"), "")
	writeFile(t, filepath.Join(base, "of-another"), "")
	if err := Tidy(root, Options{}); err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(live)
	if diff := cmp.Diff([]string{"of-another", name, name + lockSuffix, spoolMaster}, names(t, base)); diff != "" {
		t.Errorf("after tidying (-want +got):\n%s", diff)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"of-another", spoolMaster}, names(t, base)); diff != "" {
		t.Errorf("after the release (-want +got):\n%s", diff)
	}
	if err := Tidy(filepath.Join(root, "no-store"), Options{}); err != nil {
		t.Errorf("tidying nothing: %v", err)
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
