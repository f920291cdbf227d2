package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/tonistiigi/go-csvvalue"

	"codeberg.org/rbuild/rbuild/internal/bounded"
	"codeberg.org/rbuild/rbuild/internal/source/sshagent"
)

// maxSecret bounds a secret, in bytes, as BuildKit does.
const maxSecret = 500 << 10

// readSecrets reads what --secret names: id=ID with src=FILE or env=VARIABLE, or type=env and the variable as src. With
// neither the ID is the variable's name if there is one, else the file's. No error says anything of a value.
func readSecrets(list []string, env lookup) (map[string][]byte, error) {
	secrets := map[string][]byte{}
	for _, text := range list {
		s, err := parseSecret(text)
		if err != nil {
			return nil, fmt.Errorf("--secret %q: %w", text, err)
		}
		if _, ok := secrets[s.id]; ok {
			return nil, fmt.Errorf("--secret %q: there is another with this id", text)
		}
		if secrets[s.id], err = s.read(env); err != nil {
			return nil, fmt.Errorf("--secret %q: %w", text, err)
		}
	}

	return secrets, nil
}

// secretFlag is one --secret.
type secretFlag struct{ id, kind, file, variable string }

func parseSecret(text string) (s secretFlag, err error) {
	if text == "" {
		return s, errors.New("want id=ID[,src=FILE|,env=VARIABLE]")
	}

	fields, err := csvvalue.Fields(text, nil)
	if err != nil {
		return s, err
	}

	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return s, fmt.Errorf("%q is not KEY=VALUE", field)
		}
		switch strings.ToLower(key) {
		case "id":
			s.id = value
		case "type":
			s.kind = value
		case "src", "source":
			s.file = value
		case "env":
			s.variable = value
		default:
			return s, fmt.Errorf("unknown key %q: want id, src, env and type", key)
		}
	}

	switch {
	case s.id == "":
		return s, errors.New("an id is needed: id=ID,src=FILE or id=ID,env=VARIABLE")
	case s.kind != "" && s.kind != "file" && s.kind != "env":
		return s, fmt.Errorf("type %q is neither file nor env", s.kind)
	case s.file != "" && s.variable != "":
		return s, errors.New("src and env contradict each other: give one of them")
	case s.kind == "file" && s.variable != "":
		return s, errors.New("env is for type=env")
	}

	if s.kind == "env" && s.variable == "" {
		s.file, s.variable = "", s.file
		if s.variable == "" {
			s.variable = s.id
		}
	}

	return s, nil
}

// read gets the value.
func (s secretFlag) read(env lookup) ([]byte, error) {
	if s.file == "" && s.variable == "" {
		if _, ok := env(s.id); ok && s.kind != "file" {
			s.variable = s.id
		} else {
			s.file = s.id
		}
	}

	if s.variable != "" {
		value, ok := env(s.variable)
		if !ok {
			return nil, fmt.Errorf("the environment has no variable %s", s.variable)
		}
		return []byte(value), s.check(len(value))
	}

	f, err := os.Open(s.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	return bounded.ReadAll(f, maxSecret, "it")
}

func (s secretFlag) check(size int) error {
	if size > maxSecret {
		return fmt.Errorf("it has more than %d bytes", maxSecret)
	}
	return nil
}

// openAgents opens what --ssh names: ID[=SOCKET|=KEY[,KEY...]].
func openAgents(list []string, env lookup) (map[string]*sshagent.Agent, error) {
	agents := map[string]*sshagent.Agent{}
	for _, text := range list {
		id, rest, given := strings.Cut(text, "=")
		if id == "" {
			return nil, fmt.Errorf("--ssh %q: want ID[=SOCKET|=KEY[,KEY]], e.g. default", text)
		}
		if agents[id] != nil {
			return nil, fmt.Errorf("--ssh %q: there is another with this id", text)
		}

		paths := strings.Split(rest, ",")
		if !given || rest == "" {
			socket, _ := env("SSH_AUTH_SOCK")
			if socket == "" {
				return nil, fmt.Errorf("--ssh %q: no agent runs ($SSH_AUTH_SOCK is not set): start one, or give a key's file", text)
			}
			paths = []string{socket}
		}

		a, err := sshagent.Open(paths...)
		if err != nil {
			return nil, fmt.Errorf("--ssh %q: %w", text, err)
		}
		agents[id] = a
	}

	return agents, nil
}
