package instructions

import (
	"fmt"
	"strconv"
	"strings"
)

// The version of docker/dockerfile whose language this package reads.
const (
	frontendMajor = 1
	frontendMinor = 26
)

// syntaxWarning says what a value of the directive "# syntax=" asks for that the build does not do; it is empty where
// that is nothing. No frontend is ever pulled.
func syntaxWarning(value string) string {
	name := strings.ToLower(strings.TrimSpace(value))
	name, _, _ = strings.Cut(name, "@")
	name = strings.TrimPrefix(strings.TrimPrefix(name, "docker.io/"), "index.docker.io/")
	name, tag, _ := strings.Cut(name, ":")
	if name != "docker/dockerfile" && name != "docker/dockerfile-upstream" {
		return fmt.Sprintf("syntax %s is not used: the file is read as docker/dockerfile:%d.%d", shown(value), frontendMajor, frontendMinor)
	}
	tag, _, _ = strings.Cut(tag, "-")
	first, rest, _ := strings.Cut(tag, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, err := strconv.Atoi(first)
	if err != nil { // "latest", "labs", none
		return ""
	}
	minor, err := strconv.Atoi(second)
	if major < frontendMajor || major == frontendMajor && (err != nil || minor <= frontendMinor) {
		return ""
	}
	return fmt.Sprintf("syntax %s is newer than docker/dockerfile:%d.%d, which this version reads: what is new in it is refused",
		shown(value), frontendMajor, frontendMinor)
}
