// Package remedy holds errors with the cause of a failure and a remedy.
//
//	return &remedy.Error{
//		What: "programs for arm64 cannot be executed on this machine",
//		Why:  "no emulator is registered, and there is no qemu-aarch64-static in PATH",
//		Do:   "install an emulator: apt install qemu-user-static",
//	}
//
// All rooms make such values, and none prints them: a failing build prints the error as one line,
// and `rbuild doctor` prints the same cause and remedy as a finding. [Of] finds the cause and the
// remedy in a chain of errors.
//
// An error type that carries more, such as a reason to branch on, implements [Explained] instead.
// So do the error types of public packages, for example userns.Error and overlay.Error: their API
// must not name a type of an internal package.
package remedy

import (
	"errors"
	"strings"
)

// Error is an error with a cause and a remedy. Each text is a single line, starts in lower case and
// has no full stop. At least one of What and Why is set.
type Error struct {
	What string // the operation that failed, with its object; empty: Why names the operation
	Why  string // the cause; empty: What names the cause
	Do   string // the command to run, or the setting to change; empty: no remedy is known
	Err  error  // the system's error, for errors.Is; never printed; may be nil
}

// Explained is an error with a cause and a remedy. Both are as in [Error]; do may be empty.
type Explained interface {
	error
	Remedy() (why, do string)
}

// Error returns "WHAT: WHY; DO", without the texts that are empty.
func (e *Error) Error() string { return Text(e.cause(), e.Do) }

// Unwrap returns the system's error.
func (e *Error) Unwrap() error { return e.Err }

// Remedy returns "WHAT: WHY" and the remedy.
func (e *Error) Remedy() (why, do string) { return e.cause(), e.Do }

func (e *Error) cause() string { return join(": ", e.What, e.Why) }

// Text is the line for a cause and a remedy, "WHY; DO". Either may be empty.
func Text(why, do string) string { return join("; ", why, do) }

// join joins the texts that are not empty.
func join(separator string, texts ...string) string {
	var set []string
	for _, t := range texts {
		if t != "" {
			set = append(set, t)
		}
	}
	return strings.Join(set, separator)
}

// Of returns the cause and the remedy of the first error in the chain of err that is an
// [Explained], and in Err the error that this error wraps. Of reports false if the chain has no
// such error.
func Of(err error) (Error, bool) {
	var e Explained
	if !errors.As(err, &e) {
		return Error{}, false
	}
	why, do := e.Remedy()
	return Error{Why: why, Do: do, Err: errors.Unwrap(e)}, true
}
