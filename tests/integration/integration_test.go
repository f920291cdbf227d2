// Package integration runs the scripts of testdata with the real rbuild, as an ordinary user.
//
// Each script has a home directory, a store and a runtime directory of its own; podman, buildah and skopeo find the same
// store through its storage.conf. hack/test.sh sets what the scripts need:
//
//	RBUILD_BIN        the binary (default: bin/rbuild of this tree)
//	REGISTRY          a registry on loopback, plain HTTP, with the base images
//	TLSREGISTRY       one with TLS that asks for REGISTRY_USER and REGISTRY_PASSWORD
//	CERTS             the directory with the certificate of TLSREGISTRY, for --cert-dir
//	REGISTRIES_CONF   a registries.conf that sends docker.io to REGISTRY
//	NOSUB             set where the user has no subordinate ids
//	VM                set in the machine of hack/vm, which has systemd and cgroup v2
package integration

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestScripts(t *testing.T) {
	if os.Getuid() == 0 {
		t.Fatal("run hack/test.sh: the scripts run as an ordinary user")
	}
	run(t, "testdata")
}

// TestWithoutSubordinateIDs runs as a user who has no line in /etc/subuid.
func TestWithoutSubordinateIDs(t *testing.T) {
	if os.Getenv("NOSUB") == "" {
		t.Skip("needs a user without subordinate ids: hack/test.sh, run as root, makes one")
	}
	run(t, "nosub")
}

// TestMachine runs in the machine of hack/vm, whose user has a systemd of his own that gives out cgroups, and may use sudo.
func TestMachine(t *testing.T) {
	if os.Getenv("VM") == "" {
		t.Skip("needs systemd, cgroup v2 and sudo: hack/test.sh --vm")
	}
	run(t, "vm")
}

// TestRoot runs as root of the machine, whom the kernel refuses nothing.
func TestRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs real root: hack/test.sh runs it as root")
	}
	run(t, "root")
}

func run(t *testing.T, dir string) {
	t.Helper()
	if os.Getenv("NOSUB") != "" && dir != "nosub" {
		t.Skip("this user has no subordinate ids")
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	helpers, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               func(e *testscript.Env) error { return setup(t, e, bin, helpers) },
		Cmds:                commands(),
		Condition:           condition,
	})
}

// condition adds to testscript's own: cgroup says that $CGROUP_PARENT is a cgroup that belongs to the user, below the
// directory $CGROUP_TREE.
func condition(name string) (bool, error) {
	if name == "cgroup" {
		return os.Getenv("CGROUP_PARENT") != "", nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// binary returns the absolute path of the rbuild to test.
func binary() (string, error) {
	path := os.Getenv("RBUILD_BIN")
	if path == "" {
		path = "../../bin/rbuild"
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("finding rbuild: %w", err)
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no rbuild to test (build it, or set RBUILD_BIN): %w", err)
	}
	return path, nil
}

const (
	storageConf = `[storage]
driver = "overlay"
graphroot = "%[1]s/root"
runroot = "%[1]s/runroot"
`
	// Debian's podman as a rootless user with runc, with or without systemd.
	containersConf = `[containers]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`
	policy = `{"default": [{"type": "insecureAcceptAnything"}]}`
)

// setup makes the script's private world and its environment.
func setup(t *testing.T, e *testscript.Env, bin, helpers string) error {
	private, err := os.MkdirTemp("", "s.") //nolint:usetesting // TempDir has long names, and cannot remove files of subordinate ids
	if err != nil {
		return fmt.Errorf("making a private directory: %w", err)
	}

	e.Defer(func() { cleanUp(t, private) })
	conf := filepath.Join(private, "home", ".config", "containers")
	for _, d := range []string{conf, filepath.Join(private, "xdg"), filepath.Join(private, "tmp")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("making a private directory: %w", err)
		}
	}

	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding the test binary: %w", err)
	}

	registries, err := os.ReadFile(os.Getenv("REGISTRIES_CONF"))
	if err != nil {
		return fmt.Errorf("reading $REGISTRIES_CONF: %w", err)
	}

	files := map[string][]byte{
		"storage.conf":    fmt.Appendf(nil, storageConf, private),
		"containers.conf": []byte(containersConf),
		"registries.conf": registries,
		"policy.json":     []byte(policy),
	}

	for name, data := range files {
		if err := os.WriteFile(filepath.Join(conf, name), data, 0o600); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}

	e.Vars = append(e.Vars,
		"HOME="+filepath.Join(private, "home"),
		"PRIVATE="+private,
		"STORE="+filepath.Join(private, "root"),
		"RUNROOT="+filepath.Join(private, "runroot"),
		"XDG_RUNTIME_DIR="+filepath.Join(private, "xdg"),
		"TMPDIR="+filepath.Join(private, "tmp"),
		"PATH="+filepath.Dir(bin)+":"+os.Getenv("PATH"),
		"CONTAINERS_REGISTRIES_CONF="+filepath.Join(conf, "registries.conf"),
		"BUILDAH_RUNTIME=runc", "BUILDAH_ISOLATION=chroot",
		"HELPERS="+helpers,
		"RBUILD="+bin,
		"ATTACKER="+self,
		"LC_ALL=C.UTF-8",
	)

	for _, k := range []string{"REGISTRY", "TLSREGISTRY", "CERTS", "REGISTRY_USER", "REGISTRY_PASSWORD", "SSL_CERT_FILE", "SSL_CERT_DIR", "CGROUP_PARENT", "CGROUP_TREE"} {
		if v := os.Getenv(k); v != "" {
			e.Vars = append(e.Vars, k+"="+v)
		}
	}

	if os.Getenv("VM") != "" {
		// The session's own: a user's systemd is reached through it.
		e.Vars = append(e.Vars, "XDG_RUNTIME_DIR="+os.Getenv("XDG_RUNTIME_DIR"), "DBUS_SESSION_BUS_ADDRESS="+os.Getenv("DBUS_SESSION_BUS_ADDRESS"))
	}

	e.Values[marksKey{}] = &marks{}
	e.Values[testKey{}] = e.T()

	return nil
}

// cleanUp ends podman's pause process and removes the private directory, whose files belong to subordinate ids too.
func cleanUp(t *testing.T, private string) {
	if os.Getuid() == 0 {
		if err := os.RemoveAll(private); err != nil {
			t.Errorf("removing %s: %v", private, err)
		}
		return
	}

	pid, err := os.ReadFile(filepath.Join(private, "xdg", "libpod", "tmp", "pause.pid"))
	if err == nil {
		_ = exec.Command("kill", "-KILL", strings.TrimSpace(string(pid))).Run()
	}
	out, err := exec.Command("unshare", "--map-root-user", "--map-auto", "rm", "-rf", private).CombinedOutput()
	if err != nil { // a user without subordinate ids, whose layers may have directories that he must not write to
		err = errors.Join(err, exec.Command("unshare", "--map-root-user", "rm", "-rf", private).Run())
	}
	if _, serr := os.Lstat(private); serr == nil {
		t.Errorf("removing %s: %v: %s", private, err, bytes.TrimSpace(out))
	}
}
