package commit

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"
)

func TestTarWriterRoot(t *testing.T) {
	below := &RootDir{Mode: 0o1755, UID: 1, GID: 2}
	for _, tc := range []struct {
		name  string
		below *RootDir
		entry TarEntry
		want  int // entries
	}{
		{"not asked for", nil, TarEntry{Mode: fs.ModeDir | 0o700}, 0},
		{"equal", below, TarEntry{Mode: fs.ModeDir | fs.ModeSticky | 0o755, UID: 1, GID: 2}, 0},
		{"another mode", below, TarEntry{Mode: fs.ModeDir | 0o755, UID: 1, GID: 2}, 1},
		{"another owner", below, TarEntry{Mode: fs.ModeDir | fs.ModeSticky | 0o755}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			w := NewTarWriter(&out, TarOptions{Below: tc.below})
			layer, err := w.Close(tc.entry.Mode, w.Root(t.Context(), tc.entry))
			ok(t, err)
			if layer.Entries != tc.want || layer.RootMode != tc.entry.Mode&^fs.ModeDir {
				t.Errorf("%d entries, root mode %v", layer.Entries, layer.RootMode)
			}
			for _, h := range entriesOf(t, out.Bytes()) {
				if h.Name != "./" || h.Uid != int(tc.entry.UID) {
					t.Errorf("entry %+v", h)
				}
			}
		})
	}
}

func TestTarWriterRefuses(t *testing.T) {
	for _, tc := range []struct {
		entry TarEntry
		says  string
	}{
		{TarEntry{Path: "s", Mode: fs.ModeSocket}, "socket"},
		{TarEntry{Path: "c", Mode: fs.ModeDevice | fs.ModeCharDevice}, "character device"},
		{TarEntry{Path: "b", Mode: fs.ModeDevice}, "block device"},
		{TarEntry{Path: "i", Mode: fs.ModeIrregular}, "unknown type"},
		{TarEntry{Path: strings.Repeat("p", maxPath)}, "4096 bytes"},
	} {
		t.Run(tc.says, func(t *testing.T) {
			w := NewTarWriter(nil, TarOptions{})
			layer, err := w.Close(0o755, w.Add(t.Context(), tc.entry, nil))
			refused, ok := errors.AsType[*RefusedError](err)
			if !ok || refused.Path != tc.entry.Path || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want a refusal that says %q", err, tc.says)
			}
			if layer != (Tar{}) {
				t.Errorf("got %+v with an error", layer)
			}
		})
	}
}

// FuzzTarWriter checks that an independent reader finds the entry that was written, and that the
// tar-split record equals the record of a parser.
func FuzzTarWriter(f *testing.F) {
	f.Add("dir/file", "user.a", "value", []byte("content"), uint32(0o4755), int64(1_700_000_000))
	f.Add("raw-\xff\xfe", "security.capability", "\x01\x00\x00\x02", []byte{}, uint32(0), int64(-1))
	f.Add(strings.Repeat("x/", 200)+"é\n", "user.b", "\x00\n=\xff", bytes.Repeat([]byte("b"), blockSize), uint32(0o1777), int64(1<<33))
	f.Fuzz(func(t *testing.T, path, xattr, value string, content []byte, mode uint32, sec int64) {
		if strings.HasSuffix(path, "/") {
			t.Skip("readers take the entry for a directory")
		}
		entry := TarEntry{
			Path:    path,
			Mode:    fileMode(mode),
			Size:    int64(len(content)),
			ModTime: time.Unix(sec, 0),
			Xattrs:  map[string]string{xattr: value},
		}

		var out, split bytes.Buffer
		w := NewTarWriter(&out, TarOptions{TarSplit: &split})
		layer, err := w.Close(0o755, w.Add(t.Context(), entry, bytes.NewReader(content)))
		if err != nil {
			t.Skip(err) // for example a path that a tar cannot hold
		}
		if layer.DiffID != digest.FromBytes(out.Bytes()) || layer.Size != int64(out.Len()) {
			t.Fatalf("%+v does not describe the %d bytes", layer, out.Len())
		}

		var parsed bytes.Buffer
		tee, done, err := asm.NewInputTarStreamWithDone(bytes.NewReader(out.Bytes()), storage.NewJSONPacker(&parsed), nil)
		ok(t, err)
		_, err = io.Copy(io.Discard, tee)
		ok(t, err, <-done)
		if diff := cmp.Diff(parsed.String(), split.String()); diff != "" {
			t.Errorf("tar-split record (-parsed +recorded):\n%s", diff)
		}

		r := tar.NewReader(&out)
		h, err := r.Next()
		ok(t, err)
		data, err := io.ReadAll(r)
		ok(t, err)
		if h.Name != path || !bytes.Equal(data, content) || h.ModTime.Unix() != sec || uint32(h.Mode) != mode&0o7777 {
			t.Errorf("%+v is read back as %+v", entry, h)
		}
	})
}
