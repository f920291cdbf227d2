package layout

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"

	"codeberg.org/rbuild/rbuild/internal/bounded"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// maxDocument bounds the index of a layout, a manifest and a config, in bytes.
const maxDocument = 4 << 20

// Find reads the manifest of an image of the layout dir, or an index for several platforms. which
// is the name in the index of the layout, the position of a line ("@0"), or the digest of a
// manifest or of an index; "": the line named latest, else the only line. The digest of the result
// is verified.
func Find(dir, which string) (data []byte, mediaType string, err error) {
	var desc ocispec.Descriptor
	if desc.Digest, err = digest.Parse(which); err != nil {
		if desc, err = findByName(dir, which); err != nil {
			return nil, "", err
		}
	}

	path, err := blobPath(dir, desc.Digest)
	if err != nil {
		return nil, "", err
	}
	if data, err = readBounded(path); err != nil {
		return nil, "", err
	}
	if got := desc.Digest.Algorithm().FromBytes(data); got != desc.Digest {
		return nil, "", fmt.Errorf("manifest %s has the digest %s", desc.Digest, got)
	}
	return data, cmp.Or(desc.MediaType, manifest.GuessMIMEType(data)), nil
}

// findByName looks the name up in the index of the layout.
func findByName(dir, name string) (desc ocispec.Descriptor, err error) {
	data, err := readBounded(filepath.Join(dir, ocispec.ImageIndexFile))
	if err != nil {
		return desc, err
	}

	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		return desc, fmt.Errorf("reading %s: %w", ocispec.ImageIndexFile, err)
	}
	if number, ok := strings.CutPrefix(name, "@"); ok {
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 || n >= len(index.Manifests) {
			return desc, fmt.Errorf("%s is none of its %d images, the first is @0", name, len(index.Manifests))
		}
		return index.Manifests[n], nil
	}

	want := cmp.Or(name, "latest")
	var names []string
	for _, d := range index.Manifests {
		ref := d.Annotations[ocispec.AnnotationRefName]
		if ref == want {
			return d, nil
		}
		if ref != "" {
			names = append(names, ref)
		}
	}

	switch {
	case name == "" && len(index.Manifests) == 1:
		return index.Manifests[0], nil
	case len(names) == 0:
		return desc, fmt.Errorf("it has no image %q: name one of its %d by digest", want, len(index.Manifests))
	}

	return desc, fmt.Errorf("it has no image %q: it has %s", want, strings.Join(names, ", "))
}

func readBounded(path string) ([]byte, error) {
	f, _, err := fdfs.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return bounded.ReadAll(f, maxDocument, path)
}
