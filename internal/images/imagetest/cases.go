package imagetest

// LayerCase is a layer for the check of package layercheck.
type LayerCase struct {
	Name    string
	Entries []*Entry
	Entry   string // that the refusal names; "": any entry
	Reason  string // a part of the reason; "": the layer is accepted
}

// LayerCases returns layers that must be refused, and honest layers that must be accepted.
func LayerCases() []LayerCase {
	return []LayerCase{
		{"plain", []*Entry{Dir("usr/"), File("usr/f", "x"), Hardlink("g", "usr/f"), Symlink("l", "../../../etc/passwd")}, "", ""},
		{"absolute and dotted names", []*Entry{File("/abs", "x"), File("./dot", "x"), File("a..b/..c/d..", "x")}, "", ""},
		{"whiteouts", []*Entry{File(".wh.gone", ""), File("d/.wh..wh..opq", "")}, "", ""},
		{"capability and user attributes", []*Entry{File("f", "x").Xattr("security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), File("g", "x").Xattr("user.overlayed", "1")}, "", ""},
		{"entries below a link inside", []*Entry{Dir("usr/lib"), Symlink("lib", "usr/lib"), File("lib/x", "x")}, "", ""},
		{"entries below a link that climbs inside", []*Entry{Symlink("a/b/l", "../c"), File("a/b/l/x", "x")}, "", ""},
		{"a link replaced by a directory", []*Entry{Symlink("l", "/etc"), Dir("l"), File("l/x", "x")}, "", ""},

		{"up and out", []*Entry{File("../escape", "x")}, "../escape", `has ".."`},
		{"up and out later", []*Entry{File("a/../../escape", "x")}, "a/../../escape", `has ".."`},
		{"up but not out", []*Entry{File("a/../b", "x")}, "a/../b", `has ".."`},
		{"up at the end", []*Entry{Dir("a/..")}, "a/..", `has ".."`},
		{"absolute and up", []*Entry{File("/../x", "x")}, "/../x", `has ".."`},
		{"hard link up", []*Entry{Hardlink("h", "../../etc/shadow")}, "h", "hard link"},
		{"user.overlay.opaque", []*Entry{Dir("etc").Xattr("user.overlay.opaque", "y")}, "etc", "user.overlay.opaque"},
		{"trusted.overlay.redirect", []*Entry{Dir("etc").Xattr("trusted.overlay.redirect", "/root")}, "etc", "trusted.overlay.redirect"},
		{"user.overlay.metacopy", []*Entry{File("f", "").Xattr("user.overlay.metacopy", "")}, "f", "user.overlay.metacopy"},
		{"entry below an absolute link", []*Entry{Symlink("l", "/etc"), File("l/passwd", "x")}, "l", "symbolic link"},
		{"link after the entry", []*Entry{Dir("l"), File("l/passwd", "x"), Symlink("l", "/etc")}, "l", "symbolic link"},
		{"entry below a climbing link", []*Entry{Symlink("a/l", "../../etc"), File("a/l/passwd", "x")}, "a/l", "symbolic link"},
		{"deep entry below a link", []*Entry{Symlink("l", "/"), File("l/etc/passwd", "x")}, "l", "symbolic link"},
		{"link through a link", []*Entry{Symlink("l", "m"), Symlink("m", "/etc"), File("l/passwd", "x")}, "l", "symbolic link"},
		{"link that climbs late", []*Entry{Symlink("r", "."), Symlink("l", "r/.."), File("l/passwd", "x")}, "l", "symbolic link"},
		{"link below a link", []*Entry{Symlink("x/y", ".."), Symlink("x/y/b", ".."), File("x/y/b/f", "x")}, "", "symbolic link"},
		{"whiteout of the parent", []*Entry{File("d/.wh...", "")}, "d/.wh...", "whiteout"},
		{"whiteout of the directory", []*Entry{File("d/.wh..", "")}, "d/.wh..", "whiteout"},
		{"device", []*Entry{Device("dev/null", 1, 3)}, "", ""},
		{"hard link to what was a device", []*Entry{Device("null", 1, 3), File("null", "x"), Hardlink("h", "null")}, "", ""},
		{"hard link to a device", []*Entry{Device("./dev/null", 1, 3), Hardlink("h", "/dev/null")}, "h", "hard link to the device"},
		{"whiteout of nothing", []*Entry{File(".wh.", "")}, ".wh.", "whiteout"},
	}
}
