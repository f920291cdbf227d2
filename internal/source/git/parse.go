package git

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// Ref is a reference to a directory of a commit of a repository.
type Ref struct {
	URL      string // of the repository, without credentials, or USER@HOST:PATH
	Name     string // branch, tag or full commit hash; empty: HEAD of the repository
	Subdir   string // clean and relative; empty: the whole repository
	Checksum string // beginning of the hash of the commit or of an annotated tag; empty: any

	KeepGitDir  *bool // of the query; nil: not given
	CommitTimes bool  // of the query
	Short       bool  // github.com/OWNER/REPOSITORY, which can be a path as well

	user     *url.Userinfo // of an http or https URL
	byCommit bool          // Checksum is the commit; Name is not looked up
}

// String returns the reference without credentials, for messages.
func (r Ref) String() string {
	text := r.URL
	if u, err := url.Parse(text); err == nil && u.User != nil {
		text = u.Redacted()
	}
	if r.Name != "" || r.Subdir != "" {
		text += "#" + r.Name
	}
	if r.Subdir != "" {
		text += ":" + r.Subdir
	}
	return text
}

// Parse reads a reference: a URL with the scheme http or https (whose path must end in .git), ssh or git, or USER@HOST:PATH, or
// github.com/OWNER/REPOSITORY. Each may have a query and a fragment #NAME:SUBDIR, for example
// "https://example.com/a.git#v1.0:docs". ok reports whether text is a reference, also if the reference has an error.
func Parse(text string) (ref Ref, ok bool, err error) {
	if strings.HasPrefix(text, "./") || strings.HasPrefix(text, "../") {
		return ref, false, nil
	}

	rest, fragment, _ := strings.Cut(text, "#")
	rest, query, _ := strings.Cut(rest, "?")
	scheme, _, isURL := strings.Cut(rest, "://")
	switch scheme = strings.ToLower(scheme); {
	case isURL && (scheme == "http" || scheme == "https") && !strings.HasSuffix(rest, ".git"),
		isURL && !isScheme(scheme):
		return ref, false, nil
	case isURL:
		u, err := url.Parse(rest)
		if err != nil || (scheme == "http" || scheme == "https") && !strings.HasSuffix(u.Path, ".git") {
			return ref, err != nil, withoutText(err)
		}
		if u.Scheme == "http" || u.Scheme == "https" {
			ref.user, u.User = u.User, nil
		}
		ref.URL = u.String()
	case strings.HasPrefix(rest, "github.com/"):
		ref.URL, ref.Short = "https://"+rest, true
	case isSCP(rest):
		ref.URL = rest
	default:
		return ref, false, nil
	}

	if fragment, err = url.PathUnescape(fragment); err != nil {
		return ref, true, fmt.Errorf("the fragment of a git reference: %w", err)
	}

	name, subdir, _ := strings.Cut(fragment, ":")
	ref.Name, ref.Subdir = name, cleanSubdir(subdir)
	if err := ref.query(query); err != nil {
		return ref, true, fmt.Errorf("git reference %s: %w", ref, err)
	}
	if err := ref.check(); err != nil {
		return ref, true, fmt.Errorf("git reference %s: %w", ref, err)
	}

	return ref, true, nil
}

func isScheme(scheme string) bool {
	return scheme == "http" || scheme == "https" || scheme == "ssh" || scheme == "git"
}

// withoutText removes the text, which may hold credentials, from an error of url.Parse.
func withoutText(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("the URL of a git repository: %w", e.Err)
	}
	return err
}

// isSCP reports whether text has the form USER@HOST:PATH.
func isSCP(text string) bool {
	user, rest, ok := strings.Cut(text, "@")
	host, _, isHost := strings.Cut(rest, ":")
	return ok && isHost && isWord(user, "-_") && isWord(host, "-.")
}

// isWord reports whether s consists of letters, digits and characters of more.
func isWord(s, more string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		letter := r|0x20 >= 'a' && r|0x20 <= 'z'
		return !letter && (r < '0' || r > '9') && !strings.ContainsRune(more, r)
	}) < 0
}

func cleanSubdir(dir string) string { return strings.TrimPrefix(path.Join("/", dir), "/") }

// query reads the part behind the question mark.
func (r *Ref) query(text string) error {
	values, err := url.ParseQuery(text)
	if err != nil {
		return err
	}

	var tag, branch string
	for key, list := range values {
		if len(list) > 1 {
			return fmt.Errorf("%s is given %d times", key, len(list))
		}

		v := list[0]
		var err error
		switch key {
		case "ref":
			err = r.set(&r.Name, key, v)
		case "subdir":
			err = r.set(&r.Subdir, key, cleanSubdir(v))
		case "checksum", "commit":
			err = r.set(&r.Checksum, key, v)
		case "tag":
			tag = "refs/tags/" + strings.TrimPrefix(v, "refs/tags/")
		case "branch":
			branch = "refs/heads/" + strings.TrimPrefix(v, "refs/heads/")
		case "mtime":
			r.CommitTimes = v == "commit"
			if v != "commit" && v != "checkout" {
				err = fmt.Errorf("mtime=%q is neither checkout nor commit", v)
			}
		case "keep-git-dir", "submodules", "fetch-by-commit":
			err = r.flag(key, v)
		default:
			err = fmt.Errorf("unknown option %q: want ref, tag, branch, subdir, checksum, keep-git-dir, mtime", key)
		}
		if err != nil {
			return err
		}
	}

	if tag != "" && branch != "" {
		return errors.New("a tag and a branch: give one of them")
	}
	if tag+branch != "" {
		return r.set(&r.Name, "the branch or tag", tag+branch)
	}

	return nil
}

// set sets a part of the reference. The error says that the part has another value already.
func (r *Ref) set(part *string, key, value string) error {
	switch {
	case value == "":
		return fmt.Errorf("%s has no value", key)
	case *part != "" && *part != value:
		return fmt.Errorf("%s is %q and %q: give one of them", key, *part, value)
	}
	*part = value
	return nil
}

func (r *Ref) flag(key, value string) error {
	on := true
	if value != "" {
		var err error
		if on, err = strconv.ParseBool(value); err != nil {
			return fmt.Errorf("%s=%q is neither true nor false", key, value)
		}
	}

	switch key {
	case "keep-git-dir":
		r.KeepGitDir = &on
	case "submodules":
		if on {
			return errors.New("submodules are never fetched")
		}
	case "fetch-by-commit":
		r.byCommit = on
	}

	return nil
}

// check refuses a reference that git or ssh could take for an option or a command.
func (r Ref) check() error {
	if err := r.checkURL(); err != nil {
		return err
	}
	if strings.HasPrefix(r.Name, "-") || hasControl(r.Name) || strings.ContainsAny(r.Name, " ~^:?*[\\") ||
		strings.Contains(r.Name, "..") {
		return fmt.Errorf("%q is no name of a branch, tag or commit", r.Name)
	}
	if hasControl(r.Subdir) {
		return fmt.Errorf("the subdirectory %q holds control characters", r.Subdir)
	}
	if r.byCommit && !isHash(r.Checksum) {
		return errors.New("fetch-by-commit needs the full hash of the commit as checksum")
	}
	return checkChecksum(r.Checksum)
}

func (r Ref) checkURL() error {
	if hasControl(r.URL) {
		return errors.New("the URL holds control characters")
	}
	if !strings.Contains(r.URL, "://") {
		_, host, _ := strings.Cut(r.URL, "@")
		switch {
		case !isSCP(r.URL):
			return errors.New("neither a URL nor USER@HOST:PATH")
		case strings.HasPrefix(r.URL, "-") || strings.HasPrefix(host, "-"):
			return errors.New("the user or the host begins with -")
		}
		return nil
	}

	u, err := url.Parse(r.URL)
	if err != nil {
		return withoutText(err)
	}

	_, password := u.User.Password()
	switch {
	case !isScheme(u.Scheme):
		return fmt.Errorf("the scheme %s is refused: want https, http, ssh or git", u.Scheme)
	case password:
		return errors.New("ssh takes no password from a URL: give a key with --ssh")
	case u.Hostname() == "" || strings.HasPrefix(u.Hostname(), "-") || strings.HasPrefix(u.User.Username(), "-"):
		return errors.New("the URL has no valid host")
	}

	return nil
}

func hasControl(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0
}

// minChecksum is the length of git's shortest abbreviation, maxChecksum the length of a SHA-256 in
// hexadecimal.
const minChecksum, maxChecksum = 4, 64

func checkChecksum(sum string) error {
	if sum != "" && (len(sum) < minChecksum || len(sum) > maxChecksum || !isHex(sum)) {
		return fmt.Errorf("checksum %q is not the beginning of a commit's hash, of %d or more hexadecimal digits", sum,
			minChecksum)
	}
	return nil
}

// isHash reports whether s is a full hash, SHA-1 or SHA-256.
func isHash(s string) bool { return (len(s) == 40 || len(s) == 64) && isHex(s) }

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdefABCDEF") == "" }
