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

// connect prepares git's environment with the credentials for the server and the keys of known hosts.
func (f *fetcher) connect(ctx context.Context) error {
	f.env = f.environment()
	if f.isSSH() {
		return f.connectSSH(ctx)
	}

	header := f.header()
	if header == "" {
		return nil
	}
	if strings.ContainsAny(header, "\r\n\x00") {
		return errors.New("the credentials have more than one line")
	}

	f.env = append(f.env, "GIT_CONFIG_COUNT=1",
		"GIT_CONFIG_KEY_0=http."+f.ref.URL+".extraHeader", "GIT_CONFIG_VALUE_0=Authorization: "+header)
	return nil
}

func (f *fetcher) isSSH() bool {
	return strings.HasPrefix(f.ref.URL, "ssh://") || !strings.Contains(f.ref.URL, "://")
}

// authorized reports whether git has credentials for an HTTP server.
func (f *fetcher) authorized() bool { return !f.isSSH() && f.header() != "" }

// header returns the value of the header Authorization; empty: there are no credentials. Credentials of the URL take
// precedence over secrets, secrets for the host over others, and a header over a token.
func (f *fetcher) header() string {
	u, err := url.Parse(f.ref.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	if f.ref.user != nil {
		password, _ := f.ref.user.Password()
		return basic(f.ref.user.Username(), password)
	}

	for _, suffix := range []string{"." + u.Host, ""} {
		if value, ok := f.Secrets["GIT_AUTH_HEADER"+suffix]; ok {
			return strings.TrimSpace(string(value))
		}
		if value, ok := f.Secrets["GIT_AUTH_TOKEN"+suffix]; ok {
			return basic("x-access-token", strings.TrimSpace(string(value)))
		}
	}

	return ""
}

func basic(user, password string) string {
	return "basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// connectSSH sets the command line of ssh, with an agent and the keys of known hosts. Both are reached by paths of a descriptor:
// the name of a socket has at most 108 bytes (unix(7)), and other paths would have to be quoted for the shell.
func (f *fetcher) connectSSH(ctx context.Context) error {
	ssh, err := find("ssh", f.Environment)
	if err != nil {
		return err
	}
	if strings.ContainsAny(ssh, " '\"\\$`") {
		return fmt.Errorf("the path of the program %q holds characters that a shell reads", ssh)
	}

	home, err := os.Open(f.home)
	if err != nil {
		return err
	}

	f.stop = home.Close
	self, err := fdfs.ProcSelf()
	if err != nil {
		return err
	}

	base := fmt.Sprintf("%s/fd/%d/", self, home.Fd())
	if err := f.copyKnownHosts(); err != nil {
		return err
	}

	f.env = append(
		f.env,
		"GIT_SSH_VARIANT=ssh",
		"GIT_SSH_COMMAND="+ssh+" -F none -o BatchMode=yes -o IdentityFile=none"+
			" -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o UserKnownHostsFile="+base+knownHosts+
			" -o ConnectTimeout=60 -o ServerAliveInterval=30 -o ServerAliveCountMax=4",
	)
	if f.Agent == nil {
		return nil
	}

	l, err := new(net.ListenConfig).Listen(ctx, "unix", base+"agent")
	if err != nil {
		return fmt.Errorf("making a socket: %w", err)
	}

	if l, ok := l.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false) // it goes with its directory
	}
	stop := f.Agent.Serve(ctx, l)
	f.stop = func() error { return errors.Join(stop(), home.Close()) }
	f.env = append(f.env, "SSH_AUTH_SOCK="+base+"agent")

	return nil
}

// knownHosts is the name of the copy of all files with keys of hosts.
const knownHosts = "known_hosts"

// copyKnownHosts joins the files with keys of hosts. A file that does not exist is skipped.
func (f *fetcher) copyKnownHosts() (err error) {
	out, err := f.root.OpenFile(filepath.Join("home", knownHosts), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()

	left := int64(maxKnownHosts)
	for _, path := range f.KnownHosts {
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
