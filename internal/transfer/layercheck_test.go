package transfer

import (
	"archive/tar"
	"bytes"
	"errors"
	"strings"
	"testing"
)

func hardlink(name, target string) *tarEntry {
	return &tarEntry{Header: tar.Header{Name: name, Linkname: target, Mode: 0o644, Typeflag: tar.TypeLink}}
}

func device(name string, major, minor int64) *tarEntry {
	return &tarEntry{Header: tar.Header{Name: name, Mode: 0o666, Typeflag: tar.TypeChar, Devmajor: major, Devminor: minor}}
}

// layerCases are layers that must be refused, with a part of the reason, and
// layers that must not ("").
var layerCases = []struct {
	name    string
	entries []*tarEntry
	entry   string // named by the refusal
	reason  string
}{
	{"plain", []*tarEntry{dirEntry("usr/"), entry("usr/f", "x"), hardlink("g", "usr/f"), symlink("l", "../../../etc/passwd")}, "", ""},
	{"absolute and dotted names", []*tarEntry{entry("/abs", "x"), entry("./dot", "x"), entry("a..b/..c/d..", "x")}, "", ""},
	{"whiteouts", []*tarEntry{entry(".wh.gone", ""), entry("d/.wh..wh..opq", "")}, "", ""},
	{"capability and user attributes", []*tarEntry{entry("f", "x").xattr("security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), entry("g", "x").xattr("user.overlayed", "1")}, "", ""},
	{"entries below a link inside", []*tarEntry{dirEntry("usr/lib"), symlink("lib", "usr/lib"), entry("lib/x", "x")}, "", ""},
	{"entries below a link that climbs inside", []*tarEntry{symlink("a/b/l", "../c"), entry("a/b/l/x", "x")}, "", ""},
	{"a link replaced by a directory", []*tarEntry{symlink("l", "/etc"), dirEntry("l"), entry("l/x", "x")}, "", ""},

	{"up and out", []*tarEntry{entry("../escape", "x")}, "../escape", `has ".."`},
	{"up and out later", []*tarEntry{entry("a/../../escape", "x")}, "a/../../escape", `has ".."`},
	{"up but not out", []*tarEntry{entry("a/../b", "x")}, "a/../b", `has ".."`},
	{"up at the end", []*tarEntry{dirEntry("a/..")}, "a/..", `has ".."`},
	{"absolute and up", []*tarEntry{entry("/../x", "x")}, "/../x", `has ".."`},
	{"hard link up", []*tarEntry{hardlink("h", "../../etc/shadow")}, "h", "hard link"},
	{"user.overlay.opaque", []*tarEntry{dirEntry("etc").xattr("user.overlay.opaque", "y")}, "etc", "user.overlay.opaque"},
	{"trusted.overlay.redirect", []*tarEntry{dirEntry("etc").xattr("trusted.overlay.redirect", "/root")}, "etc", "trusted.overlay.redirect"},
	{"user.overlay.metacopy", []*tarEntry{entry("f", "").xattr("user.overlay.metacopy", "")}, "f", "user.overlay.metacopy"},
	{"entry below an absolute link", []*tarEntry{symlink("l", "/etc"), entry("l/passwd", "x")}, "l", "symbolic link"},
	{"link after the entry", []*tarEntry{dirEntry("l"), entry("l/passwd", "x"), symlink("l", "/etc")}, "l", "symbolic link"},
	{"entry below a climbing link", []*tarEntry{symlink("a/l", "../../etc"), entry("a/l/passwd", "x")}, "a/l", "symbolic link"},
	{"deep entry below a link", []*tarEntry{symlink("l", "/"), entry("l/etc/passwd", "x")}, "l", "symbolic link"},
	{"link through a link", []*tarEntry{symlink("l", "m"), symlink("m", "/etc"), entry("l/passwd", "x")}, "l", "symbolic link"},
	{"link that climbs late", []*tarEntry{symlink("r", "."), symlink("l", "r/.."), entry("l/passwd", "x")}, "l", "symbolic link"},
	{"link below a link", []*tarEntry{symlink("x/y", ".."), symlink("x/y/b", ".."), entry("x/y/b/f", "x")}, "", "symbolic link"},
	{"whiteout of the parent", []*tarEntry{entry("d/.wh...", "")}, "d/.wh...", "whiteout"},
	{"whiteout of the directory", []*tarEntry{entry("d/.wh..", "")}, "d/.wh..", "whiteout"},
	{"device", []*tarEntry{device("dev/null", 1, 3)}, "", ""},
	{"hard link to what was a device", []*tarEntry{device("null", 1, 3), entry("null", "x"), hardlink("h", "null")}, "", ""},
	{"hard link to a device", []*tarEntry{device("./dev/null", 1, 3), hardlink("h", "/dev/null")}, "h", "hard link to the device"},
	{"whiteout of nothing", []*tarEntry{entry(".wh.", "")}, ".wh.", "whiteout"},
}

func TestCheckLayer(t *testing.T) {
	for _, tc := range layerCases {
		t.Run(tc.name, func(t *testing.T) {
			_, err := checkLayer(tar.NewReader(bytes.NewReader(layerTar(t, tc.entries...))), 0, nil)
			if tc.reason == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}

			var refused *RefusedError
			if !errors.As(err, &refused) {
				t.Fatalf("got %v, want a refusal", err)
			}
			if tc.entry != "" && refused.Entry != tc.entry || !strings.Contains(refused.Error(), tc.reason) {
				t.Errorf("refused %q because it %s; want %q, %s", refused.Entry, refused.Reason, tc.entry, tc.reason)
			}
		})
	}
}

func TestCheckLayerImpossibleSize(t *testing.T) {
	// Those of sparse files; archive/tar refuses the others.
	hdr := &tar.Header{Name: "f", Mode: 0o644, Typeflag: tar.TypeReg}
	for _, size := range []int64{-1, maxEntrySize + 1} {
		hdr.Size = size
		if refuse(hdr) == "" {
			t.Errorf("a size of %d is accepted", size)
		}
	}

	hdr.Size = maxEntrySize
	if reason := refuse(hdr); reason != "" {
		t.Errorf("the largest size is refused: %s", reason)
	}
}

// FuzzCheckLayer looks for tars on which the check panics, or that it accepts
// although a reader of its own sees an escaping name.
func FuzzCheckLayer(f *testing.F) {
	for _, tc := range layerCases {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for _, e := range tc.entries {
			if w.WriteHeader(&e.Header) == nil {
				_, _ = w.Write([]byte(e.content)) // a seed need not be whole
			}
		}
		_ = w.Close() // nor well-formed
		f.Add(buf.Bytes())
	}

	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := checkLayer(tar.NewReader(bytes.NewReader(data)), 0, nil); err != nil {
			return
		}
		for tr := tar.NewReader(bytes.NewReader(data)); ; {
			hdr, err := tr.Next()
			if err != nil {
				return
			}
			if name := "/" + hdr.Name + "/"; strings.Contains(name, "/../") {
				t.Errorf("accepted %q", hdr.Name)
			}
		}
	})
}
