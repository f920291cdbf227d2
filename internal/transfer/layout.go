package transfer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/manifest"
	ociarchive "go.podman.io/image/v5/oci/archive"
	ocilayout "go.podman.io/image/v5/oci/layout"
	istorage "go.podman.io/image/v5/storage"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"

	"codeberg.org/rbuild/rbuild/internal/bounded"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// maxDocument bounds the index of a layout, and a manifest, in bytes.
const maxDocument = 4 << 20

// Load copies the image that a name with a transport of files means
// ("oci:/path:tag") into the store, where it is known by its ID only: what the
// file itself says of names is not believed, since whoever made it could take
// the name of another image.
func Load(ctx context.Context, st cs.Store, name string, o Options) (id string, err error) {
	p, release, err := newPuller(st, o)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()
	return p.load(ctx, name)
}

func (p puller) load(ctx context.Context, name string) (id string, err error) {
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
		return p.fromLayout(ctx, path, which, "the OCI layout "+path)
	case ociarchive.Transport.Name():
		return p.fromArchive(ctx, path, which)
	}

	if t.Name() == directory.Transport.Name() {
		err = onlyRegular(rest)
	} else {
		err = isRegular(path)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}

	ref, err := t.ParseReference(rest)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}

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
	return p.fromLayout(ctx, dir, which, "the OCI layout "+dir)
}

// fromLayout pulls from a layout, which messages call name.
func (p puller) fromLayout(ctx context.Context, dir, which, name string) (id string, err error) {
	p.what = name
	ref := &layoutReference{dir: dir}
	if ref.manifest, ref.mediaType, err = findInLayout(dir, which); err == nil {
		ref.ImageReference, err = ocilayout.NewReference(dir, "")
	}
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", p.what, err)
	}
	return p.copyUnnamed(ctx, ref)
}

// fromArchive pulls from a layout in a tar. The library would look the path up again where it was once resolved.
func (p puller) fromArchive(ctx context.Context, path, which string) (id string, err error) {
	dir, release, err := newSpool(p.spoolBase())
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, release()) }()

	f, _, err := fdfs.OpenRegular(path)
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", path, err)
	}
	defer f.Close()
	if err := archive.NewDefaultArchiver().Untar(&stoppable{ctx, f}, dir, &archive.TarOptions{NoLchown: true}); err != nil {
		return "", fmt.Errorf("unpacking %s: %w", path, err)
	}
	if err := withoutLinks(dir); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return p.fromLayout(ctx, dir, which, path)
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

// findInLayout gives the manifest of an image, or an index, verified, and its media type.
func findInLayout(dir, which string) (data []byte, mediaType string, err error) {
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

// withoutLinks refuses what was unpacked if it has links, which would lead to files that the archive does not hold.
func withoutLinks(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && !e.Type().IsRegular() {
			err = fmt.Errorf("%s is neither a file nor a directory", strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
}

// onlyRegular refuses a directory with anything but regular files: the library would wait for a pipe.
func onlyRegular(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if err == nil {
			err = isRegular(filepath.Join(dir, e.Name()))
		}
	}
	return err
}

func isRegular(path string) error {
	f, _, err := fdfs.OpenRegular(path)
	if err != nil {
		return err
	}
	return f.Close()
}
