package remedy_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/remedy"
)

func TestError(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  remedy.Error
		want string
	}{
		{"all", remedy.Error{What: "mounting x", Why: "x is on NFS", Do: "pass --root", Err: io.EOF}, "mounting x: x is on NFS; pass --root"},
		{"no remedy", remedy.Error{What: "mounting x", Why: "x is on NFS"}, "mounting x: x is on NFS"},
		{"cause alone", remedy.Error{Why: "x is on NFS"}, "x is on NFS"},
		{"cause and remedy", remedy.Error{Why: "x is on NFS", Do: "pass --root"}, "x is on NFS; pass --root"},
		{"no cause", remedy.Error{What: "mounting x", Do: "pass --root"}, "mounting x; pass --root"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.err.Error(); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if tc.err.Err != nil && !errors.Is(&tc.err, tc.err.Err) {
				t.Error("the system's error is lost")
			}
		})
	}
}

// reasoned is an error type of another package.
type reasoned struct{ err error }

func (reasoned) Error() string            { return "text" }
func (reasoned) Remedy() (why, do string) { return "why", "do" }
func (r reasoned) Unwrap() error          { return r.err }
func wrapped(err error) error             { return fmt.Errorf("step 1: %w", err) }
func explained() *remedy.Error            { return &remedy.Error{Why: "a", Do: "b", Err: io.EOF} }

func TestOf(t *testing.T) {
	for _, tc := range []struct {
		name  string
		err   error
		want  remedy.Error
		found bool
	}{
		{"nil", nil, remedy.Error{}, false},
		{"other", wrapped(io.EOF), remedy.Error{}, false},
		{"Error", explained(), remedy.Error{Why: "a", Do: "b", Err: io.EOF}, true},
		{"What and Why", &remedy.Error{What: "w", Why: "a"}, remedy.Error{Why: "w: a"}, true},
		{"wrapped", wrapped(explained()), remedy.Error{Why: "a", Do: "b", Err: io.EOF}, true},
		{"another type", wrapped(reasoned{io.EOF}), remedy.Error{Why: "why", Do: "do", Err: io.EOF}, true},
		{"outermost first", wrapped(reasoned{explained()}), remedy.Error{Why: "why", Do: "do", Err: explained()}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, found := remedy.Of(tc.err)
			if found != tc.found || got.Why != tc.want.Why || got.Do != tc.want.Do || got.What != "" {
				t.Errorf("got %+v, %t", got, found)
			}
			if (got.Err == nil) != (tc.want.Err == nil) || tc.want.Err != nil && got.Err.Error() != tc.want.Err.Error() {
				t.Errorf("the system's error is %v, want %v", got.Err, tc.want.Err)
			}
		})
	}
}

func ExampleOf() {
	err := fmt.Errorf("Dockerfile:3: %w", &remedy.Error{
		What: "programs for arm64 cannot be executed on this machine",
		Why:  "no emulator is registered",
		Do:   "install an emulator: apt install qemu-user-static",
	})
	fmt.Println(err)

	cause, _ := remedy.Of(err)
	fmt.Println("why:", cause.Why)
	fmt.Println("fix:", cause.Do)
	// Output:
	// Dockerfile:3: programs for arm64 cannot be executed on this machine: no emulator is registered; install an emulator: apt install qemu-user-static
	// why: programs for arm64 cannot be executed on this machine: no emulator is registered
	// fix: install an emulator: apt install qemu-user-static
}
