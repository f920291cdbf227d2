package copier

import (
	"crypto/sha256"
	"os"
	"path"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// item is one source: a file, a directory whose content is meant, or an archive to unpack.
type item struct {
	name    string   // the name of a file in a destination directory
	tree    *Tree    // the tree that holds the source; nil for a here-document or a fetched file
	source  string   // the source as the user knows it, for messages
	where   string   // path of the directory that holds the source, or that is the source; free of links
	node    *node    // the source itself
	data    []byte   // content of a here-document
	remote  *os.File // content of a fetched file
	archive bool     // the source is unpacked
}

// node is one inode of a selection. The digest covers its fields, and Write writes them.
type node struct {
	name   string
	stat   fdfs.Stat
	sum    [32]byte // sha256 of a regular file
	caps   []byte   // security.capability of a regular file
	target string   // of a symbolic link
	link   *node    // an earlier file of the selection that is the same inode
	shared bool     // a later file is the same inode
	racy   bool     // the file changed so shortly before it was read that another change may leave the same times
	known  string   // stands for the node in the digest, if not empty
	merge  bool     // the directory only leads to a selected file: its metadata count only if the directory must be made
	kids   []*node  // of a directory, sorted by name
}

func (n *node) isDir() bool { return n.stat.Type == fdfs.Directory }

// inlineItem returns the source of a here-document.
func inlineItem(f File) *item {
	name := path.Base(f.Name)
	data := append([]byte{}, f.Data...) // not nil
	n := &node{name: name, sum: sha256.Sum256(data), stat: fileStat(0o644, int64(len(data)), time.Now())}
	return &item{name: name, source: f.Name, data: data, node: n}
}

// fileStat returns the status of a regular file that is not in a tree.
func fileStat(mode uint32, size int64, mtime time.Time) fdfs.Stat {
	return fdfs.Stat{
		Type: fdfs.Regular, Mode: mode, Nlink: 1, Size: size,
		Mtime: fdfs.Time{Sec: mtime.Unix(), Nsec: int64(mtime.Nanosecond())},
	}
}

// rules decide which owner and mode the files of a selection get.
type rules struct {
	chown  *fdfs.Owner // the owner of all files
	chmod  modeChange
	asRoot bool // without chown, files belong to root: there is no tree, or the tree is a build context
	noSUID bool // regular files lose setuid and setgid: the tree is a build context
}

func newRules(tree *Tree, spec Spec) (rules, error) {
	chmod, err := parseChmod(spec.Chmod)
	return rules{
		chown:  spec.Chown,
		chmod:  chmod,
		asRoot: tree == nil || tree.context,
		noSUID: tree != nil && tree.context,
	}, err
}

// mode returns the mode that n gets.
func (r rules) mode(n *node) uint32 {
	mode := n.stat.Mode
	if n.stat.Type == fdfs.Symlink {
		return 0o777
	}
	if n.stat.Type == fdfs.Regular && r.noSUID {
		mode &^= 0o6000 // as in BuildKit; directories keep setgid
	}
	return r.chmod.apply(mode, n.isDir())
}

// owner returns the owner that n gets.
func (r rules) owner(n *node) fdfs.Owner {
	if r.chown != nil {
		return *r.chown
	}
	if r.asRoot {
		return fdfs.Owner{}
	}
	return fdfs.Owner{UID: n.stat.UID, GID: n.stat.GID}
}

// attributes returns the owner and the mode that n gets.
func (r rules) attributes(n *node) fdfs.Attributes {
	return fdfs.Attributes{Owner: new(r.owner(n)), Mode: new(r.mode(n))}
}

// attributesWithTime returns the owner, the mode and the time that n gets.
func (r rules) attributesWithTime(n *node) fdfs.Attributes {
	a := r.attributes(n)
	a.Mtime = &n.stat.Mtime
	return a
}

// newDir returns a directory that is made on the way to a destination.
func (r rules) newDir() fdfs.Entry {
	owner := fdfs.Owner{}
	if r.chown != nil {
		owner = *r.chown
	}
	return directory(owner, r.chmod.forNewDir())
}

// directory returns the description of a new directory.
func directory(owner fdfs.Owner, mode uint32) fdfs.Entry {
	return fdfs.Entry{Type: fdfs.Directory, Attributes: fdfs.Attributes{Owner: &owner, Mode: &mode}}
}

// linkUp ties together files that are one inode, in the order in which they are written: the files
// of one source directory, and consecutive single files. A file of one source directory is not tied
// to a file of another, because a later source may replace the first file.
func linkUp(items []*item) {
	var l linker
	single := false
	for _, it := range items {
		before := single
		single = it.node.stat.Type == fdfs.Regular && !it.archive
		if !single || !before {
			l.first = map[inode]*node{}
		}
		if !it.archive {
			l.visit(it.node)
		}
	}
}

// inode identifies an inode of the host.
type inode struct{ dev, ino uint64 }

// linker finds files that are one inode.
type linker struct {
	first map[inode]*node // the first file of each inode with several names
}

func (l *linker) visit(n *node) {
	if n.stat.Type == fdfs.Regular && n.stat.Nlink > 1 {
		l.tie(n)
	}
	for _, kid := range n.kids {
		l.visit(kid)
	}
}

// tie makes n a link to the first file of its inode. If the contents differ, the inode changed
// meanwhile.
func (l *linker) tie(n *node) {
	key := inode{n.stat.Dev, n.stat.Ino}
	first := l.first[key]
	switch {
	case first == nil:
		l.first[key] = n
	case first.sum == n.sum:
		n.link = first
		first.shared = true
	}
}
