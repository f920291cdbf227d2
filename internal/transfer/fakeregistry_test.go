package transfer

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fakeRegistry serves images for pulling, and faults.
type fakeRegistry struct {
	host string

	mu        sync.Mutex
	manifests map[string]document // by "name:tag" and "name@digest"
	blobs     map[digest.Digest][]byte
	requests  []string                                          // "METHOD path"
	fault     func(w http.ResponseWriter, r *http.Request) bool // true: answered
}

type document struct {
	mediaType string
	data      []byte
}

func newFakeRegistry(t *testing.T) *fakeRegistry {
	t.Helper()
	f := &fakeRegistry{manifests: make(map[string]document), blobs: make(map[digest.Digest][]byte)}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.host = strings.TrimPrefix(server.URL, "http://")
	return f
}

// put serves an image as name:tag and returns the digest of its manifest.
func (f *fakeRegistry) put(t *testing.T, name, tag string, img *testImage) digest.Digest {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.Copy(f.blobs, img.blobs(t))
	return f.putManifest(name, tag, ocispec.MediaTypeImageManifest, mustJSON(t, img.manifest))
}

func (f *fakeRegistry) putManifest(name, tag, mediaType string, data []byte) digest.Digest {
	dgst := digest.FromBytes(data)
	f.manifests[name+":"+tag] = document{mediaType, data}
	f.manifests[name+":"+dgst.String()] = document{mediaType, data}
	return dgst
}

// putIndex serves a list of one manifest per platform.
func (f *fakeRegistry) putIndex(t *testing.T, name, tag string, platforms map[string]*testImage) digest.Digest {
	t.Helper()
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for platform, img := range platforms {
		dgst := f.put(t, name, "unused", img)
		system, arch, _ := strings.Cut(platform, "/")
		index.Manifests = append(index.Manifests, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, Digest: dgst, Size: int64(len(mustJSON(t, img.manifest))),
			Platform: &ocispec.Platform{OS: system, Architecture: arch},
		})
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	return f.putManifest(name, tag, ocispec.MediaTypeImageIndex, mustJSON(t, index))
}

// setFault installs a fault; nil removes it.
func (f *fakeRegistry) setFault(fault func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

// count tells how many requests had this text in "METHOD path".
func (f *fakeRegistry) count(text string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.requests {
		if strings.Contains(r, text) {
			n++
		}
	}
	return n
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	fault := f.fault
	f.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	if path == "" {
		return
	}
	if name, ref, ok := strings.Cut(path, "/manifests/"); ok {
		if doc, ok := f.manifests[name+":"+ref]; ok {
			w.Header().Set("Content-Type", doc.mediaType)
			w.Header().Set("Docker-Content-Digest", digest.FromBytes(doc.data).String())
			_, _ = w.Write(doc.data)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`)
		return
	}

	if _, ref, ok := strings.Cut(path, "/blobs/"); ok {
		if data, ok := f.blobs[digest.Digest(ref)]; ok {
			w.Header().Set("Content-Length", fmt.Sprint(len(data)))
			_, _ = w.Write(data)
			return
		}
	}

	w.WriteHeader(http.StatusNotFound)
}

// times lets a fault happen n times.
func times(n int, fault func(w http.ResponseWriter, r *http.Request) bool) func(w http.ResponseWriter, r *http.Request) bool {
	var mu sync.Mutex
	return func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if n == 0 {
			return false
		}
		n-- // before a fault that panics
		if !fault(w, r) {
			n++
			return false
		}
		return true
	}
}

// status is a fault that answers requests for what has text in its path.
func status(code int, text string) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, text) {
			return false
		}
		w.WriteHeader(code)
		return true
	}
}
