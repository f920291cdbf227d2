// Package imagename parses the text that names an image: the name of an image, such as alpine:3, or
// a transport and a path, such as oci:./dir.
//
//	n, err := imagename.Parse("oci:/srv/layout:v1")
//	// n.Transport == "oci", n.Rest == "/srv/layout:v1"
//
// Every command, flag and instruction with an image uses Parse, so that a text has one meaning
// everywhere. The words of transports (docker, oci, dir) can be names of images too: "docker:cli"
// and "oci:v1" have a tag after the colon, not a path. So a word is a transport only if the text
// cannot be the name of an image:
//
//   - docker: is a transport only if // follows;
//   - containers-storage: is always a transport;
//   - every other word is a transport if the rest has a slash, or is neither a tag nor a tag with a digest;
//   - oci-archive: and docker-archive: are transports also if the rest is the name of a tar file: "oci-archive:image.tar".
//
// The package is pure: no files and no network. It does not check whether a name is valid; packages
// transfer and plan do.
//
// Source of the transports: containers-transports(5).
package imagename

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Supported transports, for Name.Transport.
const (
	Registry      = "docker"
	Layout        = "oci"
	LayoutArchive = "oci-archive"
	DockerArchive = "docker-archive"
	Directory     = "dir"
	Store         = "containers-storage"
)

// supported lists the transports above. unsupported lists the other transports of
// containers-transports(5), which Parse refuses.
var (
	supported   = []string{Registry, Layout, LayoutArchive, DockerArchive, Directory, Store}
	unsupported = []string{"docker-daemon", "sif", "tarball", "atomic", "ostree"}
)

// tagged matches a tag, or a tag and a digest: v1, v1@sha256:.... Source:
// go.podman.io/image/v5/docker/reference, "Grammar".
var tagged = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(
		`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}(@[A-Za-z0-9]+([+._-][A-Za-z0-9]+)*:[0-9a-fA-F]{32,})?$`,
	)
})

// tarFile matches the name of a tar file, plain or compressed.
var tarFile = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\.(tar|tgz|tar\.[a-z0-9]+)$`)
})

// storeSpecifier matches the "[driver@root+runroot:options]" of containers-storage: names. It is
// removed, because a process has one store.
var storeSpecifier = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\[[^\]]*\]`)
})

// A Name is a parsed text: the name of an image, or a transport and its path. The zero value is an
// empty name, which is not the name of any image.
type Name struct {
	Transport string // a constant of this package; empty: the text is the name of an image
	Rest      string // the text after the transport and its colon; without // for Registry, without [...] for Store
}

// Parse parses a text. It returns an error if the text begins with an unsupported transport. It
// does not check the name of an image.
func Parse(text string) (Name, error) {
	word, rest, ok := strings.Cut(text, ":")
	known := slices.Contains(supported, word)
	if !ok || !known && !slices.Contains(unsupported, word) || isImage(word, rest) {
		return Name{Rest: text}, nil
	}
	if !known {
		return Name{}, fmt.Errorf(
			"%s: transport %s: is not supported (docker://, oci:, oci-archive:, docker-archive:, "+
				"dir: and containers-storage: are)",
			text,
			word,
		)
	}

	switch word {
	case Registry:
		rest = strings.TrimPrefix(rest, "//")
	case Store:
		rest = storeSpecifier().ReplaceAllString(rest, "")
	}

	return Name{Transport: word, Rest: rest}, nil
}

// isImage reports whether word:rest is the name of an image, although word is the word of a
// transport.
func isImage(word, rest string) bool {
	switch word {
	case Registry:
		return !strings.HasPrefix(rest, "//")
	case Store:
		return false
	case LayoutArchive, DockerArchive:
		return tagged().MatchString(rest) && !tarFile().MatchString(rest)
	}
	return tagged().MatchString(rest)
}

// InFiles reports whether the name refers to a file or a directory outside the store.
func (n Name) InFiles() bool {
	return slices.Contains([]string{Layout, LayoutArchive, DockerArchive, Directory}, n.Transport)
}

// Path splits a name with InFiles into the path and the selection of an image, for example
// "/srv/layout" and ":v1". The selection of a directory (dir:) is empty.
func (n Name) Path() (path, which string) {
	i := strings.IndexByte(n.Rest, ':')
	if n.Transport == Directory || i < 0 {
		return n.Rest, ""
	}
	return n.Rest[:i], n.Rest[i:]
}

// Hint returns advice for a text that is the name of an image and may be meant as a path: for
// "dir:out" it names "dir:./out". Hint returns an empty string if the text cannot be meant as a
// path.
func Hint(text string) string {
	n, err := Parse(text)
	word, rest, ok := strings.Cut(text, ":")
	if err != nil || n.Transport != "" || !ok || !(Name{Transport: word}).InFiles() {
		return ""
	}
	return fmt.Sprintf("%s is the name of an image; a path is written %s:./%s", text, word, rest)
}
