package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	cs "go.podman.io/storage"

	"codeberg.org/rbuild/rbuild/internal/cli"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// testList is a list of images without a store behind it: parent <- child by
// layers and history, and a third on layers of its own.
func testList() *imageList {
	at := func(n int64) time.Time { return time.Unix(n, 0).UTC() }
	step := func(text string) ocispec.History { return ocispec.History{CreatedBy: text} }
	l := &imageList{
		images: []cs.Image{
			{ID: "aaa1", TopLayer: "l1", Created: at(1)},
			{ID: "bbb2", TopLayer: "l2", Created: at(2), Names: []string{"localhost/child:latest", "registry.example/team/app:1.0"}},
			{ID: "ccc3", TopLayer: "m1", Created: at(3)},
			{ID: "ddd4", TopLayer: "l1", Created: at(4), Names: []string{"localhost/empty:1"}},
		},
		layers: map[string]cs.Layer{
			"l1": {ID: "l1", UncompressedSize: 1000},
			"l2": {ID: "l2", Parent: "l1", UncompressedSize: 500},
			"m1": {ID: "m1", UncompressedSize: 7},
		},
		configs: map[string]*ocispec.Image{
			"aaa1": {History: []ocispec.History{step("one")}},
			"bbb2": {History: []ocispec.History{step("one"), step("two")}, Config: ocispec.ImageConfig{Labels: map[string]string{"k": "v"}}},
			"ccc3": {History: []ocispec.History{step("one")}},
			"ddd4": {History: []ocispec.History{step("other")}},
		},
	}

	return l
}

func TestImageFilters(t *testing.T) {
	for _, tc := range []struct {
		args string // separated by spaces
		want string
	}{
		{"", "aaa1 bbb2 ccc3 ddd4"},
		{"dangling=true", "ccc3"},
		{"dangling=false", "aaa1 bbb2 ddd4"},
		{"intermediate=true", "aaa1"},
		{"id=bb", "bbb2"},
		{"id=bb id=cc", "bbb2 ccc3"},
		{"label=k", "bbb2"},
		{"label=k=v", "bbb2"},
		{"label=k=w", ""},
		{"label!=k", "aaa1 ccc3 ddd4"},
		{"reference=child", "bbb2"},
		{"reference=localhost/*:*", "bbb2 ddd4"},
		{"reference=app:1.0", "bbb2"},
		{"reference=team/app", "bbb2"},
		{"reference=app:2", ""},
		{"reference=*", "bbb2 ddd4"},
		{"reference=* id=d", "ddd4"},
		{"readonly=true", ""},
	} {
		t.Run(tc.args, func(t *testing.T) {
			l := testList()
			keep, err := l.filters(strings.Fields(tc.args), transfer.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for i := range l.images {
				if keep(&l.images[i]) {
					got = append(got, l.images[i].ID)
				}
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}

	for _, bad := range []string{"dangling", "dangling=perhaps", "colour=red", "=x"} {
		if _, err := testList().filters([]string{bad}, transfer.Options{}); err == nil {
			t.Errorf("accepted --filter %s", bad)
		}
	}
}

func TestImageRows(t *testing.T) {
	l := testList()
	l.sum = func(_ *cs.Image, name string) digest.Digest { return digest.FromString(name) }
	rows := l.rows(&l.images[1], true)
	var got []string
	for _, r := range rows {
		got = append(got, r.Repository+" "+r.Tag+" "+r.ID+" "+r.Size)
		if want := digest.FromString(r.Repository + ":" + r.Tag); r.Digest != want.String() {
			t.Errorf("%s:%s has the digest %s, want that of its own name", r.Repository, r.Tag, r.Digest)
		}
	}

	want := []string{"localhost/child latest bbb2 1.5kB", "registry.example/team/app 1.0 bbb2 1.5kB"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	unnamed := l.rows(&l.images[0], false)
	if len(unnamed) != 1 || unnamed[0].Repository != none || unnamed[0].Tag != none || unnamed[0].ID != "sha256:aaa1" {
		t.Errorf("an image without a name: %+v", unnamed)
	}
}

// TestSortKept: --sort orders the images of builds without a namespace too.
func TestSortKept(t *testing.T) {
	kept := func(id, name string, hour int, size int64) transfer.KeptImage {
		created := time.Date(2024, 1, 1, hour, 0, 0, 0, time.UTC)
		return transfer.KeptImage{ID: id, Names: []string{name}, Size: size, Config: ocispec.Image{Created: &created}}
	}

	for order, want := range map[string]string{
		"created": "c1\na2\nb3\n", "id": "a2\nb3\nc1\n", "size": "b3\nc1\na2\n", "repository": "b3\nc1\na2\n", "tag": "b3\nc1\na2\n",
	} {
		images := []transfer.KeptImage{kept("b3", "localhost/a:1", 1, 5), kept("a2", "localhost/c:3", 2, 7), kept("c1", "localhost/b:2", 3, 6)}
		var out strings.Builder
		f := imagesFlags{sort: order, quiet: true}
		if err := f.list(&out, nil, images, nil, transfer.Options{}); err != nil || out.String() != want {
			t.Errorf("--sort %s: %q, %v; want %q", order, out.String(), err, want)
		}
		out.Reset()
		f = imagesFlags{sort: order, noHeading: true, format: "{{.ID}}"}
		if err := f.list(&out, nil, images, nil, transfer.Options{}); err != nil || out.String() != want {
			t.Errorf("--sort %s, rows: %q, %v; want %q", order, out.String(), err, want)
		}
	}
}

func TestHistoryRow(t *testing.T) {
	step := historyStep{ID: strings.Repeat("a", 64), CreatedBy: "RUN  echo\t" + strings.Repeat("ä", 60), Size: 1500}
	short := historyFlags{human: true}.row(step)
	if len(short.ID) != 12 || len([]rune(short.CreatedBy)) != 45 || short.Size != "1.5kB" {
		t.Errorf("%+v", short)
	}
	long := historyFlags{noTrunc: true}.row(step)
	if len(long.ID) != 64 || strings.Contains(long.CreatedBy, "…") || long.Size != "1500" {
		t.Errorf("%+v", long)
	}
}

func TestTags(t *testing.T) {
	img := &cs.Image{Names: []string{"localhost/a:1", "localhost/a:2", "localhost/b@sha256:" + strings.Repeat("0", 64)}}
	if diff := cmp.Diff([]string{"localhost/a:1", "localhost/a:2"}, tags(img)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConfirm(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "Yes\n": true, "y": true, "": false, "\n": false, "n\n": false, "yy\n": false} {
		var out strings.Builder
		got, err := confirm(strings.NewReader(answer), &out, "Really?")
		if err != nil || got != want || out.String() != "Really?\nGo on? [y/N] " {
			t.Errorf("%q: %t, %v, shown %q", answer, got, err, out.String())
		}
	}
}

func TestWriteRows(t *testing.T) {
	rows := []imageRow{{ID: "1", Repository: "a"}, {ID: "2", Repository: "bb"}}
	for format, want := range map[string]string{
		"{{.ID}}":                        "1\n2\n",
		"{{.ID}} {{upper .Repository}}":  "1 A\n2 BB\n",
		"table {{.Repository}}\t{{.ID}}": "REPOSITORY  IMAGE ID\na           1\nbb          2\n",
		`{{.ID}}\t{{.Repository}}`:       "1\ta\n2\tbb\n",
	} {
		var out strings.Builder
		if err := cli.WriteRows(&out, format, rows, imageRow{}, map[string]string{"ID": "IMAGE ID"}); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}

	for _, bad := range []string{"{{.ID", "{{.NoSuchField}}"} {
		if err := cli.WriteRows(&strings.Builder{}, bad, rows, imageRow{}, nil); err == nil || !strings.Contains(err.Error(), "--format") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
