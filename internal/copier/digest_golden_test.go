package copier

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
)

// TestDigestIsStable pins the digests of some selections: they are part of cache keys, so that a digest that changes
// makes every user build every COPY again.
func TestDigestIsStable(t *testing.T) {
	nstest.Need(t)
	dir := build(t, t.TempDir(), append(digestContext, "f t/setuid 4755 S", "d t/setgid 2775")...)
	writeFile(t, dir, "t.tar", makeTar(t, plainTar...))
	context, err := OpenContext(dir, []string{"**/.ignored"})
	if err != nil {
		t.Fatal(err)
	}
	defer context.Close()

	stage := OpenRoot(context.root)
	download := func() map[string]Remote {
		f, err := os.Open(filepath.Join(dir, "t/a"))
		if err != nil {
			t.Fatal(err)
		}
		return map[string]Remote{"https://h/x": {Text: "https://h/x", Name: "x", File: f, Size: 1, Sum: [32]byte{1, 2}, Time: time.Unix(5, 0)}}
	}

	for _, tc := range []struct {
		name string
		tree *Tree
		spec Spec
		want string
	}{
		{"directory", context, Spec{Sources: []string{"t"}, Dest: "/x/"}, "70355be96f9d55b4697f5acb7f73fc2d9992be9d8d9748544b7eea6eeed615f8"},
		{"of a stage", stage, Spec{Sources: []string{"t"}, Dest: "/x/"}, "2021c2be351b12d197c21aeb3d989a98cef83a47cbe53717925b0f609f5747e2"},
		{"file to a name", context, Spec{Sources: []string{"t/a"}, Dest: "/x"}, "d2afd63006e927676f84f16260ffeb07c4060036f94886b7ec2bd55411bcefab"},
		{"several", context, Spec{Sources: []string{"t/a", "t/sub", "t/h*", "t/link"}, Dest: "/x/"}, "4c39059117fe80249926c9fa3ac6305d5965d0f05884a73c63ccbee7a1e1f42b"},
		{"owner and mode", context, Spec{Sources: []string{"t"}, Dest: "/x/", Chown: &Owner{5, 6}, Chmod: "u=rwX,go=rX"}, "611e5ab566380fc9426d9b442f9a1e1723afc9781de3af0c83cad607b6f35321"},
		{"octal mode", context, Spec{Sources: []string{"t"}, Dest: "/x/", Chmod: "4750"}, "afa6191fafd6828f5bf19e350d0c4a770a4ea99254558ccb5b19d60824f64cd3"},
		{"exclude", context, Spec{Sources: []string{"t"}, Dest: "/x/", Exclude: []string{"h*", "sub"}}, "aef772280fb99fbecdec76308ae1481b6490b888b3a75333ce1061eb6cebc918"},
		{"parents", context, Spec{Sources: []string{"t/./sub/c", "t/s*"}, Dest: "/x/", Parents: true}, "4898c4a7e67cac2e5e102cf1b4a27b8d08d929d348aa67f040e19a436073cc0b"},
		{"archive", context, Spec{Sources: []string{"t.tar"}, Dest: "/x/", Add: true}, "3303a76c5e39787e6b942944e220b1d88c61be3435d0b284d168b12e6211ea07"},
		{"here-document", nil, Spec{Inline: []File{{"e", []byte("E")}}, Dest: "/x/"}, "38adc7a06045f2138f37c04cb68436a72fb1d9e2bec93d1be521b073934bf681"},
		{"download", nil, Spec{Sources: []string{"https://h/x"}, Remote: download(), Dest: "/x/", Add: true}, "24f2c1c471918124aada4518102f6850dbec6d885e313eb7bb0202961ccbe85c"},
		{"path", context, Spec{Sources: []string{"t"}, Dest: "/source", literal: true}, "3661d25af31e53f363ee0c922d73074392c78e2dd6c83969462ef0d3ae8893cf"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := digestOf(t, tc.tree, tc.spec).String(); got != "sha256:"+tc.want {
				t.Errorf("%s: %s", tc.name, got)
			}
		})
	}
}
