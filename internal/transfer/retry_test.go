package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/docker/distribution/registry/api/errcode"
	"go.podman.io/image/v5/docker"
)

func TestTransient(t *testing.T) {
	for _, tc := range []struct {
		name string
		err  error
		want bool
	}{
		{"500", docker.UnexpectedHTTPStatusError{StatusCode: 500}, true},
		{"503", fmt.Errorf("reading: %w", docker.UnexpectedHTTPStatusError{StatusCode: 503}), true},
		{"404", docker.UnexpectedHTTPStatusError{StatusCode: 404}, false},
		{"unavailable", errcode.ErrorCodeUnavailable.WithMessage("later"), true},
		{"denied", errcode.ErrorCodeDenied.WithMessage("no"), false},
		{"too many", errcode.ErrorCodeTooManyRequests.WithMessage("slower"), false},
		{"cut", fmt.Errorf("reading a blob: %w", io.ErrUnexpectedEOF), true},
		{"reset", &net.OpError{Op: "read", Err: errors.New("reset")}, true},
		{"refused", &net.OpError{Op: "dial", Err: errors.New("refused")}, false},
		{"by TLS", &net.OpError{Op: "remote error", Err: errors.New("bad certificate")}, false},
		{"no such host", &net.DNSError{IsNotFound: true}, false},
		{"no answer from the resolver", &net.DNSError{IsTimeout: true}, true},
		{"cancelled", fmt.Errorf("reading: %w", context.Canceled), false},
		{"digest", errors.New("digest did not match"), false},
	} {
		if got := transient(tc.err); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

func TestWithRetry(t *testing.T) {
	busy := docker.UnexpectedHTTPStatusError{StatusCode: 503}
	for _, tc := range []struct {
		name    string
		retries int
		errs    []error // of the attempts; then success
		calls   int
		fails   bool
	}{
		{"at once", 0, nil, 1, false},
		{"default", 0, []error{busy, busy, busy}, 4, false},
		{"used up", 0, []error{busy, busy, busy, busy}, 4, true},
		{"none", -1, []error{busy}, 1, true},
		{"one", 1, []error{busy}, 2, false},
		{"final", 0, []error{busy, errors.New("no")}, 2, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			calls := 0
			o := Options{Retry: Retry{Retries: tc.retries, RetryDelay: time.Microsecond}}
			err := o.withRetry(t.Context(), "x", func() error {
				calls++
				if calls <= len(tc.errs) {
					return tc.errs[calls-1]
				}
				return nil
			})
			if calls != tc.calls || (err != nil) != tc.fails {
				t.Errorf("%d calls, %v", calls, err)
			}
		})
	}

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()

	start := time.Now()
	if err := (Options{Retry: Retry{RetryDelay: time.Hour}}).withRetry(ctx, "x", func() error { return busy }); err == nil || time.Since(start) > time.Minute {
		t.Errorf("waited %s, %v", time.Since(start), err)
	}
}
