package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/internal/imagename"
	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// resultFlags name the destinations of the result: names in the store, registries and archives, files.
type resultFlags struct {
	tags         []string
	outputs      []string
	push         bool
	load         bool
	iidfile      string
	iidfileRaw   string
	metadataFile string
	compression  CompressionFlags
	flags        *pflag.FlagSet // of the command, for warnings about flags without effect
}

func (f *resultFlags) register(fs *pflag.FlagSet) {
	section(fs, SubjectOutput, func(fs *pflag.FlagSet) {
		fs.StringArrayVarP(&f.tags, "tag", "t", nil,
			"Name of the image as NAME[:TAG], e.g. app:1, or TRANSPORT:... to copy it to, e.g. oci:./app; "+
				"may be repeated")
		fs.StringArrayVarP(&f.outputs, "output", "o", nil,
			"Destination of the result: DIR, - for a tar, or "+
				"type=local|tar|oci|docker|image|registry|cacheonly[,dest=PATH][,...], e.g. type=oci,dest=app.tar; "+
				"may be repeated")
		fs.BoolVar(&f.push, "push", false, "Push the image to the registry of each --tag")
		fs.StringVar(&f.iidfile, "iidfile", "", "File to write the image's ID to, e.g. image.id")
		fs.StringVar(&f.iidfileRaw, "iidfile-raw", "", "File to write the image's ID to, without sha256:")
		fs.StringVar(&f.iidfileRaw, "raw-iidfile", "", "Same as --iidfile-raw")
		hide(fs, "raw-iidfile")
		fs.StringVar(&f.metadataFile, "metadata-file", "",
			"File to write digests, names and the times of steps to, as JSON, e.g. build.json")
	})
	section(fs, SubjectCompatibility, func(fs *pflag.FlagSet) {
		fs.BoolVar(&f.load, "load", false, "Accepted without effect: the image is in the store in any case")
	})
	f.compression.Register(fs)
	f.flags = fs
}

// parse sorts names and destinations. It reads the flags of the image, and sets the names of the image.
func (f *resultFlags) parse(h *Host, b *spec.Build) (err error) {
	r := &b.Result
	for _, text := range f.tags {
		if err := addTag(b, text); err != nil {
			return fmt.Errorf("--tag%w", err)
		}
	}

	for _, text := range f.outputs {
		e, err := parseExport(text)
		if err != nil {
			return fmt.Errorf("--output %q: %w", text, err)
		}
		e.From = "--output"
		r.Exports = append(r.Exports, e)
	}

	if err := checkStdout(r.Exports, h.StdoutTerminal); err != nil {
		return err
	}
	if err := f.addPushes(b); err != nil {
		return err
	}

	r.IDFile = spec.File{Path: f.iidfile, From: "--iidfile"}
	r.RawIDFile = spec.File{Path: f.iidfileRaw, From: "--iidfile-raw"}
	r.MetadataFile = spec.File{Path: f.metadataFile, From: "--metadata-file"}
	r.NoImage = f.noImage(r.Exports)
	r.Notices = append(r.Notices, f.withoutEffect(b)...)
	if r.Compression, err = f.compression.Parse(); err != nil {
		return err
	}
	return f.checkCompression(b)
}

// addTag reads one name: a name for the store, or a destination outside. Its error continues the name of a flag.
func addTag(b *spec.Build, text string) error {
	n, err := imagename.Parse(text)
	if err != nil {
		return fmt.Errorf(": %w", err)
	}
	if n.Transport != "" && n.Transport != imagename.Store {
		if err := transfer.CheckDestination(text); err != nil {
			return fmt.Errorf(": %w", err)
		}
		b.Result.Pushes = append(b.Result.Pushes, text)
		return nil
	}

	if hint := imagename.Hint(text); hint != "" {
		b.Result.Notices = append(b.Result.Notices, "--tag "+hint)
	}
	named, err := images.NormalizeTag(text)
	if err != nil {
		return fmt.Errorf(": %w", err)
	}
	if !slices.Contains(b.Image.Names, named.String()) {
		b.Image.Names = append(b.Image.Names, named.String())
	}
	return nil
}

// checkStdout refuses two exports to standard output, and a terminal there.
func checkStdout(exports []spec.Export, terminal bool) error {
	n := 0
	for _, e := range exports {
		if e.Dest == "-" {
			n++
		}
	}

	switch {
	case n > 1:
		return errors.New("--output: only one can go to standard output")
	case n == 1 && terminal:
		return errors.New("--output: standard output is a terminal: send it to a file or a program, " +
			"or give a destination")
	}
	return nil
}

// addPushes adds the names of exports to the names of the image, and the names of the image to the pushes if --push or an
// export asks for that.
func (f *resultFlags) addPushes(b *spec.Build) error {
	push := f.push
	for _, e := range b.Result.Exports {
		for _, name := range e.Names {
			if n, err := imagename.Parse(name); err != nil || n.Transport != "" {
				return fmt.Errorf("--output: name=%s: want the name of an image", name)
			}
			if err := addTag(b, name); err != nil {
				return fmt.Errorf("--output: name=%s: --tag%w", name, err)
			}
		}
		push = push || e.Push
	}

	if !push {
		return nil
	}
	if len(b.Image.Names) == 0 {
		return errors.New("--push: the image has no name: give it one with --tag REGISTRY/NAME")
	}

	for _, name := range b.Image.Names {
		if to := "docker://" + name; !slices.Contains(b.Result.Pushes, to) {
			b.Result.Pushes = append(b.Result.Pushes, to)
		}
	}
	return nil
}

// noImage reports whether only files are wanted. Then no image is recorded, and the layers are left to the cache.
func (f *resultFlags) noImage(exports []spec.Export) bool {
	wantsImage := func(e spec.Export) bool { return !withoutImage(e) }
	return len(exports) > 0 && !slices.ContainsFunc(exports, wantsImage) && !f.load && !f.push && len(f.tags) == 0 &&
		f.iidfile == "" && f.iidfileRaw == "" && f.metadataFile == ""
}

// imageFlagNames are the flags that change the image and nothing else.
var imageFlagNames = strings.Fields(`annotation created-annotation format identity-label inherit-annotations inherit-labels label
	omit-history os-feature os-version squash squash-all unsetannotation unsetenv unsetlabel`)

// withoutEffect returns warnings about given flags that change nothing at the destinations of this build.
func (f *resultFlags) withoutEffect(b *spec.Build) (warnings []string) {
	if f.flags.Changed("layer-label") && !b.Image.Stages.Save {
		warnings = append(warnings, "--layer-label has no effect without --save-stages: no images of layers are made")
	}
	if b.Result.NoImage {
		for _, name := range imageFlagNames {
			if f.flags.Changed(name) {
				warnings = append(warnings,
					fmt.Sprintf("--%s has no effect: this build makes files only, and no image", name))
			}
		}
		return warnings
	}

	format := f.flags.Lookup("format").Value.String()
	for _, to := range copies(b.Result) {
		if err := transfer.CheckFormat(format, to); err != nil {
			warnings = append(warnings, fmt.Sprintf("--format %s: the copy is converted: %v", format, err))
		}
		if n, _ := imagename.Parse(to); n.Transport != imagename.DockerArchive {
			continue
		}
		for _, name := range []string{"annotation", "created-annotation"} {
			if f.flags.Changed(name) {
				warnings = append(warnings,
					fmt.Sprintf("--%s has no effect on %s: a docker-archive has no annotations", name, to))
			}
		}
	}
	return warnings
}

// copies returns all copies of the image outside the store, by their transports.
func copies(r spec.Result) []string {
	list := slices.Clone(r.Pushes)
	for _, e := range r.Exports {
		if to := e.Location(); to != "" {
			list = append(list, to)
		}
	}
	return list
}

// checkCompression refuses flags for compression if no destination of the image compresses layers, or if one cannot.
func (f *resultFlags) checkCompression(b *spec.Build) error {
	flag := f.compression.given()
	if flag == "" {
		return nil
	}
	if f.compression.needsOCI() && b.Image.Format == formatDocker {
		return fmt.Errorf("--compression-format %s: images of --format docker have no layers of this kind: "+
			"use --format oci", f.compression.format)
	}

	for _, to := range b.Result.Pushes {
		if err := f.compression.CheckDestination(to); err != nil {
			return err
		}
	}

	compressed := len(b.Result.Pushes) > 0
	for _, e := range b.Result.Exports {
		if e.Kind == spec.ExportDocker && e.Dest != "" {
			if err := f.compression.CheckDestination(e.Location()); err != nil {
				return err
			}
		}
		compressed = compressed || e.Kind == spec.ExportOCI
	}

	if !compressed {
		return fmt.Errorf("%s: layers in the store are not compressed: copy the image elsewhere with --push, "+
			"--output type=oci "+
			"or a --tag such as oci:./DIR", flag)
	}
	return nil
}
