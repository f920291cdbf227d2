package commit_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/pkg/commit"
)

// list prints the entries of a tar.
func list(data io.Reader) {
	for r := tar.NewReader(data); ; {
		h, err := r.Next()
		if err != nil {
			return
		}
		fmt.Printf("%s %4d %s\n", h.FileInfo().Mode(), h.Size, h.Name)
	}
}

// A directory becomes the tar of a layer. With Epoch all times are equal, so two builds of the same
// files have the same digest.
func ExampleWriteTar() {
	path, err := os.MkdirTemp("", "commit-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(path)

	err = errors.Join(
		os.Mkdir(filepath.Join(path, "etc"), 0o755),
		os.WriteFile(filepath.Join(path, "etc/motd"), []byte("hello\n"), 0o600),
		os.Symlink("etc/motd", filepath.Join(path, "motd")),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	dir, err := os.Open(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer dir.Close()

	var out bytes.Buffer
	epoch := time.Unix(0, 0)
	layer, err := commit.WriteTar(context.Background(), dir, &out, commit.TarOptions{Epoch: &epoch})
	if err != nil {
		fmt.Println(err)
		return
	}

	fmt.Println(layer.Entries, "entries,", layer.Size, "bytes")
	fmt.Println(layer.DiffID == digest.FromBytes(out.Bytes()))
	list(&out)
	// Output:
	// 3 entries, 3072 bytes
	// true
	// drwxr-xr-x    0 etc/
	// -rw-------    6 etc/motd
	// Lrwxrwxrwx    0 motd
}

// A layer that removes a file and replaces a directory, without a directory on disk.
func ExampleTarWriter() {
	ctx := context.Background()
	at := time.Unix(0, 0)
	var out bytes.Buffer
	w := commit.NewTarWriter(&out, commit.TarOptions{})

	err := errors.Join(
		w.Whiteout(ctx, "", "old.conf", at),
		w.Add(ctx, commit.TarEntry{Path: "app/", Mode: fs.ModeDir | 0o755, ModTime: at}, nil),
		w.Opaque(ctx, "app/", at),
		w.Add(ctx, commit.TarEntry{Path: "app/run", Mode: 0o755, Size: 9, ModTime: at}, strings.NewReader("#!/bin/sh")),
	)
	layer, err := w.Close(0o755, err)
	if err != nil {
		fmt.Println(err)
		return
	}

	fmt.Println(layer.DiffID)
	list(&out)
	// Output:
	// sha256:d5ec190f6c9c0d143bab4d738ab9867f586020c3001e19a8a8ed2e7fd9bcfd8d
	// ----------    0 .wh.old.conf
	// drwxr-xr-x    0 app/
	// ----------    0 app/.wh..wh..opq
	// -rwxr-xr-x    9 app/run
}

func ExampleTarWriter_refused() {
	w := commit.NewTarWriter(nil, commit.TarOptions{})
	err := w.Add(context.Background(), commit.TarEntry{Path: "dev/sda", Mode: fs.ModeDevice | 0o660}, nil)
	_, err = w.Close(0o755, err)

	if refused, ok := errors.AsType[*commit.RefusedError](err); ok {
		fmt.Println(refused.Path)
	}
	fmt.Println(err)
	// Output:
	// dev/sda
	// making a layer: "dev/sda": a block device cannot be in a layer
}

// A base image with one layer and no history gets a layer and an entry for each step.
func ExampleImage_Documents() {
	created := time.Unix(0, 0).UTC()
	base := commit.Layer{ID: "base", DiffID: digest.FromString("base"), Size: 1024}
	app := commit.Layer{ID: "app", DiffID: digest.FromString("app"), Size: 2048}

	image := commit.Image{Layers: []commit.Layer{base, app}, Format: commit.Docker}
	image.Config.Architecture = "amd64"
	image.Config.OS = "linux"
	image.Config.Config.Cmd = []string{"/app/run"}
	image.Config.History = append(
		commit.History(nil, 1), // the history of the base image
		ocispec.History{Created: &created, CreatedBy: "COPY app /app"},
		ocispec.History{Created: &created, CreatedBy: `CMD ["/app/run"]`, EmptyLayer: true},
	)

	documents, err := image.Documents()
	if err != nil {
		fmt.Println(err)
		return
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(documents.Manifest, &manifest); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(manifest.MediaType)
	fmt.Println(manifest.Config.Digest == digest.FromBytes(documents.Config))
	for _, l := range manifest.Layers {
		fmt.Println(l.Size, l.MediaType)
	}
	// Output:
	// application/vnd.docker.distribution.manifest.v2+json
	// true
	// 1024 application/vnd.docker.image.rootfs.diff.tar
	// 2048 application/vnd.docker.image.rootfs.diff.tar
}

func ExampleHistory() {
	base := []ocispec.History{{CreatedBy: "COPY rootfs /"}, {CreatedBy: "ENV A=b", EmptyLayer: true}}
	for _, h := range commit.History(base, 2) {
		fmt.Println(h.CreatedBy, h.Comment, h.EmptyLayer)
	}
	// Output:
	//  layer without a history false
	// COPY rootfs /  false
	// ENV A=b  true
}
