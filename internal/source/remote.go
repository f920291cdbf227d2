// Package source fetches the sources of a build that are not on this machine: git repositories and
// files at URLs, for ADD and as build contexts.
//
//	access := source.Access{Environment: os.Environ(), Secrets: secrets}
//	if source.IsContext(text) { // for example "https://example.com/a.git#main:docs"
//		c, err := access.Context(ctx, text, dir, source.ContextOptions{})
//		// c.Dir holds the files, or c.Dockerfile is the only file
//	}
//
// Credentials are secrets with the names that BuildKit gives them: for git those of package git,
// for URLs HTTP_AUTH_HEADER_<host> (a value of the header Authorization) and
// HTTP_AUTH_TOKEN_<host>, which takes precedence; <host> has no port. Credentials are sent to the
// host and port of the URL only, also after redirects, and never over a weaker scheme. Credentials
// in a URL are used and never shown.
//
// Limits: a download has at most 16 GiB, follows 10 redirects, is tried 3 times, and brings 16 KiB
// a minute; see packages git and copier for the limits of repositories and archives.
package source

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"codeberg.org/rbuild/rbuild/internal/archive"
	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/source/git"
)

// Access says how servers are reached. The zero value has no credentials.
type Access struct {
	Environment []string          // NAME=VALUE, for git: PATH and proxies
	Secrets     map[string][]byte // by id
	Agent       git.Agent         // for ssh; nil: none
	KnownHosts  []string          // files with the keys of ssh hosts

	maxDownload int64         // of tests; 0: the default
	silence     time.Duration // of tests; 0: the default
}

// IsURL reports whether text is an http or https URL.
func IsURL(text string) bool {
	return strings.HasPrefix(text, "http://") || strings.HasPrefix(text, "https://")
}

// IsContext reports whether a build context must be fetched: whether text is a git reference or a
// URL. The form github.com/OWNER/REPOSITORY is a git reference too, so first check that no such
// directory exists.
func IsContext(text string) bool {
	_, ok, _ := git.Parse(text)
	return ok || IsURL(text)
}

// ContextOptions select the parts of a git repository. The zero value selects the files.
type ContextOptions struct {
	KeepGitDir  bool // keep the directory .git, if the reference does not say otherwise
	CommitTimes bool // files have the time of the commit
}

// Context is a build context that was fetched.
type Context struct {
	Dir        string    // the files; empty: the file at the URL is no archive
	Dockerfile []byte    // the file at the URL, if it is no archive
	Time       time.Time // of the commit, of the URL's last change, or of the archive's newest file; zero: unknown
	Commit     string    // of a git repository: full hash
	Warnings   []string
}

// maxDockerfile bounds a Dockerfile at a URL, in bytes.
const maxDockerfile = 32 << 20

// Context fetches a git repository, or the archive or Dockerfile at a URL, into dir, which is an
// empty directory. The caller removes dir, and applies the ignore files in dir.
func (a *Access) Context(ctx context.Context, text, dir string, o ContextOptions) (Context, error) {
	ref, ok, err := git.Parse(text)
	switch {
	case err != nil:
		return Context{}, err
	case ok:
		return a.gitContext(ctx, ref, dir, o)
	case IsURL(text):
		return a.urlContext(ctx, text, dir)
	}
	return Context{}, fmt.Errorf("%s is neither a git repository nor a URL", text)
}

func (a *Access) gitContext(ctx context.Context, ref git.Ref, dir string, o ContextOptions) (Context, error) {
	if ref.KeepGitDir != nil {
		o.KeepGitDir = *ref.KeepGitDir
	}
	c, err := git.Fetch(ctx, ref, dir, a.git(o.KeepGitDir, o.CommitTimes))
	if err != nil {
		return Context{}, err
	}
	return Context{Dir: c.Dir, Commit: c.Commit, Time: c.Time, Warnings: warnings(ref, c)}, nil
}

func (a *Access) git(keep, times bool) git.Options {
	return git.Options{
		KeepGitDir: keep, CommitTimes: times,
		Environment: a.Environment, Secrets: a.Secrets, Agent: a.Agent, KnownHosts: a.KnownHosts,
	}
}

func warnings(ref git.Ref, c git.Checkout) []string {
	if !c.Submodules {
		return nil
	}
	return []string{fmt.Sprintf("git repository %s: its submodules are not fetched: their directories are empty", ref)}
}

func (a *Access) urlContext(ctx context.Context, text, dir string) (c Context, err error) {
	file, err := a.File(ctx, text, dir, "")
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()

	if file.modified {
		c.Time = file.Time
	}
	isTar, err := isArchive(file)
	if err != nil {
		return c, err
	}
	if !isTar {
		c.Dockerfile, err = readText(file)
		return c, err
	}

	var devices archive.Devices
	c.Dir, devices, err = unpack(ctx, file, dir)
	if text := devices.Text(); text != "" {
		c.Warnings = append(c.Warnings, file.Text+": "+text)
	}
	if err != nil {
		return c, err
	}

	if c.Time.IsZero() {
		c.Time, err = newest(c.Dir)
	}
	return c, err
}

// unpack unpacks an archive below dir.
func unpack(ctx context.Context, file File, dir string) (into string, devices archive.Devices, err error) {
	into = filepath.Join(dir, "files")
	if err := os.Mkdir(into, 0o755); err != nil { //nolint:gosec // as public as a context
		return "", devices, err
	}
	if devices, err = archive.ExtractContext(ctx, io.NewSectionReader(file.File, 0, file.Size), into); err != nil {
		return "", devices, fmt.Errorf("%s: %w", file.Text, err)
	}
	return into, devices, nil
}

// isArchive reports whether a file is a tar, plain or compressed.
func isArchive(file File) (bool, error) {
	isTar, err := archive.IsTar(bufio.NewReaderSize(io.NewSectionReader(file.File, 0, file.Size), 1<<16))
	if err != nil {
		err = fmt.Errorf("%s: %w", file.Text, err)
	}
	return isTar, err
}

// Time returns the time of a source of ADD: of the commit of a git repository, of the file at a URL
// as the server reports it, or of the newest file in an archive. nil: unknown. dir is as for
// Context, checksum as for File and Git.
func (a *Access) Time(ctx context.Context, text, dir, checksum string) (t *time.Time, err error) {
	ref, ok, err := git.Parse(text)
	if err != nil {
		return nil, err
	}
	if ok {
		if checksum != "" {
			ref.Checksum = checksum
		}
		c, err := git.Fetch(ctx, ref, dir, a.git(false, false))
		return &c.Time, err
	}

	file, err := a.File(ctx, text, dir, checksum)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if file.modified {
		return &file.Time, nil
	}

	isTar, err := isArchive(file)
	if err != nil || !isTar {
		return nil, err
	}

	files, _, err := unpack(ctx, file, dir)
	if err != nil {
		return nil, err
	}

	latest, err := newest(files)
	if err != nil || latest.IsZero() {
		return nil, err
	}

	return &latest, nil
}

// Text fetches a file of a few MiB, such as a Dockerfile. dir is a directory for temporary files.
func (a *Access) Text(ctx context.Context, url, dir string) ([]byte, error) {
	file, err := a.File(ctx, url, dir, "")
	if err != nil {
		return nil, err
	}
	text, err := readText(file)
	return text, errors.Join(err, file.Close())
}

func readText(file File) ([]byte, error) {
	if file.Size > maxDockerfile {
		return nil, fmt.Errorf("%s: no archive, and with %d bytes too large for a Dockerfile", file.Text, file.Size)
	}
	text, err := io.ReadAll(io.NewSectionReader(file.File, 0, file.Size))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file.Text, err)
	}
	return text, nil
}

// newest returns the latest modification time of the regular files below dir. It is zero if there
// are no regular files.
func newest(dir string) (t time.Time, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.ModTime().After(t) {
			t = info.ModTime()
		}
		return nil
	})
	return t, err
}

// GitOptions are the options of ADD for a git repository.
type GitOptions struct {
	KeepGitDir *bool  // nil: not given
	Checksum   string // beginning of the commit's hash; empty: any commit
}

// Git fetches a git repository as a source of ADD into dir, which is an empty directory. The caller
// closes the Remote and removes dir.
func (a *Access) Git(ctx context.Context, text, dir string, o GitOptions) (r copier.Remote, warn []string, err error) {
	ref, ok, err := git.Parse(text)
	if err != nil {
		return r, nil, err
	}
	if !ok {
		return r, nil, fmt.Errorf("%s is no git repository", text)
	}

	if o.Checksum != "" {
		if ref.Checksum != "" && ref.Checksum != o.Checksum {
			return r, nil, fmt.Errorf("git repository %s: two checksums: %s and %s", ref, ref.Checksum, o.Checksum)
		}
		ref.Checksum = o.Checksum
	}

	keep := o.KeepGitDir
	if keep == nil {
		keep = ref.KeepGitDir
	} else if ref.KeepGitDir != nil && *keep != *ref.KeepGitDir {
		return r, nil, fmt.Errorf("git repository %s: keep-git-dir of the URL contradicts that of the instruction", ref)
	}

	c, err := git.Fetch(ctx, ref, dir, a.git(keep != nil && *keep, false))
	if err != nil {
		return r, nil, err
	}

	tree, err := copier.OpenContext(c.Dir, nil)

	return copier.Remote{Text: ref.String(), Tree: tree, Commit: c.Commit + " " + ref.String()}, warnings(ref, c), err
}
