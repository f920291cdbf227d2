package copier

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// File is a here-document: a file whose content is in the Dockerfile. Its mode is 0644.
type File struct {
	Name string // the last component is the name of the file in a destination directory
	Data []byte
}

// Spec describes one COPY or ADD. Required are Dest and one of Sources and Inline.
type Spec struct {
	// Sources are paths or patterns below the root of the tree, for example "src/*.go", or keys of
	// Remote, for example "https://example.org/x.tar". In a pattern, each component is one of
	// filepath.Match.
	Sources []string
	// Inline are here-documents. They are written after Sources.
	Inline []File
	// Remote holds the fetched files and trees, by source.
	Remote map[string]Remote

	// Dest is an absolute path in the image, for example "/app/". A path that ends in a slash is a
	// directory. The destination of several sources is a directory.
	Dest string

	// Chown is the owner of all files that are written; nil: see the package comment.
	Chown *fdfs.Owner
	// Chmod is the mode of all files that are written except symbolic links, octal ("0755") or as
	// in chmod(1) ("u=rwX,go=rX"). If empty, files keep the mode of their source.
	Chmod string
	// Exclude are patterns as in .dockerignore, relative to each source directory.
	Exclude []string
	// Parents keeps the path of each source below Dest, from the pivot "/./" on if the source
	// contains it. "**" stands for any number of directories.
	Parents bool

	// Link says that the layer does not depend on the layers below (--link). Directories that are
	// made on the way to Dest get the time of the latest source then, not the time of the build.
	Link bool
	// Sparse is called for each source file with large holes before the file is digested: size and
	// data, the part that is no hole, in bytes. Several goroutines call it. It may be nil.
	Sparse func(source string, size, data int64)

	// Add makes the step an ADD: archives of the tree are unpacked.
	Add bool
	// Unpack, for an ADD, unpacks fetched archives too (true), or no archive at all (false). If
	// nil, archives of the tree are unpacked and fetched archives are not.
	Unpack *bool

	literal bool // SelectPath: the source is no pattern, and the metadata of a source directory count
}

// clean returns the Spec without "." and ".." in its destination, or the error in the Spec.
func (s Spec) clean() (Spec, error) {
	if !path.IsAbs(s.Dest) {
		return s, fmt.Errorf("destination %q is not absolute", s.Dest)
	}
	if strings.ContainsRune(s.Dest, 0) {
		return s, fmt.Errorf("destination %q holds a zero byte", s.Dest)
	}

	if namesDir(s.Dest) {
		s.Dest = strings.TrimSuffix(path.Clean(s.Dest+"/"), "/") + "/"
	} else {
		s.Dest = path.Clean(s.Dest)
	}

	if len(s.Sources)+len(s.Inline) == 0 {
		return s, errors.New("no source")
	}
	if len(s.Sources)+len(s.Inline) > 1 && !namesDir(s.Dest) {
		return s, fmt.Errorf("destination %s of several sources must end with a slash", s.Dest)
	}

	return s, nil
}

// unpacks reports whether the step unpacks archives of the tree or, if fetched, archives that were
// fetched.
func (s Spec) unpacks(fetched bool) bool {
	if !s.Add {
		return false
	}
	if s.Unpack != nil {
		return *s.Unpack
	}
	return !fetched
}

// namesDir reports whether the form of a destination says that it is a directory: "/app/", "/app/."
// or "/app/..".
func namesDir(dest string) bool {
	return strings.HasSuffix(dest, "/") || strings.HasSuffix(dest, "/.") || strings.HasSuffix(dest, "/..")
}
