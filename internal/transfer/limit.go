package transfer

import (
	"context"
	"errors"
	"fmt"

	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"
)

// LayersError says that an image has more layers than Options allow. No layer has been pulled.
type LayersError struct {
	Name       string
	Have, Most int
}

func (e *LayersError) Error() string {
	return fmt.Sprintf("%s has %d layers, more than the %d that overlayfs can stack: use a base with fewer layers, "+
		"for example a base that was built with --squash or --layers=false", e.Name, e.Have, e.Most)
}

// limitedReference is a source that refuses an image with too many layers as soon as its manifest
// is known.
type limitedReference struct {
	types.ImageReference
	most int
	name string // in messages
}

// NewImageSource returns the source without a wrapper, because the library asks sources for methods
// beyond the interface.
func (r limitedReference) NewImageSource(ctx context.Context, sys *types.SystemContext) (types.ImageSource, error) {
	src, err := r.ImageReference.NewImageSource(ctx, sys)
	if err != nil {
		return nil, err
	}
	if err := r.check(ctx, src, sys); err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return src, nil
}

// check counts the layers of the image that is chosen for sys. A manifest that cannot be read is
// accepted: the copy knows more formats and gives a better error.
func (r limitedReference) check(ctx context.Context, src types.ImageSource, sys *types.SystemContext) error {
	raw, mediaType, err := src.GetManifest(ctx, nil)
	if err != nil {
		return err
	}

	if manifest.MIMETypeIsMultiImage(mediaType) {
		list, err := manifest.ListFromBlob(raw, mediaType)
		if err != nil {
			return nil //nolint:nilerr // left to the copy
		}
		instance, err := list.ChooseInstance(sys)
		if err != nil {
			return nil //nolint:nilerr // left to the copy
		}
		if raw, mediaType, err = src.GetManifest(ctx, &instance); err != nil {
			return err
		}
	}

	m, err := manifest.FromBlob(raw, mediaType)
	if err != nil {
		return nil //nolint:nilerr // left to the copy
	}
	if n := len(m.LayerInfos()); n > r.most {
		return &LayersError{Name: r.name, Have: n, Most: r.most}
	}

	return nil
}
