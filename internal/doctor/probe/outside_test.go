package probe

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/doctor"
	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/remedy"
	"codeberg.org/rbuild/rbuild/internal/transfer"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

func TestKernel(t *testing.T) {
	for release, want := range map[string]doctor.Status{
		"6.1.0-13-amd64": doctor.OK,
		"5.12.0":         doctor.OK,
		"5.11.22":        doctor.Missing,
		"4.18.0-el8":     doctor.Missing,
		"unusual":        doctor.OK,
	} {
		f := kernel(release, nil)
		if f.ID != doctor.Kernel || f.Status != want || !strings.Contains(f.Summary, release) || (f.Fix == "") != (want == doctor.OK) {
			t.Errorf("%s: %+v", release, f)
		}
	}
	if f := kernel("", io.EOF); f.Status != doctor.Degraded || f.Detail != "EOF" {
		t.Errorf("unknown release: %+v", f)
	}
}

func TestConfinement(t *testing.T) {
	for want, c := range map[string]userns.Confinement{
		"no seccomp filter, no AppArmor profile, no_new_privs is not set":    {},
		"a seccomp filter, the AppArmor profile docker, no_new_privs is set": {Seccomp: true, AppArmor: "docker", NoNewPrivs: true},
		"no seccomp filter, the AppArmor profile x, no_new_privs is not set": {AppArmor: "x"},
	} {
		if f := confinement(c); f.Summary != want || f.Status != doctor.OK {
			t.Errorf("%+v", f)
		}
	}
}

// brief is a finding without texts that depend on the host.
type brief struct {
	ID     doctor.ID
	Status doctor.Status
}

func briefs(findings []doctor.Finding) (out []brief) {
	for _, f := range findings {
		if strings.Contains(f.Summary, "are free for") { // as full as the disk of the host
			continue
		}
		out = append(out, brief{f.ID, f.Status})
	}
	return out
}

func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refused := &remedy.Error{Why: "the driver is vfs", Do: "set driver"}

	// The tests run as root of a user namespace, to whom the root of the host, the owner of /usr, is a stranger.
	for _, tc := range []struct {
		name string
		o    Options
		want []brief
	}{
		{"well", Options{Store: dir, Temp: dir}, []brief{{doctor.Store, doctor.OK}}},
		{"not there yet", Options{Store: dir + "/a/b", Temp: dir}, []brief{{doctor.Store, doctor.OK}}},
		{"no store known", Options{StoreErr: refused, Temp: "/"}, []brief{{doctor.Store, doctor.Missing}}},
		{"store is a file", Options{Store: file, Temp: dir}, []brief{{doctor.Store, doctor.Missing}}},
		{"no directory for temporary files", Options{Store: dir, Temp: dir + "/none"}, []brief{{doctor.Store, doctor.OK}, {doctor.TempDisk, doctor.Degraded}}},
		{"temporary files refused", Options{Store: dir, Temp: "/usr"}, []brief{{doctor.Store, doctor.OK}, {doctor.TempDisk, doctor.Degraded}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found := places(tc.o)
			got := briefs(found)
			if tc.name == "no store known" { // "/" may be full, or closed to the user
				got = got[:1]
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\n%+v", diff, found)
			}
		})
	}

	_, found := storeFindings(Options{StoreErr: refused})
	if diff := cmp.Diff([]doctor.Finding{{ID: doctor.Store, Status: doctor.Missing, Summary: "the driver is vfs", Fix: "set driver"}}, found); diff != "" {
		t.Error(diff)
	}
}

func TestWithoutRun(t *testing.T) {
	dir := t.TempDir()
	if f := WithoutRun(filepath.Join(dir, "layout")); f.Status != doctor.OK || !strings.HasSuffix(f.Summary, "images are kept in "+dir+"/layout") {
		t.Errorf("%+v", f)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if f := WithoutRun(filepath.Join(file, "layout")); f.Status != doctor.Missing || f.Fix == "" || f.Detail == "" {
		t.Errorf("below a file: %+v", f)
	}
}

func TestCgroups(t *testing.T) {
	off := cgroups(t.Context(), cgroup.Options{Manager: cgroup.Disabled})
	if off.Status != doctor.OK || off.Summary != "RUN gets no cgroup: they are switched off" {
		t.Errorf("%+v", off)
	}

	for _, tc := range []struct {
		name string
		err  error
		want doctor.Finding
	}{
		{"another error", io.EOF, doctor.Finding{ID: doctor.Cgroup, Status: doctor.Degraded, Summary: "no limits: EOF"}},
		{
			"refused", fmt.Errorf("x: %w", &cgroup.Error{Reason: cgroup.NoBus, Detail: "no bus", Fix: "log in", Err: io.EOF}),
			doctor.Finding{ID: doctor.Cgroup, Status: doctor.Degraded, Summary: "no limits: no bus", Detail: "EOF", Fix: "log in"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, noCgroups("no limits: ", tc.err)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestGit looks for git in a PATH with a program of that name.
func TestGit(t *testing.T) {
	for _, tc := range []struct {
		name, script string // no script: no program
		status       doctor.Status
		summary      string
	}{
		{"well", "echo git version 2.39.5", doctor.OK, "/git, version 2.39.5"},
		{"old", "echo git version 2.17.1", doctor.Degraded, "is git 2.17.1, and 2.31 is needed"},
		{"fails", "exit 3", doctor.Degraded, "does not work: git --version: exit status 3"},
		{"something else", "echo hello", doctor.Degraded, "does not work: git --version prints"},
		{"none", "", doctor.Degraded, "there is no git"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if tc.script != "" {
				if err := os.WriteFile(filepath.Join(dir, "git"), []byte("#!/bin/sh\n"+tc.script+"\n"), 0o700); err != nil { //nolint:gosec // it is executed
					t.Fatal(err)
				}
			}
			f := gitProgram(t.Context(), dir)
			if f.ID != doctor.Git || f.Status != tc.status || !strings.Contains(f.Summary, tc.summary) || (f.Fix == "") != (f.Status == doctor.OK) {
				t.Errorf("%+v", f)
			}
		})
	}
}

// write makes a file and returns its path.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// registryOptions are options that read no file of the host.
func registryOptions(t *testing.T) (o transfer.Options) {
	t.Helper()
	o.AuthFile = write(t, "{}")
	o.RegistriesConf, o.RegistriesConfDir = write(t, ""), t.TempDir()
	return o
}

func TestConfiguration(t *testing.T) {
	good := registryOptions(t)
	good.SignaturePolicy = write(t, `{"default":[{"type":"insecureAcceptAnything"}]}`)
	want := []brief{{doctor.RegistriesConf, doctor.OK}, {doctor.Policy, doctor.OK}}
	if diff := cmp.Diff(want, briefs(configuration(good))); diff != "" {
		t.Error(diff)
	}

	bad := registryOptions(t)
	bad.RegistriesConf, bad.SignaturePolicy = write(t, "["), write(t, "{")
	for _, f := range configuration(bad) {
		if f.Status != doctor.Degraded || !strings.HasPrefix(f.Summary, "images cannot be pulled: ") || !strings.Contains(f.Fix, "containers-") {
			t.Errorf("%+v", f)
		}
	}
}

func TestAuth(t *testing.T) {
	login := base64.StdEncoding.EncodeToString([]byte("canary:password"))
	for _, tc := range []struct {
		name, file string
		status     doctor.Status
		summary    string
	}{
		{"none", "{}", doctor.OK, "no credentials are kept"},
		{"one", `{"auths":{"example.com":{"auth":"` + login + `"}}}`, doctor.OK, "credentials are kept for example.com"},
		{"broken", "{", doctor.Degraded, "unmarshaling JSON"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := registryOptions(t)
			o.AuthFile = write(t, tc.file)
			f := auth(o)
			if f.Status != tc.status || !strings.Contains(f.Summary, tc.summary) || strings.Contains(fmt.Sprint(f), "password") {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestRegistries(t *testing.T) {
	open := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer open.Close()
	closed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer closed.Close()

	host := func(s *httptest.Server) string { return strings.TrimPrefix(s.URL, "http://") }
	insecure := false
	o := Options{Registries: []string{host(open), host(closed), "no registry"}, Registry: registryOptions(t)}
	o.Registry.TLSVerify, o.Registry.Retries = &insecure, -1

	found := registries(t.Context(), o)
	want := []struct {
		status  doctor.Status
		summary string
	}{
		{doctor.OK, host(open) + " answers, without credentials"},
		{doctor.Missing, host(closed) + " asks for credentials, and none are kept for it"},
		{doctor.Missing, "is no registry: want HOST[:PORT]"},
	}
	for i, w := range want {
		f := found[i]
		if f.ID != doctor.Registry+doctor.ID(o.Registries[i]) || f.Status != w.status || !strings.Contains(f.Summary, w.summary) {
			t.Errorf("%+v", f)
		}
	}
}

func TestExistingIsAbsolute(t *testing.T) {
	dir, err := existing("no/such/directory")
	if err != nil || !filepath.IsAbs(dir) {
		t.Errorf("%s, %v", dir, err)
	}
	t.Chdir(dir) // fails the test if dir is not a directory
}
