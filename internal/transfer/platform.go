package transfer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"go.podman.io/image/v5/docker/reference"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/images/containers"
)

// A name of the store belongs to one image, and that is the one for the host's
// platform: other tools run it. An image that is pulled by name for another
// platform is therefore stored without a name, and what it was pulled as is
// noted beside it, as an item of its data, so that it is found again.

// pulledAs is the key of that item: full names, one a line.
const pulledAs = "rbuild-pulled-as"

// OtherPlatformError says that the store has an image of that name, for
// another platform, and why the wanted one cannot be had.
type OtherPlatformError struct {
	Name       string // as it was asked for
	Have, Want string // OS/ARCH[/VARIANT]
	Err        error
}

func (e *OtherPlatformError) Error() string {
	return fmt.Sprintf("%s is for %s in the store, wanted is %s: %v", e.Name, e.Have, e.Want, e.Err)
}

// Unwrap returns the reason.
func (e *OtherPlatformError) Unwrap() error { return e.Err }

// wanted is the platform that images are pulled for.
func (o Options) wanted() ocispec.Platform {
	return ocispec.Platform{
		OS: cmp.Or(o.Platform.OS, runtime.GOOS), Architecture: cmp.Or(o.Platform.Architecture, runtime.GOARCH), Variant: o.Platform.Variant,
	}
}

// foreign tells whether that is not the host's.
func (o Options) foreign() bool {
	w := o.wanted()
	return w.OS != runtime.GOOS || w.Architecture != runtime.GOARCH
}

// isFor tells whether the image is for the platform, as far as its config
// says, and what it says.
func isFor(st cs.Store, img *cs.Image, want ocispec.Platform) (bool, string) {
	var is ocispec.Platform
	config, err := containers.ConfigDigest(st, img)
	if err != nil {
		return true, ""
	}
	data, err := st.ImageBigData(img.ID, config.String())
	if err != nil || json.Unmarshal(data, &is) != nil || is.OS == "" || is.Architecture == "" {
		return true, ""
	}
	return samePlatform(is, want), platformText(is)
}

func samePlatform(is, want ocispec.Platform) bool {
	return is.OS == want.OS && is.Architecture == want.Architecture && (is.Variant == want.Variant || is.Variant == "" || want.Variant == "")
}

func platformText(p ocispec.Platform) string {
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// local finds the image of the store that name means, for the wanted platform.
// If there is one for another platform only, it returns that one's name and
// platform.
func (p puller) local(name string) (img *cs.Image, found, other string, err error) {
	if p.layout != nil {
		return p.layout.local(name, p.sys, p.o.wanted())
	}

	img, found, err = resolve(p.st, name, p.o)
	if err != nil && !errors.Is(err, ErrNotFound) || err == nil && found == img.ID {
		return img, found, "", err
	}

	if err == nil {
		var same bool
		if same, other = isFor(p.st, img, p.o.wanted()); same {
			return img, found, "", nil
		}
	}

	if p.o.foreign() {
		candidates, err := localCandidates(p.sys, name)
		if err != nil {
			return nil, "", "", err
		}
		for _, c := range candidates {
			if img := pulledFor(p.st, c.String(), p.o.wanted()); img != nil {
				return img, c.String(), "", nil
			}
		}
	}

	return nil, found, other, err
}

// pulledFor finds the image that was pulled by the full name for the platform.
func pulledFor(st cs.Store, name string, want ocispec.Platform) *cs.Image {
	for id, names := range pulledNames(st) {
		if !slices.Contains(names, name) {
			continue
		}
		img, err := st.Image(id)
		if err != nil || img.TopLayer != "" && !st.Exists(img.TopLayer) {
			continue
		}
		if same, _ := isFor(st, img, want); same {
			return img
		}
	}

	return nil
}

// pulledNames are the names that images were pulled by, by ID.
func pulledNames(st cs.Store) map[string][]string {
	out := map[string][]string{}
	images, err := st.Images()
	if err != nil {
		logrus.Debugf("Listing images: %v", err)
	}
	for _, img := range images {
		if !slices.Contains(img.BigDataNames, pulledAs) {
			continue
		}
		if data, err := st.ImageBigData(img.ID, pulledAs); err == nil {
			out[img.ID] = strings.Fields(string(data))
		}
	}

	return out
}

// recordPulled notes that the image is what the name means for its platform
// now. Without the note it is pulled again next time, so that failing to write
// it is no error.
func recordPulled(st cs.Store, id string, name reference.Named, want ocispec.Platform) {
	known := pulledNames(st)
	for other, names := range known {
		img, err := st.Image(other)
		if err != nil || other == id || !slices.Contains(names, name.String()) {
			continue
		}
		if same, _ := isFor(st, img, want); same {
			writePulled(st, other, slices.DeleteFunc(names, func(n string) bool { return n == name.String() }))
		}
	}

	if !slices.Contains(known[id], name.String()) {
		writePulled(st, id, append(known[id], name.String()))
	}
}

func writePulled(st cs.Store, id string, names []string) {
	if err := st.SetImageBigData(id, pulledAs, []byte(strings.Join(names, "\n")), nil); err != nil {
		logrus.Debugf("Noting what image %s was pulled as: %v", id, err)
	}
}
