package copy

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"time"

	"github.com/opencontainers/go-digest"

	"codeberg.org/rbuild/rbuild/pkg/internal/linux"
)

// Bounds of a download.
const (
	maxDownload  = 16 << 30 // bytes
	maxRedirects = 10
	maxTries     = 3
	headerWait   = time.Minute // until the server begins to answer

	downloadSilence = time.Minute // without a byte of the body
)

// errRetry is wrapped by errors of a download that another try may mend.
var errRetry = errors.New("server or network fails")

// addURL fetches src into a nameless file, so that its content is part of the digest.
func (s *Selection) addURL(ctx context.Context, src string) error {
	u, err := url.Parse(src)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	name := path.Base(u.Path)
	if name == "." || name == ".." || name == "/" {
		if wantsDir(s.spec.Dest) {
			return fmt.Errorf("source %s: the URL names no file, so the destination must", u.Redacted())
		}
		name = "download"
	}
	var want digest.Digest
	if s.spec.Checksum != "" {
		if want, err = digest.Parse(s.spec.Checksum); err != nil {
			return fmt.Errorf("checksum %q: %w", s.spec.Checksum, err)
		}
	}
	f, err := os.CreateTemp(s.spec.TempDir, "add-*")
	if err != nil {
		return fmt.Errorf("source %s: %w", u.Redacted(), err)
	}
	it := &item{name: name, source: u.Redacted(), remote: f, node: &node{name: name}}
	s.items = append(s.items, it) // closed with the selection
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("source %s: %w", it.source, err)
	}
	if err := it.download(ctx, u, want); err != nil {
		return fmt.Errorf("source %s: %w", it.source, err)
	}
	return nil
}

// download tries until the file is there or the server says that it will not be.
func (it *item) download(ctx context.Context, u *url.URL, want digest.Digest) error {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment, // as all programs that fetch, on the host
		DisableCompression:    true,                      // the bytes as they are, which the checksum is of
		ResponseHeaderTimeout: headerWait,
		TLSHandshakeTimeout:   headerWait,
		ForceAttemptHTTP2:     true,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if len(via) >= maxRedirects {
			return fmt.Errorf("more than %d redirects", maxRedirects)
		}
		return nil
	}}
	for try := 1; ; try++ {
		err := it.downloadOnce(ctx, client, u, want)
		if !errors.Is(err, errRetry) || try == maxTries || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(time.Duration(try*try) * 250 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (it *item) downloadOnce(ctx context.Context, client *http.Client, u *url.URL, want digest.Digest) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(downloadSilence, func() { cancel(fmt.Errorf("%w: no data for %v", errRetry, downloadSilence)) })
	defer silent.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "rbuild")
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errRetry, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("%w: %s", errRetry, resp.Status)
	case resp.StatusCode != http.StatusOK:
		return errors.New(resp.Status)
	}
	size, err := it.receive(&watched{resp.Body, silent}, want)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}
	it.modified = modified(resp.Header)
	it.node.stat = linux.Stat{Type: linux.Regular, Mode: 0o600, Nlink: 1, Size: size, Mtime: lastModified(it.modified)}
	return nil
}

// receive stores the body and checks it against want, if that is not empty.
func (it *item) receive(body io.Reader, want digest.Digest) (size int64, err error) {
	if err := it.remote.Truncate(0); err != nil {
		return 0, err
	}
	algorithm := digest.SHA256
	if want != "" {
		algorithm = want.Algorithm()
	}
	sum, check := sha256.New(), algorithm.Digester()
	out := io.MultiWriter(io.NewOffsetWriter(it.remote, 0), sum, check.Hash())
	in := &failing{r: io.LimitReader(body, maxDownload+1)}
	size, err = io.CopyBuffer(out, in, make([]byte, bufferSize))
	switch {
	case in.err != nil:
		return 0, fmt.Errorf("%w: %w", errRetry, in.err)
	case err != nil:
		return 0, err
	case size > maxDownload:
		return 0, fmt.Errorf("it is larger than %d bytes", int64(maxDownload))
	case want != "" && check.Digest() != want:
		return 0, fmt.Errorf("its checksum is %s, not %s", check.Digest(), want)
	}
	sum.Sum(it.node.sum[:0])
	return size, nil
}

// watched puts the timer off whenever something is read.
type watched struct {
	r     io.Reader
	timer *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.timer.Reset(downloadSilence)
	return n, err
}

// failing remembers whether it was reading that failed, which is worth another try, or writing.
type failing struct {
	r   io.Reader
	err error
}

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

// lastModified returns the time of a file that a server sends; now if it does not say.
func lastModified(said *time.Time) linux.Time {
	t := time.Now()
	if said != nil {
		t = *said
	}
	return linux.Time{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}
