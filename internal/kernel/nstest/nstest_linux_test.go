package nstest_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
)

func TestMain(m *testing.M) { nstest.Main(m) }

func TestRootOfItsNamespaces(t *testing.T) {
	nstest.Need(t)
	if os.Getuid() != 0 || os.Getpid() != 1 {
		t.Fatalf("uid %d pid %d, want 0 and 1", os.Getuid(), os.Getpid())
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatalf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})

	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatalf("nogroup is not mapped: %v", err)
	}
}
