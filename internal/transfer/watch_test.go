package transfer

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.podman.io/image/v5/types"
)

// endless answers requests with text in their path by a body that goes on while the client reads:
// chunk, then pause.
func endless(code int, text string, chunk []byte, pause time.Duration) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.Method+" "+r.URL.Path, text) {
			return false
		}

		w.WriteHeader(code)
		for r.Context().Err() == nil {
			if _, err := w.Write(chunk); err != nil {
				break
			}
			w.(http.Flusher).Flush() //nolint:forcetypeassert // of httptest's server it is one
			select {
			case <-r.Context().Done():
			case <-time.After(pause):
			}
		}
		return true
	}
}

// TestEndlessAnswers: every answer of a registry has a bound, those of errors too, which the
// library reads to their end.
func TestEndlessAnswers(t *testing.T) {
	img := makeImage(t, layerTar(t, entry("a", strings.Repeat("1", 1<<20))))
	layer := img.manifest.Layers[0].Digest.String()
	big, bit := make([]byte, 1<<18), []byte{' '}
	const slow = 20 * time.Millisecond
	for _, tc := range []struct {
		name  string
		fault func(w http.ResponseWriter, r *http.Request) bool
		want  string
	}{
		{"ping", endless(http.StatusTeapot, "GET /v2/", big, 0), "that are no layer"},
		{"manifest, 404", endless(http.StatusNotFound, "/manifests/", big, 0), "that are no layer"},
		{"manifest, 401", endless(http.StatusUnauthorized, "/manifests/", big, 0), "that are no layer"},
		{"layer, 404", endless(http.StatusNotFound, layer, big, 0), "that are no layer"},
		{"layer, 403", endless(http.StatusForbidden, layer, big, 0), "that are no layer"},
		{"config, 404", endless(http.StatusNotFound, img.manifest.Config.Digest.String(), big, 0), "that are no layer"},
		{"manifest, trickle", endless(http.StatusOK, "/manifests/", bit, slow), "answers too slowly: less than"},
		{"manifest, 404, trickle", endless(http.StatusNotFound, "/manifests/", bit, slow), "answers too slowly: less than"},
		{"layer, trickle", endless(http.StatusOK, layer, bit, slow), "answers too slowly: less than"},
		{"layer, 404, trickle", endless(http.StatusNotFound, layer, bit, slow), "answers too slowly: less than"},
		{"layer, silence", endless(http.StatusOK, layer, bit, time.Hour), "answers too slowly: less than"},
		{"manifest, no answer", func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.Contains(r.URL.Path, "/manifests/") {
				<-r.Context().Done()
			}
			return r.Context().Err() != nil
		}, "answers too slowly: no answer"},
	} {
		t.Run(strings.ReplaceAll(tc.name, ",", ""), func(t *testing.T) {
			st, o, reg := newStore(t), insecure(t), newFakeRegistry(t)
			o.Retries = -1
			o.limits = watchLimits{silence: 700 * time.Millisecond, answer: time.Second, pace: 4 << 10, excess: 3 << 20}
			reg.put(t, "x", "1", img)
			reg.setFault(tc.fault)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			_, _, err := Pull(ctx, st, reg.host+"/x:1", PullAlways, o)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, tc.want)
			}
		})
	}
}

// TestStalledIsTriedAgain: a request whose answer stalls may succeed the next time.
func TestStalledIsTriedAgain(t *testing.T) {
	img := makeImage(t, layerTar(t, entry("a", strings.Repeat("1", 1<<20))))
	st, o, reg := newStore(t), insecure(t), newFakeRegistry(t)
	o.limits = watchLimits{silence: 500 * time.Millisecond, pace: 4 << 10}
	reg.put(t, "x", "1", img)
	reg.setFault(times(1, endless(http.StatusOK, img.manifest.Layers[0].Digest.String(), []byte{0x1f}, time.Hour)))
	if _, _, err := Pull(t.Context(), st, reg.host+"/x:1", PullAlways, o); err != nil {
		t.Error(err)
	}
}

// TestEndlessElsewhere: the same for what is no pull.
func TestEndlessElsewhere(t *testing.T) {
	reg := newFakeRegistry(t)
	o := insecure(t)
	o.limits = watchLimits{excess: 1 << 20}
	reg.setFault(endless(http.StatusForbidden, "GET /v2/", make([]byte, 1<<18), 0))
	st := newStore(t)
	img := makeImage(t, layerTar(t, entry("a", "1")))
	id, _ := mustPull(t, st, img.layout(t, "localhost/x:1"), PullAlways, o)
	for name, call := range map[string]func() error{
		"push": func() error {
			_, err := Push(t.Context(), st, id, reg.host+"/x:1", PushOptions{Options: o})
			return err
		},
		"login": func() error {
			return Login(t.Context(), reg.host, LoginOptions{Options: o, Username: "a", Password: "b"})
		},
		"check": func() error {
			_, _, err := Check(t.Context(), reg.host, o)
			return err
		},
		"tags": func() error {
			_, err := Tags(t.Context(), reg.host+"/x", o)
			return err
		},
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "that are no layer") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEndlessTags: a list of tags has a bound as other answers have.
func TestEndlessTags(t *testing.T) {
	reg, o := newFakeRegistry(t), insecure(t)
	o.Retries, o.limits = -1, watchLimits{excess: 1 << 20}
	reg.setFault(endless(http.StatusOK, "/tags/list", bytes.Repeat([]byte{' '}, 1<<18), 0))
	if _, err := Tags(t.Context(), reg.host+"/x", o); err == nil || !strings.Contains(err.Error(), "that are no layer") {
		t.Error(err)
	}
}

// TestWatchedPasses: what is within the bounds is not touched, and the caller's reason to stop
// stays the reason.
func TestWatchedPasses(t *testing.T) {
	noise := make([]byte, 8<<20) // which no compression makes small
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	img := makeImage(t, layerTar(t, entry("a", string(noise))), layerTar(t, entry("b", "2")))
	st, o, reg := newStore(t), insecure(t), newFakeRegistry(t)
	o.limits = watchLimits{excess: 1 << 20}
	reg.put(t, "x", "1", img)
	if _, _, err := Pull(t.Context(), st, reg.host+"/x:1", PullAlways, o); err != nil {
		t.Error(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	err := o.watched(ctx, func(ctx context.Context, _ chan types.ProgressProperties) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})

	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
