// Package containers keeps images and layers in containers/storage, the store that podman and
// buildah use too. A [Store] finds images and layers by name, gives the directories of layers to
// overlays, turns a staging directory into a layer, records images, and removes the remains of
// killed builds.
//
// Open may only be called as root of the user namespace of the build (see pkg/userns), or as real
// root. Outside the namespace the library would probe the wrong kernel features, and record the
// results in the user's store.
//
// Other processes, of podman, buildah and rbuild, may use the store at the same time. Each call
// holds the library's locks only until the call returns; no lock of the library is held while a
// step runs. A layer appears complete or not at all: its directory is filled below overlay/tempdirs
// under a lock of its own, and renamed when the library writes the record of the layer. The next
// Close of any process removes the staging directories of killed processes.
//
// Source of the formats: containers/storage, docs/containers-storage.md and pkg layers.go.
package containers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/types"

	"codeberg.org/rbuild/rbuild/internal/remedy"
)

// Options says which store to open. The zero value is the user's default store: storage.conf and
// its environment, exactly as podman finds it.
type Options struct {
	GraphRoot     string   // directory of images and layers; "": storage.conf
	RunRoot       string   // directory of locks and mount counts; "": storage.conf
	Driver        string   // storage driver; "": storage.conf, else overlay
	DriverOptions []string // of the storage driver; empty: storage.conf
	Owner         Owner    // the process that the user has started
}

// Store is an open store. Its methods may be called from several goroutines.
//
// Store is an [images.Store]. Images, layers and cache mounts have types of their own, so that code
// which needs only layers can ask for a *LayerStore.
type Store struct {
	ImageStore
	*LayerStore
	CacheStore

	noRoom bool
	record *record // nil: there was no room for the file, or the store is closed
}

// Open opens the store, makes missing directories, and removes the remains of processes that died
// while they worked on the store. The caller closes the store. Drivers other than overlay are
// refused, because only overlay can take an upper directory as a layer.
func Open(o Options) (st *Store, err error) {
	lib, err := o.resolve()
	if err != nil {
		return nil, err
	}

	dead, err := theDead(lib.GraphRoot)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeRecords(dead)) }()
	if err := mendLinks(lib.GraphRoot, len(dead) > 0); err != nil {
		return nil, err
	}

	s, err := getStore(lib)
	if err != nil {
		return nil, fmt.Errorf("opening the store at %s: %w", lib.GraphRoot, err)
	}

	driver, err := s.GraphDriver()
	if err != nil {
		return nil, fmt.Errorf("opening the store at %s: %w", lib.GraphRoot, err)
	}

	differ, ok := driver.(graphdriver.DriverWithDiffer)
	if !ok {
		return nil, fmt.Errorf("opening the store at %s: driver %s cannot take a directory as a layer", lib.GraphRoot, driver)
	}

	layers := &LayerStore{storage: s, driver: differ, reserve: reserve{s.GraphRoot()}}
	st = &Store{ImageStore: ImageStore{layers}, LayerStore: layers, CacheStore: CacheStore{s.GraphRoot()}}
	if err := st.begin(dead, o.Owner); err != nil {
		s.Free()
		return nil, errors.Join(err, st.record.remove())
	}

	return st, nil
}

// begin removes the remains of dead processes and records this process.
func (s *Store) begin(dead []*record, o Owner) (err error) {
	if len(dead) > 0 {
		if err := s.reap(dead); err != nil {
			return err
		}
	}
	if s.record, err = newRecord(s.GraphRoot(), o); err != nil {
		return err
	}
	s.owner = s.record.name()
	return s.reserve.keep()
}

// Locate returns the directories that [Open] would use, without opening them. Locate may be called
// outside the namespace. Open would return the same error. If the error is about the driver or its
// options, Locate returns the directories too.
func Locate(o Options) (graphRoot, runRoot string, err error) {
	lib, err := o.resolve()
	return lib.GraphRoot, lib.RunRoot, err
}

// Refusal returns the path and the text of the file below runRoot in which the library records that
// overlays do not work. As long as the file exists, the library does not try overlays again for any
// store (checkAndRecordOverlaySupport of its overlay driver). Both are "" if there is no such file.
func Refusal(runRoot string) (file, text string) {
	file = filepath.Join(runRoot, "overlay", "overlay-false")
	data, err := os.ReadFile(file)
	if err != nil {
		return "", ""
	}
	return file, string(data)
}

// resolve merges the options with storage.conf, as buildah does: a given directory replaces the
// configured one, a given driver drops the configured driver's options.
func (o Options) resolve() (types.StoreOptions, error) {
	lib, err := types.DefaultStoreOptions()
	if err != nil {
		return lib, fmt.Errorf("reading storage.conf: %w", err)
	}

	if o.GraphRoot != "" {
		lib.GraphRoot = o.GraphRoot
	}
	if o.RunRoot != "" {
		lib.RunRoot = o.RunRoot
	}
	if o.Driver != "" {
		lib.GraphDriverName, lib.GraphDriverOptions = o.Driver, nil
	}
	if len(o.DriverOptions) > 0 {
		lib.GraphDriverOptions = slices.Clone(o.DriverOptions)
	}
	if lib.GraphDriverName == "" {
		lib.GraphDriverName = "overlay"
	}
	if lib.GraphDriverName != "overlay" {
		return lib, &remedy.Error{
			Why: fmt.Sprintf("the store at %s uses the storage driver %q, rbuild needs overlay", lib.GraphRoot, lib.GraphDriverName),
			Do:  "choose another store with --root, or set driver = \"overlay\" in storage.conf",
		}
	}

	lib.GraphDriverOptions = slices.DeleteFunc(slices.Clone(lib.GraphDriverOptions), func(opt string) bool {
		return strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(opt, "overlay."), "."), "mount_program=")
	})

	return lib, refuseOptions(lib)
}

// refuseOptions names the overlay options under which a directory is no longer its layer's plain
// content.
func refuseOptions(lib types.StoreOptions) error {
	for _, opt := range lib.GraphDriverOptions {
		key, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(opt, "overlay."), "."), "=")
		switch {
		case key == "use_composefs" && value == "true", key == "force_mask" && value != "":
			return &remedy.Error{
				Why: fmt.Sprintf("the store at %s is configured with %s, which rbuild cannot build on", lib.GraphRoot, opt),
				Do:  "choose another store with --root",
			}
		}
	}
	return nil
}

// GraphRoot is the absolute path of the directory of images and layers.
func (s *Store) GraphRoot() string { return s.storage.GraphRoot() }

// RunRoot is the absolute path of the directory of locks and mount counts, usually on a tmpfs.
func (s *Store) RunRoot() string { return s.storage.RunRoot() }

// Close removes the staging directories of dead processes and closes the store. Staging directories
// of other processes stay; this process must have ended its own. Close may be called twice.
func (s *Store) Close() error {
	s.storage.Free()
	end := s.record.remove
	if s.noRoom {
		end = s.record.leave
	}
	err := errors.Join(
		sweep(stagingRoot(s.GraphRoot()), stagingPrefix),
		sweep(filepath.Join(s.GraphRoot(), "overlay", "staging"), ""),
		end(),
	)
	s.record = nil
	return err
}

// stagingRoot returns the directory of the directories that may become layers.
func stagingRoot(graphRoot string) string { return filepath.Join(graphRoot, "overlay", "tempdirs") }
