package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/imagename"
	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/transfer"
	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// resultFlags say where the result goes: to names in the store, to registries and archives, to files.
type resultFlags struct {
	tags         []string
	outputs      []string
	push         bool
	load         bool
	iidfile      string
	iidfileRaw   string
	metadataFile string
	compression  compressionFlags

	exports []export // of outputs
	pushes  []string // where the image is copied to after the build, with transports
	notices []string // warnings about flags that change nothing, and tags that may be meant as paths
}

func (f *resultFlags) register(fs *pflag.FlagSet) {
	fs.StringArrayVarP(&f.tags, "tag", "t", nil, "name[:tag] of the image, or TRANSPORT:... to copy it to; may be repeated")
	fs.StringArrayVarP(&f.outputs, "output", "o", nil,
		"DIR, - for a tar, or type=local|tar|oci|docker|image|registry|cacheonly[,dest=PATH][,...]; may be repeated")
	fs.BoolVar(&f.push, "push", false, "push the image to the registry of each --tag")
	fs.BoolVar(&f.load, "load", false, "nothing: the image is in the store in any case")
	fs.StringVar(&f.iidfile, "iidfile", "", "write the image's ID to this file")
	fs.StringVar(&f.iidfileRaw, "iidfile-raw", "", "write the image's ID to this file, without sha256:")
	fs.StringVar(&f.iidfileRaw, "raw-iidfile", "", "same as --iidfile-raw")
	_ = fs.MarkHidden("raw-iidfile") // the flag was defined on the line before
	fs.StringVar(&f.metadataFile, "metadata-file", "", "write what was made to this file, as JSON")
	f.compression.register(fs)
}

// apply sorts names and destinations. It comes after the group of the image, whose names it sets.
func (f *resultFlags) apply(_ lookup, o *builder.Options) error {
	f.exports, f.pushes, f.notices = nil, nil, nil
	for _, text := range f.tags {
		if err := f.tag(text, o); err != nil {
			return err
		}
	}

	for _, text := range f.outputs {
		e, err := parseExport(text)
		if err != nil {
			return fmt.Errorf("--output %q: %w", text, err)
		}
		f.exports = append(f.exports, e)
	}

	if err := f.checkStdout(); err != nil {
		return err
	}
	if err := f.imageOutputs(o); err != nil {
		return err
	}

	o.Image.None = f.noImage()
	f.notices = append(f.notices, f.withoutEffect(o)...)
	if err := f.compression.check(); err != nil {
		return err
	}

	return f.checkCompression(o)
}

// ofImage are the flags that change the image and nothing else.
var ofImage = strings.Fields(`annotation created-annotation format identity-label inherit-annotations inherit-labels label
	omit-history os-feature os-version squash squash-all unsetannotation unsetenv unsetlabel`)

// withoutEffect are warnings about flags that change nothing at the destinations of this build.
func (f *resultFlags) withoutEffect(o *builder.Options) (warnings []string) {
	flags := f.compression.flags
	if flags.Changed("layer-label") && !o.Image.Stages.Save {
		warnings = append(warnings, "--layer-label has no effect without --save-stages: no images of layers are made")
	}
	if o.Image.None {
		for _, name := range ofImage {
			if flags.Changed(name) {
				warnings = append(warnings, fmt.Sprintf("--%s has no effect: this build makes files only, and no image", name))
			}
		}
		return warnings
	}

	destinations := slices.Clone(f.pushes)
	for _, e := range f.exports {
		if place := e.place(); place != "" {
			destinations = append(destinations, place)
		}
	}

	format := flags.Lookup("format").Value.String()
	for _, to := range destinations {
		if err := transfer.CheckFormat(format, to); err != nil {
			warnings = append(warnings, fmt.Sprintf("--format %s: the copy is converted: %v", format, err))
		}
		if n, _ := imagename.Parse(to); n.Transport != imagename.DockerArchive {
			continue
		}
		for _, name := range []string{"annotation", "created-annotation"} {
			if flags.Changed(name) {
				warnings = append(warnings, fmt.Sprintf("--%s has no effect on %s: a docker-archive has no annotations", name, to))
			}
		}
	}

	return warnings
}

// checkCompression refuses flags for compression if no destination of the image compresses layers, or one cannot.
func (f *resultFlags) checkCompression(o *builder.Options) error {
	flag, compressed := f.compression.given(), len(f.pushes) > 0
	if flag == "" {
		return nil
	}
	if strings.HasPrefix(f.compression.format, "zstd") && o.Image.Format == commit.Docker {
		return fmt.Errorf("--compression-format %s: images of --format docker have no layers of this kind: use --format oci", f.compression.format)
	}

	for _, to := range f.pushes {
		if err := f.compression.checkDestination(to); err != nil {
			return err
		}
	}

	for _, e := range f.exports {
		if e.kind == "docker" && e.dest != "" {
			if err := f.compression.checkDestination(e.place()); err != nil {
				return err
			}
		}
		compressed = compressed || e.kind == "oci"
	}

	if !compressed {
		return fmt.Errorf("%s: layers in the store are not compressed: copy the image elsewhere with --push, --output type=oci "+
			"or a --tag such as oci:./DIR", flag)
	}

	return nil
}

// tag reads one --tag: a name for the store, or a place outside.
func (f *resultFlags) tag(text string, o *builder.Options) error {
	n, err := imagename.Parse(text)
	if err != nil {
		return fmt.Errorf("--tag: %w", err)
	}
	if n.Transport != "" && n.Transport != imagename.Store {
		if err := transfer.CheckDestination(text); err != nil {
			return fmt.Errorf("--tag: %w", err)
		}
		f.pushes = append(f.pushes, text)
		return nil
	}

	if hint := imagename.Hint(text); hint != "" {
		f.notices = append(f.notices, "--tag "+hint)
	}
	named, err := images.NormalizeTag(text)
	if err != nil {
		return fmt.Errorf("--tag: %w", err)
	}

	if !slices.Contains(o.Image.Names, named.String()) {
		o.Image.Names = append(o.Image.Names, named.String())
	}

	return nil
}

// imageOutputs adds what --push and outputs of images say to names and pushes.
func (f *resultFlags) imageOutputs(o *builder.Options) error {
	push := f.push
	for _, e := range f.exports {
		for _, name := range e.names {
			if n, err := imagename.Parse(name); err != nil || n.Transport != "" {
				return fmt.Errorf("--output: name=%s: want the name of an image", name)
			}
			if err := f.tag(name, o); err != nil {
				return fmt.Errorf("--output: name=%s: %w", name, err)
			}
		}
		push = push || e.push
	}

	if !push {
		return nil
	}
	if len(o.Image.Names) == 0 {
		return errors.New("--push: the image has no name: give it one with --tag REGISTRY/NAME")
	}

	for _, name := range o.Image.Names {
		if to := "docker://" + name; !slices.Contains(f.pushes, to) {
			f.pushes = append(f.pushes, to)
		}
	}

	return nil
}

// noImage says that only files are asked for: then no image is recorded, and what was built is left to the cache.
func (f *resultFlags) noImage() bool {
	wantsImage := func(e export) bool { return e.kind != "local" && e.kind != "tar" && e.kind != "cacheonly" }
	return len(f.exports) > 0 && !slices.ContainsFunc(f.exports, wantsImage) && !f.load && !f.push && len(f.tags) == 0 &&
		f.iidfile == "" && f.iidfileRaw == "" && f.metadataFile == ""
}

// stdout reports that an output takes standard output.
func (f *resultFlags) stdout() bool {
	return slices.ContainsFunc(f.exports, func(e export) bool { return e.dest == "-" })
}

// files are the files that flags name for what is told of the image, by flag.
func (f *resultFlags) files() (out [][2]string) {
	for _, file := range [][2]string{{"--iidfile", f.iidfile}, {"--iidfile-raw", f.iidfileRaw}, {"--metadata-file", f.metadataFile}} {
		if file[1] != "" {
			out = append(out, file)
		}
	}
	return out
}

// checkFiles refuses what cannot be written, before anything is built; more are the files of other flags.
func (f *resultFlags) checkFiles(more ...[2]string) error {
	files := f.files()
	for _, file := range files {
		if err := checkFile(file[1]); err != nil {
			return fmt.Errorf("%s: %w", file[0], err)
		}
	}

	for _, file := range more {
		if file[1] != "" {
			files = append(files, file)
		}
	}

	for _, e := range f.exports {
		if e.dest != "" && e.dest != "-" && e.kind != "local" && !e.isDir {
			files = append(files, [2]string{"--output", e.dest})
		}
	}

	return checkDistinct(files)
}

// deliver copies the image to where it is asked for outside the store, and returns the manifest that is to be told of: the
// one of a registry if there is one.
func (f *resultFlags) deliver(ctx context.Context, place imagePlace, r builder.Result, names []string, o transfer.PushOptions) (ocispec.Descriptor, error) {
	told := r.Manifest
	f.compression.apply(&o)
	for _, e := range f.exports {
		if err := e.copyImage(ctx, place, r.ID, names, o); err != nil {
			return told, fmt.Errorf("--output: %w", err)
		}
	}

	for _, to := range f.pushes {
		pushed, err := place.Push(ctx, r.ID, to, o)
		if err != nil {
			return told, fmt.Errorf("image %s is kept here, but not everywhere it should be: %w", shortID(r.ID), err)
		}
		if strings.HasPrefix(to, "docker://") {
			told = pushed
		}
	}

	return told, nil
}

// announce prints the ID, and writes what was made where the user wants it.
func (f *resultFlags) announce(w io.Writer, r builder.Result, names []string, steps []stepRecord) error {
	if r.ID == "" {
		return nil
	}

	for _, to := range []struct{ path, text string }{{f.iidfile, "sha256:" + r.ID}, {f.iidfileRaw, r.ID}} {
		if to.path == "" {
			continue
		}
		if err := os.WriteFile(to.path, []byte(to.text), 0o644); err != nil { //nolint:gosec // as public as the image
			return fmt.Errorf("writing the image's ID: %w", err)
		}
	}

	if f.metadataFile != "" {
		if err := f.writeMetadata(r, names, steps); err != nil {
			return fmt.Errorf("writing --metadata-file: %w", err)
		}
	}

	if f.stdout() {
		return nil
	}

	_, err := fmt.Fprintln(w, r.ID)

	return err
}

// metadata is the document of --metadata-file, with the keys of docker and buildah.
type metadata struct {
	Config     digest.Digest      `json:"containerimage.config.digest"`
	Descriptor ocispec.Descriptor `json:"containerimage.descriptor"`
	Digest     digest.Digest      `json:"containerimage.digest"`
	Names      string             `json:"image.name,omitempty"` // separated by commas
	Steps      []stepRecord       `json:"rbuild.steps"`
}

func (f *resultFlags) writeMetadata(r builder.Result, names []string, steps []stepRecord) error {
	var text strings.Builder
	err := writeJSON(&text, metadata{
		Config: r.Config, Descriptor: r.Manifest, Digest: r.Manifest.Digest,
		Names: strings.Join(names, ","), Steps: steps,
	})
	if err != nil {
		return err
	}
	return os.WriteFile(f.metadataFile, []byte(text.String()), 0o644) //nolint:gosec // as public as the image
}
