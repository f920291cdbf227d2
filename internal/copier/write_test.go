package copier

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/treetest"
)

// do selects from the context dir, without the files that the patterns of ignore match, and writes
// below root.
func do(t *testing.T, dir string, ignore []string, root string, spec Spec) error {
	t.Helper()
	tree, err := OpenContext(dir, ignore)
	if err != nil {
		return err
	}
	defer tree.Close()
	return doTree(t, tree, root, spec)
}

// doTree selects from tree and writes below root.
func doTree(t *testing.T, tree *Tree, root string, spec Spec) error {
	t.Helper()
	sel, err := Select(context.Background(), tree, spec)
	if err != nil {
		return err
	}
	defer sel.Close()

	r, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return sel.Write(context.Background(), fdfs.OnDisk(r))
}

// plainContext are the files of the context of most cases.
var plainContext = []string{
	"f f 644 F", "f g 600 G", "d d 1777", "f d/y 4711 Y", "d d/in 751", "f d/in/x 644 X",
	"l link-to-file f", "l link-to-dir d", "l chain link-to-file", "l escape ../../../../f", "l abs /d/y", "l dangling nowhere",
	"l tree/rel ../f", "l tree/abs /etc/passwd", "l tree/dirlink sub", "f tree/sub/s 644 S",
	"f file1.txt 644 1", "f file2.txt 644 2", "f arr[0].txt 644 0", "f .hidden.txt 644 h",
	"f dir1/x 644 1", "f dir2/y 644 2", "f dir1/sub/a.cfg 644 c", "f dir2/b.cfg 644 c2",
	"f hl/a 644 L", "h hl/b hl/a", "p special/fifo 640",
	"f same/f 644 later", "f same/g 644 later", "f same/a 644 other", "f dup/a 644 last", "d setgid 2775",
}

// TestWrite copies sources into a root and lists the result.
func TestWrite(t *testing.T) {
	nstest.Need(t)
	src := treetest.Build(t, t.TempDir(), plainContext...)
	for _, tc := range []struct {
		name string
		spec Spec
		root []string // what is there before
		want []string
		err  string
	}{
		{name: "file to a name", spec: Spec{Sources: []string{"f"}, Dest: "/a/b"}, want: []string{
			"a directory 0755 0:0", "a/b regular 0644 0:0 F",
		}},
		{name: "file into a directory", spec: Spec{Sources: []string{"/g"}, Dest: "/a/b/"}, want: []string{
			"a directory 0755 0:0", "a/b directory 0755 0:0", "a/b/g regular 0600 0:0 G",
		}},
		{name: "file into a directory that exists", spec: Spec{Sources: []string{"g"}, Dest: "/a"}, root: []string{"d a 700"}, want: []string{
			"a directory 0700 0:0", "a/g regular 0600 0:0 G",
		}},
		{name: "source above the root", spec: Spec{Sources: []string{"../../f"}, Dest: "/x"}, want: []string{"x regular 0644 0:0 F"}},
		{name: "dots in the destination", spec: Spec{Sources: []string{"f"}, Dest: "/no/../x/./."}, want: []string{
			"x directory 0755 0:0", "x/f regular 0644 0:0 F",
		}},
		{name: "destination above the root", spec: Spec{Sources: []string{"f"}, Dest: "/../../x"}, want: []string{"x regular 0644 0:0 F"}},
		{name: "several need a slash", spec: Spec{Sources: []string{"f", "g"}, Dest: "/x"}, err: "/x"},
		{name: "several", spec: Spec{Sources: []string{"f", "d"}, Inline: []File{{"E", []byte("e")}}, Dest: "/x/"}, want: []string{
			"x directory 0755 0:0", "x/E regular 0644 0:0 e", "x/f regular 0644 0:0 F", "x/in directory 0751 0:0",
			"x/in/x regular 0644 0:0 X", "x/y regular 0711 0:0 Y",
		}},
		{name: "directory", spec: Spec{Sources: []string{"d"}, Dest: "/x"}, want: []string{
			"x directory 0755 0:0", "x/in directory 0751 0:0", "x/in/x regular 0644 0:0 X", "x/y regular 0711 0:0 Y",
		}},
		{name: "directory into one that exists", spec: Spec{Sources: []string{"d/."}, Dest: "/x"}, root: []string{"d x 711", "d x/in 700"}, want: []string{
			"x directory 0711 0:0", "x/in directory 0751 0:0", "x/in/x regular 0644 0:0 X", "x/y regular 0711 0:0 Y",
		}},
		{name: "directory onto a file", spec: Spec{Sources: []string{"d"}, Dest: "/x"}, root: []string{"f x 644 old"}, err: "/x"},
		{name: "file onto a directory below", spec: Spec{Sources: []string{"dir1"}, Dest: "/"}, root: []string{"d x/y 755"}, err: "x"},
		{name: "directory meets a link", spec: Spec{Sources: []string{"d"}, Dest: "/"}, root: []string{"d usr/in 755", "l in usr/in"}, err: "in"},
		{name: "link meets a directory", spec: Spec{Sources: []string{"tree"}, Dest: "/"}, root: []string{"d dirlink 755"}, err: "dirlink"},
		{name: "file replaces a link in a tree", spec: Spec{Sources: []string{"dir1"}, Dest: "/"}, root: []string{"f old 644 o", "l x old"}, want: []string{
			"old regular 0644 0:0 o", "sub directory 0755 0:0", "sub/a.cfg regular 0644 0:0 c", "x regular 0644 0:0 1",
		}},
		{name: "file through a link", spec: Spec{Sources: []string{"f"}, Dest: "/l"}, root: []string{"f r/file 600 old", "l l r/file"}, want: []string{
			"l -> r/file 0:0", "r directory 0755 0:0", "r/file regular 0644 0:0 F",
		}},
		{name: "file through a dangling link", spec: Spec{Sources: []string{"f"}, Dest: "/l"}, root: []string{"l l ../../no/where"}, want: []string{
			"l -> ../../no/where 0:0", "no directory 0755 0:0", "no/where regular 0644 0:0 F",
		}},
		{name: "directory through links", spec: Spec{Sources: []string{"f"}, Dest: "/l/m/n"}, root: []string{"d r 755", "l l r", "l r/m /missing/dir"}, want: []string{
			"l -> r 0:0", "missing directory 0755 0:0", "missing/dir directory 0755 0:0", "missing/dir/n regular 0644 0:0 F",
			"r directory 0755 0:0", "r/m -> /missing/dir 0:0",
		}},
		{name: "loop", spec: Spec{Sources: []string{"f"}, Dest: "/l/x"}, root: []string{"l l m", "l m l"}, err: "/l/x"},
		{name: "source links", spec: Spec{Sources: []string{"link-to-file", "link-to-dir/in", "chain", "escape", "abs"}, Dest: "/x/"}, want: []string{
			"x directory 0755 0:0", "x/abs regular 0711 0:0 Y", "x/chain regular 0644 0:0 F", "x/escape regular 0644 0:0 F",
			"x/link-to-file regular 0644 0:0 F", "x/x regular 0644 0:0 X",
		}},
		{name: "source link to a directory", spec: Spec{Sources: []string{"link-to-dir"}, Dest: "/x"}, want: []string{
			"x directory 0755 0:0", "x/in directory 0751 0:0", "x/in/x regular 0644 0:0 X", "x/y regular 0711 0:0 Y",
		}},
		{name: "dangling source", spec: Spec{Sources: []string{"dangling"}, Dest: "/x"}, err: "dangling"},
		{name: "missing source", spec: Spec{Sources: []string{"no/such"}, Dest: "/x"}, err: "no/such"},
		{name: "links in a tree", spec: Spec{Sources: []string{"tree"}, Dest: "/x"}, want: []string{
			"x directory 0755 0:0", "x/abs -> /etc/passwd 0:0", "x/dirlink -> sub 0:0", "x/rel -> ../f 0:0",
			"x/sub directory 0755 0:0", "x/sub/s regular 0644 0:0 S",
		}},
		{name: "star", spec: Spec{Sources: []string{"*.txt"}, Dest: "/x/"}, want: []string{
			"x directory 0755 0:0", "x/.hidden.txt regular 0644 0:0 h", "x/arr[0].txt regular 0644 0:0 0",
			"x/file1.txt regular 0644 0:0 1", "x/file2.txt regular 0644 0:0 2",
		}},
		{name: "class", spec: Spec{Sources: []string{"file[^1].txt"}, Dest: "/x"}, want: []string{"x regular 0644 0:0 2"}},
		{name: "escaped", spec: Spec{Sources: []string{"arr[[]0].txt"}, Dest: "/x/"}, want: []string{
			"x directory 0755 0:0", "x/arr[0].txt regular 0644 0:0 0",
		}},
		{name: "pattern of directories", spec: Spec{Sources: []string{"dir*/"}, Dest: "/x/"}, want: []string{
			"x directory 0755 0:0", "x/b.cfg regular 0644 0:0 c2", "x/sub directory 0755 0:0",
			"x/sub/a.cfg regular 0644 0:0 c", "x/x regular 0644 0:0 1", "x/y regular 0644 0:0 2",
		}},
		{name: "two stars are one", spec: Spec{Sources: []string{"**/*.cfg"}, Dest: "/x/"}, want: []string{
			"x directory 0755 0:0", "x/b.cfg regular 0644 0:0 c2",
		}},
		{name: "nothing matches", spec: Spec{Sources: []string{"none*", "no/such/*"}, Dest: "/x/"}},
		{name: "several match without a slash", spec: Spec{Sources: []string{"file*.txt"}, Dest: "/x"}, err: "/x"},
		{name: "several match a directory that exists", spec: Spec{Sources: []string{"file*.txt"}, Dest: "/x"}, root: []string{"d x 755"}, want: []string{
			"x directory 0755 0:0", "x/file1.txt regular 0644 0:0 1", "x/file2.txt regular 0644 0:0 2",
		}},
		{name: "bad pattern", spec: Spec{Sources: []string{"[a"}, Dest: "/x"}, err: "[a"},
		{name: "hard links", spec: Spec{Sources: []string{"hl"}, Dest: "/x"}, want: []string{
			"x directory 0755 0:0", "x/a regular 0644 0:0 L =x/a", "x/b regular 0644 0:0 L =x/a",
		}},
		{name: "hard links over files", spec: Spec{Sources: []string{"hl"}, Dest: "/x"}, root: []string{"f x/b 600 old"}, want: []string{
			"x directory 0755 0:0", "x/a regular 0644 0:0 L =x/a", "x/b regular 0644 0:0 L =x/a",
		}},
		{name: "same name twice", spec: Spec{Sources: []string{"f", "same/f", "g", "same/g"}, Dest: "/x/"}, want: []string{
			"x directory 0755 0:0", "x/f regular 0644 0:0 later", "x/g regular 0644 0:0 later",
		}},
		{name: "first name of a hard link replaced", spec: Spec{Sources: []string{"hl/a", "same/f", "same/a", "dup/a", "hl/b"}, Dest: "/x/"}, want: []string{
			"x directory 0755 0:0", "x/a regular 0644 0:0 last", "x/b regular 0644 0:0 L", "x/f regular 0644 0:0 later",
		}},
		{name: "fifo", spec: Spec{Sources: []string{"special"}, Dest: "/x", Chown: &fdfs.Owner{UID: 5, GID: 6}}, want: []string{
			"x directory 0755 5:6", "x/fifo fifo 0640 5:6",
		}},
		{name: "setgid of directories", spec: Spec{Sources: []string{"set*/../setgid/..", "f"}, Dest: "/x/", Exclude: []string{"*", "!setgid"}}, want: []string{
			"x directory 0755 0:0", "x/f regular 0644 0:0 F", "x/setgid directory 2775 0:0",
		}},
		{name: "chown", spec: Spec{Sources: []string{"tree"}, Dest: "/new/made", Chown: &fdfs.Owner{UID: 5, GID: 6}}, want: []string{
			"new directory 0755 5:6", "new/made directory 0755 5:6", "new/made/abs -> /etc/passwd 5:6", "new/made/dirlink -> sub 5:6",
			"new/made/rel -> ../f 5:6", "new/made/sub directory 0755 5:6", "new/made/sub/s regular 0644 5:6 S",
		}},
		{name: "owner out of range", spec: Spec{Sources: []string{"f"}, Dest: "/x", Chown: &fdfs.Owner{UID: 4000000000, GID: 0}}, err: "4000000000:0"},
		{name: "chmod", spec: Spec{Sources: []string{"d"}, Dest: "/n/x", Chmod: "4750"}, want: []string{
			"n directory 0750 0:0", "n/x directory 0750 0:0", "n/x/in directory 4750 0:0", "n/x/in/x regular 4750 0:0 X", "n/x/y regular 4750 0:0 Y",
		}},
		{name: "symbolic chmod", spec: Spec{Sources: []string{"d"}, Dest: "/x", Chmod: "u=rwX,go="}, want: []string{
			"x directory 0700 0:0", "x/in directory 0700 0:0", "x/in/x regular 0600 0:0 X", "x/y regular 0700 0:0 Y",
		}},
		{name: "chmod too large", spec: Spec{Sources: []string{"d"}, Dest: "/x", Chmod: "10000"}, err: "10000"},
		{name: "here-documents", spec: Spec{Inline: []File{{"a", nil}, {"b", []byte("$V\n")}}, Dest: "/x/", Chmod: "755"}, want: []string{
			"x directory 0755 0:0", "x/a regular 0755 0:0 ", "x/b regular 0755 0:0 $V",
		}},
		{name: "name of a whiteout", spec: Spec{Sources: []string{"f"}, Dest: "/.wh.f"}, err: ".wh.f"},
		{name: "directory of a whiteout's name", spec: Spec{Sources: []string{"f"}, Dest: "/.wh.d/f"}, err: ".wh.d"},
		{name: "relative destination", spec: Spec{Sources: []string{"f"}, Dest: "x"}, err: `"x"`},
		{name: "parents", spec: Spec{Sources: []string{"dir1/sub/a.cfg", "d/./in/x", "di?2/./*.cfg"}, Dest: "/x/", Parents: true}, root: []string{"d x/dir1 700"}, want: []string{
			"x directory 0755 0:0", "x/b.cfg regular 0644 0:0 c2", "x/dir1 directory 0700 0:0", "x/dir1/sub directory 0755 0:0",
			"x/dir1/sub/a.cfg regular 0644 0:0 c", "x/in directory 0751 0:0", "x/in/x regular 0644 0:0 X",
		}},
		{name: "parents with two stars", spec: Spec{Sources: []string{"dir*/**/*.cfg"}, Dest: "/x/", Parents: true}, want: []string{
			"x directory 0755 0:0", "x/dir1 directory 0755 0:0", "x/dir1/sub directory 0755 0:0",
			"x/dir1/sub/a.cfg regular 0644 0:0 c", "x/dir2 directory 0755 0:0", "x/dir2/b.cfg regular 0644 0:0 c2",
		}},
		{name: "parents of a directory", spec: Spec{Sources: []string{"dir1/sub"}, Dest: "/x", Parents: true}, want: []string{
			"x directory 0755 0:0", "x/dir1 directory 0755 0:0", "x/dir1/sub directory 0755 0:0", "x/dir1/sub/a.cfg regular 0644 0:0 c",
		}},
		{name: "parents of all", spec: Spec{Sources: []string{"./"}, Dest: "/x", Parents: true}, err: "./"},
		{name: "parents of nothing", spec: Spec{Sources: []string{"dir1/no"}, Dest: "/x", Parents: true}, err: "dir1/no"},
		{name: "parents of a pattern that matches nothing", spec: Spec{Sources: []string{"no*"}, Dest: "/x/y/", Parents: true}, want: []string{
			"x directory 0755 0:0", "x/y directory 0755 0:0",
		}},
		{name: "parents of nothing behind a pivot", spec: Spec{Sources: []string{"dir1/./no*", "dir*/./no*", "no*/./a"}, Dest: "/x/", Parents: true, Chmod: "700"}, want: []string{"x directory 0700 0:0"}},
		{name: "parents without a match before the pivot", spec: Spec{Sources: []string{"no*/./a"}, Dest: "/x/", Parents: true}},
		{name: "parents that are all excluded", spec: Spec{Sources: []string{"dir1/sub"}, Dest: "/x", Parents: true, Exclude: []string{"dir1"}}, err: "dir1/sub"},
		{name: "parents of which a pattern is excluded", spec: Spec{Sources: []string{"dir*"}, Dest: "/x", Parents: true, Exclude: []string{"dir*"}}, want: []string{"x directory 0755 0:0"}},
		{name: "parents below a missing directory", spec: Spec{Sources: []string{"nodir/./no*"}, Dest: "/x/", Parents: true}, err: "nodir"},
		{name: "pattern that matches nothing", spec: Spec{Sources: []string{"no*", "dir1/no*"}, Dest: "/x/"}},
		{name: "added pattern that matches nothing", spec: Spec{Sources: []string{"no*"}, Dest: "/x/", Add: true}},
		{name: "directory of which all is excluded", spec: Spec{Sources: []string{"dir1"}, Dest: "/x/", Exclude: []string{"*"}}, want: []string{"x directory 0755 0:0"}},
		{name: "exclude", spec: Spec{Sources: []string{"dir1", "f*", "dir2/*"}, Dest: "/x/", Exclude: []string{"sub", "*.txt", "y", "b.cfg"}}, want: []string{
			"x directory 0755 0:0", "x/b.cfg regular 0644 0:0 c2", "x/f regular 0644 0:0 F", "x/file1.txt regular 0644 0:0 1",
			"x/file2.txt regular 0644 0:0 2", "x/x regular 0644 0:0 1", "x/y regular 0644 0:0 2",
		}},
		{name: "exclude below", spec: Spec{Sources: []string{"dir1"}, Dest: "/x/", Exclude: []string{"**/*.cfg"}}, want: []string{
			"x directory 0755 0:0", "x/sub directory 0755 0:0", "x/x regular 0644 0:0 1",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := treetest.Build(t, t.TempDir(), tc.root...)
			err := do(t, src, nil, root, tc.spec)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one that names %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, treetest.List(t, root)); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLinkTimes: directories that a COPY --link makes on the way to its destination have the time
// of the latest source.
func TestLinkTimes(t *testing.T) {
	nstest.Need(t)
	src := treetest.Build(t, t.TempDir(), "f a 644 A", "f b 644 B", "f d/in/x 644 X", "f e/x 644 X")
	for name, sec := range map[string]int64{"a": 1000, "b": 2000, "d/in/x": 5000, "d/in": 4000, "d": 3000, "e": 500} {
		if err := os.Chtimes(filepath.Join(src, name), time.Unix(sec, 0), time.Unix(sec, 0)); err != nil {
			t.Fatal(err)
		}
	}

	for _, tc := range []struct {
		name string
		spec Spec
		root []string         // what is there before
		want map[string]int64 // time by path
	}{
		{name: "file", spec: Spec{Sources: []string{"a"}, Dest: "/x/y/z"}, want: map[string]int64{"x": 1000, "x/y": 1000, "x/y/z": 1000}},
		{name: "files", spec: Spec{Sources: []string{"b", "a"}, Dest: "/x/y/"}, want: map[string]int64{"x": 2000, "x/y": 2000, "x/y/a": 1000}},
		{name: "directory", spec: Spec{Sources: []string{"d"}, Dest: "/x/y"}, want: map[string]int64{"x": 3000, "x/y": 3000, "x/y/in": 4000}},
		{name: "directories", spec: Spec{Sources: []string{"e", "d"}, Dest: "/x/"}, want: map[string]int64{"x": 3000, "x/in": 4000, "x/x": -1}},
		{name: "parents", spec: Spec{Sources: []string{"d/in/x"}, Dest: "/x/", Parents: true}, want: map[string]int64{"x/d": 3000, "x/d/in": 4000, "x/d/in/x": 5000}},
		{name: "what is there", spec: Spec{Sources: []string{"a"}, Dest: "/x/y/z"}, root: []string{"d x 755"}, want: map[string]int64{"x": -1, "x/y": 1000}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := treetest.Build(t, t.TempDir(), tc.root...)
			tc.spec.Link = true
			if err := do(t, src, nil, root, tc.spec); err != nil {
				t.Fatal(err)
			}
			for name, want := range tc.want {
				info, err := os.Stat(filepath.Join(root, name))
				if err != nil || (want >= 0) != (info.ModTime().Unix() == want) {
					t.Errorf("%s has the time %v, want %d (-1: the build's), %v", name, info.ModTime().Unix(), want, err)
				}
			}
		})
	}
}
