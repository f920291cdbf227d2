package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/bounded"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
)

// maxArgFile bounds a file of --build-arg-file, in bytes.
const maxArgFile = 1 << 20

// buildArgs are build arguments by name.
type buildArgs map[string]string

// set reads NAME=VALUE. A name alone takes the value that the environment has; where there is none, it has no value any
// more. The last of a name counts.
func (a buildArgs) set(text string, env lookup) error {
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

// setAll reads --build-arg.
func (a buildArgs) setAll(list []string, env lookup) error {
	for _, text := range list {
		if err := a.set(text, env); err != nil {
			return fmt.Errorf("--build-arg %w", err)
		}
	}
	return nil
}

// readFile reads --build-arg-file: an argument a line, empty lines, and comments, which begin with #.
func (a buildArgs) readFile(path string, env lookup) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--build-arg-file: %w", err)
	}
	defer f.Close()

	text, err := bounded.ReadAll(f, maxArgFile, path)
	if err != nil {
		return fmt.Errorf("--build-arg-file: %w", err)
	}

	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if line == "" || line[0] == '#' {
			continue
		}
		if err := a.set(line, env); err != nil {
			return fmt.Errorf("--build-arg-file %s:%d: %w", path, n, err)
		}
	}

	return nil
}

// proxies passes the proxy variables of the environment on, as docker and buildah do. They reach the environment of RUN,
// and neither image nor key.
func (a buildArgs) proxies(env lookup) {
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

// envVars reads --env by the rules of buildah: NAME=VALUE, or NAME for the value that environ has, or the beginning of
// names and *. What environ does not have is left out.
func envVars(list, environ []string) (out []plan.EnvVar, err error) {
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if name == "" {
			return nil, fmt.Errorf("--env %q: want NAME=VALUE or NAME", text)
		}
		if ok {
			out = append(out, plan.EnvVar{Key: name, Value: value})
			continue
		}

		beginning, several := strings.CutSuffix(name, "*")
		for _, kv := range environ {
			if key, value, _ := strings.Cut(kv, "="); key == name || several && key != "" && strings.HasPrefix(key, beginning) {
				out = append(out, plan.EnvVar{Key: key, Value: value, Literal: true})
			}
		}
	}

	return out, nil
}

// boolVariable reads a variable of the environment that says yes or no.
func boolVariable(name, text string) (bool, error) {
	yes, err := strconv.ParseBool(strings.ToLower(text))
	if err != nil {
		return false, fmt.Errorf("%s=%s in the environment: choose true or false", name, text)
	}
	return yes, nil
}
