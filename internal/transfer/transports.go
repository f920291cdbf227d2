package transfer

import (
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	dockerarchive "go.podman.io/image/v5/docker/archive"
	ociarchive "go.podman.io/image/v5/oci/archive"
	ocilayout "go.podman.io/image/v5/oci/layout"
	istorage "go.podman.io/image/v5/storage"
	"go.podman.io/image/v5/types"

	"codeberg.org/rbuild/rbuild/internal/imagename"
)

// transport returns the transport of name by the rules of package imagename, and the text for the
// transport to parse. A nil transport with a nil error means that name is the name of an image.
func transport(name string) (types.ImageTransport, string, error) {
	n, err := imagename.Parse(name)
	if err != nil {
		return nil, "", err
	}

	switch n.Transport {
	case imagename.Registry:
		return docker.Transport, "//" + n.Rest, nil
	case imagename.Layout:
		return ocilayout.Transport, n.Rest, nil
	case imagename.LayoutArchive:
		return ociarchive.Transport, n.Rest, nil
	case imagename.DockerArchive:
		return dockerarchive.Transport, n.Rest, nil
	case imagename.Directory:
		return directory.Transport, n.Rest, nil
	case imagename.Store:
		return istorage.Transport, n.Rest, nil
	}

	return nil, n.Rest, nil
}

// IsRegistry reports whether a destination of a push, or a source of a pull, is in a registry.
func IsRegistry(name string) bool {
	t, _, err := transport(name)
	return err == nil && (t == nil || isRegistry(t))
}

func isRegistry(t types.ImageTransport) bool { return t.Name() == docker.Transport.Name() }

func isStore(t types.ImageTransport) bool { return t != nil && t.Name() == istorage.Transport.Name() }
