package instructions

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/util/suggest"
)

// flags are the flags that the language has, by instruction. An instruction
// that is not named here has none.
var flags = map[string][]string{
	"FROM":        {"platform"},
	"RUN":         {"mount", "network", "security", "device"},
	"COPY":        {"from", "chown", "chmod", "link", "parents", "exclude"},
	"ADD":         {"chown", "chmod", "link", "exclude", "keep-git-dir", "checksum", "unpack"},
	"HEALTHCHECK": {"interval", "timeout", "start-period", "start-interval", "retries"},
}

// refused are the flags of the language that are not carried out yet, with
// the reason. A key with "=" refuses that value only. Taking an entry out
// enables the flag.
var refused = map[string]string{
	"RUN --mount":             "mounts are not supported yet",
	"RUN --device":            "devices are not supported yet",
	"RUN --security=insecure": "RUN is always sandboxed",
	"ADD --keep-git-dir":      "git sources are not supported yet",
	gitSource:                 "git sources are not supported yet",
}

// gitSource is the key of table refused for ADD of a git repository.
const gitSource = "ADD <git repository>"

// checkNode refuses unknown instructions, unknown flags, and flags that are
// not supported. BuildKit's own check lets the flags of ARG, MAINTAINER and
// STOPSIGNAL pass unread.
func (f *File) checkNode(node *parser.Node) error {
	name, r := strings.ToUpper(node.Value), nodeRange(node)
	if _, ok := command.Commands[strings.ToLower(name)]; !ok {
		return f.Hintf(r, didYouMean(name, instructionNames(), ""), "unknown instruction %s", shown(node.Value))
	}
	if len(node.Original) > MaxLine {
		return f.Errorf(r, "an instruction of more than %d bytes", MaxLine)
	}
	for i, flag := range node.Flags {
		flag = fromLatin1(flag)
		node.Flags[i] = flag
		key, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		if !slices.Contains(flags[name], key) {
			return f.Hintf(r, didYouMean(key, flags[name], "--"), "unknown flag --%s for %s", shown(key), name)
		}
		for _, k := range []string{name + " --" + key, name + " --" + key + "=" + value} {
			if why, ok := refused[k]; ok {
				err := f.Errorf(r, "%s is refused: %s", k, why)
				err.refused = true
				return err
			}
		}
	}
	return nil
}

// shown cuts what a message repeats of the input.
func shown(s string) string {
	const most = 60
	if len(s) > most {
		return fmt.Sprintf("%.*s...", most, s)
	}
	return s
}

func didYouMean(word string, options []string, prefix string) string {
	slices.Sort(options)
	if match, ok := suggest.Search(word, options, false); ok && len(word) < 60 {
		return "did you mean " + prefix + match + "?"
	}
	return ""
}

func instructionNames() []string {
	var names []string
	for name := range command.Commands {
		names = append(names, strings.ToUpper(name))
	}
	return names
}

// Suggest gives the option nearest to word, or an empty string if none is near.
func Suggest(word string, options []string) string {
	if match, ok := suggest.Search(word, options, false); ok && len(word) < 60 {
		return match
	}
	return ""
}

var scpStyle = regexp.MustCompile(`^[a-zA-Z0-9_-]+@[a-zA-Z0-9.-]+:`)

// IsURL tells whether a source of ADD is fetched over HTTP.
func IsURL(src string) bool {
	return (strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "https://")) && !IsGit(src)
}

// IsGit tells whether a source of ADD is a git repository: a git or ssh URL,
// user@host:path, or an HTTP URL whose path ends with .git.
func IsGit(src string) bool {
	if strings.HasPrefix(src, "./") || strings.HasPrefix(src, "../") {
		return false
	}
	scheme, rest, ok := strings.Cut(src, "://")
	if !ok {
		return scpStyle.MatchString(src)
	}
	switch strings.ToLower(scheme) {
	case "git", "ssh":
		return true
	case "http", "https":
		path, _, _ := strings.Cut(rest, "#")
		path, _, _ = strings.Cut(path, "?")
		return strings.HasSuffix(path, ".git") && strings.Contains(path, "/")
	}
	return false
}

// RefuseGit is the error of ADD with a git source while table refused names it.
func RefuseGit(src string) error {
	if why, ok := refused[gitSource]; ok {
		return fmt.Errorf("ADD %s is refused: %s", shown(src), why)
	}
	return nil
}

// fromLatin1 undoes what BuildKit's parser does to flags: it takes each byte
// for a character of its own, so that UTF-8 is encoded twice.
func fromLatin1(flag string) string {
	out := make([]byte, 0, len(flag))
	for _, r := range flag {
		if r > 0xff {
			return flag
		}
		out = append(out, byte(r))
	}
	return string(out)
}
