package runner

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// secret writes a secret to a file in memory.
func (ms *mounts) secret(s Secret) (*os.File, error) {
	dir, name, err := ms.memoryFile()
	if err != nil {
		return nil, err
	}
	f, err := fdfs.CreateAt(dir, name)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(ms.options.Secrets[s.ID])
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return ms.openMemory(dir, name, s.FileAttributes, 0o400)
}

// agent makes a socket at which an SSH agent answers until close.
func (ms *mounts) agent(ctx context.Context, s SSH) (*os.File, error) {
	dir, name, err := ms.memoryFile()
	if err != nil {
		return nil, err
	}

	// By descriptor: the name of a socket has 108 bytes at most (unix(7)).
	l, err := new(net.ListenConfig).Listen(ctx, "unix", descriptorPath(dir)+"/"+name)
	if err != nil {
		return nil, fmt.Errorf("making a socket: %w", err)
	}
	if l, ok := l.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false)
	}
	ms.undo = append(ms.undo, ms.options.SSH[s.ID].Serve(ctx, l))

	return ms.openMemory(dir, name, s.FileAttributes, 0o600)
}

// memoryFile returns a new name in the file system in memory of this process. Nothing of that file
// system reaches a disk.
func (ms *mounts) memoryFile() (dir *os.File, name string, err error) {
	if ms.memory == nil {
		scratch, err := ms.scratch()
		if err != nil {
			return nil, "", err
		}
		detached, err := fdfs.MemoryFS()
		if err != nil {
			return nil, "", err
		}
		ms.memory, err = ms.attach(detached, filepath.Join(scratch, "at"))
		if err := errors.Join(err, detached.Close()); err != nil {
			return nil, "", err
		}
	}

	ms.count++
	return ms.memory, strconv.Itoa(ms.count), nil
}

// openMemory gives a file in memory its owner and mode, and opens it.
func (ms *mounts) openMemory(dir *os.File, name string, a FileAttributes, mode uint32) (*os.File, error) {
	if err := fdfs.ChownAt(dir, name, given(a.UID, 0), given(a.GID, 0)); err != nil {
		return nil, err
	}
	if err := fdfs.ChmodAt(dir, name, given(a.Mode, mode)); err != nil {
		return nil, err
	}

	source, err := fdfs.OpenPathAt(dir, name)
	if err != nil {
		return nil, err
	}
	ms.undo = append(ms.undo, source.Close)
	return source, nil
}

// given returns the value of an option, or its default.
func given(option *uint32, otherwise uint32) uint32 {
	if option != nil {
		return *option
	}
	return otherwise
}
