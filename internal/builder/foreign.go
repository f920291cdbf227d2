package builder

import (
	"context"
	"errors"
	"fmt"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

// The exit codes of a shell for a program that cannot be executed, and for one that is not there.
const notExecuted, notFound = 126, 127

// start starts the process. Where the kernel cannot execute the program, and the image is for another platform, it is
// tried again with an emulator; images that say they are for another platform and are not, need none.
func (s *stage) start(ctx context.Context, config sandbox.Config) (*sandbox.Process, error) {
	process, err := sandbox.Start(config) //nolint:contextcheck // its start is bounded; ctx ends the process later
	failed, ok := errors.AsType[*sandbox.ExecError](err)
	if !ok {
		return process, err
	}
	if s.config.OS != "" && s.config.OS != s.Platform.OS {
		return nil, &ExitError{Code: notExecuted, Err: fmt.Errorf("programs for %s cannot be executed on %s", s.config.OS, s.Platform.OS)}
	}

	architecture := s.config.Architecture
	if architecture == s.Platform.Architecture {
		architecture = s.plan.Platform.Architecture
	}
	if !failed.NoHandler() || architecture == s.Platform.Architecture || s.Emulators == nil {
		return nil, err
	}
	if err := s.Emulators.Ensure(ctx, architecture, s.scratch.Dir); err != nil {
		return nil, &ExitError{Code: notExecuted, Err: err}
	}
	return sandbox.Start(config) //nolint:contextcheck // as above
}
