package transfer

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// asking makes a registry want a user and password, and tells what credentials came.
func asking(f *fakeRegistry, user, password string) (came func() []string) {
	var mu sync.Mutex
	var got []string
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	f.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if header := r.Header.Get("Authorization"); header != "" && header != "Basic Og==" { // which is nobody with no password
			got = append(got, header)
			if header == want {
				return false
			}
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})

	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return got
	}
}

func authFile(t *testing.T, logins map[string]string) string {
	t.Helper()
	var entries []string
	for host, login := range logins {
		entries = append(entries, fmt.Sprintf("%q:{\"auth\":%q}", host, base64.StdEncoding.EncodeToString([]byte(login))))
	}
	name := filepath.Join(t.TempDir(), "auth.json")
	writeFile(t, name, `{"auths":{`+strings.Join(entries, ",")+`}}`)
	return name
}

// TestCheck asks a registry that wants credentials.
func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		name, kept, creds string
		user              string
		err               error
	}{
		{name: "kept", kept: "alice:good", user: "alice"},
		{name: "others kept", kept: "alice:bad", user: "alice", err: ErrUnauthorized},
		{name: "none", err: ErrUnauthorized},
		{name: "given", kept: "alice:bad", creds: "alice:good", user: "alice"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, o := newFakeRegistry(t), insecure(t)
			asking(f, "alice", "good")
			logins := map[string]string{"other.example": "alice:good"}
			if tc.kept != "" {
				logins[f.host] = tc.kept
			}
			o.AuthFile, o.Creds = authFile(t, logins), tc.creds
			location, user, err := Check(t.Context(), f.host, o)
			if location != f.host || user != tc.user || !errors.Is(err, tc.err) {
				t.Errorf("%s, %s, %v", location, user, err)
			}
		})
	}
}

// TestCheckMirror: a mirror is asked in place of the registry, and gets what is kept for itself
// only.
func TestCheckMirror(t *testing.T) {
	for _, tc := range []struct {
		name, kept, creds string
		err               error
		came              bool
	}{
		{name: "kept for the registry", kept: "registry.example", err: ErrUnauthorized},
		{name: "given for the registry", creds: "alice:good", err: ErrUnauthorized},
		{name: "kept for the mirror", kept: "mirror", came: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, o := newFakeRegistry(t), insecure(t)
			came := asking(f, "alice", "good")
			if tc.kept == "mirror" {
				tc.kept = f.host
			}
			o.AuthFile, o.Creds = authFile(t, map[string]string{tc.kept + "x": "bob:x", tc.kept: "alice:good"}), tc.creds
			o.RegistriesConf = filepath.Join(t.TempDir(), "registries.conf")
			writeFile(t, o.RegistriesConf, fmt.Sprintf("[[registry]]\nprefix = \"registry.example\"\nlocation = %q\ninsecure = true\n", f.host))
			location, _, err := Check(t.Context(), "registry.example", o)
			if location != f.host || !errors.Is(err, tc.err) || (len(came()) > 0) != tc.came {
				t.Errorf("%s, %v, credentials %q", location, err, came())
			}
		})
	}
}

func TestCheckRefuses(t *testing.T) {
	o := hermetic(t)
	o.Sources = Sources{Blocked: []string{"blocked.example"}}
	for host, want := range map[string]string{
		"":                   "is no registry",
		"registry.example/x": "is no registry",
		"blocked.example":    "blocks the registry",
	} {
		if _, _, err := Check(t.Context(), host, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", host, err)
		}
	}
}

func TestKnown(t *testing.T) {
	o := hermetic(t)
	if names, err := Known(o); err != nil || len(names) > 0 {
		t.Errorf("%q, %v", names, err)
	}
	o.AuthFile = authFile(t, map[string]string{"b.example": "u:p", "a.example/team": "u:p"})
	if names, err := Known(o); err != nil || strings.Join(names, " ") != "a.example/team b.example" {
		t.Errorf("%q, %v", names, err)
	}
}
