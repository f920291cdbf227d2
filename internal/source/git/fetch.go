package git

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// target is the object of the repository that a reference names.
type target struct {
	ref    string // full name: refs/heads/..., refs/tags/..., HEAD; empty: the commit itself
	hash   string // of the object, for example of an annotated tag
	peeled string // hash of the commit of an annotated tag; empty: the object is no annotated tag
}

// fetch resolves the reference, fetches its commit, and checks it out.
func (f *fetcher) fetch(ctx context.Context) (c Checkout, err error) {
	t, err := f.resolve(ctx)
	if err != nil {
		return c, err
	}
	if err := f.init(ctx, t); err != nil {
		return c, err
	}
	if c.Commit, err = f.receive(ctx, t); err != nil {
		return c, err
	}
	if c.Time, err = f.commitTime(ctx, c.Commit); err != nil {
		return c, err
	}
	if c.Submodules, err = f.count(ctx, c.Commit); err != nil {
		return c, err
	}
	if err := f.tree.write(ctx, c.Commit); err != nil {
		return c, err
	}

	c.Dir, err = f.tree.finish(ctx, c)
	return c, err
}

// resolve asks the server for the object that the reference names. For a full hash the server is
// not asked.
func (f *fetcher) resolve(ctx context.Context) (target, error) {
	name := f.ref.Name
	if f.ref.byCommit {
		name = f.ref.Checksum
	}
	if isHash(name) {
		name = strings.ToLower(name)
		return target{hash: name}, f.verify(name)
	}

	args := []string{"ls-remote", "--symref", "--", f.ref.URL, "HEAD"}
	if name != "" {
		args = []string{"ls-remote", "--", f.ref.URL, name, name + "^{}"}
	}
	out, err := f.git.run(ctx, args...)
	if err != nil {
		return target{}, err
	}

	t, err := choose(name, out)
	if err != nil {
		return target{}, err
	}

	return t, f.verify(t.hash, t.peeled)
}

// choose finds name in the output of ls-remote: as a full name, then as a branch, then as a tag.
func choose(name, output string) (t target, err error) {
	refs := map[string]string{}
	for line := range strings.Lines(output) {
		hash, ref, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		refs[ref] = hash
		if target, ok := strings.CutPrefix(hash, "ref: "); ok && ref == "HEAD" {
			t.ref = target
			delete(refs, ref)
		}
	}

	if name == "" {
		if t.hash = refs["HEAD"]; t.hash == "" {
			return t, errors.New("it is empty: there is no HEAD")
		}
		if !strings.HasPrefix(t.ref, "refs/heads/") || (Ref{URL: "ssh://x", Name: t.ref}).check() != nil {
			t.ref = "HEAD"
		}
	} else {
		for _, prefix := range []string{"refs/", "refs/heads/", "refs/tags/"} {
			t.ref = prefix + strings.TrimPrefix(name, prefix)
			if t.hash = refs[t.ref]; t.hash != "" {
				t.peeled = refs[t.ref+"^{}"]
				break
			}
		}
		if t.hash == "" {
			return t, fmt.Errorf("it has neither a branch nor a tag %s (a commit is named by its full hash)", name)
		}
	}

	if !isHash(t.hash) || t.peeled != "" && !isHash(t.peeled) {
		return t, fmt.Errorf("the server gives %q for a hash", t.hash)
	}

	return t, nil
}

// verify returns an error unless one of the hashes begins with the checksum.
func (f *fetcher) verify(hashes ...string) error {
	var got []string
	for _, h := range hashes {
		if strings.HasPrefix(h, strings.ToLower(f.ref.Checksum)) {
			return nil
		}
		if h != "" {
			got = append(got, h)
		}
	}
	return fmt.Errorf("the checksum is %s, not %s", strings.Join(got, " or "), f.ref.Checksum)
}

// init makes an empty repository with the server's hash function.
func (f *fetcher) init(ctx context.Context, t target) error {
	args := []string{"init", "--quiet", "--template="}
	if len(t.hash) == 64 {
		args = append(args, "--object-format=sha256")
	}
	work := f.git.work
	if _, err := f.git.run(ctx, append(args, "--", work)...); err != nil {
		return err
	}
	f.git.env = append(f.git.env, "GIT_DIR="+filepath.Join(work, ".git"), "GIT_WORK_TREE="+work)
	return nil
}

// receive fetches the commit, alone if the server can do that, and returns its hash.
func (f *fetcher) receive(ctx context.Context, t target) (commit string, err error) {
	wanted := t.hash
	if t.ref != "" {
		wanted = "+" + t.ref + ":" + localRef(t.ref)
	}

	got := "FETCH_HEAD"
	err = f.receiveRefs(ctx, wanted)
	if t.ref == "" && said(err, "not our ref", "unadvertised object", "remote error: upload-pack") {
		got = t.hash
		err = f.receiveRefs(ctx, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
	}
	if err != nil {
		return "", err
	}

	object, err := f.hash(ctx, got)
	if err != nil {
		return "", noCommit(ctx, t)
	}
	commit, err = f.hash(ctx, got+"^{commit}")
	if err != nil {
		return "", noCommit(ctx, t)
	}

	return commit, f.verify(object, commit)
}

// noCommit returns the error of a fetched object that is no commit, or the cause for which ctx has
// ended.
func noCommit(ctx context.Context, t target) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return fmt.Errorf("it has no commit %s", t.hash)
}

// hash returns the hash of the object that a revision names in the fetched repository.
func (f *fetcher) hash(ctx context.Context, revision string) (string, error) {
	out, err := f.git.run(ctx, "rev-parse", "--verify", "--quiet", revision)
	return strings.TrimSpace(out), err
}

func localRef(ref string) string {
	if ref == "HEAD" {
		return "refs/heads/HEAD"
	}
	return ref
}

// receiveRefs fetches refs: a single ref without the history of its commit, or several refs with
// their history.
func (f *fetcher) receiveRefs(ctx context.Context, refs ...string) error {
	args := []string{"fetch", "--progress", "--no-tags", "--update-head-ok", "--no-recurse-submodules"}
	operands := append([]string{"--", f.ref.URL}, refs...)
	var err error
	if len(refs) == 1 {
		_, err = f.git.run(ctx, slices.Concat(args, []string{"--depth=1"}, operands)...)
	}
	if len(refs) > 1 || said(err, "shallow", "--depth") {
		_, err = f.git.run(ctx, slices.Concat(args, operands)...)
	}
	if err != nil {
		return err
	}

	if f.git.objects() > f.limits.objects {
		return f.git.tooLarge()
	}
	return nil
}

// commitTime returns the committer's time of the commit.
func (f *fetcher) commitTime(ctx context.Context, commit string) (time.Time, error) {
	out, err := f.git.run(ctx, "log", "-1", "--no-show-signature", "--format=%ct", commit, "--")
	if err != nil {
		return time.Time{}, err
	}
	sec, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("the time of commit %s: %w", commit, err)
	}
	return time.Unix(sec, 0), nil
}

// count refuses a commit with too many or too large files before they are written.
func (f *fetcher) count(ctx context.Context, commit string) (submodules bool, err error) {
	err = f.git.stream(ctx, func(r io.Reader) (err error) {
		submodules, err = f.countEntries(r)
		return err
	}, "ls-tree", "-r", "-t", "-l", "-z", "--full-tree", commit)
	return submodules, err
}

// countEntries reads lines of ls-tree: MODE TYPE HASH SIZE<tab>PATH<zero>.
func (f *fetcher) countEntries(r io.Reader) (submodules bool, err error) {
	in := bufio.NewReaderSize(r, 1<<16)
	size := int64(0)
	for n := 0; ; n++ {
		line, err := in.ReadString(0)
		if errors.Is(err, io.EOF) {
			return submodules, nil
		}
		if err != nil {
			return submodules, err
		}
		if n >= f.limits.entries {
			return submodules, fmt.Errorf("it has more than %d files and directories", f.limits.entries)
		}

		about, path, _ := strings.Cut(strings.TrimSuffix(line, "\x00"), "\t")
		if f.ref.Subdir != "" && !strings.HasPrefix(path, f.ref.Subdir+"/") {
			continue
		}

		fields := strings.Fields(about)
		if len(fields) != 4 {
			return submodules, fmt.Errorf("git lists a file as %q", about)
		}

		submodules = submodules || fields[0] == "160000"
		if bytes, err := strconv.ParseInt(fields[3], 10, 64); err == nil { // "-" for a submodule
			size += bytes
		}
		if size > f.limits.bytes {
			return submodules, fmt.Errorf("its files have more than %d bytes", f.limits.bytes)
		}
	}
}
