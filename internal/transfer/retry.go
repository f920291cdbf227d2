package transfer

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/docker/distribution/registry/api/errcode"
	"github.com/sirupsen/logrus"
	"go.podman.io/image/v5/docker"
)

// withRetry calls op until op succeeds, the error is final, or no attempts are left. The waits end
// when ctx ends.
//
// Status 429 is final here: the library has already asked five times by then, and waited for about
// a minute or as long as Retry-After says.
func (o Options) withRetry(ctx context.Context, what string, op func() error) error {
	retries := cmp.Or(o.Retries, defaultRetries)
	delay := cmp.Or(o.RetryDelay, defaultRetryDelay)
	for attempt := 0; ; attempt++ {
		err := op()
		if err == nil || attempt >= retries || ctx.Err() != nil || !transient(err) {
			return err
		}

		o.say("%s: %v; trying again in %s (%d/%d)", what, err, delay, attempt+1, retries)
		logrus.Debugf("%s: %v; trying again in %s (%d/%d)", what, err, delay, attempt+1, retries)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(delay):
		}
		delay *= 2
	}
}

// transient reports whether the same request may succeed in a moment: after a server error, a cut
// connection or a time-out. Errors about names, credentials, certificates and content are final,
// and so is a refused connection.
func transient(err error) bool {
	if errors.Is(err, errStalled) {
		return true
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if status := (docker.UnexpectedHTTPStatusError{}); errors.As(err, &status) {
		return status.StatusCode >= http.StatusInternalServerError
	}
	if api := (errcode.Error{}); errors.As(err, &api) {
		// The library keeps only the code of the error. These codes come with status 5xx.
		return api.Code == errcode.ErrorCodeUnavailable || api.Code == errcode.ErrorCodeUnknown
	}
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) {
		return dns.IsTemporary || dns.IsTimeout
	}
	if netErr := net.Error(nil); errors.As(err, &netErr) && netErr.Timeout() {
		return true
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return true
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		// A connection that was reset or broken. A refused connection ("dial") stays refused for
		// longer than these waits, and errors of TLS have another Op.
		return op.Op == "read" || op.Op == "write"
	}

	return false
}
