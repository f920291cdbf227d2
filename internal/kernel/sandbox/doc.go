// Package sandbox runs one process, described by a runtime-spec, on a stack of layers.
//
//	spec := sandbox.DefaultSpec()
//	spec.Process.Args = []string{"/bin/sh", "-c", "make"}
//	p, err := sandbox.Start(sandbox.Config{Spec: spec, Root: layers, Stubs: dir})
//	...
//	state, err := p.Wait()
//
// The caller must be root of a user namespace (or of the machine) and have a /proc. The process is
// born in new user, mount, PID, IPC and UTS namespaces, and in a network namespace if it is not to
// see the host's. Its user namespace is nested in the caller's, with the same ids: it holds no
// capability over the caller.
//
// # How it starts
//
// There is no init program. The whole set-up is compiled into a list of system calls
// ([codeberg.org/rbuild/rbuild/internal/kernel/fdfs.Program]), the caller forks, the child makes the
// calls and its last is execve. [Config.Debug] shows the list; an error names the operation that
// failed. The sequence is in docs/roles.md:
//
//	caller                                child
//	mounts the overlay, detached
//	forks                                 waits for its id maps
//	writes the id maps
//	[starts pasta or slirp4netns]         attaches the overlay, /proc, /dev, /sys, binds; masks
//	                                      pivot_root, working directory
//	                                      [waits for the network]
//	                                      ids, seccomp, capabilities
//	reads: end of file                    execve
//
// # What an image cannot do
//
// Targets of mounts are looked up by openat2(2) inside the image, must lie on its root file system,
// and are mounted on by descriptor. Sources are descriptors, or paths of the caller that no image
// can change. The child holds none of the caller's descriptors at execve, follows no magic link to
// its working directory or program, and leaves no trace of the mounts in the upper directory:
// targets that the image lacks come from a layer of stubs below it.
//
// A device node of an image or of a mount's source cannot be opened: every mount has nodev but devpts, and bind mounts of
// single devices with the option dev, as those of /dev are.
//
// A script whose interpreter is /proc/self/exe executes the caller's own program, inside the
// sandbox. Its content cannot be changed while the caller runs (ETXTBSY), but its mode, times and
// owner can, if its file belongs to root of the user namespace. So the caller must have been
// executed from a read-only mount, as package userns does it.
//
// # Limits
//
// Linux 5.12 is needed, amd64 or arm64 for seccomp. Resource limits but rlimits, devices, hooks
// and SELinux labels of a runtime-spec are refused. The kernel is the border: this is as
// strong as any container of its user namespace kind, and not a virtual machine.
//
// Sources: the OCI runtime-spec; docker's defaults of containers (github.com/moby/moby
// daemon/pkg/oci) and of seccomp (github.com/moby/profiles); runc's advisories.
package sandbox
