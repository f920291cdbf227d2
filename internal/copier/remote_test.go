package copier

import (
	"crypto/sha256"
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

// fetchedFile returns a Remote of a file.
func fetchedFile(t *testing.T, name, text string) Remote {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return Remote{Text: "http://h/" + name, Name: name, File: f, Size: int64(len(text)), Sum: sha256.Sum256([]byte(text)), Time: time.Unix(1e9, 0)}
}

// fetchedTree returns a Remote of a git repository.
func fetchedTree(t *testing.T, commit string, lines ...string) Remote {
	t.Helper()
	tree, err := OpenContext(treetest.Build(t, t.TempDir(), lines...), nil)
	if err != nil {
		t.Fatal(err)
	}
	return Remote{Text: "http://h/x.git", Tree: tree, Commit: commit}
}

func TestRemote(t *testing.T) {
	nstest.Need(t)
	yes := true
	for _, tc := range []struct {
		name   string
		spec   Spec
		remote map[string]func() Remote
		want   []string
		err    string
	}{
		{
			"file into a directory",
			Spec{Sources: []string{"u"}, Dest: "/a/"},
			map[string]func() Remote{"u": func() Remote { return fetchedFile(t, "n", "F") }},
			[]string{"a directory 0755 0:0", "a/n regular 0600 0:0 F"},
			"",
		},
		{
			"file with another name, owner and mode",
			Spec{Sources: []string{"u"}, Dest: "/a", Chown: &fdfs.Owner{UID: 3, GID: 4}, Chmod: "755"},
			map[string]func() Remote{"u": func() Remote { return fetchedFile(t, "n", "F") }},
			[]string{"a regular 0755 3:4 F"},
			"",
		},
		{
			"file without a name",
			Spec{Sources: []string{"u"}, Dest: "/a"},
			map[string]func() Remote{"u": func() Remote { return fetchedFile(t, "", "F") }},
			[]string{"a regular 0600 0:0 F"},
			"",
		},
		{
			"file without a name into a directory",
			Spec{Sources: []string{"u"}, Dest: "/a/"},
			map[string]func() Remote{"u": func() Remote { return fetchedFile(t, "", "F") }},
			nil, "names no file",
		},
		{
			"archive",
			Spec{Sources: []string{"u"}, Dest: "/a/", Add: true},
			map[string]func() Remote{"u": func() Remote {
				return fetchedFile(t, "t", string(treetest.Tar(t, treetest.Entry{Name: "f", Data: "F"})))
			}},
			nil, "",
		},
		{
			"archive to unpack",
			Spec{Sources: []string{"u"}, Dest: "/a/", Add: true, Unpack: &yes},
			map[string]func() Remote{"u": func() Remote {
				return fetchedFile(t, "t", string(treetest.Tar(t, treetest.Entry{Name: "f", Data: "F"})))
			}},
			[]string{"a directory 0755 0:0", "a/f regular 0644 0:0 F"},
			"",
		},
		{
			"name that means a deletion",
			Spec{Sources: []string{"u"}, Dest: "/a/"},
			map[string]func() Remote{"u": func() Remote { return fetchedFile(t, ".wh.x", "F") }},
			nil, ".wh.x",
		},
		{
			"directories and files of several trees",
			Spec{Sources: []string{"u", "d", "v", "g", "u"}, Dest: "/a/", Exclude: []string{"out", "sub/out"}},
			map[string]func() Remote{
				"u": func() Remote {
					return fetchedTree(t, "1", "f f 644 U", "f sub/u 755 U", "f out 644 O", "f .dockerignore 644 f")
				},
				"v": func() Remote {
					return fetchedTree(t, "2", "f f 644 V", "f sub/v 4755 V", "f sub/out 644 O", "l l /etc/passwd")
				},
			},
			[]string{
				"a directory 0755 0:0", "a/.dockerignore regular 0644 0:0 f", "a/f regular 0644 0:0 U", "a/g regular 0600 0:0 G",
				"a/l -> /etc/passwd 0:0", "a/sub directory 0755 0:0", "a/sub/d regular 0644 0:0 D", "a/sub/u regular 0755 0:0 U",
				"a/sub/v regular 0755 0:0 V",
			},
			"",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.spec.Remote = map[string]Remote{}
			for k, f := range tc.remote {
				tc.spec.Remote[k] = f()
			}
			root := t.TempDir()
			src := treetest.Build(t, t.TempDir(), "f d/sub/d 644 D", "f g 600 G")
			err := do(t, src, nil, root, tc.spec)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("error %v, want one that says %s", err, tc.err)
				}
				for _, r := range tc.spec.Remote {
					if r.File != nil && r.Close() == nil {
						t.Error("the file was left open")
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := treetest.List(t, root); tc.want != nil {
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			} else if len(got) != 2 {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestRemoteTime(t *testing.T) {
	nstest.Need(t)
	root := t.TempDir()
	spec := Spec{Sources: []string{"u"}, Dest: "/a", Remote: map[string]Remote{"u": fetchedFile(t, "n", "F")}}
	if err := doTree(t, nil, root, spec); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(root + "/a"); err != nil || st.ModTime().Unix() != 1e9 {
		t.Errorf("%v, %v", st.ModTime(), err)
	}
}

// TestRemoteDigest: the commit stands for the bytes of .git in the digest; the bytes of other files
// count.
func TestRemoteDigest(t *testing.T) {
	nstest.Need(t)
	sum := func(commit string, lines ...string) string {
		return digestOf(t, nil, Spec{Sources: []string{"u"}, Dest: "/a/", Remote: map[string]Remote{"u": fetchedTree(t, commit, lines...)}}).String()
	}
	first := sum("1", "f f 644 F", "f .git/x 644 X")
	for name, tc := range map[string]struct {
		got  string
		same bool
	}{
		"again":              {sum("1", "f f 644 F", "f .git/x 644 X"), true},
		"other bytes":        {sum("1", "f f 644 F", "f .git/y 644 Y"), true},
		"other commit":       {sum("2", "f f 644 F", "f .git/x 644 X"), false},
		"without":            {sum("1", "f f 644 F"), false},
		"other file":         {sum("1", "f f 644 G", "f .git/x 644 X"), false},
		"another's .git":     {sum("1", "f f 644 F", "f .git/x 644 X", "f d/.git/x 644 X"), false},
		"no commit is known": {sum("", "f f 644 F", "f .git/x 644 X"), false},
	} {
		if (tc.got == first) != tc.same {
			t.Errorf("%s: %s, first %s", name, tc.got, first)
		}
	}

	if sum("1", "f d/.git/x 644 X") == sum("1", "f d/.git/x 644 Y") {
		t.Error("a .git below counts by its commit")
	}
}
