package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// mounts are the mounts of one process with opened sources.
type mounts struct {
	options *Options
	root    Root
	shared  string // the directory that all processes share

	list    []mount             // with opened sources
	sources map[string]*os.File // of bind mounts, by target
	dir     string              // scratch for the mounts of this process; empty until a mount needs it
	count   int                 // of files and directories made in dir and memory
	image   *os.File            // the image with discarded changes; nil until a volume needs it
	memory  *os.File            // the file system in memory; nil until a secret or socket needs it
	caches  []OpenCache
	undo    []func() error // called in reverse
}

// open opens the source of each mount of the list. The caller calls close, also after an error.
func (ms *mounts) open(ctx context.Context, list []mount, caches Caches) error {
	if err := ms.openCaches(ctx, list, caches); err != nil {
		return err
	}

	for _, m := range list {
		err := ms.add(ctx, m)
		switch {
		case err == nil:
		case m.name != "":
			return fmt.Errorf("--mount: %s: %w", m.name, err)
		default:
			return err
		}
	}

	return nil
}

// add opens the source of a mount and adds the mount to the list.
func (ms *mounts) add(ctx context.Context, m mount) error {
	source, err := ms.source(ctx, m)
	if err != nil {
		return err
	}

	isDir := true
	if source != nil {
		st, err := fdfs.FileStat(source)
		if err != nil {
			return err
		}
		isDir = st.Type == fdfs.Directory
		ms.sources[m.target] = source
	}
	if err := ms.makeTarget(m.target, isDir); err != nil {
		return err
	}

	// The command line names the device of such a volume, as --device does.
	if v, ok := m.source.(Volume); ok && fdfs.IsDevice(source) && !slices.Contains(v.Options, "nodev") {
		m.options = append(m.options, "dev")
	}
	if source != nil && m.device == "" {
		m.device = source.Name()
	}
	ms.list = append(ms.list, m)

	return nil
}

// source returns the source of a mount; nil: the sandbox makes the file system.
func (ms *mounts) source(ctx context.Context, m mount) (*os.File, error) {
	switch src := m.source.(type) {
	case Device:
		return src.Source, nil
	case discard:
		return ms.discard(src)
	case ownFile:
		return ms.ownFile(src)
	case Volume:
		return ms.volume(src)
	case Bind:
		return ms.bind(ctx, src)
	case openedCache:
		return src.dir, nil
	case Secret:
		return ms.secret(src)
	case SSH:
		return ms.agent(ctx, src)
	}
	return nil, nil
}

// spec returns the mounts as runtime-spec has them.
func (ms *mounts) spec() []specs.Mount {
	out := make([]specs.Mount, 0, len(ms.list))
	for _, m := range ms.list {
		out = append(out, specs.Mount{Destination: m.target, Type: m.kind, Source: m.device, Options: m.options})
	}
	return out
}

// makeTarget makes the mount point of a mount that lies in another mount: in a cache, where the
// mount point stays, or in the discarded part of a bind mount. In a tmpfs and in the image the
// sandbox makes mount points; in a volume of the user nobody does.
func (ms *mounts) makeTarget(target string, isDir bool) error {
	var outer mount
	for _, m := range ms.list {
		if isBelow(target, m.target) {
			outer = m
		}
	}
	switch outer.source.(type) {
	case discard, Bind, openedCache, Secret, SSH:
	default:
		return nil
	}

	c := fdfs.NewCursor(fdfs.OnDisk(ms.sources[outer.target]))
	defer c.Close()
	if err := makeBelow(c, strings.TrimPrefix(target, outer.target), isDir); err != nil {
		return fmt.Errorf("making its place in the mount at %s: %w", outer.target, err)
	}
	return nil
}

// makeBelow makes a directory or an empty file with its parents.
func makeBelow(c *fdfs.Cursor, name string, isDir bool) error {
	if isDir {
		return c.Enter(name, makeDir)
	}

	last, st, err := c.Resolve(name, makeDir)
	if err != nil || st.Type != fdfs.Unknown {
		return err
	}
	f, err := c.Dir().Create(last, 0)
	if err != nil {
		return err
	}
	return f.Close()
}

// makeDir makes a directory on the way to a mount point.
func makeDir(dir fdfs.Dir, name string) error {
	return fdfs.MkdirAt(fdfs.DescriptorOf(dir), name, 0o755)
}

// ownFile writes a small file. No descriptor stays open for writing: a script could not be executed
// then (ETXTBSY).
func (ms *mounts) ownFile(src ownFile) (*os.File, error) {
	name := filepath.Join(ms.root.Scratch, src.name)
	err := os.WriteFile(name, src.data, os.FileMode(src.mode))
	var f *os.File
	if err == nil {
		f, err = os.Open(name)
	}
	if err != nil {
		return nil, fmt.Errorf("making the files of the process: %w", err)
	}
	ms.undo = append(ms.undo, f.Close)
	return f, nil
}

// discard shows a volume of the image below an upper directory that is removed afterwards with the
// data that the process writes there. A volume that the image lacks is an empty directory.
func (ms *mounts) discard(src discard) (*os.File, error) {
	if ms.image == nil {
		image, err := ms.layered(Tree{Lowers: ms.root.Before})
		if err != nil {
			return nil, ms.explain(err)
		}
		ms.image = image
	}

	c := fdfs.NewCursor(fdfs.OnDisk(ms.image))
	ms.undo = append(ms.undo, func() error { c.Close(); return nil })
	if err := c.Enter(src.volume, makeDir); err != nil {
		return nil, fmt.Errorf("--compat-volumes: the volume %s: %w", src.volume, err)
	}
	return fdfs.DescriptorOf(c.Dir()), nil
}

// volume opens a volume of the user. An overlay over the volume holds the writes of the process if
// the volume asks for that.
func (ms *mounts) volume(v Volume) (*os.File, error) {
	if !v.Overlay {
		return v.Source, nil
	}

	root, err := ms.layered(Tree{Lowers: []string{descriptorPath(v.Source)}, Prepare: func(upper *os.File) error {
		st, err := fdfs.FileStat(v.Source)
		if err != nil {
			return err
		}
		return fdfs.Chmod(upper, st.Mode)
	}})
	if err != nil {
		return nil, fmt.Errorf("--volume %s: an overlay cannot be mounted over it: %w", v.Text, ms.explain(err))
	}
	return root, nil
}

// bind opens a part of a file tree.
func (ms *mounts) bind(ctx context.Context, b Bind) (*os.File, error) {
	tree := b.Tree
	root, err := ms.layered(tree)
	if err != nil && b.Fallback != nil {
		if tree, err = b.Fallback(ctx); err == nil {
			root, err = ms.layered(tree)
		}
	}
	if err != nil {
		return nil, ms.explain(err)
	}

	c := fdfs.NewCursor(fdfs.OnDisk(root))
	defer c.Close()

	name, st, err := c.Resolve(path.Join("/", tree.Path), nil)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", b.Name, err)
	}
	if st.Type == fdfs.Unknown {
		return nil, fmt.Errorf("source %s: %w", b.Name, os.ErrNotExist)
	}
	if st.Type != fdfs.Directory && st.Type != fdfs.Regular {
		return nil, fmt.Errorf("source %s is a %s", b.Name, st.Type)
	}

	source, err := fdfs.OpenPathAt(fdfs.DescriptorOf(c.Dir()), name)
	if err != nil {
		return nil, fmt.Errorf("source %s: %w", b.Name, err)
	}
	ms.undo = append(ms.undo, source.Close)
	return source, nil
}

// layered mounts an overlay over the directories of a tree, with an upper directory that is removed
// afterwards, and returns the root directory.
func (ms *mounts) layered(tree Tree) (*os.File, error) {
	dir, err := ms.scratch()
	if err != nil {
		return nil, err
	}

	// Without volatile, unmounting would sync the whole file system.
	m := overlay.Mount{
		Lowers: tree.Lowers, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"),
		Volatile: true, Trusted: ms.options.Trusted,
	}
	if err := errors.Join(os.Mkdir(m.Upper, 0o755), os.Mkdir(m.Work, 0o700)); err != nil {
		return nil, err
	}
	if err := tree.prepare(m.Upper); err != nil {
		return nil, err
	}

	detached, err := overlay.Detach(m)
	if err != nil {
		return nil, err
	}
	root, err := ms.attach(detached, filepath.Join(dir, "at"))
	return root, errors.Join(err, detached.Close())
}

// prepare gives the upper directory the attributes of the tree's root directory: in an overlay the
// attributes of the topmost directory count.
func (t Tree) prepare(upper string) error {
	dir, err := os.Open(upper)
	if err != nil {
		return err
	}

	prepare := t.Prepare
	if prepare == nil {
		prepare = t.copyAttributes
	}
	return errors.Join(prepare(dir), dir.Close())
}

// copyAttributes gives dir the owner and mode of the topmost directory.
func (t Tree) copyAttributes(dir *os.File) error {
	top, err := os.Open(t.Lowers[0])
	if err != nil {
		return err
	}
	st, err := fdfs.FileStat(top)
	if err := errors.Join(err, top.Close()); err != nil {
		return err
	}
	return errors.Join(fdfs.Chown(dir, st.UID, st.GID), fdfs.Chmod(dir, st.Mode))
}

// attach attaches a detached mount in the caller's mount namespace until close: before Linux 6.15 a
// part of a detached mount could not be bound. The place is in the scratch directory, which no
// process can see.
func (ms *mounts) attach(detached *os.File, at string) (root *os.File, err error) {
	if err := os.Mkdir(at, 0o700); err != nil {
		return nil, err
	}
	if err := fdfs.AttachMount(detached, at); err != nil {
		return nil, err
	}
	ms.undo = append(ms.undo, func() error { return fdfs.DetachMount(at) })

	root, err = fdfs.OpenDirAt(detached, ".")
	if err != nil {
		return nil, err
	}
	ms.undo = append(ms.undo, root.Close)
	return root, nil
}

// scratch makes a new directory for a mount.
func (ms *mounts) scratch() (dir string, err error) {
	if ms.dir == "" {
		if ms.dir, err = os.MkdirTemp(ms.root.Scratch, "mounts-"); err != nil {
			return "", err
		}
		ms.undo = append(ms.undo, func() error { return os.RemoveAll(ms.dir) })
	}

	ms.count++
	dir = filepath.Join(ms.dir, strconv.Itoa(ms.count))
	return dir, os.Mkdir(dir, 0o700)
}

// close gives everything back, in reverse order.
func (ms *mounts) close() error {
	var errs []error
	for _, undo := range slices.Backward(ms.undo) {
		if err := undo(); err != nil {
			errs = append(errs, err)
			if ms.dir != "" {
				break // nothing is removed below a mount that may still be there
			}
		}
	}

	for _, c := range ms.caches {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// explain returns the reason why this host mounts no overlay, if there is one, and err otherwise.
func (ms *mounts) explain(err error) error { return explain(err, ms.shared, ms.options.Trusted) }

func explain(err error, dir string, trusted bool) error {
	if cause := overlay.Probe(dir, trusted); cause != nil {
		return cause
	}
	return err
}

func descriptorPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
