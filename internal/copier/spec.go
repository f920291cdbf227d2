package copier

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Owner is a user and a group by number, as the image sees them.
type Owner struct{ UID, GID uint32 }

// File is a file whose content stands in the Dockerfile, a here-document. Its mode is 0644.
type File struct {
	Name string // the last component names the file where the destination is a directory
	Data []byte
}

// Spec says what is copied where. Only Dest and one of Sources and Inline are needed.
type Spec struct {
	Sources []string // paths or patterns (filepath.Match in each component) below the root of the tree, or those of Remote
	Inline  []File   // written after Sources

	Remote map[string]Remote // those of Sources that are no paths, with what was fetched for them

	// Dest is an absolute path in the image. One that ends in a slash is a directory; a destination
	// of several sources must.
	Dest string

	Chown   *Owner   // owner of all that is written; nil: see the package comment
	Chmod   string   // mode of all that is written but symbolic links, octal or as chmod(1) has it (u=rwX,go=rX); empty: that of the source
	Exclude []string // patterns of .dockerignore, relative to each source directory
	Parents bool     // keep the path of each source below Dest, from the pivot /./ on if there is one; ** is any number of directories

	// Link says that the layer does not depend on those below (--link): directories on the way to Dest that are made have
	// the time of the latest source, not that of the build.
	Link bool
	// Sparse is called for a source file with large holes (sparse.Large) before the file is digested, by several
	// goroutines. It may be nil.
	Sparse func(source string, size, data int64)

	Add    bool  // ADD: archives of the tree are unpacked
	Unpack *bool // of Add: unpack archives, also those that were fetched, or none; nil: those of the tree only

	literal bool // SelectPath: the one source is no pattern, and its own metadata counts
}

// checkSpec tells whether spec makes sense by itself, and takes "." and ".." out of its destination.
func checkSpec(s *Spec) error {
	if !path.IsAbs(s.Dest) {
		return fmt.Errorf("destination %q is not absolute", s.Dest)
	}
	if strings.ContainsRune(s.Dest, 0) {
		return fmt.Errorf("destination %q holds a zero byte", s.Dest)
	}

	if wantsDir(s.Dest) {
		s.Dest = strings.TrimSuffix(path.Clean(s.Dest+"/"), "/") + "/"
	} else {
		s.Dest = path.Clean(s.Dest)
	}

	if len(s.Sources)+len(s.Inline) == 0 {
		return errors.New("no source")
	}
	if len(s.Sources)+len(s.Inline) > 1 && !wantsDir(s.Dest) {
		return fmt.Errorf("destination %s of several sources must end with a slash", s.Dest)
	}
	return nil
}

// wantsDir reports whether dest names a directory by its form.
func wantsDir(dest string) bool {
	return strings.HasSuffix(dest, "/") || strings.HasSuffix(dest, "/.") || strings.HasSuffix(dest, "/..")
}
