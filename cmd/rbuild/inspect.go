package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"go.podman.io/image/v5/manifest"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

func newInspectCmd(a *app) *cobra.Command {
	var kind, format string
	var peers cli.CompatFlags
	cmd := &cobra.Command{
		Use:   "inspect [flags] IMAGE",
		Short: "Show everything about an image of the store",
		Long: "Show an image of the store as JSON, or through a Go template. The fields are those of podman image inspect (Id,\n" +
			"Digest, RepoTags, RepoDigests, Created, Config, Architecture, Os, Size, RootFS, Labels, Annotations, History ...) and\n" +
			"of buildah inspect (FromImage, FromImageID, FromImageDigest, OCIv1, Docker, Manifest, ImageAnnotations). Config is\n" +
			"podman's: an object; buildah has the text of the document there, which is ConfigText here.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := peers.Check(); err != nil {
				return err
			}
			if kind != "image" && kind != "all" {
				return fmt.Errorf("--type %s: rbuild keeps no containers; only image is known", kind)
			}
			return a.WithStore(cmd.Context(), func(_ context.Context, st *containers.Store) error {
				img, found, err := a.lookup(st.Storage(), args[0])
				if err != nil {
					return err
				}

				info, err := inspectImage(st, img, found)
				if err != nil {
					return err
				}
				if format != "" && !cli.WantsJSON(format) {
					return cli.WriteOne(cmd.OutOrStdout(), idField.ReplaceAllString(format, ".ID"), info)
				}
				return progress.WriteJSON(cmd.OutOrStdout(), info)
			})
		},
	}

	cmd.Flags().StringVarP(&format, "format", "f", "", "Print with a Go template, or json")
	cmd.Flags().StringVarP(&kind, "type", "t", "image", "Kind of object: image or all; both inspect images")
	peers.Register("inspect", cmd.Flags())

	return cmd
}

// idField is the field ID in templates, by the name that it has in JSON, as podman and docker take it.
var idField = regexp.MustCompile(`\.Id\b`)

// imageInfo is what rbuild inspect shows.
type imageInfo struct {
	Type         string
	ID           string `json:"Id"`
	Digest       digest.Digest
	RepoTags     []string
	RepoDigests  []string
	Names        []string
	Created      *time.Time
	Author       string
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Comment      string
	User         string
	Size         int64 // bytes of all layers, uncompressed
	VirtualSize  int64 // the same; docker's old word
	Config       dockerspec.DockerOCIImageConfig
	Labels       map[string]string
	Annotations  map[string]string
	RootFS       rootFS
	History      []ocispec.History
	NamesHistory []string
	TopLayer     string
	ManifestType string
	GraphDriver  driverData
	Healthcheck  *dockerspec.HealthcheckConfig `json:",omitempty"`

	FromImage        string
	FromImageID      string
	FromImageDigest  string
	ImageAnnotations map[string]string
	OCIv1            dockerspec.DockerOCIImage
	Docker           dockerspec.DockerOCIImage
	Manifest         string // the document itself
	ConfigText       string // the document itself
}

type rootFS struct {
	Type   string
	Layers []digest.Digest
}

type driverData struct {
	Name string
	Data map[string]string
}

func inspectImage(st *containers.Store, img *cs.Image, found string) (*imageInfo, error) {
	documents, err := st.Image(img.ID)
	if err != nil {
		return nil, err
	}
	if err := containers.VerifyImage(st.Storage(), img.ID); err != nil {
		return nil, err
	}

	var config dockerspec.DockerOCIImage
	if err := json.Unmarshal(documents.Config, &config); err != nil {
		return nil, fmt.Errorf("reading the config of image %s: %w", img.ID, err)
	}

	raw, err := st.Storage().ImageBigData(img.ID, cs.ImageDigestBigDataKey)
	if err != nil {
		return nil, fmt.Errorf("reading the manifest of image %s: %w", img.ID, err)
	}

	var annotated struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := json.Unmarshal(raw, &annotated); err != nil {
		return nil, fmt.Errorf("reading the manifest of image %s: %w", img.ID, err)
	}

	l, err := listImages(st)
	if err != nil {
		return nil, err
	}

	size, sum := l.size(img), transfer.Digest(st.Storage(), img, found)
	info := &imageInfo{
		Type: "image", ID: img.ID, Digest: sum, RepoTags: tags(img), RepoDigests: transfer.RepoDigests(st.Storage(), img), Names: img.Names,
		Created: config.Created, Author: config.Author, Architecture: config.Architecture, Variant: config.Variant, Os: config.OS,
		User: config.Config.User, Size: size, VirtualSize: size, Config: config.Config, Labels: config.Config.Labels,
		Annotations: annotated.Annotations, RootFS: rootFS{Type: config.RootFS.Type, Layers: config.RootFS.DiffIDs},
		History: config.History, NamesHistory: img.NamesHistory, TopLayer: img.TopLayer, ManifestType: manifest.GuessMIMEType(raw),
		GraphDriver: driverData{Name: st.Storage().GraphDriverName()}, Healthcheck: config.Config.Healthcheck,
		FromImageID: img.ID, FromImageDigest: sum.String(), ImageAnnotations: annotated.Annotations,
		OCIv1: config, Docker: config, Manifest: string(raw), ConfigText: string(documents.Config),
	}

	if found != img.ID {
		info.FromImage = found
	}
	if len(config.History) > 0 {
		info.Comment = config.History[len(config.History)-1].Comment
	}

	return info, layerPaths(st, img.TopLayer, &info.GraphDriver)
}

// layerPaths says where the layers lie, by docker's words.
func layerPaths(st *containers.Store, top string, d *driverData) error {
	dirs, err := st.Directories(top)
	if err != nil || len(dirs) == 0 {
		return err
	}
	d.Data = map[string]string{"UpperDir": dirs[0]}
	if len(dirs) > 1 {
		d.Data["LowerDir"] = strings.Join(dirs[1:], ":")
	}
	return nil
}

// tags are the names of an image that are not digests.
func tags(img *cs.Image) []string {
	return slices.DeleteFunc(slices.Clone(img.Names), func(name string) bool { return strings.Contains(name, "@") })
}
