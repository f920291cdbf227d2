package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
)

// endPatience is how long a command may take to end when it is told to. The library waits for locks of the store without
// end, and whoever holds one may be stopped.
const endPatience = 10 * time.Second

// endAnyway ends this process, and with it all that it has started, if ctx has ended and endPatience has passed before
// done is called. What is left behind goes with the next command.
func (a *app) endAnyway(ctx context.Context) (done func() bool) {
	return context.AfterFunc(ctx, func() {
		time.Sleep(endPatience)
		if limit, ok := errors.AsType[*builder.TimeoutError](context.Cause(ctx)); ok {
			os.Exit(a.report(timeCode(ctx, limit)))
		}
		os.Exit(a.report(errInterrupted))
	})
}

// Times of watchStopped: the first is longer than the library holds a lock.
const (
	stoppedFirst = 5 * time.Second
	stoppedNext  = 2 * time.Second
)

// watchStopped says once, while ctx lasts, that a process which holds a lock of the store is stopped. It is for the
// launcher: the builder does not see the processes outside.
func watchStopped(ctx context.Context, o containers.Options) {
	for wait := stoppedFirst; ; wait = stoppedNext {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		root, _, err := containers.Locate(o)
		if err != nil {
			return // the builder says so
		}
		if pid := containers.Stopped(root); pid != 0 {
			logrus.Warnf("process %d holds a lock of the store at %s and is stopped, so others wait: kill -CONT %d lets it go on, kill -KILL %d ends it",
				pid, root, pid, pid)
			return
		}
	}
}
