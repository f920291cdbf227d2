package main

import (
	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/cli"
)

func newBuildCmd(a *app) *cobra.Command {
	var f cli.BuildFlags
	cmd := &cobra.Command{
		Use:     cli.BuildCommand + " [flags] [CONTEXT]",
		Aliases: []string{"bud", "build-using-dockerfile"},
		Short:   "Build an image from a Dockerfile",
		Long: "Build an image from a Dockerfile. CONTEXT is a directory (default: the working directory), a git repository, the URL\n" +
			"of a tar archive or of a Dockerfile, or - for either on standard input. Without --file the Dockerfile is\n" +
			"CONTEXT/Containerfile or CONTEXT/Dockerfile.",
		Example: "  rbuild build -t app .                              build the working directory\n" +
			"  rbuild build -t registry.example/app:1 --push .    build and push\n" +
			"  rbuild build --target test --build-arg V=2 .       build one stage, with an argument\n" +
			"  rbuild build --secret id=npm,src=.npmrc .          give RUN --mount=type=secret,id=npm a file\n" +
			"  rbuild build -o type=oci,dest=app.tar .            write an archive\n" +
			"  rbuild build --check .                             look for mistakes, build nothing",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host, err := a.host()
			if err != nil {
				return err
			}
			build, err := f.Parse(args, host)
			if err != nil {
				return err
			}
			_, err = a.Build(cmd.Context(), build)
			return err
		},
	}

	f.Register(cmd.Flags())
	return cmd
}
