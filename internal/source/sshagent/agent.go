// Package sshagent offers an SSH agent to the steps of a build (RUN --mount=type=ssh). It is the
// user's agent, behind a socket on which the builder listens, or an agent that holds keys from
// files.
//
//	a, err := sshagent.Open("/run/user/1000/agent.sock") // or: sshagent.Open("id_ed25519", "id_rsa")
//	stop := a.Serve(ctx, listener)
//	...
//	err = stop()
//
// A step can list the keys and sign with them. It cannot add, remove or lock keys, nor use
// extensions of the protocol. So a build does not change the user's agent. The user's socket itself
// is never mounted. Every program of a step can sign with the keys while the step runs: that is the
// purpose of the mount.
//
// Source: draft-miller-ssh-agent, as implemented by golang.org/x/crypto/ssh/agent.
package sshagent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/crypto/ssh"
	xagent "golang.org/x/crypto/ssh/agent"

	"codeberg.org/rbuild/rbuild/internal/bounded"
)

// maxKey bounds a file with a key, in bytes.
const maxKey = 100 << 10

// Agent is the agent that steps may use.
type Agent struct {
	socket string       // of the user's agent, or
	keys   xagent.Agent // keys from files
}

// Open takes the path of an agent's socket, or the paths of files with private keys. The keys must
// have no passphrase.
func Open(paths ...string) (*Agent, error) {
	keys := xagent.NewKeyring()
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.Mode()&os.ModeSocket != 0 {
			if len(paths) > 1 {
				return nil, fmt.Errorf("%s is the socket of an agent: it stands alone", path)
			}
			return &Agent{socket: path}, nil
		}

		key, err := readKey(path)
		if err != nil {
			return nil, fmt.Errorf("reading the key %s: %w", path, err)
		}
		if err := keys.Add(xagent.AddedKey{PrivateKey: key, Comment: filepath.Base(path)}); err != nil {
			return nil, fmt.Errorf("reading the key %s: %w", path, err)
		}
	}

	if len(paths) == 0 {
		return nil, errors.New("neither a socket nor a key")
	}

	return &Agent{keys: keys}, nil
}

func readKey(path string) (any, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	text, err := bounded.ReadAll(f, maxKey, "it")
	if err != nil {
		return nil, err
	}

	key, err := ssh.ParseRawPrivateKey(text)
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		return nil, errors.New("it has a passphrase: add it to an agent with ssh-add, and give the agent's socket")
	}
	return key, err
}

// Serve answers on l until stop is called. stop closes l and all connections, and waits for their
// end. After the end of ctx the user's agent is not asked.
func (a *Agent) Serve(ctx context.Context, l net.Listener) (stop func() error) {
	s := &server{agent: a, open: map[net.Conn]bool{}}
	s.work.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if s.add(conn) {
				s.work.Go(func() { s.serve(ctx, conn) })
			}
		}
	})

	return sync.OnceValue(func() error {
		err := l.Close()
		s.close()
		s.work.Wait()
		return err
	})
}

// server is one Serve.
type server struct {
	agent *Agent
	work  sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

func (s *server) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		conn.Close()
		return false
	}
	s.open[conn] = true
	return true
}

func (s *server) remove(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, conn)
	conn.Close()
}

func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for conn := range s.open {
		conn.Close()
	}
}

// serve answers one client. After an error the client sees the end of the connection, as with any
// agent.
func (s *server) serve(ctx context.Context, conn net.Conn) {
	defer s.remove(conn)
	backend := s.agent.keys
	if backend == nil {
		up, err := new(net.Dialer).DialContext(ctx, "unix", s.agent.socket)
		if err != nil || !s.add(up) {
			return
		}
		defer s.remove(up)
		backend = xagent.NewClient(up)
	}
	_ = xagent.ServeAgent(limited{backend}, conn)
}

// limited permits a client to use keys, and nothing else.
type limited struct{ backend xagent.Agent }

var errLimited = errors.New("a build may use keys, not change them")

func (l limited) List() ([]*xagent.Key, error) { return l.backend.List() }

func (l limited) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	return l.backend.Sign(key, data)
}

func (l limited) SignWithFlags(key ssh.PublicKey, data []byte, flags xagent.SignatureFlags) (*ssh.Signature, error) {
	if b, ok := l.backend.(xagent.ExtendedAgent); ok {
		return b.SignWithFlags(key, data, flags)
	}
	return l.backend.Sign(key, data)
}

func (l limited) Signers() ([]ssh.Signer, error) { return l.backend.Signers() }
func (l limited) Add(xagent.AddedKey) error      { return errLimited }
func (l limited) Remove(ssh.PublicKey) error     { return errLimited }
func (l limited) RemoveAll() error               { return errLimited }
func (l limited) Lock([]byte) error              { return errLimited }
func (l limited) Unlock([]byte) error            { return errLimited }
func (l limited) Extension(string, []byte) ([]byte, error) {
	return nil, xagent.ErrExtensionUnsupported
}
