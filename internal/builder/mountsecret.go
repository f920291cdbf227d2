package builder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// secretMount puts a secret into the environment, or into a file in memory that is bound into the step.
func (s *stage) secretMount(p *stepMounts, u upper, m plan.Mount) error {
	value, ok := s.Run.Secrets[m.ID]
	if !ok {
		if m.Required {
			return fmt.Errorf("secret %q is required: give it with --secret id=%s,src=FILE or --secret id=%s,env=VARIABLE", m.ID, m.ID, m.ID)
		}
		return nil
	}

	if m.Env != nil {
		p.env = append(p.env, *m.Env+"="+string(value))
	}
	if m.Target == "" {
		return nil
	}

	dir, name, err := p.memoryFile(u)
	if err != nil {
		return err
	}

	f, err := fdfs.CreateAt(dir, name)
	if err != nil {
		return err
	}

	_, err = f.Write(value)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}

	return p.bindMemory(m, dir, name, 0o400)
}

// sshMount puts a socket into the step at which the builder answers for the agent.
func (s *stage) sshMount(ctx context.Context, p *stepMounts, u upper, m plan.Mount) error {
	keys := s.Run.SSH[m.ID]
	if keys == nil {
		if m.Required {
			return fmt.Errorf("ssh agent %q is required: give it with --ssh %s, or --ssh %s=KEY-OR-SOCKET", m.ID, m.ID, m.ID)
		}
		return nil
	}

	dir, name, err := p.memoryFile(u)
	if err != nil {
		return err
	}

	// By descriptor: the name of a socket has 108 bytes at most (unix(7)).
	l, err := new(net.ListenConfig).Listen(ctx, "unix", descriptorPath(dir)+"/"+name)
	if err != nil {
		return fmt.Errorf("making a socket: %w", err)
	}

	if l, ok := l.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false)
	}
	p.undo = append(p.undo, keys.Serve(ctx, l))

	return p.bindMemory(m, dir, name, 0o600)
}

// memoryFile gives a new name in the step's file system in memory, of which nothing ever reaches a disk.
func (p *stepMounts) memoryFile(u upper) (dir *os.File, name string, err error) {
	if p.memory == nil {
		scratch, err := p.scratch(u)
		if err != nil {
			return nil, "", err
		}

		mount, err := fdfs.MemoryFS()
		if err != nil {
			return nil, "", err
		}

		p.memory, err = p.attach(mount, filepath.Join(scratch, "at"))
		if err := errors.Join(err, mount.Close()); err != nil {
			return nil, "", err
		}
	}

	p.count++
	return p.memory, strconv.Itoa(p.count), nil
}

// bindMemory gives a file in memory its owner and mode, and binds it.
func (p *stepMounts) bindMemory(m plan.Mount, dir *os.File, name string, mode uint32) error {
	if err := fdfs.ChownAt(dir, name, given(m.UID, 0), given(m.GID, 0)); err != nil {
		return err
	}
	if err := fdfs.ChmodAt(dir, name, given(m.Mode, mode)); err != nil {
		return err
	}

	place, err := fdfs.OpenPathAt(dir, name)
	if err != nil {
		return err
	}

	p.undo = append(p.undo, place.Close)
	return p.bind(m, place, "ro", "nosuid", "nodev", "noexec")
}

// setSocket sets SSH_AUTH_SOCK to the first of the sockets as written, unless the step has the variable already.
func (p *stepMounts) setSocket(op *plan.Run) {
	const name = "SSH_AUTH_SOCK="
	first := plan.Mount{Number: -1}
	for _, m := range op.Mounts {
		if m.Type == instructions.MountSSH && p.sources[m.Target] != nil && (first.Number < 0 || m.Number < first.Number) {
			first = m
		}
	}

	isSet := func(kv string) bool { return strings.HasPrefix(kv, name) }
	if first.Number < 0 || slices.ContainsFunc(op.Env, isSet) || slices.ContainsFunc(p.env, isSet) {
		return
	}
	p.env = append(p.env, name+first.Target)
}
