package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/doctor/probe"
	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

func newPruneCmd(a *app) *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{
		Use:   "prune [flags]",
		Short: "Remove unused images and layers",
		Long: "Remove images that have no name and that no other image was built on, and the layers that belong to no image:\n" +
			"the cache of steps whose images are gone, and what interrupted pulls left more than a day ago. Waits for nothing:\n" +
			"while a build runs on the store, prune refuses.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// The process in the namespace comes here, too, and does not ask again.
			if all && !force && a.State == nil && progress.IsTerminal(os.Stdin) {
				in := engine.Interruptible(cmd.Context(), os.Stdin)
				text := "This removes all images without a container, their names, and all cache mounts."
				yes, err := confirm(in, a.stderr, text)
				if err != nil || !yes {
					return err
				}
			}
			return a.WithStore(cmd.Context(), func(_ context.Context, st *containers.Store) error {
				return prune(st, all, force, cmd.OutOrStdout())
			})
		},
	}

	f := cmd.Flags()
	f.BoolVarP(&all, "all", "a", false, "Remove all images without a container, and the caches of RUN --mount=type=cache; "+
		"ask first on a terminal")
	f.BoolVarP(&force, "force", "f", false, "Ask nothing, and remove containers of podman and buildah that stand in the way, unless they are mounted")

	return cmd
}

// confirm asks a question on a terminal, and reports whether the answer is yes. No answer is no.
func confirm(in io.Reader, out io.Writer, text string) (bool, error) {
	if _, err := fmt.Fprintf(out, "%s\nGo on? [y/N] ", text); err != nil {
		return false, err
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("reading the answer: %w", err)
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}

func prune(st *containers.Store, all, force bool, out io.Writer) error {
	release, err := st.Exclusive()
	if err != nil {
		return err
	}
	defer release()

	before, err := storedBytes(st)
	if err != nil {
		return err
	}

	unused := func(l *imageList, img *listed) bool {
		return (all || l.dangling(img)) && (force || !img.InUse)
	}

	imagesErr := remover{stores: engine.Stores{st}, force: force, out: out}.removeIf(unused)
	layersErr := st.PruneLayers(time.Now())
	strayErr := st.RemoveStray(time.Now(), probe.Prefix, overlay.ProbePrefix)
	var cachesErr error
	if all {
		cachesErr = st.RemoveCaches()
	}
	after, err := storedBytes(st)
	if err := joinLines([]error{imagesErr, layersErr, strayErr, cachesErr, err}); err != nil {
		return err
	}

	_, err = fmt.Fprintln(out, "Total reclaimed space:", cli.HumanSize(before-after))

	return err
}

// storedBytes is what the layers of the store hold, uncompressed, and the caches of RUN
// --mount=type=cache.
func storedBytes(st *containers.Store) (int64, error) {
	layers, err := st.LayerBytes()
	if err != nil {
		return 0, err
	}
	caches, err := st.Caches()
	return layers + caches.Bytes, err
}
