package copy

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// URLTime is the time of the file at the one source of spec, a URL of ADD: what the server says in Last-Modified, else,
// if it is an archive, the time of its newest file. It is nil where neither is known. The file is fetched and its
// checksum verified as by Select.
func URLTime(ctx context.Context, spec Spec) (t *time.Time, err error) {
	sel, err := Select(ctx, nil, spec)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sel.Close()) }()
	it := sel.items[0]
	if it.modified != nil {
		return it.modified, nil
	}
	return archiveTime(ctx, io.NewSectionReader(it.remote, 0, it.node.stat.Size))
}

// archiveTime is the time of the newest regular file in the archive r; nil if there is none, or r is no archive.
func archiveTime(ctx context.Context, r io.Reader) (*time.Time, error) {
	plain, done, err := decompress(r)
	if err != nil {
		return nil, nil // no archive, so it has no time
	}
	defer done()
	t := tar.NewReader(plain)
	var newest *time.Time
	for n := 0; ; n++ {
		hdr, err := t.Next()
		switch {
		case err != nil: // its end, or something that is no archive
			return newest, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case n == maxEntries:
			return nil, fmt.Errorf("the archive has more than %d entries", maxEntries)
		}
		if m := hdr.ModTime; hdr.Typeflag == tar.TypeReg && (newest == nil || m.After(*newest)) {
			newest = &m
		}
	}
}

// modified is the time of a file that a server sends; nil if it does not say.
func modified(h http.Header) *time.Time {
	t, err := http.ParseTime(h.Get("Last-Modified"))
	if err != nil {
		return nil
	}
	return &t
}
