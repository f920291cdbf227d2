package git

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"codeberg.org/rbuild/rbuild/internal/kernel/nstest"
	"codeberg.org/rbuild/rbuild/internal/source/sshagent"
)

// sshServer serves repositories below dir to whoever has the key.
func sshServer(t *testing.T, dir string, user ssh.PublicKey) (addr string, host ssh.PublicKey) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if string(k.Marshal()) != string(user.Marshal()) {
			return nil, os.ErrPermission
		}
		return nil, nil
	}}

	config.AddHostKey(signer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(func() { l.Close(); work.Wait() })
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() { serveSSH(c, config, dir) })
		}
	})

	return l.Addr().String(), signer.PublicKey()
}

func serveSSH(c net.Conn, config *ssh.ServerConfig, dir string) {
	defer c.Close()

	conn, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	defer conn.Close()

	go ssh.DiscardRequests(requests)
	for ch := range channels {
		channel, requests, err := ch.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			if r.Type != "exec" {
				_ = r.Reply(r.Type == "env", nil)
				continue
			}

			_ = r.Reply(true, nil)
			cmd := exec.Command("sh", "-c", string(r.Payload[4:]))
			cmd.Dir, cmd.Stdout, cmd.Stderr = dir, channel, channel.Stderr()
			if in, err := cmd.StdinPipe(); err == nil { // not cmd.Stdin, for whose end Run would wait
				go func() {
					_, _ = io.Copy(in, channel)
					in.Close()
				}()
			}

			cmd.Env = append(os.Environ(), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
			status := ssh.Marshal(struct{ Status uint32 }{})
			if cmd.Run() != nil {
				status[3] = 1
			}
			_, _ = channel.SendRequest("exit-status", false, status)
			channel.Close()
		}
	}
}

func TestSSH(t *testing.T) {
	nstest.Need(t)
	if _, err := exec.LookPath("ssh"); err != nil {
		t.Skip("no ssh: ", err)
	}
	s := newServer(t)
	s.repo()
	want := s.commit("refs/heads/main", "f 1")
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	user, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	keyFile, known := filepath.Join(dir, "key"), filepath.Join(dir, "known hosts")
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := sshagent.Open(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	addr, host := sshServer(t, s.dir, user)
	_, port, _ := net.SplitHostPort(addr)
	if err := os.WriteFile(known, []byte("[127.0.0.1]:"+port+" "+string(ssh.MarshalAuthorizedKey(host))), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		o    Options
		err  string
	}{
		{"agent and known host", Options{Agent: a, KnownHosts: []string{dir + "/none", known}}, ""},
		{"no agent", Options{KnownHosts: []string{known}}, "--ssh default"},
		{"unknown host", Options{Agent: a}, "known_hosts"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.o.limits = defaultLimits()
			tc.o.limits.silence = 20 * time.Second
			c, err := s.fetch("ssh://git@"+addr+s.dir+"/x.git#main", tc.o)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want one that says %s", err, tc.err)
				}
				return
			}
			if err != nil || c.Commit != want {
				t.Errorf("%v, %v", c, err)
			}
		})
	}
}
