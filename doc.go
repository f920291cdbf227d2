// Package rbuild builds OCI images from Dockerfiles inside another Go program: rootless, without a daemon.
//
// # Use
//
// The program calls [Main] first in its main function, and [Build] for each image:
//
//	func main() {
//		rbuild.Main()
//		result, err := rbuild.Build(context.Background(), rbuild.Options{Context: ".", Tags: []string{"app"}})
//		...
//		fmt.Println(result.Image.ID)
//	}
//
// Build starts the program again as a second process, the builder, which is root of a user namespace of its own. In the
// builder Main does the work and never returns, so that no other code of the program runs there. The options and secrets
// of the build reach the builder through a socket that only the two processes have: not by the command line, not by the
// environment and not by a file. Events and the result come back the same way. See docs/roles.md.
//
// Images go to the store of podman and buildah (containers/storage). Registries, credentials, short names and signature
// policies are configured by the same files as for podman.
//
// # Limits
//
//   - The program must be started from a file that can be executed again (/proc/self/exe), on Linux 5.12 or later.
//   - Nothing before the call of Main should have side effects, because package initialization runs in the builder too.
//   - While Build runs, SIGINT, SIGTERM, SIGHUP and SIGQUIT reach the builder and end the build, and do not end the
//     program.
//   - Where no user namespace can be made, a Dockerfile without RUN is built in memory (docs/plain.md). A Dockerfile with
//     RUN fails.
//   - One platform is built at a time. Limits, volumes, devices and network modes of RUN are not part of [Options]: RUN has
//     the network of the host, and docker's default capabilities and seccomp profile. containers.conf is not read. The
//     command rbuild has flags for all of that.
//
// # Stability
//
// Version 0: names may change in a minor version, with a note in CHANGELOG. The command line of rbuild is the stable
// interface until then.
package rbuild
