package transfer

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/types"

	"codeberg.org/rbuild/rbuild/internal/images"
)

// insecure are options for a registry that speaks plain HTTP.
func insecure(t *testing.T) Options {
	o := hermetic(t)
	verify := false
	o.TLSVerify = &verify
	return o
}

func TestPullPolicies(t *testing.T) {
	old := makeImage(t, layerTar(t, entry("version", "1")))
	fresh := makeImage(t, layerTar(t, entry("version", "2")))
	for _, tc := range []struct {
		policy   Policy
		stored   bool // the store has the old image
		changed  bool // the registry has the fresh one
		down     bool // the registry does not answer
		want     *testImage
		requests bool // the registry was asked
		copied   bool // a blob was fetched
	}{
		{policy: PullMissing, want: old, requests: true, copied: true},
		{policy: PullMissing, stored: true, changed: true, want: old},
		{policy: PullAlways, stored: true, changed: true, want: fresh, requests: true, copied: true},
		{policy: PullAlways, stored: true, want: old, requests: true},
		{policy: PullAlways, stored: true, down: true, requests: true},
		{policy: PullNewer, want: old, requests: true, copied: true},
		{policy: PullNewer, stored: true, want: old, requests: true},
		{policy: PullNewer, stored: true, changed: true, want: fresh, requests: true, copied: true},
		{policy: PullNewer, stored: true, down: true, want: old, requests: true},
		{policy: PullNewer, down: true, requests: true},
		{policy: PullNever},
		{policy: PullNever, stored: true, changed: true, want: old},
	} {
		name := strings.Join([]string{string(tc.policy), when(tc.stored, "stored"), when(tc.changed, "changed"), when(tc.down, "down")}, " ")
		t.Run(name, func(t *testing.T) {
			st, o, reg := newStore(t), insecure(t), newFakeRegistry(t)
			o.Retries = -1
			image := reg.host + "/x:1"
			reg.put(t, "x", "1", old)
			if tc.stored {
				mustPull(t, st, image, PullAlways, o)
			}
			if tc.changed {
				reg.put(t, "x", "1", fresh)
			}
			if tc.down {
				reg.setFault(status(http.StatusServiceUnavailable, "/v2/"))
			}
			before, blobs := reg.count("/"), reg.count("/blobs/")
			id, found, err := Pull(t.Context(), st, image, tc.policy, o)
			switch {
			case tc.want == nil && err == nil:
				t.Fatalf("pulled %s", id)
			case tc.want != nil && err != nil:
				t.Fatal(err)
			case tc.want != nil && (id != tc.want.id(t) || found != image):
				t.Errorf("got %s as %s, want %s", id, found, tc.want.id(t))
			}

			if asked := reg.count("/") > before; asked != tc.requests {
				t.Errorf("registry asked: %v", asked)
			}
			if copied := reg.count("/blobs/") > blobs+when1(tc.stored && !tc.changed, 1); copied != tc.copied {
				t.Errorf("blobs fetched: %v", copied)
			}
		})
	}
}

func when(b bool, text string) string {
	if b {
		return text
	}
	return "-"
}

// when1 allows for the config, which is fetched again with the manifest.
func when1(b bool, n int) int {
	if b {
		return n
	}
	return 0
}

func TestPullFaults(t *testing.T) {
	noise := make([]byte, 1<<20) // does not compress
	if _, err := rand.NewChaCha8([32]byte{}).Read(noise); err != nil {
		t.Fatal(err)
	}
	img := makeImage(t, layerTar(t, entry("a", string(noise))))
	layer := img.manifest.Layers[0].Digest.String()
	wrong := func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, layer) {
			return false
		}
		_, _ = w.Write([]byte(strings.Repeat("x", len(img.layers[0]))))
		return true
	}

	cut := func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, layer) || r.Header.Get("Range") != "" {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(img.layers[0])))
		_, _ = w.Write(img.layers[0][:len(img.layers[0])/2])
		panic(http.ErrAbortHandler)
	}

	for _, tc := range []struct {
		name  string
		fault func(w http.ResponseWriter, r *http.Request) bool
		err   string // "": none
	}{
		{"500 twice for the manifest", times(2, status(500, "/manifests/")), ""},
		{"503 three times for a layer", times(3, status(503, layer)), ""},
		{"502 at first contact", times(1, status(502, "/v2/")), ""},
		{"500 for ever", status(500, "/manifests/"), "500"},
		{"429 twice", times(2, func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Retry-After", "0")
			return status(429, "/manifests/")(w, r)
		}), ""},
		{"404", status(404, "/manifests/"), ""},
		{"403", status(403, "/manifests/"), "403"},
		{"wrong content of a layer", wrong, "igest"},
		{"connection cut once", times(1, cut), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			st, o, reg := newStore(t), insecure(t), newFakeRegistry(t)
			reg.put(t, "x", "1", img)
			reg.setFault(tc.fault)
			_, _, err := Pull(t.Context(), st, reg.host+"/x:1", PullAlways, o)
			if tc.name == "404" {
				if err == nil || reg.count("/manifests/") != 1 {
					t.Errorf("got %v after %d requests", err, reg.count("/manifests/"))
				}
				return
			}

			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Fatalf("got %v, want an error with %q", err, tc.err)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("the error has several lines: %q", err)
			}
			if images, listErr := library(t, st).Images(); listErr != nil || (len(images) > 0) == (err != nil) {
				t.Errorf("images: %v (%v)", images, listErr)
			}
		})
	}
}

func TestPullPinned(t *testing.T) {
	img := makeImage(t, layerTar(t, entry("a", "1")))
	st, o, reg := newStore(t), insecure(t), newFakeRegistry(t)
	o.Retries = -1
	dgst := reg.put(t, "x", "1", img)
	pinned := reg.host + "/x@" + dgst.String()
	id, found := mustPull(t, st, reg.host+"/x:whatever@"+dgst.String(), PullMissing, o)
	if id != img.id(t) || found != pinned {
		t.Errorf("got %s as %s", id, found)
	}
	before := reg.count("/")
	if _, found = mustPull(t, st, pinned, PullMissing, o); found != pinned || reg.count("/") != before {
		t.Errorf("found %s after %d requests", found, reg.count("/")-before)
	}

	// The registry answers a request for one digest with another manifest.
	other := digest.FromString("other")
	reg.mu.Lock()
	reg.manifests["x:"+other.String()] = reg.manifests["x:1"]
	reg.mu.Unlock()
	if _, _, err := Pull(t.Context(), st, reg.host+"/x@"+other.String(), PullMissing, o); err == nil {
		t.Error("a manifest with another digest was accepted")
	}
}

func TestPullPlatforms(t *testing.T) {
	own := makeImage(t, layerTar(t, entry("a", "own")))
	foreign := makeImage(t, layerTar(t, entry("a", "foreign")))
	foreign.config.Architecture = "mips64le"
	foreign.seal(t)
	st, o, reg := newStore(t), insecure(t), newFakeRegistry(t)
	list := reg.putIndex(t, "both", "1", map[string]*testImage{runtime.GOOS + "/" + runtime.GOARCH: own, "linux/mips64le": foreign})
	reg.putIndex(t, "foreign", "1", map[string]*testImage{"linux/mips64le": foreign})

	if id, _ := mustPull(t, st, reg.host+"/both:1", PullAlways, o); id != own.id(t) {
		t.Errorf("chose %s from the list, want %s", id, own.id(t))
	}
	before := reg.count("/blobs/")
	mustPull(t, st, reg.host+"/both:1", PullNewer, o)
	if reg.count("/blobs/") != before {
		t.Error("the same list was fetched again")
	}
	if id, _ := mustPull(t, st, reg.host+"/both@"+list.String(), PullMissing, o); id != own.id(t) {
		t.Errorf("chose %s from the pinned list", id)
	}
	if _, _, err := Pull(t.Context(), st, reg.host+"/foreign:1", PullAlways, o); err == nil || !strings.Contains(err.Error(), runtime.GOARCH) {
		t.Errorf("a list without this platform: %v", err)
	}
	o.Platform = ocispec.Platform{OS: "linux", Architecture: "mips64le"}
	if id, _ := mustPull(t, st, reg.host+"/both:1", PullMissing, o); id != foreign.id(t) {
		t.Errorf("chose %s for another platform", id)
	}

	// It is found again, and has not taken the name.
	before = reg.count("/")
	if id, _ := mustPull(t, st, reg.host+"/both:1", PullNever, o); id != foreign.id(t) || reg.count("/") != before {
		t.Errorf("found %s for another platform", id)
	}
	o.Platform = ocispec.Platform{}
	if id, _ := mustPull(t, st, reg.host+"/both:1", PullNever, o); id != own.id(t) {
		t.Errorf("the name means %s now", id)
	}

	// What the name means for the platform changes.
	newer := makeImage(t, layerTar(t, entry("a", "newer")))
	newer.config.Architecture = "mips64le"
	newer.seal(t)
	reg.putIndex(t, "both", "1", map[string]*testImage{runtime.GOOS + "/" + runtime.GOARCH: own, "linux/mips64le": newer})
	o.Platform = ocispec.Platform{OS: "linux", Architecture: "mips64le"}
	for _, policy := range []Policy{PullMissing, PullNewer, PullNever} {
		want := newer
		if policy == PullMissing {
			want = foreign
		}
		if id, _ := mustPull(t, st, reg.host+"/both:1", policy, o); id != want.id(t) {
			t.Errorf("%s: %s for another platform", policy, id)
		}
	}

	// An image for another platform does not do.
	o.Platform = ocispec.Platform{OS: "linux", Architecture: "s390x"}
	for _, policy := range []Policy{PullNever, PullMissing} {
		_, _, err := Pull(t.Context(), st, reg.host+"/both:1", policy, o)
		var other *OtherPlatformError
		if !errors.As(err, &other) || other.Want != "linux/s390x" || other.Have != runtime.GOOS+"/"+runtime.GOARCH {
			t.Errorf("%s: %v", policy, err)
		}
	}
}

// TestPullForeign pulls for another platform by a name with the transport, and from a registry that
// may not be used.
func TestPullForeign(t *testing.T) {
	foreign := makeImage(t, layerTar(t, entry("a", "foreign")))
	foreign.config.Architecture = "mips64le"
	foreign.seal(t)
	st, o, reg := newStore(t), insecure(t), newFakeRegistry(t)
	reg.putIndex(t, "x", "2", map[string]*testImage{"linux/mips64le": foreign})
	o.Platform = ocispec.Platform{OS: "linux", Architecture: "mips64le"}
	name := reg.host + "/x:2"

	blocked := o
	blocked.Sources.Blocked = []string{reg.host}
	if _, _, err := Pull(t.Context(), st, name, PullAlways, blocked); err == nil || reg.count("/manifests/") != 0 {
		t.Errorf("a blocked registry: %v, asked %d times", err, reg.count("/manifests/"))
	}
	if id, _ := mustPull(t, st, "docker://"+name, PullAlways, o); id != foreign.id(t) {
		t.Errorf("pulled %s", id)
	}
	if _, err := library(t, st).Image(name); err == nil {
		t.Error("the image for another platform has taken the name")
	}
	if id, _ := mustPull(t, st, name, PullNever, o); id != foreign.id(t) {
		t.Errorf("found %s", id)
	}
}

func TestPullShortNames(t *testing.T) {
	img := makeImage(t, layerTar(t, entry("a", "1")))
	reg := newFakeRegistry(t)
	reg.put(t, "library/x", "latest", img)
	for _, tc := range []struct {
		name, conf, image, found, err string
	}{
		{"alias", "[aliases]\n\"short\" = \"HOST/library/x\"\n", "short", "HOST/library/x:latest", ""},
		{"search", "unqualified-search-registries = [\"HOST\"]\nshort-name-mode = \"permissive\"\n", "library/x", "HOST/library/x:latest", ""},
		{"mirror", "[[registry]]\nprefix = \"far.example\"\nlocation = \"far.example\"\n[[registry.mirror]]\nlocation = \"HOST\"\ninsecure = true\n", "far.example/library/x", "far.example/library/x:latest", ""},
		{"insecure", "[[registry]]\nlocation = \"HOST\"\ninsecure = true\n", "HOST/library/x", "HOST/library/x:latest", ""},
		{"secure", "", "HOST/library/x", "", "HTTP"},
		{"blocked", "[[registry]]\nlocation = \"HOST\"\ninsecure = true\nblocked = true\n", "HOST/library/x", "", "blocked"},
		{"no list", "[[registry]]\nprefix = \"docker.io\"\nlocation = \"HOST\"\ninsecure = true\n", "x", "docker.io/library/x:latest", ""},
		{"no list and enforcing", "short-name-mode = \"enforcing\"\n[[registry]]\nprefix = \"docker.io\"\nlocation = \"HOST\"\ninsecure = true\n", "library/x", "docker.io/library/x:latest", ""},
		{"empty list", "unqualified-search-registries = []\n", "library/x", "", "short-name"},
		{"local only", "", "localhost/nothing", "", images.ErrNotFound.Error()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			st, o := newStore(t), hermetic(t)
			o.Retries = -1
			if tc.name == "alias" || tc.name == "search" {
				tc.conf += "[[registry]]\nlocation = \"HOST\"\ninsecure = true\n"
			}
			if tc.name == "alias" { // tables come after the top level
				tc.conf = strings.Replace(tc.conf, "[aliases]", "[aliases]", 1)
			}
			here := func(text string) string { return strings.ReplaceAll(text, "HOST", reg.host) }
			writeFile(t, o.RegistriesConf, here(tc.conf))
			_, found, err := Pull(t.Context(), st, here(tc.image), PullMissing, o)
			if found != here(tc.found) || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
				t.Errorf("got %q, %v; want %q, an error with %q", found, err, here(tc.found), tc.err)
			}
		})
	}
}

func TestPullInterrupted(t *testing.T) {
	img := makeImage(t, layerTar(t, entry("a", "1")), layerTar(t, entry("b", strings.Repeat("b", 1<<20))))
	st, o, reg := newStore(t), insecure(t), newFakeRegistry(t)
	reg.put(t, "x", "1", img)
	ctx, cancel := context.WithCancel(t.Context())
	reg.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, img.manifest.Layers[1].Digest.String()) {
			return false
		}
		_, _ = w.Write(img.layers[1][:100])
		w.(http.Flusher).Flush() //nolint:forcetypeassert // of httptest's server it is one
		cancel()
		<-r.Context().Done()
		return true
	})

	start := time.Now()
	_, _, err := Pull(ctx, st, reg.host+"/x:1", PullAlways, o)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("it took %s to stop", took)
	}
	if images, err := library(t, st).Images(); err != nil || len(images) > 0 {
		t.Errorf("images after the interruption: %v (%v)", images, err)
	}
	reg.setFault(nil)
	mustPull(t, st, reg.host+"/x:1", PullAlways, o)
}

func TestSignaturePolicy(t *testing.T) {
	img := makeImage(t, layerTar(t, entry("a", "1")))
	st, o := newStore(t), hermetic(t)
	writeFile(t, o.SignaturePolicy, `{"default":[{"type":"reject"}]}`)
	if _, _, err := Pull(t.Context(), st, img.layout(t, "localhost/x:1"), PullAlways, o); err == nil || !strings.Contains(err.Error(), "rejected by policy") {
		t.Errorf("a policy that rejects everything: %v", err)
	}
	o.SignaturePolicy = filepath.Join(t.TempDir(), "missing")
	if _, _, err := Pull(t.Context(), st, img.layout(t, "localhost/x:1"), PullAlways, o); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a policy file that was named and is missing: %v", err)
	}

	// No file in any of the places where policies lie.
	t.Setenv("CONTAINERS_POLICY_JSON", "")
	pc, err := policyContext(&types.SystemContext{RootForImplicitAbsolutePaths: t.TempDir()})
	if err != nil {
		t.Fatalf("without any policy: %v", err)
	}
	if err := pc.Destroy(); err != nil {
		t.Error(err)
	}
}

// TestPullTogether pulls images that share layers into one store at a time.
func TestPullTogether(t *testing.T) {
	shared := layerTar(t, dirEntry("etc"), entry("etc/a", strings.Repeat("a", 1<<20)))
	st, o, reg := newStore(t), insecure(t), newFakeRegistry(t)
	const n = 6
	images := make([]*testImage, n)
	for i := range images {
		images[i] = makeImage(t, shared, layerTar(t, entry("own", strconv.Itoa(i%3))))
		reg.put(t, "x", strconv.Itoa(i), images[i])
	}

	results := make(chan error, n)
	for i := range images {
		go func() {
			id, _, err := Pull(t.Context(), st, reg.host+"/x:"+strconv.Itoa(i), PullAlways, o)
			if err == nil && id != images[i].id(t) {
				err = errors.New("got another image: " + id)
			}
			results <- err
		}()
	}

	for range images {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}

	layers, err := library(t, st).Layers()
	if err != nil || len(layers) != 4 {
		t.Errorf("%d layers, want 4 (%v)", len(layers), err)
	}
}
