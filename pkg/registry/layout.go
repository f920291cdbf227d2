package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/manifest"
	ociarchive "go.podman.io/image/v5/oci/archive"
	ocilayout "go.podman.io/image/v5/oci/layout"
	istorage "go.podman.io/image/v5/storage"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"
)

// maxDocument bounds the index of a layout, and a manifest, in bytes.
const maxDocument = 4 << 20

// Load copies the image that a name with a transport of files means
// ("oci:/path:tag") into the store, where it is known by its ID only: what the
// file itself says of names is not believed, since whoever made it could take
// the name of another image.
func Load(ctx context.Context, st cs.Store, name string, o Options) (id string, err error) {
	t, rest, err := transport(name)
	if err != nil {
		return "", err
	}
	if t == nil || t.Name() == docker.Transport.Name() || t.Name() == istorage.Transport.Name() {
		return "", fmt.Errorf("%s: not an image in a file or a directory", name)
	}
	path, which, _ := strings.Cut(rest, ":")
	switch t.Name() {
	case ocilayout.Transport.Name():
		return LoadLayout(ctx, st, path, which, o)
	case ociarchive.Transport.Name():
		return loadArchive(ctx, st, path, which, o)
	}
	ref, err := t.ParseReference(rest)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	p, release, err := newPuller(st, o)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	return p.copyUnnamed(ctx, ref)
}

// LoadLayout is Load for an image of the OCI layout dir: which is the value of
// org.opencontainers.image.ref.name in its index, or the digest of a manifest or
// of an index; empty: latest, else the only image. The digest is verified, as
// are all that it leads to.
func LoadLayout(ctx context.Context, st cs.Store, dir, which string, o Options) (id string, err error) {
	p, release, err := newPuller(st, o)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	desc, err := findInLayout(dir, which)
	if err != nil {
		return "", fmt.Errorf("reading the OCI layout %s: %w", dir, err)
	}
	// The library reads an index that names this one image, and the blobs where they are.
	index, err := writeLayout(p.sys.BigFilesTemporaryDir, desc)
	if err != nil {
		return "", err
	}
	p.what = "the OCI layout " + dir
	p.sys.OCISharedBlobDirPath = filepath.Join(dir, ocispec.ImageBlobsDir)
	ref, err := ocilayout.NewReference(index, "")
	if err != nil {
		return "", fmt.Errorf("reading the OCI layout %s: %w", dir, err)
	}
	return p.copyUnnamed(ctx, ref)
}

// loadArchive is LoadLayout for a layout in a tar. The library would look the path up again where it was once resolved.
func loadArchive(ctx context.Context, st cs.Store, path, which string, o Options) (id string, err error) {
	dir, release, err := newSpool(o.spoolBase(st.GraphRoot()))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", path, err)
	}
	defer f.Close()
	if err := archive.NewDefaultArchiver().Untar(f, dir, &archive.TarOptions{NoLchown: true}); err != nil {
		return "", fmt.Errorf("unpacking %s: %w", path, err)
	}
	return LoadLayout(ctx, st, dir, which, o)
}

func newPuller(st cs.Store, o Options) (p puller, release func() error, err error) {
	sys, err := o.systemContext()
	if err != nil {
		return p, nil, err
	}
	p = puller{st: st, sys: sys, o: o}
	release, err = p.spool()
	return p, release, err
}

// findInLayout gives the descriptor of an image, whose manifest it verifies.
func findInLayout(dir, which string) (desc ocispec.Descriptor, err error) {
	pinned, err := digest.Parse(which)
	if err != nil {
		if desc, err = findByName(dir, which); err != nil {
			return desc, err
		}
		pinned = desc.Digest
	}
	if err := pinned.Validate(); err != nil {
		return desc, fmt.Errorf("%q is no digest: %w", pinned, err)
	}
	data, err := readBounded(filepath.Join(dir, ocispec.ImageBlobsDir, pinned.Algorithm().String(), pinned.Encoded()))
	if err != nil {
		return desc, err
	}
	if got := pinned.Algorithm().FromBytes(data); got != pinned {
		return desc, fmt.Errorf("manifest %s has the digest %s", pinned, got)
	}
	desc.Digest, desc.Size = pinned, int64(len(data))
	desc.MediaType = cmp.Or(desc.MediaType, manifest.GuessMIMEType(data))
	desc.Annotations = nil
	return desc, nil
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

// writeLayout makes a layout without blobs below dir.
func writeLayout(dir string, desc ocispec.Descriptor) (string, error) {
	where, err := os.MkdirTemp(dir, "layout-")
	if err != nil {
		return "", fmt.Errorf("making a directory for an index: %w", err)
	}
	for name, document := range map[string]any{
		ocispec.ImageLayoutFile: ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion},
		ocispec.ImageIndexFile:  ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{desc}},
	} {
		data, err := json.Marshal(document)
		if err == nil {
			err = os.WriteFile(filepath.Join(where, name), data, 0o600)
		}
		if err != nil {
			return "", fmt.Errorf("writing an index: %w", err)
		}
	}
	return where, nil
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path) // to open a pipe would wait
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err == nil && len(data) > maxDocument {
		err = fmt.Errorf("%s has more than %d bytes", path, maxDocument)
	}
	return data, err
}
