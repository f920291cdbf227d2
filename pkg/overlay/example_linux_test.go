package overlay_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// Open shows the layers of an image as one directory. The caller is root in a user namespace and
// has a mount namespace of its own, for example after userns.Join.
func ExampleOpen() {
	root, err := overlay.Open(overlay.Mount{
		Lowers: []string{"/layers/app", "/layers/base"}, // topmost first
		Upper:  "/build/upper",
		Work:   "/build/work",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer root.Close() // unmounts

	names, err := root.Readdirnames(-1)
	fmt.Println(names, err)
}

// Probe is called before a build: its error says what to change on the host.
func ExampleProbe() {
	err := overlay.Probe("/var/lib/build", false)

	if refused, ok := errors.AsType[*overlay.Error](err); ok {
		fmt.Println("cause:", refused.Detail)
		fmt.Println("remedy:", refused.Fix)
	}
}

func ExampleMount_Validate() {
	mounts := []overlay.Mount{
		{Lowers: []string{"/layers/app", "/layers/base"}},
		{Lowers: []string{"/layers/base"}, Upper: "/build/upper"},
		{Lowers: []string{"layers/base"}},
		{Lowers: strings.Fields(strings.Repeat("/layer ", overlay.MaxLowers+1))},
	}
	for _, m := range mounts {
		fmt.Println(m.Validate())
	}
	// Output:
	// <nil>
	// mounting an overlay: upper and work directory go together
	// mounting an overlay: "layers/base" is not an absolute path
	// mounting an overlay: 501 layers, the kernel takes 500 at most
}

func ExampleError() {
	var err error = &overlay.Error{
		Dir:    "/srv/nfs",
		Detail: "/srv/nfs is on NFS, which cannot hold changes of an overlay",
		Fix:    "use a local directory",
		Err:    syscall.EINVAL,
	}

	if refused, ok := errors.AsType[*overlay.Error](fmt.Errorf("starting the build: %w", err)); ok {
		fmt.Println(refused.Fix)
	}
	fmt.Println(errors.Is(err, syscall.EINVAL), errors.Is(err, os.ErrPermission))
	// Output:
	// use a local directory
	// true false
}
