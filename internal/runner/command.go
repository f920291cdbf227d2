package runner

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/pkg/overlay"
)

// Process is one process to run.
type Process struct {
	Command Command
	Root    Root
	Output  io.Writer // takes standard output and standard error
	Caches  Caches    // opens the caches of Command.Mounts; nil if no mount is a Cache
}

// Command describes a program and its surroundings.
type Command struct {
	Argv []string
	// Env is the environment as K=V, each name once. HOME is added if Env lacks it.
	Env  []string
	User string // USER[:GROUP], names or numbers; empty: root
	Dir  string // working directory; empty: /

	Hostname string      // empty: "rbuild", so that a result does not depend on the machine
	Network  NetworkMode // empty: Options.Network.Mode
	// Insecure drops docker's system call filter, capability set and hidden paths.
	Insecure bool

	// Mounts in the order in which they are made: a target comes after the mount that holds it. No
	// two have the same target, but a Secret that is a variable only has none.
	Mounts []Mount
	// Files exist, read-only and with mode 755, while the process runs.
	Files []File
	// Volumes are the paths that the image declares as volumes. Options.CompatVolumes applies to
	// them.
	Volumes []string

	// Platform is the platform of the image's programs: OS and Architecture count. The zero value:
	// this machine's.
	Platform ocispec.Platform
}

// File is a small file that exists while a process runs.
type File struct {
	Path string // absolute path in the image
	Data []byte
	// UseLF tells the user how to write the file with line ends that a shell accepts, for the
	// explanation of a failure.
	UseLF string
}

// Root is the root file system of a process.
type Root struct {
	// Overlay is the file system: changes of the process are in Overlay.Upper afterwards.
	Overlay overlay.Mount
	// Before are the directories of the files as they are before the process starts, topmost first:
	// Overlay.Lowers, below Overlay.Upper if an earlier process has written there.
	Before []string
	// Scratch is a directory on the file system of Overlay.Upper for the files of one process. The
	// caller removes the directory afterwards.
	Scratch string
	// View returns the root directory of the files of Before, read-only, for look-ups of users. The
	// caller of Run keeps the view and closes it: View may return the same view each time.
	View func() (*os.File, error)
	// Users remembers look-ups between processes on the same files. Nil: each process looks up its
	// user.
	Users *Users
}

// Mount is one mount of a Command.
type Mount struct {
	Target     string // absolute and clean; empty for a Secret that is a variable only
	Number     int    // position among the mounts as the user wrote them, from 0
	ReadOnly   bool
	Attributes []string // of nosuid, nodev, noexec
	Source     MountSource
}

// MountSource is the content of a Mount: Bind, Cache, Tmpfs, Secret or SSH.
type MountSource interface{ mountSource() }

// Bind shows a part of a file tree. Data that the process writes there is discarded.
type Bind struct {
	Tree Tree
	Name string // of the source in errors, for example "/src"
	// Fallback provides another Tree if the first cannot be mounted. Nil: there is none.
	Fallback func(ctx context.Context) (Tree, error)
}

// Tree is a directory or file in a stack of directories.
type Tree struct {
	Lowers []string // directories, topmost first
	Path   string   // of the part that is shown, below the root of the stack
	// Prepare fills the topmost directory, which is empty and discarded afterwards. Nil: it gets
	// the owner and mode of Lowers[0].
	Prepare func(upper *os.File) error
}

// FileAttributes are the mode and owner of a file or directory. Nil: the default.
type FileAttributes struct{ Mode, UID, GID *uint32 }

// Cache is a directory that outlives the process (Caches).
type Cache struct {
	ID      string
	Sharing Sharing
	FileAttributes
	Content *CacheContent // of a new cache; nil: an empty directory of mode 755
}

// CacheContent is the first content of a cache. A cache with another content is another cache,
// whatever its ID is.
type CacheContent struct {
	Digest string
	Path   string                                              // of the source
	Pour   func(ctx context.Context, directory *os.File) error // copies the files
}

// Tmpfs is an empty file system in memory.
type Tmpfs struct {
	Size int64   // bytes; 0: no limit
	Mode *uint32 // nil: 1777
}

// Secret is a secret as a file in memory of mode 400, as a variable or both.
type Secret struct {
	ID       string
	Env      *string // the variable; nil: none
	Required bool    // Options.Secrets must have it
	FileAttributes
}

// SSH is a socket of mode 600 at which an SSH agent answers.
type SSH struct {
	ID       string
	Required bool // Options.SSH must have it
	FileAttributes
}

func (Bind) mountSource()   {}
func (Cache) mountSource()  {}
func (Tmpfs) mountSource()  {}
func (Secret) mountSource() {}
func (SSH) mountSource()    {}

// name names the mount in an error.
func (m Mount) name() string {
	if m.Target != "" {
		return "target " + m.Target
	}
	if s, ok := m.Source.(Secret); ok {
		return "secret " + s.ID
	}
	return fmt.Sprint(m.Number)
}

// hostname returns the host name that the process sees.
func (c Command) hostname() string {
	if c.Hostname != "" {
		return c.Hostname
	}
	return "rbuild"
}

// network returns the network of a command: its own choice wins over the options.
func (n Network) of(c Command) NetworkMode {
	switch {
	case c.Network != "":
		return c.Network
	case n.Mode == "":
		return Host
	}
	return n.Mode
}

// Check returns the error of a command that asks for more than the options grant. The zero values
// of both are allowed.
func (o Options) Check(c Command) error {
	if c.Network == Host && o.Network.of(Command{}) != Host && !o.Network.AllowHost {
		return fmt.Errorf("--network=host is refused: the build was started with --network=%s (--allow network.host lets it)", o.Network.Mode)
	}
	return nil
}

// discarded returns the volumes below which the data of the process is discarded: clean, sorted,
// without volumes that lie in another volume.
func (o Options) discarded(c Command) (out []string) {
	if !o.CompatVolumes {
		return nil
	}

	var all []string
	for _, v := range c.Volumes {
		all = append(all, path.Join("/", v))
	}
	slices.Sort(all)

	for _, v := range slices.Compact(all) {
		if !slices.ContainsFunc(out, func(outer string) bool { return isBelow(v, outer) }) {
			out = append(out, v)
		}
	}

	return out
}

// isBelow reports whether the clean path lies in dir.
func isBelow(path, dir string) bool { return strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/") }
