package transfer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
)

// realRegistry is Debian's docker-registry on loopback.
type realRegistry struct {
	host    string
	certDir string // with the certificate of its authority, if it speaks TLS
}

// newRealRegistry starts one. With auth it wants user "bob", password "secret";
// with withTLS it speaks HTTPS with a certificate that only certDir vouches for.
func newRealRegistry(t *testing.T, withTLS, auth bool) realRegistry {
	t.Helper()
	binary, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed (apt-get install docker-registry)")
	}
	dir := t.TempDir()
	r := realRegistry{host: freeAddress(t), certDir: filepath.Join(dir, "certs")}
	conf := fmt.Sprintf("version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: %s/data\nhttp:\n  addr: %s\n", dir, r.host)
	if withTLS {
		makeCertificate(t, dir, r.certDir)
		conf += fmt.Sprintf("  tls:\n    certificate: %s/server.cert\n    key: %s/server.key\n", dir, dir)
	}

	if auth {
		htpasswd, err := exec.CommandContext(t.Context(), "htpasswd", "-Bbn", "bob", "secret").Output()
		if err != nil {
			t.Skipf("htpasswd (apt-get install apache2-utils): %v", err)
		}
		writeFile(t, filepath.Join(dir, "htpasswd"), string(htpasswd))
		conf += fmt.Sprintf("auth:\n  htpasswd:\n    realm: test\n    path: %s/htpasswd\n", dir)
	}

	writeFile(t, filepath.Join(dir, "config.yml"), conf)
	ctx, stop := context.WithCancel(context.Background()) // ends after the test's own context
	cmd := exec.CommandContext(ctx, binary, "serve", filepath.Join(dir, "config.yml"))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("docker-registry:\n%s", &log)
		}
	})

	awaitListener(t, r.host)

	return r
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func awaitListener(t *testing.T, address string) {
	t.Helper()
	for range 200 {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close() // it has served its purpose
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("nothing listens on %s", address)
}

// makeCertificate writes server.cert and server.key to dir and ca.crt to
// certDir.
func makeCertificate(t *testing.T, dir, certDir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	writeFile(t, filepath.Join(dir, "server.cert"), certificate)
	writeFile(t, filepath.Join(dir, "server.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	if err := os.Mkdir(certDir, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(certDir, "ca.crt"), certificate)
}

// storedImage puts an image of two layers into a new store.
func storedImage(t *testing.T) (*testImage, string) {
	t.Helper()
	img := makeImage(t, layerTar(t, dirEntry("etc"), entry("etc/a", "1")), layerTar(t, entry("b", "2")))
	return img, img.layout(t, "localhost/x:1")
}

func TestTLS(t *testing.T) {
	reg := newRealRegistry(t, true, false)
	st, o := newStore(t), hermetic(t)
	o.Retries = -1
	img, layout := storedImage(t)
	mustPull(t, st, layout, PullAlways, o)
	dest := reg.host + "/team/x:1"
	if _, err := Push(t.Context(), st, "x:1", dest, PushOptions{Options: o}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
	verify, no := true, false
	trusting := o
	trusting.CertDir, trusting.TLSVerify = reg.certDir, &verify
	sum, err := Push(t.Context(), st, "x:1", dest, PushOptions{Options: trusting})
	if err != nil {
		t.Fatalf("with the certificate: %v", err)
	}
	careless := o
	careless.TLSVerify = &no
	other := newStore(t)
	if id, _ := mustPull(t, other, reg.host+"/team/x@"+sum.Digest.String(), PullAlways, careless); id != img.id(t) {
		t.Errorf("pulled %s, want %s", id, img.id(t))
	}
}

func TestLogin(t *testing.T) {
	reg := newRealRegistry(t, false, true)
	st, o := newStore(t), insecure(t)
	o.Retries = -1
	_, layout := storedImage(t)
	mustPull(t, st, layout, PullAlways, o)
	push := func(o Options) error {
		_, err := Push(t.Context(), st, "x:1", reg.host+"/x:1", PushOptions{Options: o})
		return err
	}

	if err := push(o); err == nil {
		t.Fatal("pushed without credentials")
	}
	withCreds := o
	withCreds.Creds = "bob:wrong"
	if err := push(withCreds); err == nil {
		t.Error("pushed with a wrong password")
	}
	withCreds.Creds = "bob:secret"
	if err := push(withCreds); err != nil {
		t.Errorf("with credentials: %v", err)
	}

	login := func(user, password string) error {
		var out bytes.Buffer
		return Login(t.Context(), reg.host, LoginOptions{
			Options: o, Username: user, PasswordStdin: true, Stdin: strings.NewReader(password + "\n"), Stdout: &out,
		})
	}

	if err := login("bob", "wrong"); err == nil || !strings.Contains(err.Error(), "invalid username/password") {
		t.Errorf("logging in with a wrong password: %v", err)
	}
	if _, err := os.Stat(o.AuthFile); err == nil {
		t.Error("refused credentials were kept")
	}
	if err := login("bob", "secret"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(o.AuthFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file with credentials: %v, %v", info, err)
	}
	if user, err := GetLogin(reg.host, o); user != "bob" || err != nil {
		t.Errorf("GetLogin: %q, %v", user, err)
	}
	if err := push(o); err != nil {
		t.Errorf("after login: %v", err)
	}
	mustPull(t, newStore(t), reg.host+"/x:1", PullAlways, o)

	var out bytes.Buffer
	if err := Logout(reg.host, "", o, &out); err != nil || !strings.Contains(out.String(), "Removed login credentials") {
		t.Errorf("logging out: %v, %q", err, &out)
	}
	if err := push(o); err == nil {
		t.Error("pushed after logging out")
	}
	if err := Logout(reg.host, "", o, &out); err == nil {
		t.Error("logged out twice")
	}
}

// countingProxy passes requests on to a registry and notes them.
type countingProxy struct {
	host string

	mu       sync.Mutex
	requests []string
}

func newCountingProxy(t *testing.T, host string) *countingProxy {
	t.Helper()
	p := &countingProxy{}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: host})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.requests = append(p.requests, r.Method+" "+r.URL.Path)
		p.mu.Unlock()
		forward.ServeHTTP(w, r)
	}))

	t.Cleanup(server.Close)
	p.host = strings.TrimPrefix(server.URL, "http://")
	return p
}

// uploads are the blobs that were sent since the last call.
func (p *countingProxy) uploads() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.requests {
		if strings.HasPrefix(r, "POST ") && strings.HasSuffix(r, "/blobs/uploads/") {
			n++
		}
	}
	p.requests = nil
	return n
}

// TestPushSendsOnce pushes what the registry has already, in each way that it
// can have come to the store.
func TestPushSendsOnce(t *testing.T) {
	p := newCountingProxy(t, newRealRegistry(t, false, false).host)
	st, o := newStore(t), insecure(t)
	_, layout := storedImage(t)
	mustPull(t, st, layout, PullAlways, o)
	push := func(want int) string {
		t.Helper()
		sum, err := Push(t.Context(), st, "localhost/x:1", p.host+"/x:1", PushOptions{Options: o})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.uploads(); got != want {
			t.Errorf("%d blobs were sent, want %d", got, want)
		}
		return sum.Digest.String()
	}

	first := push(3)
	if second := push(0); second != first {
		t.Errorf("the second push made %s, the first %s", second, first)
	}

	// Another store, which knows the layers from pulling them.
	pulled := newStore(t)
	mustPull(t, pulled, p.host+"/x:1", PullAlways, o)
	if err := library(t, pulled).AddNames(mustLookup(t, pulled, p.host+"/x:1", o), []string{"localhost/x:1"}); err != nil {
		t.Fatal(err)
	}
	st = pulled
	if third := push(0); third != first {
		t.Errorf("the push of what was pulled made %s, the first %s", third, first)
	}
}

func TestPushFormats(t *testing.T) {
	reg := newRealRegistry(t, false, false)
	st, o := newStore(t), insecure(t)
	_, layout := storedImage(t)
	mustPull(t, st, layout, PullAlways, o)
	level := 9
	for _, tc := range []struct {
		o    PushOptions
		want string // the media types of manifest and layer
		err  string
	}{
		{PushOptions{}, "application/vnd.oci.image.manifest.v1+json application/vnd.oci.image.layer.v1.tar+gzip", ""},
		{PushOptions{Format: "v2s2"}, "application/vnd.docker.distribution.manifest.v2+json application/vnd.docker.image.rootfs.diff.tar.gzip", ""},
		{PushOptions{Format: "oci", CompressionFormat: "zstd", CompressionLevel: &level}, "application/vnd.oci.image.manifest.v1+json application/vnd.oci.image.layer.v1.tar+zstd", ""},
		{PushOptions{Format: "v3"}, "", "no manifest format"},
		{PushOptions{CompressionFormat: "rar"}, "", "rar"},
	} {
		t.Run(tc.o.Format+" "+tc.o.CompressionFormat, func(t *testing.T) {
			dest := reg.host + "/formats:" + "f" + tc.o.Format + tc.o.CompressionFormat
			tc.o.Options = o
			sum, err := Push(t.Context(), st, "x:1", dest, tc.o)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("got %v, want an error with %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			other := newStore(t)
			id, _ := mustPull(t, other, dest, PullAlways, o)
			got, err := library(t, other).Image(id)
			if err != nil {
				t.Fatal(err)
			}
			if got.Digest != sum.Digest {
				t.Errorf("pulled the manifest %s, pushed %s", got.Digest, sum.Digest)
			}
			raw, err := library(t, other).ImageBigData(id, "manifest")
			if err != nil {
				t.Fatal(err)
			}
			for mediaType := range strings.FieldsSeq(tc.want) {
				if !bytes.Contains(raw, []byte(mediaType)) {
					t.Errorf("no %s in %s", mediaType, raw)
				}
			}

			if diff := cmp.Diff(diffIDs(t, st, mustLookup(t, st, "x:1", o)), diffIDs(t, other, id)); diff != "" {
				t.Errorf("layers (-pushed +pulled):\n%s", diff)
			}
		})
	}
}

func mustLookup(t *testing.T, st *containers.Store, name string, o Options) string {
	t.Helper()
	img, _, err := images.Lookup(st, name, o.Names)
	if err != nil {
		t.Fatal(err)
	}
	return img.ID
}

// TestTLSOnlyByDefault makes sure that a registry without TLS is not spoken to
// in plain text unless that was asked for.
func TestTLSOnlyByDefault(t *testing.T) {
	reg := newFakeRegistry(t)
	st, o := newStore(t), hermetic(t)
	o.Retries = -1
	o.Creds = "bob:secret"
	if _, _, err := Pull(t.Context(), st, reg.host+"/x:1", PullAlways, o); err == nil {
		t.Error("pulled without TLS")
	}
	if n := reg.count("/"); n > 0 {
		t.Errorf("%d requests in plain text", n)
	}
}
