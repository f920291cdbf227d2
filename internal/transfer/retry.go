package transfer

import (
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

// withRetry calls op until it succeeds, fails for good, or the attempts are
// used up. The waits end early when ctx does.
//
// Status 429 is not repeated here: the library below has then already waited
// and asked five times, for about a minute or as long as Retry-After says.
func (o Options) withRetry(ctx context.Context, what string, op func() error) error {
	retries, delay := o.Retries, o.RetryDelay
	if retries == 0 {
		retries = defaultRetries
	}
	if delay == 0 {
		delay = defaultRetryDelay
	}
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

// transient reports whether the same request may well succeed in a moment:
// server errors, connections cut, time-outs. Errors about names, credentials,
// certificates and content are final, and so is that nobody listens.
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
		// Registries name the error and leave the status to imply it; these
		// are the names that stand for 5xx.
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
		// Reset, broken. A connection that is refused ("dial") is so for longer
		// than these waits, and what TLS says of the peer has another Op.
		return op.Op == "read" || op.Op == "write"
	}

	return false
}
