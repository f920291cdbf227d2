// Package imagename reads the names that users and Dockerfiles give to images, and tells the name of an image from a
// place named by its transport.
//
//	n, err := imagename.Parse("oci:/srv/layout:v1")
//	// n.Transport == "oci", n.Rest == "/srv/layout:v1"
//
// Every command, flag and instruction that takes an image uses Parse, so that a text means the same everywhere.
// The words of transports are names of images too (docker, oci, dir): "docker:cli" and "oci:v1" have a tag behind the
// colon, not a path. So a word is a transport only where the text cannot be an image:
//
//   - docker: is a transport only with // behind it;
//   - containers-storage: always is;
//   - every other word is a transport if the rest has a slash, or is neither a tag nor a tag with a digest;
//   - oci-archive: and docker-archive: are transports, too, if the rest is the name of a tar: "oci-archive:image.tar".
//
// The package is pure: no files and no network. It does not check the name of an image; packages registry and plan do.
//
// Source of the transports: containers-transports(5).
package imagename

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The transports that are supported, as Name.Transport has them.
const (
	Registry      = "docker"
	Layout        = "oci"
	LayoutArchive = "oci-archive"
	DockerArchive = "docker-archive"
	Directory     = "dir"
	Store         = "containers-storage"
)

// supported are the transports above; unsupported are the others of containers-transports(5), refused by name.
var (
	supported   = []string{Registry, Layout, LayoutArchive, DockerArchive, Directory, Store}
	unsupported = []string{"docker-daemon", "sif", "tarball", "atomic", "ostree"}
)

// tagged is a tag, or a tag and a digest. Source: go.podman.io/image/v5/docker/reference, "Grammar".
var tagged = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}(@[A-Za-z0-9]+([+._-][A-Za-z0-9]+)*:[0-9a-fA-F]{32,})?$`)

// tarFile is the name of a tar, plain or compressed.
var tarFile = regexp.MustCompile(`\.(tar|tgz|tar\.[a-z0-9]+)$`)

// storeSpecifier is the "[driver@root+runroot:options]" of containers-storage: names. The store is the one that is open.
var storeSpecifier = regexp.MustCompile(`^\[[^\]]*\]`)

// A Name is a parsed text: the name of an image, or a transport and its path. The zero value is the empty name, which no
// image has.
type Name struct {
	Transport string // a constant of this package; empty: the text is the name of an image
	Rest      string // behind the transport and its colon; without // for Registry, without [...] for Store
}

// Parse reads a text. The error says that it begins with a transport that is not supported; the text of an image's name
// is not checked.
func Parse(text string) (Name, error) {
	word, rest, ok := strings.Cut(text, ":")
	known := slices.Contains(supported, word)
	if !ok || !known && !slices.Contains(unsupported, word) || isImage(word, rest) {
		return Name{Rest: text}, nil
	}
	if !known {
		return Name{}, fmt.Errorf("%s: transport %s: is not supported (docker://, oci:, oci-archive:, docker-archive:, "+
			"dir: and containers-storage: are)", text, word)
	}

	switch word {
	case Registry:
		rest = strings.TrimPrefix(rest, "//")
	case Store:
		rest = storeSpecifier.ReplaceAllString(rest, "")
	}

	return Name{Transport: word, Rest: rest}, nil
}

// isImage reports whether word:rest is the name of an image, although word is a transport.
func isImage(word, rest string) bool {
	switch word {
	case Registry:
		return !strings.HasPrefix(rest, "//")
	case Store:
		return false
	case LayoutArchive, DockerArchive:
		return tagged.MatchString(rest) && !tarFile.MatchString(rest)
	}
	return tagged.MatchString(rest)
}

// InFiles reports whether the name is of a file or a directory outside the store.
func (n Name) InFiles() bool {
	return slices.Contains([]string{Layout, LayoutArchive, DockerArchive, Directory}, n.Transport)
}

// Path returns the path of a name that is InFiles, and the rest behind the path with its colon, such as ":v1".
// A directory (dir:) has no such rest.
func (n Name) Path() (path, which string) {
	i := strings.IndexByte(n.Rest, ':')
	if n.Transport == Directory || i < 0 {
		return n.Rest, ""
	}
	return n.Rest[:i], n.Rest[i:]
}

// Hint says how to write the path that a user may have meant by a text that is the name of an image, for example by
// "dir:out". It is empty if the text cannot be meant so.
func Hint(text string) string {
	n, err := Parse(text)
	word, rest, ok := strings.Cut(text, ":")
	if err != nil || n.Transport != "" || !ok || !(Name{Transport: word}).InFiles() {
		return ""
	}
	return fmt.Sprintf("%s is the name of an image; a path is written %s:./%s", text, word, rest)
}
