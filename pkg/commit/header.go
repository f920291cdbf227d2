package commit

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

const (
	// The names of whiteouts: image-spec layer.md, "Whiteouts".
	whiteoutPrefix = ".wh."
	opaqueMarker   = ".wh..wh..opq"

	// maxPath is PATH_MAX of include/uapi/linux/limits.h in bytes, including the terminating NUL.
	maxPath = 4096

	capabilityXattr = "security.capability"
	// paxXattr is the prefix of PAX keys for extended attributes. The archiver star introduced it.
	paxXattr = "SCHILY.xattr."
	// noOverlay is a prefix that no extended attribute has: no attribute is an overlayfs mark then.
	noOverlay = "\x00"
)

// attributes holds the meaning of the extended attributes of a file.
type attributes struct {
	kept map[string]string // PAX records, nil if there are none
	// opaque is the value of overlay's attribute "opaque": "", "y" (lower entries are hidden) or
	// "x" (regular files may be whiteouts).
	opaque    string
	whiteout  bool   // the regular file is a whiteout
	forbidden string // name of an attribute that says that the content of the file is elsewhere
}

// add adds the attribute name. prefix is the prefix of overlay's own attributes, for example
// "user.overlay.". Attributes that a layer does not keep are ignored.
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

// keptXattr reports whether a layer keeps the attribute name. Attributes of overlayfs, also escaped
// attributes (user.overlay.overlay.*), are dropped: the overlay mount of a reader who unpacks the
// layer would obey them.
func keptXattr(name string) bool {
	if strings.HasPrefix(name, "user.overlay.") {
		return false
	}
	return name == capabilityXattr || strings.HasPrefix(name, "user.")
}

// portableCapability converts a file capability of revision 3 that belongs to root of this user
// namespace (struct vfs_ns_cap_data of include/uapi/linux/capability.h) to revision 2, which
// belongs to root of any namespace. Other values are returned unchanged.
func portableCapability(value string) string {
	const (
		revisionMask = 0xff000000
		revision2    = 0x02000000
		revision3    = 0x03000000
		sizeOf2      = 20
		sizeOf3      = 24
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

// modTime returns the time of the entry of a file that was modified at sec, in whole seconds, by
// the rules of Epoch and Clamp.
func (o *TarOptions) modTime(sec int64) time.Time {
	if o.Epoch != nil && (!o.Clamp || sec > o.Epoch.Unix()) {
		sec = o.Epoch.Unix()
	}
	return time.Unix(sec, 0)
}

// header returns a header with the fields that all types of files have.
func (o *TarOptions) header(kind byte, path string, mode, uid, gid uint32, sec int64) *tar.Header {
	return &tar.Header{
		Typeflag: kind,
		Name:     path,
		Mode:     int64(mode & 0o7777),
		Uid:      int(uid),
		Gid:      int(gid),
		ModTime:  o.modTime(sec),
		Format:   tar.FormatPAX,
	}
}

// markerHeader returns the header of a whiteout: an empty file of root without permissions.
func markerHeader(name string, modTime time.Time) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, ModTime: modTime, Format: tar.FormatPAX}
}

// encode writes the blocks of a header to buf, including PAX records.
func encode(buf *bytes.Buffer, h *tar.Header) error {
	// Each header has its own tar.Writer, because a tar.Writer for all headers would need the
	// payloads too. Payloads are read straight into the chunks of the stream.
	if err := tar.NewWriter(buf).WriteHeader(h); err != nil {
		return fmt.Errorf("describing %q in a tar header: %w", h.Name, err)
	}
	return nil
}
