package userns_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// A program that becomes root, in a user namespace if real root did not start it.
func ExampleEnter() {
	state, err := userns.Join()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}

	if state == nil { // the launcher
		code, err := userns.Enter(context.Background(), userns.Options{PID: true, AllowSingle: true})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(code)
	}

	for _, warning := range state.Warnings {
		fmt.Fprintln(os.Stderr, "warning:", warning)
	}
	fmt.Println("UID", os.Getuid(), "by mode", state.Mode)
}

// A caller decides by the reason of an error and shows the remedy.
func ExampleError() {
	var err error = &userns.Error{
		Reason: userns.NoSubIDs,
		Detail: "user alice has no subordinate ids in /etc/subuid",
		Fix:    "run as root: usermod --add-subuids 100000-165535 alice",
	}

	if refused, ok := errors.AsType[*userns.Error](err); ok {
		fmt.Println("reason:", refused.Reason)
		fmt.Println("remedy:", refused.Fix)
		fmt.Println("a single ID would do:", refused.Reason.AboutIDs())
	}
	fmt.Println(err)
	// Output:
	// reason: no-subids
	// remedy: run as root: usermod --add-subuids 100000-165535 alice
	// a single ID would do: true
	// user alice has no subordinate ids in /etc/subuid; run as root: usermod --add-subuids 100000-165535 alice
}

// The kernel refused a namespace: Explain adds the reason. An error that is not about permissions
// has the same reason on each host.
func ExampleExplain() {
	err := userns.Explain("creating a user namespace", syscall.EINVAL)
	fmt.Println(err.Reason)
	fmt.Println(err)
	fmt.Println(errors.Is(err, syscall.EINVAL))
	// Output:
	// no-kernel
	// creating a user namespace: invalid argument (the kernel has no user namespaces); use a kernel with CONFIG_USER_NS
	// true
}

// The map of a user with UID 1000 and the line "alice:100000:65536" in /etc/subuid.
func ExampleState() {
	state := userns.State{
		Mode:   userns.Helper,
		UIDMap: []userns.IDMap{{Inside: 0, Outside: 1000, Size: 1}, {Inside: 1, Outside: 100000, Size: 65536}},
	}

	fmt.Println("rootless:", state.Rootless())
	for _, m := range state.UIDMap {
		fmt.Println(m)
	}
	// Output:
	// rootless: true
	// 0 1000 1
	// 1 100000 65536
}
