package instructions

import "strings"

// IsURL reports whether a source of ADD is fetched by HTTP, for example https://example.com/a.tar. A URL of a git repository is
// not a URL in this sense, see IsGit.
func IsURL(src string) bool {
	return (strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "https://")) && !IsGit(src)
}

// IsGit reports whether a source of ADD is a git repository: a git or ssh URL, user@host:path, or an HTTP URL with a path that
// ends with .git.
func IsGit(src string) bool {
	if strings.HasPrefix(src, "./") || strings.HasPrefix(src, "../") {
		return false
	}

	scheme, rest, ok := strings.Cut(src, "://")
	if !ok {
		user, rest, ok := strings.Cut(src, "@")
		host, _, isHost := strings.Cut(rest, ":")
		return ok && isHost && isWord(user, "_-") && isWord(host, ".-")
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

// isWord reports whether s consists of letters, digits and characters of more.
func isWord(s, more string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		letter := r|0x20 >= 'a' && r|0x20 <= 'z'
		return !letter && (r < '0' || r > '9') && !strings.ContainsRune(more, r)
	}) < 0
}

// Redact replaces the credentials of http and https URLs anywhere in text by xxxxx.
func Redact(text string) string {
	var out strings.Builder
	for {
		i := strings.Index(text, "://")
		if i < 0 {
			out.WriteString(text)
			return out.String()
		}

		scheme := strings.ToLower(text[:i])
		out.WriteString(text[:i+3])
		text = text[i+3:]
		if !strings.HasSuffix(scheme, "http") && !strings.HasSuffix(scheme, "https") {
			continue
		}

		authority := text
		if end := strings.IndexAny(text, "/?# \t\"'"); end >= 0 {
			authority = text[:end]
		}
		if at := strings.LastIndexByte(authority, '@'); at >= 0 {
			out.WriteString("xxxxx")
			text = text[at:]
		}
	}
}
