package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/builder"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// checkFiles refuses files that cannot be written, before anything is built.
func checkFiles(s *spec.Build) error {
	files := s.Result.Files()
	for _, file := range files {
		if err := checkFile(file.Path); err != nil {
			return fmt.Errorf("%s: %w", file.From, err)
		}
	}

	for _, file := range []spec.File{s.Output.LogFile, s.Output.UsageFile} {
		if file.Path != "" {
			files = append(files, file)
		}
	}
	for _, e := range s.Result.Exports {
		if e.Dest != "" && e.Dest != "-" && e.Kind != spec.ExportLocal && !e.IsDir {
			files = append(files, spec.File{Path: e.Dest, From: e.From})
		}
	}
	return checkDistinct(files)
}

// deliver copies the image to its destinations outside the store. It returns the manifest to report: the manifest of a
// registry if the image was pushed to one, else the manifest of the store.
func (b *build) deliver(ctx context.Context, r builder.Result) (ocispec.Descriptor, error) {
	reported := r.Manifest
	o, err := b.pushOptions()
	if err != nil {
		return reported, err
	}

	for _, e := range b.spec.Result.Exports {
		if err := b.copyImage(ctx, e, r.ID, o); err != nil {
			return reported, fmt.Errorf("%s: %w", e.From, err)
		}
	}

	for _, to := range b.spec.Result.Pushes {
		pushed, err := b.images.Push(ctx, r.ID, to, o)
		if err != nil {
			return reported, fmt.Errorf("image %.12s is kept here, but not everywhere it should be: %w", r.ID, err)
		}
		if strings.HasPrefix(to, "docker://") {
			reported = pushed
		}
	}
	return reported, nil
}

func (b *build) pushOptions() (o transfer.PushOptions, err error) {
	if o.Options, err = Access(b.engine.RegistryOptions(), b.spec.Pull.Access); err != nil {
		return o, err
	}
	o.Report = b.notices
	SetCompression(&o, b.spec.Result.Compression)
	return o, nil
}

// SetCompression adds the compression of a spec to the options of a push.
func SetCompression(o *transfer.PushOptions, c spec.Compression) {
	o.CompressionFormat = c.Format
	o.CompressionLevel = c.Level
	o.AnyCompression = c.Any
}

// Access adds the values of a spec to how registries are reached.
func Access(o transfer.Options, a spec.Access) (transfer.Options, error) {
	if a.AuthFile.Path != "" {
		if _, err := os.Stat(a.AuthFile.Path); err != nil {
			return o, fmt.Errorf("%s: %w", a.AuthFile.From, err)
		}
		o.AuthFile = a.AuthFile.Path
	}

	o.CertDir = a.CertDir
	o.Creds = a.Creds
	if a.TLSVerify != nil {
		o.TLSVerify = a.TLSVerify
	}
	o.Retries = a.Retries
	o.RetryDelay = a.RetryDelay
	return o, nil
}

// announce writes the files about the image and prints its ID.
func (b *build) announce(r builder.Result) error {
	if r.ID == "" {
		return nil
	}

	s := b.spec.Result
	idErr := writeFile(s.IDFile, "sha256:"+r.ID)
	rawErr := writeFile(s.RawIDFile, r.ID)
	if err := errors.Join(idErr, rawErr); err != nil {
		return fmt.Errorf("writing the image's ID: %w", err)
	}
	if s.MetadataFile.Path != "" {
		if err := b.writeMetadata(r); err != nil {
			return fmt.Errorf("writing %s: %w", s.MetadataFile.From, err)
		}
	}

	if s.TakesStdout() {
		return nil
	}
	_, err := fmt.Fprintln(b.engine.Text, r.ID)
	return err
}

func writeFile(f spec.File, text string) error {
	if f.Path == "" {
		return nil
	}
	return os.WriteFile(f.Path, []byte(text), 0o644) //nolint:gosec // as public as the image
}

// metadata is the document of --metadata-file, with the keys of docker and buildah.
type metadata struct {
	Config     digest.Digest      `json:"containerimage.config.digest"`
	Descriptor ocispec.Descriptor `json:"containerimage.descriptor"`
	Digest     digest.Digest      `json:"containerimage.digest"`
	Names      string             `json:"image.name,omitempty"` // separated by commas
	Steps      []stepRecord       `json:"rbuild.steps"`
}

func (b *build) writeMetadata(r builder.Result) error {
	var text strings.Builder
	err := progress.WriteJSON(&text, metadata{
		Config: r.Config, Descriptor: r.Manifest, Digest: r.Manifest.Digest,
		Names: strings.Join(b.options.Image.Names, ","), Steps: b.steps.ended(),
	})
	if err != nil {
		return err
	}
	return writeFile(b.spec.Result.MetadataFile, text.String())
}
