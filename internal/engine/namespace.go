package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"go.podman.io/storage/pkg/homedir"
	"go.podman.io/storage/pkg/unshare"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/transfer"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// BuildNamespace returns the namespace that builds ask for.
func BuildNamespace() userns.Options {
	return userns.Options{PID: true, KeepGroups: true, AllowSingle: true}
}

// InNamespace runs fn as root of a user namespace. In the launcher it starts the builder, which comes to the same call, and
// waits for it; fn runs there. Input that fn needs must have been checked before, so that bad input is reported without a
// namespace.
func (e *Engine) InNamespace(ctx context.Context, o userns.Options, fn func(ctx context.Context) error) error {
	if e.State != nil {
		return fn(ctx)
	}
	return e.Enter(ctx, o)
}

// Enter starts the builder and waits for its end. Signals are passed on, and the builder decides what they mean.
func (e *Engine) Enter(ctx context.Context, o userns.Options) (err error) {
	if e.calm != nil {
		e.calm()
	}
	o.Files = append(o.Files, e.BuilderFiles...)
	o.Env = append(o.Env, e.BuilderEnv...)
	e.ExitCode, err = userns.Enter(context.WithoutCancel(ctx), o)
	return err
}

// WithStore runs fn in the namespace with the open store.
func (e *Engine) WithStore(ctx context.Context, fn func(ctx context.Context, st *containers.Store) error) error {
	o := userns.Options{PID: true, AllowSingle: true}
	return e.withStoreIn(ctx, o, func(ctx context.Context, st *containers.Store) error {
		e.WarnNamespace()
		return fn(ctx, st)
	})
}

func (e *Engine) withStoreIn(ctx context.Context, o userns.Options, fn func(ctx context.Context, st *containers.Store) error) error {
	o.Env = append(o.Env, ownerEnv()...)
	if e.State == nil {
		watched, ended := context.WithCancel(context.WithoutCancel(ctx))
		defer ended()
		go watchStopped(watched, e.Store)
	}

	return e.InNamespace(ctx, o, func(ctx context.Context) (err error) {
		defer e.Watch(ctx)()
		defer func() { err = e.Explain(err) }()

		options := e.Store
		options.Owner = takeOwner()
		st, err := containers.Open(options)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, st.Close()) }()
		if err := transfer.Tidy(st, e.RegistryOptions()); err != nil {
			return err
		}

		err = fn(ctx, st)
		st.Failed(err)
		return err
	})
}

// RegistryOptions returns how registries are reached by this process.
func (e *Engine) RegistryOptions() transfer.Options {
	if err := EnsureRuntimeDir(); err != nil {
		logrus.Warn(err)
	}
	o := e.Registry()
	if e.State != nil && e.State.Mode == userns.Single {
		o.Owner = e.singleOwner
	}
	return o
}

// EnsureRuntimeDir makes the libraries look for the user's credentials where the user can have put them. Without
// $XDG_RUNTIME_DIR (cron, su, a service) the library for credentials would look in /run/containers/UID, and UID is 0 in the
// user namespace of the builder: a directory of real root, if there is one. The storage library has a directory for this
// case, which is the same inside the namespace and outside.
func EnsureRuntimeDir() error {
	if os.Getenv("XDG_RUNTIME_DIR") != "" || unshare.GetRootlessUID() == 0 { //nolint:forbidigo // for the libraries
		return nil
	}
	dir, err := homedir.GetRuntimeDir()
	if err != nil {
		return fmt.Errorf("choosing a directory in place of $XDG_RUNTIME_DIR: %w", err)
	}
	return os.Setenv("XDG_RUNTIME_DIR", dir)
}

// LeaveHome lets the builder work without a home directory that it may not enter. Where root of a container maps IDs that
// belong to nobody for the builder, root's own home is closed to the builder, and reading settings there would fail.
func (e *Engine) LeaveHome() error {
	home, _ := e.Env("HOME")
	if e.State == nil || e.State.Mode != userns.Direct || home == "" {
		return nil
	}
	if _, err := os.ReadDir(home); !errors.Is(err, fs.ErrPermission) {
		return nil
	}
	logrus.Warnf("%s is closed to the builder, which runs with the ids from %d on: "+
		"no settings and credentials are read there",
		home, e.State.UIDMap[0].Outside)
	return os.Setenv("HOME", "/nonexistent") // as Debian has it for users without a home
}

// ownerVar tells the builder, in JSON, which process the user has started: the builder may see no number but its own.
const ownerVar = "_RBUILD_OWNER"

// ownerEnv returns the variable for the builder. Without /proc there is none.
func ownerEnv() []string {
	self, err := containers.Self()
	if err != nil {
		return nil
	}
	text, err := json.Marshal(self)
	if err != nil {
		return nil
	}
	return []string{ownerVar + "=" + string(text)}
}

// takeOwner reads the variable and removes it, so that programs which the builder starts do not inherit it.
func takeOwner() (o containers.Owner) {
	text, ok := os.LookupEnv(ownerVar) //nolint:forbidigo // the engine's own variable
	if ok && json.Unmarshal([]byte(text), &o) != nil || os.Unsetenv(ownerVar) != nil {
		return containers.Owner{}
	}
	return o
}

// Times of watchStopped: the first is longer than the library holds a lock.
const (
	stoppedFirst = 5 * time.Second
	stoppedNext  = 2 * time.Second
)

// watchStopped warns once, while ctx lasts, if a process that holds a lock of the store is stopped. It is for the launcher:
// the builder does not see the processes outside its namespace.
func watchStopped(ctx context.Context, o containers.Options) {
	for wait := stoppedFirst; ; wait = stoppedNext {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		root, _, err := containers.Locate(o)
		if err != nil {
			return // the builder reports it
		}
		if pid := containers.Stopped(root); pid != 0 {
			logrus.Warnf("process %d holds a lock of the store at %s and is stopped, so others wait: "+
				"kill -CONT %d lets it go on, kill -KILL %d ends it",
				pid, root, pid, pid)
			return
		}
	}
}
