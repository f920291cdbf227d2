package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// scopeTimeout bounds the time that systemd needs to make a scope.
const scopeTimeout = 10 * time.Second

// The names of org.freedesktop.systemd1(5).
const (
	systemdName      = "org.freedesktop.systemd1"
	systemdPath      = "/org/freedesktop/systemd1"
	systemdInterface = "org.freedesktop.systemd1.Manager"
)

// wantsBus reports whether Open asks systemd: if the options name Systemd, or with Auto if a
// process listens on the bus.
func (o Options) wantsBus() bool {
	switch o.Manager {
	case Systemd:
		return true
	case CgroupFS, Disabled:
		return false
	case Auto:
	}

	if o.Bus == "" || o.Parent != "" && !strings.HasSuffix(o.Parent, ".slice") {
		return false
	}

	path, ok := strings.CutPrefix(strings.Split(o.Bus, ",")[0], "unix:path=")
	if !ok {
		return true
	}
	return listens(path)
}

// listens reports whether a process listens on a Unix socket.
func listens(path string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	return err == nil || errors.Is(err, unix.EAGAIN) // EAGAIN: the queue of connections is full
}

// openScope asks systemd for a scope that contains this process. The scope ends with the process.
func openScope(ctx context.Context, o Options) (*Parent, error) {
	if o.Parent != "" && !strings.HasSuffix(o.Parent, ".slice") {
		return nil, &Error{Reason: NoParent, Detail: fmt.Sprintf("the parent %s is no slice of systemd", o.Parent), Fix: "name one that ends in .slice, or use --cgroup-manager cgroupfs"}
	}

	ctx, cancel := context.WithTimeout(ctx, scopeTimeout)
	defer cancel()

	conn, err := dial(ctx, o)
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	unit := fresh() + ".scope"
	if err := startScope(ctx, conn, unit, o.Parent); err != nil {
		return nil, &Error{Reason: Refused, Err: err, Detail: fmt.Sprintf("the user's systemd made no scope: %v", err), Fix: "see journalctl --user, or use --cgroup-manager cgroupfs in a delegated cgroup"}
	}

	name, err := ownPath()
	if err != nil {
		return nil, err
	}
	if filepath.Base(name) != unit {
		return nil, &Error{Reason: Refused, Detail: fmt.Sprintf("systemd made the scope %s, and this process is in cgroup %s still", unit, name)}
	}

	return settle(o.Tree, name)
}

// settle turns the scope of this process into a Parent.
func settle(t *Tree, name string) (*Parent, error) {
	dir := filepath.Join(root, name)
	if err := t.enter(dir); err != nil {
		return nil, refusal(dir, err)
	}

	// Processes that this process has started since it is in the scope are there, too, and move to
	// the leaf.
	for range 100 {
		_, err := enable(dir)
		if err == nil {
			break
		}
		pids, err := cgroups.GetPids(dir)
		if err != nil || len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			_ = cgroups.WriteCgroupProc(filepath.Join(dir, leaf), pid) // it may have ended
		}
	}

	return newV2(t, Systemd, name)
}

// dial connects to the bus. The bus knows a process in a user namespace by the user's ID outside.
func dial(ctx context.Context, o Options) (*dbus.Conn, error) {
	if o.Bus == "" {
		return nil, &Error{Reason: NoBus, Detail: "no D-Bus of the user's systemd is known: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR leads to one", Fix: fixBus}
	}

	conn, err := connect(ctx, o)
	if err != nil {
		return nil, &Error{Reason: NoBus, Err: err, Detail: fmt.Sprintf("the user's D-Bus at %s: %v", o.Bus, err), Fix: fixBus}
	}
	return conn, nil
}

// connect connects to the bus and says hello.
func connect(ctx context.Context, o Options) (*dbus.Conn, error) {
	conn, err := dbus.Dial(o.Bus, dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(o.UID))}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := conn.Hello(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// property and auxiliary are the types of arguments of StartTransientUnit, "a(sv)" and "a(sa(sv))".
type (
	property struct {
		Name  string
		Value dbus.Variant
	}
	auxiliary struct {
		Name       string
		Properties []property
	}
)

// startScope asks systemd for the scope and waits until systemd has made it.
func startScope(ctx context.Context, conn *dbus.Conn, unit, slice string) error {
	properties := []property{
		{"Description", dbus.MakeVariant("rbuild: a container image is built")},
		{"PIDs", dbus.MakeVariant([]uint32{0})}, // 0: the caller, whose PID differs in its PID namespace
		{"Delegate", dbus.MakeVariant(true)},
		{"CollectMode", dbus.MakeVariant("inactive-or-failed")}, // the scope ends even if a process in it was killed
	}

	if slice != "" {
		properties = append(properties, property{"Slice", dbus.MakeVariant(slice)})
	}
	if err := conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(systemdInterface), dbus.WithMatchMember("JobRemoved")); err != nil {
		return err
	}

	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	manager := conn.Object(systemdName, systemdPath)

	// systemd sends signals about jobs only to subscribers.
	if err := manager.CallWithContext(ctx, systemdInterface+".Subscribe", 0).Err; err != nil {
		return err
	}

	var job dbus.ObjectPath
	call := manager.CallWithContext(ctx, systemdInterface+".StartTransientUnit", 0, unit, "fail", properties, []auxiliary{})
	if err := call.Store(&job); err != nil {
		return err
	}
	for {
		select {
		case s, ok := <-signals:
			if !ok {
				return errors.New("the connection to D-Bus was closed")
			}
			var id uint32
			var done dbus.ObjectPath
			var name, result string
			if dbus.Store(s.Body, &id, &done, &name, &result) != nil || done != job {
				continue
			}
			if result != "done" {
				return fmt.Errorf("the job of %s ended with %q", unit, result)
			}
			return nil
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", unit, ctx.Err())
		}
	}
}
