package main

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"go.podman.io/image/v5/manifest"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/progress"
)

func newInspectCmd(a *app) *cobra.Command {
	var kind, format string
	var peers cli.CompatFlags
	cmd := &cobra.Command{
		Use:   "inspect [flags] IMAGE",
		Short: "Show everything about an image",
		Long: "Show an image as JSON, or through a Go template. The fields are those of podman image inspect (Id,\n" +
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
			return a.WithImages(cmd.Context(), func(_ context.Context, stores engine.Stores) error {
				st, img, found, err := stores.Lookup(args[0], a.RegistryOptions().Names)
				if err != nil {
					return err
				}

				info, err := inspectImage(st, img, found)
				if err != nil {
					return err
				}
				if format != "" && !cli.WantsJSON(format) {
					return cli.WriteOne(cmd.OutOrStdout(), idField().ReplaceAllString(format, ".ID"), info)
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

// idField matches the field ID in templates by its JSON name, which podman and docker accept.
var idField = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\.Id\b`)
})

// imageInfo is the output of rbuild inspect: first the fields of podman image inspect, then those of buildah inspect.
type imageInfo struct {
	imageNames
	imageSystem
	imageContent
	imageRecord
	buildahInfo
}

// imageNames are the names of an image.
type imageNames struct {
	Type        string
	ID          string `json:"Id"`
	Digest      digest.Digest
	RepoTags    []string
	RepoDigests []string
	Names       []string
}

// imageSystem says when, by whom and for which system an image was made.
type imageSystem struct {
	Created      *time.Time
	Author       string
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Comment      string
	User         string
}

// imageContent is the content of an image.
type imageContent struct {
	Size        int64 // bytes of all layers, uncompressed
	VirtualSize int64 // the same; docker's old word
	Config      dockerspec.DockerOCIImageConfig
	Labels      map[string]string
	Annotations map[string]string
	RootFS      rootFS
	History     []ocispec.History
}

// imageRecord is the record of an image in the store.
type imageRecord struct {
	NamesHistory []string
	TopLayer     string
	ManifestType string
	GraphDriver  driverData
	Healthcheck  *dockerspec.HealthcheckConfig `json:",omitempty"`
}

// buildahInfo has the fields of buildah inspect.
type buildahInfo struct {
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

// inspectImage reads an image. found is the full name by which it was found, or its ID.
func inspectImage(st images.Store, img images.Image, found string) (*imageInfo, error) {
	content, err := st.ReadImage(img.ID)
	if err != nil {
		return nil, err
	}
	if err := content.Verify(imageTitle(img)); err != nil {
		return nil, err
	}
	var config dockerspec.DockerOCIImage
	if err := json.Unmarshal(content.Config, &config); err != nil {
		return nil, fmt.Errorf("reading the config of image %s: %w", img.ID, err)
	}

	return newImageInfo(img, found, content, config), nil
}

// newImageInfo joins the record, the documents and the config of an image.
func newImageInfo(img images.Image, found string, content images.Content, config dockerspec.DockerOCIImage) *imageInfo {
	var size int64
	for _, l := range content.Layers {
		size += l.Size
	}
	sum := images.Digest(content.Origins, found, img.Digest)
	info := &imageInfo{
		imageNames: imageNames{
			Type:        "image",
			ID:          img.ID,
			Digest:      sum,
			RepoTags:    tags(img),
			RepoDigests: images.RepoDigests(content.Origins),
			Names:       img.Names,
		},
		imageSystem: imageSystem{
			Created:      config.Created,
			Author:       config.Author,
			Architecture: config.Architecture,
			Variant:      config.Variant,
			Os:           config.OS,
			User:         config.Config.User,
		},
		imageContent: imageContent{
			Size:        size,
			VirtualSize: size,
			Config:      config.Config,
			Labels:      config.Config.Labels,
			Annotations: content.Annotations,
			RootFS:      rootFS{Type: config.RootFS.Type, Layers: config.RootFS.DiffIDs},
			History:     config.History,
		},
		imageRecord: imageRecord{
			NamesHistory: img.NamesHistory,
			TopLayer:     img.TopLayer,
			ManifestType: manifest.GuessMIMEType(content.Manifest),
			GraphDriver:  driverData{Name: content.Driver, Data: layerPaths(content.Directories)},
			Healthcheck:  config.Config.Healthcheck,
		},
		buildahInfo: buildahInfo{
			FromImageID:      img.ID,
			FromImageDigest:  sum.String(),
			ImageAnnotations: content.Annotations,
			OCIv1:            config,
			Docker:           config,
			Manifest:         string(content.Manifest),
			ConfigText:       string(content.Config),
		},
	}

	if found != img.ID {
		info.FromImage = found
	}
	if len(config.History) > 0 {
		info.Comment = config.History[len(config.History)-1].Comment
	}
	return info
}

// layerPaths names the directories of layers, topmost first, as docker does; nil: there are none.
func layerPaths(dirs []string) map[string]string {
	if len(dirs) == 0 {
		return nil
	}
	data := map[string]string{"UpperDir": dirs[0]}
	if len(dirs) > 1 {
		data["LowerDir"] = strings.Join(dirs[1:], ":")
	}
	return data
}

// tags returns the names of an image without the names that have a digest.
func tags(img images.Image) []string {
	return slices.DeleteFunc(slices.Clone(img.Names), func(name string) bool { return strings.Contains(name, "@") })
}
