// Package sandbox runs one process, described by a runtime-spec, on a stack of layers.
//
//	spec := sandbox.DefaultSpec()
//	spec.Process.Args = []string{"/bin/sh", "-c", "make"}
//	p, err := sandbox.Start(sandbox.Config{Spec: spec, Root: layers, Stubs: dir})
//	...
//	state, err := p.Wait()
//
// The caller must be root of a user namespace (or of the machine) and have a /proc. The process
// gets new user, mount, PID, IPC and UTS namespaces, and a network namespace unless it uses the
// host's network. The user namespace of the process is nested in the caller's, with the same IDs:
// the process holds no capability over the caller.
//
// # How it starts
//
// There is no init program. The package compiles the set-up into a list of system calls
// ([codeberg.org/rbuild/rbuild/internal/kernel/program.Program]) and forks. The child makes the
// calls; the last call is execve. [Config.Debug] shows the list. An error names the operation that
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
// # Protection against images
//
// The child looks up targets of mounts by openat2(2) inside the image. A target must lie on the
// image's root file system, and the child mounts on its descriptor. Sources are descriptors, or
// paths of the caller that no image can change. At execve the child holds no descriptor of the
// caller. The child follows no magic link to the working directory or the program. Mounts leave no
// trace in the upper directory: targets that the image lacks come from a layer of stubs below the
// image.
//
// A device node of an image or of a mount's source cannot be opened: every mount has nodev, except
// devpts and bind mounts of single devices with the option dev, for example /dev/null.
//
// A script whose interpreter is /proc/self/exe executes the caller's own program inside the
// sandbox. The script cannot change the content of that program while the caller runs (ETXTBSY). It
// could change mode, times and owner of the file if the file belongs to root of the user namespace.
// So the caller must be executed from a read-only mount, as package userns does.
//
// # Limits
//
// Linux 5.12 is needed, amd64 or arm64 for seccomp. Start refuses a runtime-spec with resource
// limits other than rlimits, with devices, hooks or SELinux labels. The kernel is the border: a
// sandbox is as strong as a container in a user namespace, and weaker than a virtual machine.
//
// Sources: the OCI runtime-spec; docker's defaults for containers (github.com/moby/moby
// daemon/pkg/oci) and for seccomp (github.com/moby/profiles); runc's advisories.
package sandbox
