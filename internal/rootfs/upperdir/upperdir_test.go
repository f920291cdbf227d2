package upperdir

import (
	"errors"
	"testing"
)

func ok(tb testing.TB, errs ...error) {
	tb.Helper()
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
}
