package sshagent_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	xagent "golang.org/x/crypto/ssh/agent"

	"codeberg.org/rbuild/rbuild/internal/source/sshagent"
)

// newKey writes a private key to a file.
func newKey(t *testing.T, passphrase string) (path string, key ed25519.PrivateKey) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(key, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, key
}

// listen makes a socket with a short name.
func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") //nolint:usetesting // the name of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return l, path
}

// client connects to what a serves.
func client(t *testing.T, a *sshagent.Agent) xagent.ExtendedAgent {
	t.Helper()
	l, path := listen(t)
	stop := a.Serve(t.Context(), l)
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(stop(), stop()); err != nil {
			t.Error(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("the connection is still there")
		}
		conn.Close()
	})

	return xagent.NewClient(conn)
}

// use lists the one key, signs with it, and tries what a step may not do.
func use(t *testing.T, c xagent.ExtendedAgent, key ed25519.PrivateKey) {
	t.Helper()
	pub, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := c.List()
	if err != nil || len(keys) != 1 || string(keys[0].Blob) != string(pub.Marshal()) {
		t.Fatalf("keys %v, %v", keys, err)
	}
	sig, err := c.Sign(pub, []byte("text"))
	if err != nil {
		t.Fatal(err)
	}
	if err := pub.Verify([]byte("text"), sig); err != nil {
		t.Error(err)
	}
	_, another, _ := ed25519.GenerateKey(rand.Reader)
	for name, err := range map[string]error{
		"add": c.Add(xagent.AddedKey{PrivateKey: another}), "remove": c.Remove(pub), "remove all": c.RemoveAll(),
		"lock": c.Lock([]byte("x")), "unlock": c.Unlock([]byte("x")),
	} {
		if err == nil {
			t.Errorf("%s is allowed", name)
		}
	}

	if keys, err := c.List(); err != nil || len(keys) != 1 {
		t.Errorf("afterwards: keys %v, %v", keys, err)
	}
}

func TestKeyFile(t *testing.T) {
	path, key := newKey(t, "")
	a, err := sshagent.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	use(t, client(t, a), key)
}

func TestSocket(t *testing.T) {
	_, key := newKey(t, "")
	keyring := xagent.NewKeyring()
	if err := keyring.Add(xagent.AddedKey{PrivateKey: &key}); err != nil {
		t.Fatal(err)
	}
	l, path := listen(t)
	defer l.Close()

	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = xagent.ServeAgent(keyring, conn) }()
		}
	}()

	a, err := sshagent.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	use(t, client(t, a), key)
	if keys, _ := keyring.List(); len(keys) != 1 {
		t.Errorf("the user's agent has %d keys", len(keys))
	}
}

func TestOpenErrors(t *testing.T) {
	locked, _ := newKey(t, "secret")
	plain, _ := newKey(t, "")
	l, socket := listen(t)
	defer l.Close()

	junk := filepath.Join(t.TempDir(), "junk")
	if err := os.WriteFile(junk, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, 200<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		paths []string
		want  string
	}{
		{"nothing", nil, "neither a socket nor a key"},
		{"missing", []string{"/nonexistent/key"}, "no such file"},
		{"passphrase", []string{locked}, "it has a passphrase: add it to an agent with ssh-add"},
		{"no key", []string{junk}, "reading the key " + junk},
		{"too big", []string{big}, "more than 102400 bytes"},
		{"socket and key", []string{plain, socket}, "it stands alone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := sshagent.Open(tc.paths...)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}
