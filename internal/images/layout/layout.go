// Package layout keeps images in an OCI layout directory (image-spec, image-layout.md), and reads
// layouts that others wrote.
//
// A [Layout] takes the place of the store where no user namespace can be made. It is an
// [images.Store]: the directory blobs/sha256 holds layers, configs and manifests by their digests,
// and index.json has a line for each name of an image. The annotation
// org.opencontainers.image.ref.name of a line is the full name, for example
// "docker.io/library/alpine:3". Several lines may have one name for different platforms.
//
// [Find] and [NewReference] read an image of a layout that nobody trusts: digests and sizes are
// verified, pipes, devices and URLs are not opened.
package layout

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/storage/pkg/lockfile"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/spool"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// Layout is an OCI layout that belongs to rbuild. Its methods may be called from several
// goroutines, and several processes may use it. Only RemoveImage removes blobs, and only while no
// other process has the layout open.
type Layout struct {
	*Directory
	use *os.File // the open lock file, see useLock; nil: it cannot be written
}

const (
	indexLock = "rbuild.lock"     // locked while the index changes
	useLock   = "rbuild-use.lock" // locked shared while a process has the layout open, exclusively while blobs are removed
)

// Open opens the layout dir, which is made if it is missing. spoolDir is the directory for
// temporary files, on the file system of dir; "": below dir. The caller closes the Layout.
func Open(dir, spoolDir string) (*Layout, error) {
	l := &Layout{Directory: &Directory{dir: dir, tmp: cmp.Or(spoolDir, filepath.Join(dir, "tmp"))}}
	if err := os.MkdirAll(l.blobs(), 0o700); err != nil {
		return nil, fmt.Errorf("making a directory for images: %w", err)
	}
	if err := spool.Tidy(l.tmp); err != nil {
		return nil, err
	}

	marker, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return nil, err
	}

	path := filepath.Join(dir, ocispec.ImageLayoutFile)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := l.write(path, marker); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	return l, l.beginUse()
}

// beginUse tells other processes that the layout is in use. It waits while another process removes
// blobs.
func (l *Layout) beginUse() (err error) {
	l.use, err = os.OpenFile(filepath.Join(l.dir, useLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil //nolint:nilerr // a layout that this user can only read
	}

	for {
		ok, err := fdfs.TryShare(l.use)
		if err != nil {
			return errors.Join(fmt.Errorf("locking %s: %w", l.dir, err), l.use.Close())
		}
		if ok {
			return nil
		}
		time.Sleep(usePause)
	}
}

// Use returns at once: Open has told other processes that the layout is in use. It is for callers
// that work on a store or a layout.
func (l *Layout) Use(context.Context) (release func(), err error) { return func() {}, nil }

// usePause is the time between two attempts to lock a layout from which another process removes
// blobs.
const usePause = 10 * time.Millisecond

// Close ends the use of the layout.
func (l *Layout) Close() error {
	if l.use == nil {
		return nil
	}
	return l.use.Close()
}

// Directory is the files of a [Layout]: blobs by their digests, and the index.
type Directory struct {
	dir string
	tmp string // for temporary files
}

func (d *Directory) blobs() string { return filepath.Join(d.dir, ocispec.ImageBlobsDir, "sha256") }

// Dir is the directory of the layout.
func (d *Directory) Dir() string { return d.dir }

// SpoolDir is the directory for temporary files.
func (d *Directory) SpoolDir() string { return d.tmp }

// NewScratch makes a temporary directory on the layout's file system. release removes the
// directory; if this process dies, the next Open removes it.
func (d *Directory) NewScratch() (dir string, release func() error, err error) {
	return spool.New(d.tmp)
}

// write replaces a file, which appears whole.
func (d *Directory) write(path string, data []byte) error {
	return d.replace(func(f *os.File) (string, error) {
		_, err := f.Write(data)
		return path, err
	})
}

// replace writes a file with fill and renames it to the path that fill returns, so that the file
// appears whole.
func (d *Directory) replace(fill func(f *os.File) (path string, err error)) (err error) {
	dir, release, err := d.NewScratch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()

	f, err := os.OpenFile(filepath.Join(dir, "new"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}

	path, err := fillAndSync(f, fill)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing to %s: %w", d.dir, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("writing to %s: %w", d.dir, err)
	}
	return nil
}

func fillAndSync(f *os.File, fill func(f *os.File) (path string, err error)) (path string, err error) {
	path, err = fill(f)
	if err != nil {
		return "", err
	}
	return path, f.Sync()
}

func (d *Directory) putBlob(data []byte) error {
	path, err := blobPath(d.dir, digest.FromBytes(data))
	if err != nil {
		return err
	}
	if info, err := os.Lstat(path); err == nil && info.Size() == int64(len(data)) {
		return nil
	}
	return d.write(path, data)
}

func (d *Directory) readBlob(sum digest.Digest) ([]byte, error) {
	path, err := blobPath(d.dir, sum)
	if err != nil {
		return nil, err
	}
	data, err := readBounded(path)
	if err != nil {
		return nil, err
	}
	if sum.Algorithm().FromBytes(data) != sum {
		return nil, fmt.Errorf("%s does not have the digest that it is named after: remove %s and build again", path, d.dir)
	}
	return data, nil
}

// index reads the index. An index that does not exist yet is empty.
func (d *Directory) index() (index ocispec.Index, err error) {
	data, err := readBounded(filepath.Join(d.dir, ocispec.ImageIndexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}, nil
	}
	if err != nil {
		return index, fmt.Errorf("reading the index of %s: %w", d.dir, err)
	}
	if err := json.Unmarshal(data, &index); err != nil {
		return index, fmt.Errorf("reading the index of %s: %w", d.dir, err)
	}
	return index, nil
}

// change edits the index.
func (d *Directory) change(edit func(list []ocispec.Descriptor) ([]ocispec.Descriptor, error)) error {
	lock, err := lockfile.GetLockFile(filepath.Join(d.dir, indexLock))
	if err != nil {
		return fmt.Errorf("locking %s: %w", d.dir, err)
	}

	lock.Lock()
	defer lock.Unlock()

	index, err := d.index()
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
	return d.write(filepath.Join(d.dir, ocispec.ImageIndexFile), data)
}

// kept is a line of the index with the manifest to which it points.
type kept struct {
	id       string // see images.DerivedID
	desc     ocispec.Descriptor
	manifest manifest.Manifest
	raw      []byte
}

// describe parses a manifest.
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

// derivedNote is the annotation of a line of the index that has the ID of an image whose ID is not
// the digest of its config, because another image has that ID. See images.DerivedID.
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

// isFor reports whether the image is for a platform, and the platform that its config gives. An
// image whose config does not say a platform is for every platform.
func (k *kept) isFor(want ocispec.Platform) (same bool, is string) {
	if k.desc.Platform == nil {
		return true, ""
	}
	return images.SamePlatform(*k.desc.Platform, want), images.PlatformText(*k.desc.Platform)
}

// put adds an image to the index and sets its ID: with a line for each name, or with a line that
// has no name. Another image loses a name if it is for the same platform, and with all whatever its
// platform is.
func (l *Layout) put(k *kept, names []string, all bool) error {
	return l.change(func(list []ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if err := l.identify(k, list); err != nil {
			return nil, err
		}

		for i, d := range list {
			same := d.Platform != nil && k.desc.Platform != nil && images.PlatformText(*d.Platform) == images.PlatformText(*k.desc.Platform)
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

// identify sets the ID of an image that is about to be added: the digest of the config, unless an
// image of the list with another manifest has that ID.
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
			k.id = images.DerivedID(config, k.desc.Digest)
			return nil
		}
	}

	return nil
}

// maxUnnamed bounds the images without a name in an index. A build may still use an image that has
// lost its name.
const maxUnnamed = 64

// forget leaves out lines without a name of images that have another line, and the oldest lines of
// other images without a name. New lines are last.
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

// platformOf returns the platform that a config gives; nil: none.
func platformOf(config []byte) *ocispec.Platform {
	var c ocispec.Image
	if json.Unmarshal(config, &c) != nil || c.OS == "" {
		return nil
	}
	p := c.Platform
	return &p
}

// PutImage implements [images.Store].
func (l *Layout) PutImage(n commit.Documents) (id string, raw []byte, err error) {
	if err := l.putBlob(n.Config); err != nil {
		return "", nil, err
	}
	if err := l.putBlob(n.Manifest); err != nil {
		return "", nil, err
	}

	desc, err := Describe(n.Manifest)
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

// byID finds an image by its complete ID.
func (l *Layout) byID(id string) (*kept, error) {
	k, err := l.find(func(k *kept) bool { return k.id == id })
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", id, err)
	}
	if k == nil {
		return nil, fmt.Errorf("image %s: %w", id, images.ErrNotFound)
	}
	return k, nil
}

// Digest returns the digest of the manifest of the image with this ID; "": there is no such image.
// The name does not matter: the manifest of a registry is kept as it was pulled.
func (l *Layout) Digest(id, _ string) digest.Digest {
	k, err := l.byID(id)
	if err != nil {
		return ""
	}
	return k.desc.Digest
}

// NameImage implements [images.Store].
func (l *Layout) NameImage(id string, names []string) (manifest []byte, err error) {
	k, err := l.byID(id)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return k.raw, nil
	}
	return k.raw, l.put(k, names, true)
}

// Image reads the config of the image with this ID, and the descriptors of its layers, lowest
// first.
func (l *Layout) Image(id string) (config []byte, layers []ocispec.Descriptor, err error) {
	k, err := l.byID(id)
	if err != nil {
		return nil, nil, err
	}

	for _, info := range k.manifest.LayerInfos() {
		layers = append(layers, ocispec.Descriptor{MediaType: info.MediaType, Digest: info.Digest, Size: info.Size})
	}
	config, err = l.readBlob(k.manifest.ConfigInfo().Digest)
	return config, layers, err
}

// Annotations returns the annotations of the manifest of the image with this ID; nil: it has none.
func (l *Layout) Annotations(id string) (map[string]string, error) {
	k, err := l.byID(id)
	if err != nil {
		return nil, err
	}
	return k.annotations()
}

func (k *kept) annotations() (map[string]string, error) {
	var m struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(k.raw, &m); err != nil {
		return nil, fmt.Errorf("reading the manifest of image %s: %w", k.id, err)
	}
	return m.Annotations, nil
}

// Describe returns the descriptor of a manifest, as a list of manifests has it.
func Describe(raw []byte) (ocispec.Descriptor, error) {
	sum, err := manifest.Digest(raw)
	return ocispec.Descriptor{MediaType: manifest.GuessMIMEType(raw), Digest: sum, Size: int64(len(raw))}, err
}
