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

// flags lists the flags of the Dockerfile language by instruction. An instruction without an entry has no flags.
var flags = map[string][]string{
	"FROM":        {"platform", "after"},
	"RUN":         {"mount", "network", "security", "device"},
	"COPY":        {"from", "chown", "chmod", "link", "parents", "exclude"},
	"ADD":         {"chown", "chmod", "link", "exclude", "keep-git-dir", "checksum", "unpack"},
	"HEALTHCHECK": {"interval", "timeout", "start-period", "start-interval", "retries"},
}

// refused lists the flags of the language that rbuild does not support yet, with the reason. A key with "=" refuses one value
// of the flag. Removing an entry enables the flag.
var refused = map[string]string{
	"RUN --device": "devices are not supported yet",
}

// anyBytes lists the instructions whose operands need not be UTF-8: shell commands and file names.
var anyBytes = []string{"RUN", "COPY", "ADD"}

// checkNode refuses unknown instructions, unknown flags and unsupported flags. BuildKit's own check ignores the flags of ARG,
// MAINTAINER and STOPSIGNAL.
func checkNode(f *File, node *parser.Node) error {
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

// checkHealthFlag reports a flag of HEALTHCHECK with an invalid value. BuildKit's message does not name the flag.
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

// shown cuts a part of the input to a length that fits into a message.
func shown(s string) string {
	const most = 60
	if len(s) > most {
		return fmt.Sprintf("%.*s...", most, s)
	}
	return s
}

// Suggest returns the option that is most similar to word, for "did you mean" hints: Suggest("chow", ["chown", "chmod"]) is
// "chown". Suggest returns an empty string if no option is similar.
func Suggest(word string, options []string) string {
	const longest = 60 // bytes; the distance of longer words is not computed
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

// fromLatin1 reverses an error of BuildKit's parser in flags: the parser reads each byte as one character and encodes UTF-8
// twice.
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
