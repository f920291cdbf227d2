package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"sync"

	"codeberg.org/rbuild/rbuild/internal/copier"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// mountSource is what a bind mount shows, or what a cache begins with.
type mountSource struct {
	snap *snapshot // of the stage or image; nil: a build context
	view *os.File  // the files of snap, read-only; nil: not needed
	tree *copier.Tree
	// selection is the digested source; nil if digest is known without looking at the files: they are those of an
	// image, or all those of a stage, which their layers' digests identify.
	selection *copier.Selection
	digest    string
	path      string // of the source below its root
	live      bool   // the step sees a directory of the user, not a copy
}

// mountSources are the sources of a RUN's mounts, by the mounts' Number.
type mountSources map[int]*mountSource

// mountSources finds what the mounts of a RUN show before its key is computed. Nothing is locked yet: finding it may
// mean to wait for another stage.
func (s *stage) mountSources(ctx context.Context, op *plan.Run) (mountSources, error) {
	out := mountSources{}
	for _, m := range op.Mounts {
		if m.Type != instructions.MountBind && m.Files == nil || m.Type == instructions.MountTmpfs {
			continue
		}

		src := &mountSource{path: path.Join("/", m.Source)}
		out[m.Number] = src
		var err error
		if src.tree, err = s.tree(ctx, m.Files); src.tree != nil {
			err = src.find(ctx)
		} else if m.Files != nil && err == nil {
			err = s.fileSource(ctx, *m.Files, src)
		} else if err == nil {
			err = errors.New("there is no build context to mount: give a directory, or a tar on standard input")
		}
		if err != nil {
			return out, fmt.Errorf("--mount: target %s: %w", m.Target, err)
		}
		if src.selection != nil && src.snap == nil {
			for _, w := range src.selection.Warnings() {
				s.remark(w)
			}
		}
	}

	return out, nil
}

// fileSource looks into a stage or an image.
func (s *stage) fileSource(ctx context.Context, from plan.Source, src *mountSource) (err error) {
	if src.snap, err = s.other(ctx, from); err != nil {
		return err
	}
	if from.Stage == nil || src.path == "/" {
		resume := s.clock.pause() // until the layers are stored
		src.digest, err = src.snap.identity(ctx)
		resume()
		return err
	}
	if err := s.openView(src); err != nil {
		return err
	}
	return src.find(ctx)
}

// openView makes the files of the snapshot readable.
func (s *stage) openView(src *mountSource) (err error) {
	if src.view == nil {
		src.view, err = s.reads.open(src.snap)
		src.tree = copier.OpenRoot(fdfs.OnDisk(src.view))
	}
	return err
}

// find digests the source.
func (src *mountSource) find(ctx context.Context) (err error) {
	if src.selection, err = copier.SelectPath(ctx, src.tree, src.path); err != nil {
		return err
	}
	src.digest = src.selection.Digest().String()
	return nil
}

// identity is a digest of the layers: what the files are, whoever made them.
func (s *snapshot) identity(ctx context.Context) (string, error) {
	layers, err := s.stored(ctx)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, l := range layers {
		fmt.Fprintln(sum, l.DiffID)
	}
	return "layers:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// content is what of the sources enters the key of the step, which has the rest from the instruction.
func (m mountSources) content() []string {
	var out []string
	for n := range m.last() + 1 {
		if src := m[n]; src != nil {
			out = append(out, "mount "+strconv.Itoa(n)+" "+src.digest)
		}
	}
	return out
}

// sourcesUnchanged compares the parts of build contexts that were mounted in place with their digests. If a file was edited
// meanwhile, the result of the step belongs to no digest and gets no key.
func (s *stage) sourcesUnchanged(ctx context.Context, step *plan.Step, sources mountSources) error {
	for n := range sources.last() + 1 {
		src := sources[n]
		if src == nil || !src.live {
			continue
		}

		changed, err := src.selection.Changed(ctx)
		if err != nil {
			return fmt.Errorf("--mount: source %s: %w", src.path, err)
		}
		if changed != "" {
			s.warnAt(step, fmt.Sprintf("%s in the build context changed while the step ran. "+
				"The image has what the step made of it, and the build cache does not: the step runs again next time", changed))
			s.unkeyed = true
		}
	}

	return nil
}

func (m mountSources) last() int {
	last := -1
	for n := range m {
		last = max(last, n)
	}
	return last
}

func (m mountSources) close() error {
	var errs []error
	for _, src := range m {
		if src.selection != nil {
			errs = append(errs, src.selection.Close())
		}
		if src.view != nil {
			errs = append(errs, src.view.Close())
		}
	}
	return errors.Join(errs...)
}

// contextCopy copies a part of the context, once for all steps of the build: nobody writes to it.
func (b *builder) contextCopy(ctx context.Context, selection *copier.Selection) (string, error) {
	b.mu.Lock()
	made, ok := b.copies[selection.Digest()]
	if !ok {
		made = sync.OnceValues(func() (string, error) {
			dir, err := os.MkdirTemp(b.scratch.Dir, "context-")
			if err != nil {
				return "", err
			}
			to, err := os.Open(dir)
			if err != nil {
				return "", err
			}
			return dir, errors.Join(selection.Materialize(ctx, fdfs.OnDisk(to)), to.Close())
		})
		b.copies[selection.Digest()] = made
	}

	b.mu.Unlock()
	return made()
}
