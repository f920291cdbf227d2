package spec

import (
	"path/filepath"
	"slices"
	"time"
)

// Image says what is recorded in the config and the manifest of the image.
type Image struct {
	Names         []string          // full references, for example docker.io/library/app:latest
	Format        string            // oci or docker; empty: oci, or the format of an image that the build does not change
	Annotations   map[string]string // of the manifest
	Labels        []Label           // over the Dockerfile's, in this order
	NoLabels      bool              // inherit no labels of base images and stages
	NoAnnotations bool              // inherit no annotations of base images
	NoHistory     bool
	CreatedNote   bool // annotate the manifest with the time of the image
	Unset         Unset
	OSVersion     string   // os.version; empty: the base's
	OSFeatures    []string // added to os.features of the base; "NAME-" removes NAME
	Stages        Stages
	Time          Clock
}

// Label is a label of an image.
type Label struct{ Key, Value string }

// Unset names properties that the image must not have, from wherever they come.
type Unset struct{ Env, Labels, Annotations []string }

// Stages says what becomes of the stages before the target.
type Stages struct {
	Save   bool    // record an image without a name of each stage
	Label  bool    // label these images, and the target, with the names of stage and base
	Labels []Label // further labels of these images
}

// The values of Clock.Files.
const (
	KeepTimes  = ""      // files have the time at which they were written
	SetTimes   = "set"   // all files of new layers have the time Epoch
	ClampTimes = "clamp" // no file of new layers is later than Epoch
)

// Clock replaces the clock of the build.
type Clock struct {
	Epoch *time.Time // of the image and its history; nil: when each step ran
	Files string     // KeepTimes, SetTimes or ClampTimes
}

// Result says where the image and the files about the image go.
type Result struct {
	Exports     []Export
	Pushes      []string // destinations with a transport, for example docker://r.example/app:1
	Compression Compression
	NoImage     bool // only files are wanted: record no image

	IDFile       File // receives sha256:ID
	RawIDFile    File // receives ID
	MetadataFile File // receives a JSON document

	Notices []string // warnings about destinations, for the log of the build
}

// Files returns the files about the image that the user wants.
func (r Result) Files() []File {
	files := []File{r.IDFile, r.RawIDFile, r.MetadataFile}
	return slices.DeleteFunc(files, func(f File) bool { return f.Path == "" })
}

// TakesStdout reports whether an export is written to standard output.
func (r Result) TakesStdout() bool {
	return slices.ContainsFunc(r.Exports, func(e Export) bool { return e.Dest == "-" })
}

// The kinds of exports.
const (
	ExportLocal     = "local"     // the files of the image, below a directory
	ExportTar       = "tar"       // the files of the image, as a tar
	ExportOCI       = "oci"       // an OCI layout, as an archive or a directory
	ExportDocker    = "docker"    // a docker archive; without Dest: the store
	ExportImage     = "image"     // an image in the store
	ExportCacheOnly = "cacheonly" // nothing but layers for later builds
)

// Export is one destination of the result, for example that of --output type=oci,dest=app.tar.
type Export struct {
	Kind  string
	Dest  string   // path, or "-" for standard output; empty where the kind needs none
	Names []string // of the image
	Push  bool     // ExportImage: push the image to its names
	IsDir bool     // ExportOCI: write a directory
	From  string   // for errors
}

// Transport returns the transport of the export, for example "oci-archive:". It is empty if the export holds no image, or
// if the image stays in the store.
func (e Export) Transport() string {
	switch {
	case e.Dest == "":
		return ""
	case e.Kind == ExportDocker:
		return "docker-archive:"
	case e.Kind == ExportOCI && e.IsDir:
		return "oci:"
	case e.Kind == ExportOCI:
		return "oci-archive:"
	}
	return ""
}

// Location returns the export as the name of an image by its transport, for example "oci:./out", or "" as Transport does.
func (e Export) Location() string {
	transport := e.Transport()
	switch {
	case transport == "":
		return ""
	case e.Dest == "-" || filepath.IsAbs(e.Dest):
		return transport + e.Dest
	}
	return transport + "./" + e.Dest // "oci:out" would be the name of an image
}

// Compression says how layers are compressed when they leave the store.
type Compression struct {
	Format string // gzip, zstd or zstd:chunked; empty: gzip
	Level  *int   // nil: the default of the format
	Any    bool   // accept layers that the destination already has in another compression
}
