package instructions

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/command"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/util/suggest"
)

// flags are the flags that the language has, by instruction. An instruction
// that is not named here has none.
var flags = map[string][]string{
	"FROM":        {"platform", "after"},
	"RUN":         {"mount", "network", "security", "device"},
	"COPY":        {"from", "chown", "chmod", "link", "parents", "exclude"},
	"ADD":         {"chown", "chmod", "link", "exclude", "keep-git-dir", "checksum", "unpack"},
	"HEALTHCHECK": {"interval", "timeout", "start-period", "start-interval", "retries"},
}

// refused are the flags of the language that are not carried out yet, with
// the reason. A key with "=" refuses that value only. Taking an entry out
// enables the flag.
var refused = map[string]string{
	"RUN --device": "devices are not supported yet",
}

// anyBytes are the instructions that may hold bytes that are not UTF-8, in commands of a shell and names of files.
var anyBytes = []string{"RUN", "COPY", "ADD"}

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
	if !utf8.ValidString(node.Original) && (node.Attributes["json"] || !slices.Contains(anyBytes, name)) {
		return f.Errorf(r, "%s holds bytes that are not UTF-8, which an image's config cannot hold", name)
	}

	for i, flag := range node.Flags {
		flag = fromLatin1(flag)
		node.Flags[i] = flag
		key, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		if !slices.Contains(flags[name], key) {
			return f.Hintf(r, didYouMean(key, flags[name], "--"), "unknown flag --%s for %s", shown(key), name)
		}
		if err := checkHealthFlag(name, key, value); err != nil {
			return f.At(r, err)
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

// checkHealthFlag names the flag of HEALTHCHECK whose value cannot be read, which BuildKit's messages do not.
func checkHealthFlag(name, key, value string) error {
	if name != "HEALTHCHECK" || value == "" {
		return nil
	}
	if key == "retries" {
		if _, err := strconv.ParseInt(value, 10, 32); err != nil {
			return fmt.Errorf("HEALTHCHECK --retries=%s: want a number", shown(value))
		}
		return nil
	}
	if _, err := time.ParseDuration(value); err != nil {
		return fmt.Errorf("HEALTHCHECK --%s=%s: want a duration such as 30s or 1m30s", key, shown(value))
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

// Suggest gives the option that word was perhaps meant to be, or an empty
// string if none is near.
func Suggest(word string, options []string) string {
	const longest = 60 // of a word that the distance is worth computing for
	if len(word) > longest {
		return ""
	}
	match, _ := suggest.Search(word, slices.Sorted(slices.Values(options)), false)
	return match
}

func didYouMean(word string, options []string, prefix string) string {
	if match := Suggest(word, options); match != "" {
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
