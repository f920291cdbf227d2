// Package runner runs one process on a root file system.
//
//	r := runner.New(runner.Options{Network: runner.Network{Mode: runner.None}}, scratch)
//	result, err := r.Run(ctx, runner.Process{
//		Command: runner.Command{Argv: []string{"/bin/sh", "-c", "make"}, User: "nobody"},
//		Root:    runner.Root{Overlay: layers, Before: layers.Lowers, Scratch: dir, View: openView},
//		Output:  os.Stdout,
//	})
//
// The package knows images only as directories and users only by the /etc/passwd of these
// directories. It knows no stage, no Dockerfile and no store: RUN of a build is one caller of
// several.
//
// # How a process comes about
//
//	[layout]        Options and Command -> the list of all mounts, in order. Pure
//	[environment]   Options and Command -> the variables. Pure
//	mounts.open     the source of each mount -> a descriptor: an overlay, a cache, a file in memory, a socket
//	[document]      all of it -> a document of the OCI runtime-spec. Pure
//	sandbox.Start   the document -> the process
//	Runner.execute  output is passed on, silence is limited, the exit status is explained
//
// # What a process cannot do
//
// Sources of mounts are descriptors from the moment they are found, so that nothing that another
// process does leads a mount elsewhere (CVE-2024-11218). A bind mount shows an overlay whose upper
// directory is removed afterwards: data that the process writes there never reaches a layer or the
// user's files. Secrets and sockets of SSH agents are files of a file system in memory. Package
// sandbox says what else confines the process.
//
// # Limits
//
// The caller must be root of a user namespace, with a mount namespace of its own (package userns).
package runner
