package layer

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

const (
	// whiteoutPrefix and opaqueMarker are fixed by image-spec layer.md, "Whiteouts".
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"

	// maxPath is PATH_MAX of include/uapi/linux/limits.h; it counts the terminating NUL.
	maxPath = 4096

	capabilityXattr = "security.capability"
	// paxXattr is the key prefix that star invented and every tar reader of this field knows.
	paxXattr = "SCHILY.xattr."
)

// attributes is what the extended attributes of one file say.
type attributes struct {
	kept      map[string]string // PAX records, nil if none
	opaque    string            // value of overlay's "opaque": "", "y" (hides what is below) or "x" (may hold file whiteouts)
	whiteout  bool              // overlay's mark of a whiteout that is a regular file
	forbidden string            // name of an attribute that makes the directory tell less than the whole truth
}

// add takes one attribute into account; prefix is overlay's own. Attributes that are not kept are ignored.
func (a *attributes) add(prefix, name, value string) {
	if own, ok := strings.CutPrefix(name, prefix); ok {
		switch own {
		case "opaque":
			a.opaque = value
		case "whiteout":
			a.whiteout = true
		case "redirect", "metacopy":
			a.forbidden = name
		}
		return
	}
	if !keptXattr(name) {
		return
	}

	if name == capabilityXattr {
		value = portableCapability(value)
	}
	if a.kept == nil {
		a.kept = map[string]string{}
	}
	a.kept[paxXattr+name] = value
}

// keptXattr tells whether an attribute belongs into a layer. Those of any overlay, also escaped ones
// (user.overlay.overlay.*), would be obeyed by the overlay mount of whoever unpacks the layer.
func keptXattr(name string) bool {
	if strings.HasPrefix(name, "user.overlay.") {
		return false
	}
	return name == capabilityXattr || strings.HasPrefix(name, "user.")
}

// portableCapability turns revision 3 of a file capability (struct vfs_ns_cap_data of
// include/uapi/linux/capability.h) that belongs to root of this user namespace into revision 2, which means the
// root of any namespace. Other values are returned as they are.
func portableCapability(value string) string {
	const (
		revisionMask, revision2, revision3 = 0xff000000, 0x02000000, 0x03000000
		sizeOf2, sizeOf3                   = 20, 24
	)

	raw := []byte(value)
	if len(raw) != sizeOf3 {
		return value
	}

	magic := binary.LittleEndian.Uint32(raw)
	if magic&revisionMask != revision3 || binary.LittleEndian.Uint32(raw[sizeOf2:]) != 0 {
		return value
	}

	binary.LittleEndian.PutUint32(raw, magic&^revisionMask|revision2)
	return string(raw[:sizeOf2])
}

// modTime is the time an entry gets for a file modified at sec: whole seconds, under the rules of Epoch and Clamp.
func (o *Options) modTime(sec int64) time.Time {
	if o.Epoch != nil && (!o.Clamp || sec > o.Epoch.Unix()) {
		sec = o.Epoch.Unix()
	}
	return time.Unix(sec, 0)
}

// header describes a file, but for what only some types have.
func (o *Options) header(kind byte, path string, mode, uid, gid uint32, sec int64) *tar.Header {
	return &tar.Header{
		Typeflag: kind, Name: path, Mode: int64(mode & 0o7777), Uid: int(uid), Gid: int(gid),
		ModTime: o.modTime(sec), Format: tar.FormatPAX,
	}
}

// markerHeader describes an empty file without permissions, owned by root: what whiteouts are in a tar.
func markerHeader(name string, modTime time.Time) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, ModTime: modTime, Format: tar.FormatPAX}
}

// encode writes the blocks of one header to buf, PAX records included.
func encode(buf *bytes.Buffer, h *tar.Header) error {
	// A writer for each header: one that lives longer would want to see the payload, which is read
	// straight into the chunks of the stream instead.
	if err := tar.NewWriter(buf).WriteHeader(h); err != nil {
		return fmt.Errorf("describing %q in a tar header: %w", h.Name, err)
	}
	return nil
}
