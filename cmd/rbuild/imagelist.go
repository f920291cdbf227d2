package main

import (
	"cmp"
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

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/images"
)

// imageList is the images of all stores, the newest first.
type imageList struct {
	stores engine.Stores
	images []*listed
}

// listed is an image of a list. Its documents are read when they are needed.
type listed struct {
	images.Image

	store   images.Store
	read    bool            // origins and config are set
	origins []images.Origin // see images.Content
	config  ocispec.Image
}

func listImages(stores engine.Stores) (*imageList, error) {
	l := &imageList{stores: stores}
	for _, st := range stores {
		all, err := st.ListImages()
		if err != nil {
			return nil, err
		}
		for _, img := range all {
			l.images = append(l.images, &listed{Image: img, store: st})
		}
	}

	// The ID makes the order of images with the same time the same in each call.
	slices.SortStableFunc(l.images, func(a, b *listed) int {
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(a.ID, b.ID))
	})
	return l, nil
}

// document reads the documents of the image. An image whose documents cannot be read has no labels
// and no history.
func (img *listed) document() *listed {
	if img.read {
		return img
	}
	img.read = true

	content, err := img.store.ReadImage(img.ID)
	if err != nil {
		return img
	}
	img.origins = content.Origins
	_ = json.Unmarshal(content.Config, &img.config) // an unreadable config has no labels
	return img
}

func (img *listed) labels() map[string]string { return img.document().config.Config.Labels }

// digest returns the digest of the image's manifest as the registry of the name has it. name "" is
// the first name.
func (img *listed) digest(name string) digest.Digest {
	if name == "" && len(img.Names) > 0 {
		name = img.Names[0]
	}
	return images.Digest(img.document().origins, name, img.Image.Digest)
}

// intermediate reports whether another image was built on this image without a name, as builds by
// podman and buildah leave them: the other image has the layers of this image, and its history with
// more steps after it.
func (l *imageList) intermediate(img *listed) bool {
	if len(img.Names) > 0 {
		return false
	}
	history := img.document().config.History
	return slices.ContainsFunc(l.images, func(other *listed) bool {
		if other.store != img.store || other.ID == img.ID || !above(other, img) {
			return false
		}
		longer := other.document().config.History
		return len(longer) > len(history) && slices.EqualFunc(longer[:len(history)], history, sameStep)
	})
}

// above reports whether img has all layers of base.
func above(img, base *listed) bool {
	return len(base.Layers) == 0 || slices.Contains(img.Layers, base.Layers[0])
}

// dangling reports whether an image has no name and no other image was built on it.
func (l *imageList) dangling(img *listed) bool {
	return len(img.Names) == 0 && !l.intermediate(img)
}

func sameStep(a, b ocispec.History) bool {
	return a.CreatedBy == b.CreatedBy && a.EmptyLayer == b.EmptyLayer &&
		(a.Created == nil) == (b.Created == nil) && (a.Created == nil || a.Created.Equal(*b.Created))
}

// A filter reports whether an image stays in the list.
type filter func(img *listed) bool

// filters parses the values of --filter. An image has to match one of the filters with the same
// key, and the filters of all keys.
func (l *imageList) filters(args []string, n images.Names) (filter, error) {
	byKey := make(map[string][]filter)
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			return nil, fmt.Errorf("--filter %s: expected KEY=VALUE", arg)
		}

		key = strings.TrimSuffix(key, "!") // KEY!=VALUE
		negate := strings.HasSuffix(strings.TrimSuffix(arg, "="+value), "!")
		f, err := l.filter(key, value, n)
		if err != nil {
			return nil, fmt.Errorf("--filter %s: %w", arg, err)
		}
		if negate {
			byKey[arg] = append(byKey[arg], func(img *listed) bool { return !f(img) })
			continue
		}
		byKey[key] = append(byKey[key], f)
	}

	return func(img *listed) bool {
		for _, alternatives := range byKey {
			if !slices.ContainsFunc(alternatives, func(f filter) bool { return f(img) }) {
				return false
			}
		}
		return true
	}, nil
}

var errFilter = errors.New("no such filter (dangling, intermediate, reference, id, label, before, since, until, readonly, containers)")

func (l *imageList) filter(key, value string, n images.Names) (filter, error) {
	switch key {
	case "dangling", "intermediate", "readonly", "containers":
		return l.boolFilter(key, value)
	case "reference":
		return func(img *listed) bool {
			return slices.ContainsFunc(img.Names, func(name string) bool { return matchesReference(value, name) })
		}, nil
	case "id":
		return func(img *listed) bool { return strings.HasPrefix(img.ID, value) }, nil
	case "label":
		name, want, hasValue := strings.Cut(value, "=")
		return func(img *listed) bool {
			got, ok := img.labels()[name]
			return ok && (!hasValue || got == want)
		}, nil
	case "until":
		limit, err := parseUntil(value)
		return func(img *listed) bool { return img.Created.Before(limit) }, err
	case "before", "since", "after":
		_, img, _, err := l.stores.Lookup(value, n)
		if err != nil {
			return nil, err
		}
		limit := img.Created
		if key == "before" {
			return func(img *listed) bool { return img.Created.Before(limit) }, nil
		}
		return func(img *listed) bool { return img.Created.After(limit) }, nil
	}

	return nil, errFilter
}

// parseUntil reads a point in time as podman and docker do: a duration before now ("24h"), seconds
// since 1970, or a date.
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
		is = func(img *listed) bool { return img.ReadOnly }
	case "containers":
		is = func(img *listed) bool { return img.InUse }
	}

	return func(img *listed) bool { return is(img) == want }, nil
}

// matchesReference compares a name with a pattern, for example "team/*:1". The pattern may leave
// out the tag, the registry and any part of the path but the last, as in podman.
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

// imageRow is a line of rbuild images: a name of an image, or an image without names. The fields
// have the names that templates for podman and buildah use.
type imageRow struct {
	ID           string
	Name         string // repository; "<none>" without a name
	Repository   string // the same, with podman's name
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

// rows returns the lines of an image.
func (img *listed) rows(truncate bool) []imageRow {
	id := "sha256:" + img.ID
	if truncate {
		id = cli.ShortID(img.ID)
	}
	row := imageRow{
		ID:           id,
		Digest:       img.digest("").String(),
		Names:        img.Names,
		Created:      cli.HumanSince(img.Created),
		CreatedSince: cli.HumanSince(img.Created),
		CreatedAt:    img.Created.UTC().Format("2006-01-02 15:04:05 -0700 MST"),
		CreatedAtRaw: img.Created,
		Size:         cli.HumanSize(img.Size),
		ReadOnly:     img.ReadOnly,
		Dangling:     len(img.Names) == 0,
		History:      strings.Join(img.NamesHistory, ", "),
		Labels:       img.labels(),
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
		r.Digest = img.digest(name).String()
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
