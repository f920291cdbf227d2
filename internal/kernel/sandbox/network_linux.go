package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/kernel/program"
	hostprogram "codeberg.org/rbuild/rbuild/internal/lookpath"
)

// networkTimeout bounds the time until a helper has given the namespace a default route.
const networkTimeout = 30 * time.Second

// FindNetworkHelper returns the path of pasta or, if pasta is missing, of slirp4netns. It searches
// the absolute directories of a PATH.
func FindNetworkHelper(dirs string) (string, error) {
	if file, err := hostprogram.Find(dirs, "pasta", "slirp4netns"); err == nil {
		return file, nil
	}
	return "", errors.New("a private network needs pasta (Debian: apt install passt) or slirp4netns (apt install slirp4netns), and neither is installed")
}

// Nameserver returns the nameserver for /etc/resolv.conf of a process with a private network: an
// address that the helper forwards to the nameserver of the host.
func Nameserver(helper string) netip.Addr {
	if filepath.Base(helper) == "slirp4netns" {
		return netip.AddrFrom4([4]byte{10, 0, 2, 3})
	}
	return netip.AddrFrom4([4]byte{169, 254, 1, 1})
}

// ifreq is struct ifreq of netdevice(7) with flags.
type ifreq struct {
	name  [16]byte
	flags uint16
	_     [22]byte
}

// loopback brings up the loopback interface of a new network namespace.
func (g *compiler) loopback() {
	const what = "bringing up the loopback interface"
	sock := g.p.Reg()
	g.do(what, unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0).Into(sock)
	req := &ifreq{flags: unix.IFF_UP}
	copy(req.name[:], "lo")
	g.do(what, unix.SYS_IOCTL, sock, unix.SIOCSIFFLAGS, program.Pointer(req))
}

// A NetworkError is the error of a helper that did not connect a private network.
type NetworkError struct {
	Helper string // path of the program
	Err    error
	Output string // the end of the helper's output, on one line; empty: it printed nothing
}

func (e *NetworkError) Error() string {
	text := fmt.Sprintf("connecting the private network with %s: %v", e.Helper, e.Err)
	if e.Output != "" {
		text += ": " + e.Output
	}
	return text
}

// Unwrap returns the error of the program's start or end.
func (e *NetworkError) Unwrap() error { return e.Err }

// helper is the running program that connects a network namespace. A nil *helper: there is none.
type helper struct {
	cmd    *exec.Cmd
	output *tail
	done   chan struct{} // closed when it has ended
}

// attachNetwork starts the helper at path for the namespace of child and waits until it is up.
func attachNetwork(path string, child *program.Child) (*helper, error) {
	dir, err := child.ProcDir()
	if err != nil {
		return nil, err
	}

	h, err := startHelper(dir, helperCommand(path, filepath.Base(dir)))
	var ended *exec.ExitError
	if filepath.Base(path) != "pasta" || !errors.As(err, &ended) {
		return h, err
	}

	// The AppArmor profile of Debian 12's pasta forbids to open namespaces of other processes, but
	// pasta may open its own descriptors again. Later versions, which have other profiles, close
	// inherited descriptors.
	if h := startWithNamespaces(dir, path); h != nil {
		return h, nil
	}
	return nil, err
}

// startWithNamespaces starts pasta with the namespaces of the process at dir as descriptors. It
// returns nil if that fails.
func startWithNamespaces(dir, path string) *helper {
	cmd := helperCommand(path, "--netns=/proc/self/fd/3", "--userns=/proc/self/fd/4")
	for _, name := range []string{"/ns/net", "/ns/user"} {
		f, err := os.Open(dir + name)
		if err != nil {
			return nil
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}

	h, err := startHelper(dir, cmd)
	if err != nil {
		return nil
	}
	return h
}

// startHelper starts cmd, which connects the network namespace of the process at dir, and waits
// until it has.
func startHelper(dir string, cmd *exec.Cmd) (*helper, error) {
	h := &helper{cmd: cmd, output: &tail{}, done: make(chan struct{})}
	h.cmd.Env = []string{"PATH=" + DefaultPath}
	h.cmd.Stdout, h.cmd.Stderr = h.output, h.output
	h.cmd.WaitDelay = time.Second // if it left something behind that holds its output
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := h.cmd.Start(); err != nil {
		return nil, &NetworkError{Helper: cmd.Path, Err: err}
	}

	ended := make(chan error, 1)
	go func() {
		ended <- h.cmd.Wait()
		close(h.done)
	}()

	deadline := time.Now().Add(networkTimeout)
	for {
		if connected(dir) {
			return h, nil
		}

		select {
		case err := <-ended:
			if err == nil {
				err = errors.New("it has ended and created no route")
			}
			return nil, &NetworkError{cmd.Path, err, h.output.String()}
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			err := &NetworkError{cmd.Path, fmt.Errorf("no route after %v", networkTimeout), h.output.String()}
			return nil, errors.Join(err, h.stop())
		}
	}
}

// helperCommand returns the command of the helper. namespaces are its last arguments: a process ID,
// or options of pasta. The helper runs until helper.stop.
func helperCommand(path string, namespaces ...string) *exec.Cmd {
	args := []string{
		"--config-net", "--foreground", "--quiet", "--no-map-gw", "--dns-forward", Nameserver(path).String(),
		"-t", "none", "-u", "none", "-T", "none", "-U", "none",
	}
	if filepath.Base(path) == "slirp4netns" {
		args = []string{"--configure", "--mtu=65520", "--disable-host-loopback"}
		namespaces = append(namespaces, "tap0")
	}
	return exec.CommandContext(context.Background(), path, append(args, namespaces...)...)
}

// The tables of routes of a network namespace, below /proc/PID, and a part of the line of a default
// route (proc_pid_net(5)).
const (
	routesV4, defaultV4 = "/net/route", "\t00000000\t" // the destination, after the interface
	routesV6, defaultV6 = "/net/ipv6_route", "00000000000000000000000000000000 00 "
)

// connected reports whether the network namespace of the process at dir has its default route. If
// this process has a default route for IPv4, the namespace needs one too: the route for IPv4 may
// come after the route for IPv6.
func connected(dir string) bool {
	return hasLine(dir+routesV4, defaultV4) || hasLine(dir+routesV6, defaultV6) && !hasLine("/proc/self"+routesV4, defaultV4)
}

// hasLine reports whether a table of routes has a line with text for an interface other than lo.
// The table of an address family that the kernel lacks does not exist.
func hasLine(table, text string) bool {
	lines, err := os.ReadFile(table)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(lines)) {
		if strings.Contains(line, text) && !strings.HasSuffix(strings.TrimSpace(line), " lo") {
			return true
		}
	}
	return false
}

// stop ends the helper.
func (h *helper) stop() error {
	if h == nil {
		return nil
	}
	if err := h.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping the helper of the private network: %w", err)
	}
	<-h.done
	return nil
}

// tail keeps the last bytes written to it.
type tail struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const limit = 4096
	t.buf.Write(p)
	if extra := t.buf.Len() - limit; extra > 0 {
		t.buf.Next(extra)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(t.buf.String()), " ")
}
