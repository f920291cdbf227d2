package git

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/bounded"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
)

// maxKnownHosts bounds the files with keys of hosts, in bytes together.
const maxKnownHosts = 4 << 20

// access is the access to the server of one Fetch.
type access struct {
	Options
	ref  Ref
	root *os.Root // the directory of the Fetch
	home string   // git's home, the directory "home" of root
	stop func() error
}

// connect returns the part of git's environment with the credentials for the server and the keys of
// known hosts. The caller closes the access, also after an error.
func (a *access) connect(ctx context.Context) (env []string, err error) {
	if a.isSSH() {
		return a.connectSSH(ctx)
	}

	header := a.header()
	if header == "" {
		return nil, nil
	}
	if strings.ContainsAny(header, "\r\n\x00") {
		return nil, errors.New("the credentials have more than one line")
	}

	return []string{
		"GIT_CONFIG_COUNT=1",
		"GIT_CONFIG_KEY_0=http." + a.ref.URL + ".extraHeader",
		"GIT_CONFIG_VALUE_0=Authorization: " + header,
	}, nil
}

func (a *access) isSSH() bool {
	return strings.HasPrefix(a.ref.URL, "ssh://") || !strings.Contains(a.ref.URL, "://")
}

// authorized reports whether git has credentials for an HTTP server.
func (a *access) authorized() bool { return !a.isSSH() && a.header() != "" }

// header returns the value of the header Authorization; empty: there are no credentials.
// Credentials of the URL take precedence over secrets, secrets for the host over others, and a
// header over a token.
func (a *access) header() string {
	u, err := url.Parse(a.ref.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	if a.ref.user != nil {
		password, _ := a.ref.user.Password()
		return basic(a.ref.user.Username(), password)
	}

	for _, suffix := range []string{"." + u.Host, ""} {
		if value, ok := a.Secrets["GIT_AUTH_HEADER"+suffix]; ok {
			return strings.TrimSpace(string(value))
		}
		if value, ok := a.Secrets["GIT_AUTH_TOKEN"+suffix]; ok {
			return basic("x-access-token", strings.TrimSpace(string(value)))
		}
	}

	return ""
}

func basic(user, password string) string {
	return "basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// connectSSH sets the command line of ssh, with an agent and the keys of known hosts. Both are
// reached by paths of a descriptor: the name of a socket has at most 108 bytes (unix(7)), and other
// paths would have to be quoted for the shell.
func (a *access) connectSSH(ctx context.Context) (env []string, err error) {
	ssh, err := find("ssh", a.Environment)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(ssh, " '\"\\$`") {
		return nil, fmt.Errorf("the path of the program %q holds characters that a shell reads", ssh)
	}

	home, err := os.Open(a.home)
	if err != nil {
		return nil, err
	}

	a.stop = home.Close
	self, err := fdfs.ProcSelf()
	if err != nil {
		return nil, err
	}

	base := fmt.Sprintf("%s/fd/%d/", self, home.Fd())
	if err := a.copyKnownHosts(); err != nil {
		return nil, err
	}

	env = []string{
		"GIT_SSH_VARIANT=ssh",
		"GIT_SSH_COMMAND=" + ssh + " -F none -o BatchMode=yes -o IdentityFile=none" +
			" -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o UserKnownHostsFile=" + base + knownHosts +
			" -o ConnectTimeout=60 -o ServerAliveInterval=30 -o ServerAliveCountMax=4",
	}
	if a.Agent == nil {
		return env, nil
	}

	l, err := new(net.ListenConfig).Listen(ctx, "unix", base+"agent")
	if err != nil {
		return nil, fmt.Errorf("making a socket: %w", err)
	}

	if l, ok := l.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false) // it goes with its directory
	}
	stop := a.Agent.Serve(ctx, l)
	a.stop = func() error { return errors.Join(stop(), home.Close()) }
	return append(env, "SSH_AUTH_SOCK="+base+"agent"), nil
}

// close ends the agent.
func (a *access) close() error {
	if a.stop == nil {
		return nil
	}
	return a.stop()
}

// knownHosts is the name of the copy of all files with keys of hosts.
const knownHosts = "known_hosts"

// copyKnownHosts joins the files with keys of hosts. A file that does not exist is skipped.
func (a *access) copyKnownHosts() (err error) {
	out, err := a.root.OpenFile(filepath.Join("home", knownHosts), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()

	left := int64(maxKnownHosts)
	for _, path := range a.KnownHosts {
		in, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}

		n, err := io.Copy(out, bounded.Reader(in, left, path))
		left -= n
		if err := errors.Join(err, in.Close()); err != nil {
			return err
		}
		if _, err := out.WriteString("\n"); err != nil {
			return err
		}
	}

	return nil
}
