package containers

import (
	"errors"
	"fmt"
	"os"
	"sync"

	cs "go.podman.io/storage"
	"go.podman.io/storage/types"
)

// opening is held while PATH is not the process's own.
var opening sync.Mutex

// getStore opens the library's store with an empty PATH. If overlays of the kernel do not work, or
// once did not work, the library searches PATH for fuse-overlayfs. With that program the library
// writes whiteouts as files .wh.NAME, which overlays of the kernel show as ordinary files. RUN and
// COPY need overlays of the kernel, so that fuse-overlayfs never helps. The option mount_program is
// dropped for the same reason.
func getStore(lib types.StoreOptions) (s cs.Store, err error) {
	opening.Lock()
	defer opening.Unlock()
	path, ok := os.LookupEnv("PATH") //nolint:forbidigo // put back below
	if ok {
		if err := os.Setenv("PATH", ""); err != nil {
			return nil, fmt.Errorf("setting PATH: %w", err)
		}
		defer func() { err = errors.Join(err, os.Setenv("PATH", path)) }()
	}
	return cs.GetStore(lib)
}
