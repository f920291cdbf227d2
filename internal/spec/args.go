package spec

import (
	"fmt"
	"strings"
)

// Lookup returns a variable of the environment, as os.LookupEnv does.
type Lookup = func(name string) (value string, ok bool)

// Args maps the names of build arguments to their values.
type Args map[string]string

// Set reads NAME=VALUE. A NAME alone takes the value of the environment; if the environment has no such variable, the
// argument is removed. The last assignment of a name counts.
func (a Args) Set(text string, env Lookup) error {
	name, value, ok := strings.Cut(text, "=")
	if name == "" {
		return fmt.Errorf("%q: want NAME=VALUE", text)
	}

	if !ok {
		if value, ok = env(name); !ok {
			delete(a, name)
			return nil
		}
	}

	a[name] = value
	return nil
}

// SetAll calls Set for each text. from begins its errors, for example --build-arg.
func (a Args) SetAll(list []string, env Lookup, from string) error {
	for _, text := range list {
		if err := a.Set(text, env); err != nil {
			return fmt.Errorf("%s %w", from, err)
		}
	}
	return nil
}

// SetLines reads the text of a file: one argument a line. Empty lines and lines that begin with # are comments. name is
// the name of the file, for errors.
func (a Args) SetLines(name, text string, env Lookup) error {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		if err := a.Set(line, env); err != nil {
			return fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	return nil
}

// SetProxies passes the proxy variables of the environment on, as docker and buildah do. They reach the environment of
// RUN, and neither the image nor a cache key.
func (a Args) SetProxies(env Lookup) {
	for _, name := range []string{
		"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY",
		"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy",
	} {
		value, ok := env(name)
		if _, given := a[name]; ok && !given {
			a[name] = value
		}
	}
}
