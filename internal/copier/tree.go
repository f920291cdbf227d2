package copier

import (
	"fmt"
	"os"

	"codeberg.org/rbuild/rbuild/internal/ignore"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// Tree is a source of files: a build context, or the root of a stage or image. Several Selects may
// use it at once.
type Tree struct {
	root    fdfs.Dir
	owned   bool     // Close closes root
	context bool     // a build context: files belong to root, whoever owns them on the host
	ignore  []string // patterns of the files that the tree does not have
}

// OpenContext opens the directory dir as a build context. The context does not have the files that
// the patterns match; see ignore.Read. The caller closes the Tree when all selections from it have
// been written.
func OpenContext(dir string, patterns []string) (*Tree, error) {
	if _, err := ignore.New(patterns); err != nil {
		return nil, fmt.Errorf("ignore file: %w", err)
	}

	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("opening build context: %w", err)
	}
	if fi, err := f.Stat(); err != nil || !fi.IsDir() {
		f.Close() // only opened
		return nil, fmt.Errorf("build context %s is not a directory", dir)
	}

	return &Tree{root: fdfs.OnDisk(f), owned: true, context: true, ignore: patterns}, nil
}

// OpenRoot returns the tree of dir, the root directory of a stage or an image. Owners, modes and
// capabilities of its files are kept. The caller closes dir when all selections from the tree have
// been written.
func OpenRoot(dir fdfs.Dir) *Tree { return &Tree{root: dir} }

// Root returns the root directory, which also has the files that the ignore patterns match. It is
// nil if the tree is not in the kernel. The caller does not close it.
func (t *Tree) Root() *os.File { return fdfs.DescriptorOf(t.root) }

// Close closes the directory that OpenContext opened.
func (t *Tree) Close() error {
	if !t.owned {
		return nil
	}
	return t.root.Close()
}
