package source

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"codeberg.org/rbuild/rbuild/internal/bounded"
	"codeberg.org/rbuild/rbuild/internal/copier"
)

// Bounds of a download.
const (
	maxDownload  = 16 << 30 // bytes
	maxRedirects = 10
	maxTries     = 3
	headerWait   = time.Minute // until the server begins to answer

	downloadSilence = time.Minute // the body must bring downloadPace in this time, or end
	downloadPace    = 16 << 10    // bytes
	bufferSize      = 1 << 17
)

// errRetry is wrapped by errors of a download that may succeed in another try.
var errRetry = errors.New("server or network fails")

// errRedirect is wrapped by errors of a redirect that is not followed.
var errRedirect = errors.New("the server redirects")

// File is the file at a URL, fetched into a file without a name.
type File struct {
	copier.Remote
	modified bool // the server has reported Time
}

// File fetches a URL into a file without a name in dir. checksum is the digest that the file must
// have, "sha256:..." or "sha512:...", or empty. The caller closes the File.
func (a *Access) File(ctx context.Context, text, dir, checksum string) (File, error) {
	u, err := url.Parse(text)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the text, which may hold a password
		}
		return File{}, fmt.Errorf("a URL: %w", err)
	}

	d := &download{url: u, max: a.maxDownload, silence: a.silence}
	if d.max == 0 {
		d.max = maxDownload
	}
	d.Text = shown(u)
	if name := path.Base(u.Path); name != "." && name != ".." && name != "/" {
		d.Name = name
	}
	if checksum != "" {
		if d.want, err = digest.Parse(checksum); err != nil {
			return File{}, fmt.Errorf("checksum %q: %w", checksum, err)
		}
	}

	if d.File.File, err = nameless(dir); err != nil {
		return File{}, fmt.Errorf("%s: %w", d.Text, err)
	}
	if err := d.fetch(ctx, a.authorization(u)); err != nil {
		return File{}, errors.Join(fmt.Errorf("%s: %w", d.Text, err), d.Close())
	}

	return d.File, nil
}

// shown returns a URL without its credentials.
func shown(u *url.URL) string {
	if u.User == nil {
		return u.String()
	}
	v := *u
	v.User = url.User("xxxxx")
	return v.String()
}

func nameless(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "download-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// authorization returns the value of the header Authorization for the URL's host; empty: there are
// no credentials.
func (a *Access) authorization(u *url.URL) string {
	if token, ok := a.Secrets["HTTP_AUTH_TOKEN_"+u.Hostname()]; ok {
		return "Bearer " + strings.TrimSpace(string(token))
	}
	return strings.TrimSpace(string(a.Secrets["HTTP_AUTH_HEADER_"+u.Hostname()]))
}

// authorizer adds credentials to the requests to one host and port, and removes them from all other
// requests: the client of net/http would send them to subdomains and other ports too.
type authorizer struct {
	next  http.RoundTripper
	to    *url.URL
	value string
}

func (a *authorizer) RoundTrip(r *http.Request) (*http.Response, error) {
	same := strings.EqualFold(r.URL.Host, a.to.Host) && (r.URL.Scheme == a.to.Scheme || r.URL.Scheme == "https")
	if same && a.value == "" {
		return a.next.RoundTrip(r)
	}
	r = r.Clone(r.Context())
	r.Header.Del("Authorization")
	if same {
		r.Header.Set("Authorization", a.value)
	}
	return a.next.RoundTrip(r)
}

// download fetches one File.
type download struct {
	File
	url  *url.URL
	want digest.Digest
	max  int64 // bytes

	silence time.Duration // 0: downloadSilence
}

// fetch tries until the file was received, or until the server reports an error that another try
// cannot change.
func (d *download) fetch(ctx context.Context, authorization string) error {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment, // as other programs of the host do
		DisableCompression:    true,                      // the checksum is that of the bytes as the server stores them
		ResponseHeaderTimeout: headerWait,
		TLSHandshakeTimeout:   headerWait,
		ForceAttemptHTTP2:     true,
	}
	defer transport.CloseIdleConnections()

	client := &http.Client{
		Transport: &authorizer{transport, d.url, authorization},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Scheme != "http" && r.URL.Scheme != "https" {
				return fmt.Errorf("%w to a URL of scheme %s", errRedirect, r.URL.Scheme)
			}
			if len(via) >= maxRedirects {
				return fmt.Errorf("%w more than %d times", errRedirect, maxRedirects)
			}
			return nil
		},
	}

	for try := 1; ; try++ {
		err := d.once(ctx, client)
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

func (d *download) once(ctx context.Context, client *http.Client) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	silence := cmp.Or(d.silence, downloadSilence)
	silent := time.AfterFunc(silence, func() {
		cancel(fmt.Errorf("%w: less than %d bytes in %v", errRetry, downloadPace, silence))
	})
	defer silent.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url.String(), nil)
	if err != nil {
		return err
	}

	req.Header.Set("User-Agent", "rbuild")
	resp, err := client.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // without the URL
		}
		if errors.Is(err, errRedirect) {
			return err
		}
		return fmt.Errorf("%w: %w", errRetry, err)
	}
	defer resp.Body.Close()

	switch {
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return fmt.Errorf("%w: %s", errRetry, resp.Status)
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%s (credentials: --secret id=HTTP_AUTH_TOKEN_%s)", resp.Status, d.url.Hostname())
	case resp.StatusCode != http.StatusOK:
		return errors.New(resp.Status)
	}

	silent.Reset(silence)
	d.Size, err = d.receive(&watched{r: resp.Body, timer: silent, silence: silence})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return err
	}

	d.Time, err = http.ParseTime(resp.Header.Get("Last-Modified"))
	if d.modified = err == nil; !d.modified {
		d.Time = time.Now()
	}

	return nil
}

// receive stores the body, and checks its size and its digest.
func (d *download) receive(body io.Reader) (size int64, err error) {
	file := d.Remote.File
	if err := file.Truncate(0); err != nil {
		return 0, err
	}

	algorithm := digest.SHA256
	if d.want != "" {
		algorithm = d.want.Algorithm()
	}
	sum, check := sha256.New(), algorithm.Digester()
	out := io.MultiWriter(io.NewOffsetWriter(file, 0), sum, check.Hash())
	in := &failing{r: body}
	size, err = io.CopyBuffer(out, bounded.Reader(in, d.max, "it"), make([]byte, bufferSize))
	switch {
	case in.err != nil:
		return 0, fmt.Errorf("%w: %w", errRetry, in.err)
	case err != nil:
		return 0, err
	case d.want != "" && check.Digest() != d.want:
		return 0, fmt.Errorf("its checksum is %s, not %s", check.Digest(), d.want)
	}

	sum.Sum(d.Sum[:0])

	return size, nil
}

// watched resets the timer each time downloadPace bytes were read.
type watched struct {
	r       io.Reader
	timer   *time.Timer
	silence time.Duration
	got     int // bytes since the timer was reset
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if w.got += n; w.got >= downloadPace {
		w.got = 0
		w.timer.Reset(w.silence)
	}
	return n, err
}

// failing remembers an error of reading, after which another try may succeed. An error of writing
// is not remembered.
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
