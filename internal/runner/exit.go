package runner

import (
	"fmt"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

// The exit codes of a shell for a program that cannot be executed, and for a program that does not
// exist.
const (
	notExecuted = 126
	notFound    = 127
)

// ExitError is the error of a process that failed.
type ExitError struct {
	Code   int    // as a shell has it: 128 + n for signal n, 126 and 127 for a program that could not be executed
	Signal string // for example "signal 9 (killed)"; empty if the process exited
	Err    error  // why the program could not be executed; nil if it was
	Limit  string // the limit that was reached, for example "memory limit 64 MiB reached"; empty if none was
	Killed bool   // by the kernel, because of Limit
	Hint   string // the likely reason and a remedy; empty if none is known
}

func (e *ExitError) Error() string {
	if e.Hint != "" {
		return e.how() + "; " + e.Hint
	}
	return e.how()
}

// how says how the process ended.
func (e *ExitError) how() string {
	switch {
	case e.Err != nil:
		return e.Err.Error()
	case e.Killed && e.Signal != "":
		return "killed: " + e.Limit
	case e.Killed:
		return fmt.Sprintf("killed: %s (exit status %d)", e.Limit, e.Code)
	case e.Signal != "":
		return "killed by " + e.Signal
	case e.Limit != "":
		return fmt.Sprintf("exit status %d: %s", e.Code, e.Limit)
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

func (e *ExitError) Unwrap() error { return e.Err }

// exitError returns the error of a process that failed; nil if the process succeeded.
func exitError(state sandbox.State, l reached) *ExitError {
	e := &ExitError{Code: state.ExitCode, Limit: l.text, Killed: l.killed}
	if state.Signal != 0 {
		e.Code = 128 + int(state.Signal)
		e.Signal = fmt.Sprintf("signal %d (%v)", int(state.Signal), state.Signal)
	}
	if e.Code == 0 {
		return nil
	}
	return e
}

// warnings returns the warning about a process that succeeded although it reached a limit.
func (l reached) warnings() []string {
	switch {
	case l.killed:
		return []string{"a process was killed, but the command succeeded: " + l.text}
	case l.text != "":
		return []string{"the command succeeded, but " + l.text}
	}
	return nil
}
