package transfer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/storage/pkg/lockfile"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// Layout is an OCI layout that keeps images where there can be no store: of builds that make no namespace. Its files are
// blobs by their digests and an index with a line for each name. Blobs are never removed. It can be used by several
// processes.
type Layout struct {
	dir string
	tmp string // of Options.TempDir, or below dir
}

// layoutLock is held while the index is changed.
const layoutLock = "rbuild.lock"

// OpenLayout opens the layout dir, which is made if it is missing.
func OpenLayout(dir string, o Options) (*Layout, error) {
	l := &Layout{dir: dir, tmp: o.spoolBase(dir)}
	if err := os.MkdirAll(l.blobs(), 0o700); err != nil {
		return nil, fmt.Errorf("making a directory for images: %w", err)
	}
	if err := Tidy(dir, o); err != nil {
		return nil, err
	}

	marker, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}

	path := filepath.Join(dir, ocispec.ImageLayoutFile)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	return l, l.write(path, marker)
}

func (l *Layout) blobs() string { return filepath.Join(l.dir, ocispec.ImageBlobsDir, "sha256") }

// Dir is the directory.
func (l *Layout) Dir() string { return l.dir }

// NewScratch makes a temporary directory on the layout's file system. release removes it; if this process dies, the next
// OpenLayout does.
func (l *Layout) NewScratch() (dir string, release func() error, err error) { return newSpool(l.tmp) }

// write makes a file appear whole.
func (l *Layout) write(path string, data []byte) error {
	return l.replace(func(f *os.File) (string, error) {
		_, err := f.Write(data)
		return path, err
	})
}

// replace writes a file and gives it the path that fill returns.
func (l *Layout) replace(fill func(f *os.File) (path string, err error)) (err error) {
	dir, release, err := l.NewScratch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()

	f, err := os.OpenFile(filepath.Join(dir, "new"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}

	path, err := fill(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing to %s: %w", l.dir, err)
	}

	return nil
}

func (l *Layout) putBlob(data []byte) error {
	path, err := blobPath(l.dir, digest.FromBytes(data))
	if err != nil {
		return err
	}
	if info, err := os.Lstat(path); err == nil && info.Size() == int64(len(data)) {
		return nil
	}
	return l.write(path, data)
}

func (l *Layout) readBlob(sum digest.Digest) ([]byte, error) {
	path, err := blobPath(l.dir, sum)
	if err != nil {
		return nil, err
	}
	data, err := readBounded(path)
	if err == nil && sum.Algorithm().FromBytes(data) != sum {
		err = fmt.Errorf("%s does not have the digest that it is named after: remove %s and build again", path, l.dir)
	}
	return data, err
}

// index reads the index; one that is not there yet is empty.
func (l *Layout) index() (index ocispec.Index, err error) {
	data, err := readBounded(filepath.Join(l.dir, ocispec.ImageIndexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil {
		err = fmt.Errorf("reading the index of %s: %w", l.dir, err)
	}
	return index, err
}

// change edits the index.
func (l *Layout) change(edit func(list []ocispec.Descriptor) ([]ocispec.Descriptor, error)) error {
	lock, err := lockfile.GetLockFile(filepath.Join(l.dir, layoutLock))
	if err != nil {
		return fmt.Errorf("locking %s: %w", l.dir, err)
	}

	lock.Lock()
	defer lock.Unlock()

	index, err := l.index()
	if err != nil {
		return err
	}
	if index.Manifests, err = edit(index.Manifests); err != nil {
		return err
	}

	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return l.write(filepath.Join(l.dir, ocispec.ImageIndexFile), data)
}

// kept is an image of a layout.
type kept struct {
	id       string // see store.RecordID
	desc     ocispec.Descriptor
	manifest manifest.Manifest
	raw      []byte
}

// describe reads what a manifest says.
func describe(desc ocispec.Descriptor, raw []byte) (*kept, error) {
	m, err := manifest.FromBlob(raw, cmp.Or(desc.MediaType, manifest.GuessMIMEType(raw)))
	if err != nil {
		return nil, fmt.Errorf("reading manifest %s: %w", desc.Digest, err)
	}
	config := m.ConfigInfo().Digest
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("manifest %s has no config: %w", desc.Digest, err)
	}
	id := cmp.Or(desc.Annotations[derivedNote], config.Encoded())
	return &kept{id: id, desc: desc, manifest: m, raw: raw}, nil
}

// derivedNote is the annotation of a line of the index that has the ID of an image whose ID is not the digest of its config,
// because another image has that ID. See store.DerivedID.
const derivedNote = "rbuild.image.id"

// find returns the first image that want accepts, nil if there is none.
func (l *Layout) find(want func(k *kept) bool) (*kept, error) {
	index, err := l.index()
	if err != nil {
		return nil, err
	}

	for _, desc := range index.Manifests {
		raw, err := l.readBlob(desc.Digest)
		if err != nil {
			return nil, err
		}
		k, err := describe(desc, raw)
		if err != nil {
			return nil, err
		}
		if want(k) {
			return k, nil
		}
	}

	return nil, nil
}

func (k *kept) name() string { return k.desc.Annotations[ocispec.AnnotationRefName] }

// isFor tells whether the image is for the platform, as far as its config says, and what it says.
func (k *kept) isFor(want ocispec.Platform) (same bool, is string) {
	if k.desc.Platform == nil {
		return true, ""
	}
	return samePlatform(*k.desc.Platform, want), platformText(*k.desc.Platform)
}

// put adds an image to the index, under names or, if there are none, under its ID alone, and sets the ID of the image. It
// takes names that mean an image for the same platform; with all, those that mean any.
func (l *Layout) put(k *kept, names []string, all bool) error {
	return l.change(func(list []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if err := l.identify(k, list); err != nil {
			return nil, err
		}

		for i, d := range list {
			same := d.Platform != nil && k.desc.Platform != nil && platformText(*d.Platform) == platformText(*k.desc.Platform)
			if slices.Contains(names, d.Annotations[ocispec.AnnotationRefName]) && (all || same) {
				list[i].Annotations = maps.Clone(d.Annotations)
				delete(list[i].Annotations, ocispec.AnnotationRefName)
			}
		}

		if len(names) == 0 {
			names = []string{""}
		}
		for _, name := range names {
			list = append(list, k.line(name))
		}
		return forget(list), nil
	})
}

// line is a line of the index.
func (k *kept) line(name string) ocispec.Descriptor {
	line, notes := k.desc, map[string]string{}
	if name != "" {
		notes[ocispec.AnnotationRefName] = name
	}
	if config := k.manifest.ConfigInfo().Digest; k.id != config.Encoded() {
		notes[derivedNote] = k.id
	}
	line.Annotations = notes
	return line
}

// identify finds the ID of an image that is about to be added: the digest of the config, unless an image of the list with
// another manifest has that ID.
func (l *Layout) identify(k *kept, list []ocispec.Descriptor) error {
	config := k.manifest.ConfigInfo().Digest
	k.id = config.Encoded()
	for _, d := range list {
		if d.Digest == k.desc.Digest {
			k.id = cmp.Or(d.Annotations[derivedNote], config.Encoded())
			return nil
		}
	}

	for _, d := range list {
		raw, err := l.readBlob(d.Digest)
		if err != nil {
			return err
		}

		other, err := describe(d, raw)
		if err != nil {
			return err
		}
		if other.id == config.Encoded() {
			k.id = containers.DerivedID(config, k.desc.Digest)
			return nil
		}
	}

	return nil
}

// maxUnnamed is how many images without a name an index has, for builds that are at work with one whose name was taken.
const maxUnnamed = 64

// forget leaves out lines without a name that another line of the image makes needless, and the oldest of the others. New
// lines are last.
func forget(list []ocispec.Descriptor) (out []ocispec.Descriptor) {
	seen := map[digest.Digest]bool{}
	named := func(d ocispec.Descriptor) bool { return d.Annotations[ocispec.AnnotationRefName] != "" }
	for _, d := range list {
		if named(d) {
			seen[d.Digest] = true
		}
	}

	unnamed := 0
	for _, d := range slices.Backward(list) {
		if !named(d) {
			if seen[d.Digest] || unnamed == maxUnnamed {
				continue
			}
			seen[d.Digest] = true
			unnamed++
		}
		out = append(out, d)
	}

	slices.Reverse(out)

	return out
}

// platformOf is what the config says that the image is for.
func platformOf(config []byte) *ocispec.Platform {
	var c ocispec.Image
	if json.Unmarshal(config, &c) != nil || c.OS == "" {
		return nil
	}
	p := c.Platform
	return &p
}

// PutImage records an image whose layers the layout has: see store.Store.PutImage.
func (l *Layout) PutImage(n commit.Documents) (id string, raw []byte, err error) {
	if err := l.putBlob(n.Config); err != nil {
		return "", nil, err
	}
	if err := l.putBlob(n.Manifest); err != nil {
		return "", nil, err
	}

	desc, err := describePushed(n.Manifest)
	if err != nil {
		return "", nil, err
	}

	desc.Platform = platformOf(n.Config)
	k, err := describe(desc, n.Manifest)
	if err != nil {
		return "", nil, err
	}
	if err := l.put(k, n.Names, true); err != nil {
		return "", nil, err
	}
	return k.id, n.Manifest, nil
}

// Digest is the digest of the manifest of an image, by its ID; "": there is no such image.
func (l *Layout) Digest(id, _ string) digest.Digest {
	k, err := l.find(func(k *kept) bool { return k.id == id })
	if err != nil || k == nil {
		return ""
	}
	return k.desc.Digest
}

// NameImage gives an image more names, which it takes from the images that have them, and returns the image's manifest.
func (l *Layout) NameImage(id string, names []string) (manifest []byte, err error) {
	k, err := l.find(func(k *kept) bool { return k.id == id })
	if err == nil && k == nil {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", id, err)
	}
	if len(names) == 0 {
		return k.raw, nil
	}
	return k.raw, l.put(k, names, true)
}

// Image reads the config of an image, by its ID, and what the manifest says of its layers, lowest first.
func (l *Layout) Image(id string) (config []byte, layers []ocispec.Descriptor, err error) {
	k, err := l.find(func(k *kept) bool { return k.id == id })
	if err == nil && k == nil {
		err = ErrNotFound
	}
	if err != nil {
		return nil, nil, fmt.Errorf("image %s: %w", id, err)
	}

	for _, info := range k.manifest.LayerInfos() {
		layers = append(layers, ocispec.Descriptor{MediaType: info.MediaType, Digest: info.Digest, Size: info.Size})
	}
	config, err = l.readBlob(k.manifest.ConfigInfo().Digest)
	return config, layers, err
}

// Annotations are those of the manifest of an image, by its ID; nil: it has none.
func (l *Layout) Annotations(id string) (map[string]string, error) {
	k, err := l.find(func(k *kept) bool { return k.id == id })
	if err == nil && k == nil {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", id, err)
	}

	var m struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(k.raw, &m); err != nil {
		return nil, fmt.Errorf("reading the manifest of image %s: %w", id, err)
	}
	return m.Annotations, nil
}
