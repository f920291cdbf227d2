package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// imageList is the images of a store with what telling them apart needs. What
// has to be read from an image's config is read when it is asked for.
type imageList struct {
	st      *containers.Store
	images  []cs.Image
	layers  map[string]cs.Layer
	configs map[string]*ocispec.Image
	sum     func(img *cs.Image, name string) digest.Digest // registry.Digest for the store
}

func listImages(st *containers.Store) (*imageList, error) {
	images, err := st.Storage().Images()
	if err != nil {
		return nil, fmt.Errorf("listing the images: %w", err)
	}

	layers, err := st.Storage().Layers()
	if err != nil {
		return nil, fmt.Errorf("listing the layers: %w", err)
	}

	l := &imageList{st: st, images: images, layers: make(map[string]cs.Layer, len(layers)), configs: make(map[string]*ocispec.Image)}
	l.sum = func(img *cs.Image, name string) digest.Digest { return transfer.Digest(st.Storage(), img, name) }
	for _, layer := range layers {
		l.layers[layer.ID] = layer
	}

	// Newest first; the ID makes the order of equals the same every time.
	slices.SortFunc(l.images, func(a, b cs.Image) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})

	return l, nil
}

// size is what the image's layers hold, uncompressed, in bytes. Layers shared
// with other images count in each.
func (l *imageList) size(img *cs.Image) int64 {
	var sum int64
	for id := img.TopLayer; id != ""; id = l.layers[id].Parent {
		sum += l.layers[id].UncompressedSize
	}
	return sum
}

// digest is the digest of the image's manifest, as the registry of the name has it. Without a name, that of the first name.
func (l *imageList) digest(img *cs.Image, name string) digest.Digest {
	if name == "" && len(img.Names) > 0 {
		name = img.Names[0]
	}
	return l.sum(img, name)
}

// config is the image's config; an empty one for what is no image that runs.
func (l *imageList) config(id string) *ocispec.Image {
	if c, ok := l.configs[id]; ok {
		return c
	}
	c := &ocispec.Image{}
	if img, err := l.st.Image(id); err == nil {
		_ = json.Unmarshal(img.Config, c) // an unreadable config has no labels
	}
	l.configs[id] = c
	return c
}

// intermediate reports whether another image was built on this unnamed one, as
// podman and buildah leave them behind: the other has its layers, and its
// history with more after it.
func (l *imageList) intermediate(img *cs.Image) bool {
	if len(img.Names) > 0 {
		return false
	}
	history := l.config(img.ID).History
	return slices.ContainsFunc(l.images, func(other cs.Image) bool {
		if other.ID == img.ID || !l.above(other.TopLayer, img.TopLayer) {
			return false
		}
		longer := l.config(other.ID).History
		return len(longer) > len(history) && slices.EqualFunc(longer[:len(history)], history, sameStep)
	})
}

func sameStep(a, b ocispec.History) bool {
	return a.CreatedBy == b.CreatedBy && a.EmptyLayer == b.EmptyLayer &&
		(a.Created == nil) == (b.Created == nil) && (a.Created == nil || a.Created.Equal(*b.Created))
}

// above reports whether layer is base or lies on it.
func (l *imageList) above(layer, base string) bool {
	for ; layer != ""; layer = l.layers[layer].Parent {
		if layer == base {
			return true
		}
	}
	return base == ""
}

// dangling images have no name and nothing was built on them.
func (l *imageList) dangling(img *cs.Image) bool {
	return len(img.Names) == 0 && !l.intermediate(img)
}

// A filter keeps the images it returns true for.
type filter func(img *cs.Image) bool

// filters parses the values of --filter. Of several with one key (and value
// lists of one) any has to match, of different keys all.
func (l *imageList) filters(args []string, o transfer.Options) (filter, error) {
	byKey := make(map[string][]filter)
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("--filter %s: expected KEY=VALUE", arg)
		}

		key = strings.TrimSuffix(key, "!") // KEY!=VALUE
		negate := strings.HasSuffix(strings.TrimSuffix(arg, "="+value), "!")
		f, err := l.filter(key, value, o)
		if err != nil {
			return nil, fmt.Errorf("--filter %s: %w", arg, err)
		}
		if negate {
			byKey[arg] = append(byKey[arg], func(img *cs.Image) bool { return !f(img) })
			continue
		}
		byKey[key] = append(byKey[key], f)
	}

	return func(img *cs.Image) bool {
		for _, alternatives := range byKey {
			if !slices.ContainsFunc(alternatives, func(f filter) bool { return f(img) }) {
				return false
			}
		}
		return true
	}, nil
}

var errFilter = errors.New("no such filter (dangling, intermediate, reference, id, label, before, since, until, readonly, containers)")

func (l *imageList) filter(key, value string, o transfer.Options) (filter, error) {
	switch key {
	case "dangling", "intermediate", "readonly", "containers":
		return l.boolFilter(key, value)
	case "reference":
		return func(img *cs.Image) bool {
			return slices.ContainsFunc(img.Names, func(name string) bool { return matchesReference(value, name) })
		}, nil
	case "id":
		return func(img *cs.Image) bool { return strings.HasPrefix(img.ID, value) }, nil
	case "label":
		name, want, hasValue := strings.Cut(value, "=")
		return func(img *cs.Image) bool {
			got, ok := l.config(img.ID).Config.Labels[name]
			return ok && (!hasValue || got == want)
		}, nil
	case "until":
		limit, err := parseUntil(value)
		return func(img *cs.Image) bool { return img.Created.Before(limit) }, err
	case "before", "since", "after":
		img, _, err := transfer.Lookup(l.st.Storage(), value, o)
		if err != nil {
			return nil, err
		}
		limit := img.Created
		if key == "before" {
			return func(img *cs.Image) bool { return img.Created.Before(limit) }, nil
		}
		return func(img *cs.Image) bool { return img.Created.After(limit) }, nil
	}

	return nil, errFilter
}

// parseUntil reads a point in time: a duration before now, seconds since 1970, or a date, as podman and docker take them.
func parseUntil(text string) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && text != "0" {
		return time.Now().Add(-ago), nil
	}
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(seconds, 0), nil
	}

	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil { //nolint:gosmopolitan // the user's clock
			return t, nil
		}
	}

	return time.Time{}, errors.New("want a duration, e.g. 24h, seconds since 1970, or a date, e.g. 2024-01-31")
}

func (l *imageList) boolFilter(key, value string) (filter, error) {
	want, err := strconv.ParseBool(value)
	if err != nil {
		return nil, errors.New("expected true or false")
	}

	var is filter
	switch key {
	case "dangling":
		is = l.dangling
	case "intermediate":
		is = l.intermediate
	case "readonly":
		is = func(img *cs.Image) bool { return img.ReadOnly }
	case "containers":
		used, err := usedImages(l.st)
		if err != nil {
			return nil, err
		}
		is = func(img *cs.Image) bool { return used[img.ID] }
	}

	return func(img *cs.Image) bool { return is(img) == want }, nil
}

// usedImages are the IDs of the images that containers were made of, whichever
// tool made them.
func usedImages(st *containers.Store) (map[string]bool, error) {
	containers, err := st.Storage().Containers()
	if err != nil {
		return nil, fmt.Errorf("listing the containers: %w", err)
	}
	used := make(map[string]bool, len(containers))
	for _, c := range containers {
		used[c.ImageID] = true
	}
	return used, nil
}

// matchesReference compares a name with a pattern, which may leave out the tag,
// the registry and any path before the last part, as podman has it.
func matchesReference(pattern, name string) bool {
	candidates := []string{name}
	if named, err := reference.ParseNamed(name); err == nil {
		candidates = append(candidates, named.Name())
	}
	for _, c := range candidates {
		for {
			if ok, err := path.Match(pattern, c); ok && err == nil {
				return true
			}
			_, rest, more := strings.Cut(c, "/")
			if !more {
				break
			}
			c = rest
		}
	}

	return false
}

// imageRow is one line of rbuild images: a name of an image, or an image
// without names. The fields are those that templates for podman and buildah
// use.
type imageRow struct {
	ID           string
	Name         string // repository; "<none>" without a name
	Repository   string // the same, by podman's word
	Tag          string
	Digest       string
	Names        []string
	Created      string // the age, in words
	CreatedSince string
	CreatedAt    string
	CreatedAtRaw time.Time
	Size         string
	ReadOnly     bool
	Dangling     bool
	History      string // names that the image had before
	Labels       map[string]string
}

const none = "<none>"

// rows makes the lines for one image.
func (l *imageList) rows(img *cs.Image, truncate bool) []imageRow {
	id := "sha256:" + img.ID
	if truncate {
		id = cli.ShortID(img.ID)
	}
	row := imageRow{
		ID:           id,
		Digest:       l.digest(img, "").String(),
		Names:        img.Names,
		Created:      cli.HumanSince(img.Created),
		CreatedSince: cli.HumanSince(img.Created),
		CreatedAt:    img.Created.UTC().Format("2006-01-02 15:04:05 -0700 MST"),
		CreatedAtRaw: img.Created,
		Size:         cli.HumanSize(l.size(img)),
		ReadOnly:     img.ReadOnly,
		Dangling:     len(img.Names) == 0,
		History:      strings.Join(img.NamesHistory, ", "),
		Labels:       l.config(img.ID).Config.Labels,
	}

	if row.History == "" {
		row.History = none
	}
	if len(img.Names) == 0 {
		row.Name, row.Repository, row.Tag = none, none, none
		return []imageRow{row}
	}

	rows := make([]imageRow, 0, len(img.Names))
	for _, name := range img.Names {
		r := row
		r.Name, r.Tag = splitName(name)
		r.Digest = l.digest(img, name).String()
		r.Repository = r.Name
		rows = append(rows, r)
	}

	return rows
}

func splitName(name string) (repository, tag string) {
	named, err := reference.ParseNamed(name)
	if err != nil {
		return name, none
	}
	if tagged, ok := named.(reference.Tagged); ok {
		return named.Name(), tagged.Tag()
	}
	return named.Name(), none
}
