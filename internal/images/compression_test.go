package images

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.podman.io/image/v5/manifest"
	"go.podman.io/image/v5/types"
	"go.podman.io/storage/pkg/archive"
)

// TestCompressions: each row of the table can be found by its name, and no two rows that can be
// told apart by their bytes have the same media type or archive format.
func TestCompressions(t *testing.T) {
	mediaTypes := map[string]string{}
	formats := map[archive.Compression]string{}
	for _, c := range Compressions() {
		name := c.Algorithm.Name()
		got, err := CompressionByName(name)
		if err != nil || got.Algorithm.Name() != name {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if c.MaxLevel <= 0 || !strings.Contains(CompressionChoice(), name) {
			t.Errorf("%s: level %d, choices %q", name, c.MaxLevel, CompressionChoice())
		}
		if !c.Plain() {
			continue
		}
		if other := mediaTypes[c.MediaType] + formats[c.Archive]; other != "" {
			t.Errorf("%s looks like %s", name, other)
		}
		mediaTypes[c.MediaType] = name
		formats[c.Archive] = name
	}
}

func TestCompressionByName(t *testing.T) {
	for name, want := range map[string]string{"": "gzip", "gzip": "gzip", "zstd": "zstd", "zstd:chunked": "zstd:chunked", "lz4": ""} {
		c, err := CompressionByName(name)
		got := ""
		if err == nil {
			got = c.Algorithm.Name()
		}
		if got != want {
			t.Errorf("%q is %q, want %q", name, got, want)
		}
	}

	_, err := CompressionByName("lz4")
	if err == nil || err.Error() != `compression format "lz4": choose gzip, zstd or zstd:chunked` {
		t.Error(err)
	}
}

func TestCompressionOfLayer(t *testing.T) {
	for _, tc := range []struct {
		mediaType   string
		annotations map[string]string
		want        string // name; "": none
		compressed  bool
		trimmed     string
	}{
		{"application/vnd.oci.image.layer.v1.tar", nil, "", false, "application/vnd.oci.image.layer.v1.tar"},
		{"application/vnd.oci.image.layer.v1.tar+gzip", nil, "gzip", true, "application/vnd.oci.image.layer.v1.tar"},
		{"application/vnd.oci.image.layer.v1.tar+zstd", nil, "zstd", true, "application/vnd.oci.image.layer.v1.tar"},
		{"application/vnd.docker.image.rootfs.diff.tar.gzip", nil, "gzip", true, "application/vnd.docker.image.rootfs.diff.tar"},
		{
			"application/vnd.oci.image.layer.v1.tar+zstd",
			map[string]string{"io.github.containers.zstd-chunked.manifest": "x"},
			"", true, "application/vnd.oci.image.layer.v1.tar",
		},
	} {
		layer := manifest.LayerInfo{BlobInfo: types.BlobInfo{MediaType: tc.mediaType, Annotations: tc.annotations}}
		got := ""
		if c, ok := CompressionOfLayer(layer); ok {
			got = c.Algorithm.Name()
		}
		if got != tc.want || IsCompressed(tc.mediaType) != tc.compressed || TrimCompression(tc.mediaType) != tc.trimmed {
			t.Errorf("%s: %q, compressed %t, without it %s", tc.mediaType, got, IsCompressed(tc.mediaType), TrimCompression(tc.mediaType))
		}
	}
}

func TestCompressionOfArchive(t *testing.T) {
	for format, want := range map[archive.Compression]string{
		archive.Gzip: "gzip", archive.Zstd: "zstd", archive.Uncompressed: "", archive.Xz: "", archive.Bzip2: "",
	} {
		got := ""
		if c, ok := CompressionOfArchive(format); ok {
			got = c.Algorithm.Name()
		}
		if got != want {
			t.Errorf("format %d is %q, want %q", format, got, want)
		}
	}
}

func TestCompressionNames(t *testing.T) {
	docker := CompressionNames(func(c Compression) bool { return c.Docker })
	if diff := cmp.Diff([]string{"gzip"}, docker); diff != "" {
		t.Errorf("docker (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"gzip", "zstd", "zstd:chunked"}, CompressionNames(nil)); diff != "" {
		t.Errorf("all (-want +got):\n%s", diff)
	}
}
