package integration

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// grace is how long a helper may take to end after SIGTERM before it gets SIGKILL.
const grace = 5 * time.Second

// heedSignals gives the programs that the scripts start the default action of each signal that this process ignores. A
// process ignores SIGINT if a shell without job control has started it with "&", and SIGHUP below nohup; it passes that on
// (signal(7)). testscript ends a background command by SIGINT and waits for it, for ever if that is ignored. A signal that
// has a handler here is not ignored after execve.
func heedSignals() {
	for _, sig := range []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE} {
		if signal.Ignored(sig) {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}

type testKey struct{}

// needtun skips the script if this user cannot open /dev/net/tun, which the helper of a private network does.
func needtun(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 0, "needtun")
	device, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err == nil {
		ts.Check(device.Close())
		return
	}
	if t, ok := ts.Value(testKey{}).(testscript.T); ok {
		t.Skip("no private network without the tun device:", err)
	}
	ts.Fatalf("needtun: %v", err)
}

// helper COMMAND... starts a program that the script needs until its end, such as a server. At the end it gets SIGTERM, and
// SIGKILL if it has not ended after a grace. Its output is logged.
func helper(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: helper COMMAND...")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.Dir = slices.Concat(environ(ts), []string{"PWD=" + ts.MkAbs(".")}), ts.MkAbs(".")
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	ts.Check(cmd.Start())

	ts.Defer(func() {
		cancel()
		err := cmd.Wait()
		ts.Logf("[helper] %s: %v\n%s", strings.Join(args, " "), err, output.String())
	})
}
