package builder

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"

	"codeberg.org/rbuild/rbuild/internal/cache"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
)

// committer decides how the files of the steps of a stage become layers. It is for one stage.
type committer interface {
	// begin returns the layer that the next step writes to.
	begin(ctx context.Context, files rootfs.Stack) (rootfs.Layer, error)
	// files returns the files as they are now: stack, or an open layer on top.
	files(stack rootfs.Stack) rootfs.Files
	// commit ends a step that has written to the layer. The Job is that of the step's own layer; nil: it has none.
	commit(c finished) (*rootfs.Job, error)
	// discard ends a step that has failed.
	discard(l rootfs.Layer) error
	// finish ends the stage. The Job is that of the layer of all steps; nil: they have layers of their own.
	finish(whole *step) (*rootfs.Job, error)
	// abandon ends a stage that has failed.
	abandon() error
	// linkable returns the error of a COPY --link, which makes a layer of its own, if the steps have no such layers.
	linkable() error
}

// finished is a step whose files are complete.
type finished struct {
	step    *step
	files   rootfs.Stack
	layer   rootfs.Layer
	changed bool     // the step has changed files
	key     cache.ID // of the result
}

func newCommitter(b *build, c cache.Cache) committer {
	if b.options.Layers.OnePerStage {
		return &onePerStage{build: b}
	}
	return &onePerStep{build: b, cache: c}
}

// onePerStep gives each step that changes files a layer, and keeps the layer in the cache.
type onePerStep struct {
	build *build
	cache cache.Cache
}

func (*onePerStep) begin(ctx context.Context, files rootfs.Stack) (rootfs.Layer, error) {
	return files.Begin(ctx)
}

func (*onePerStep) files(stack rootfs.Stack) rootfs.Files { return stack }

func (c *onePerStep) commit(f finished) (*rootfs.Job, error) {
	if !f.changed {
		c.keepUnchanged(f)
		return nil, f.layer.Discard()
	}

	kept := f.step.notes.files.clone()
	o := c.build.commitOptions(f.step, &kept)
	o.Notes = func() []byte { return kept.encode() }
	if !f.step.unkeyed {
		o.Name = f.key.Name()
	}
	job, err := f.layer.Commit(c.build.schedule.interrupt, o)
	if err != nil {
		return nil, err
	}

	c.build.watch(f.step, job, func() {
		if f.step.unkeyed {
			return
		}
		l, err := job.Wait(c.build.schedule.interrupt)
		if err != nil {
			return
		}
		c.put(f.key, cache.Entry{Layer: l, Notes: kept.encode()})
	})
	return job, nil
}

// keepUnchanged records in the cache that the step makes no difference to the layer below it.
func (c *onePerStep) keepUnchanged(f finished) {
	jobs := f.files.Layers()
	if len(jobs) == 0 {
		return
	}

	top := jobs[len(jobs)-1]
	c.build.schedule.background.Go(func() {
		l, err := top.Wait(c.build.schedule.interrupt)
		if err != nil {
			return
		}
		c.put(f.key, cache.Entry{Layer: l, Unchanged: true})
	})
}

// put keeps a result. A base in a read-only store, for example, cannot be named: the step is then run again by the next
// build, at no great cost.
func (c *onePerStep) put(id cache.ID, e cache.Entry) {
	if err := c.cache.Put(c.build.schedule.interrupt, id, e); err != nil {
		logrus.Debugf("Build cache: %v", err)
	}
}

func (*onePerStep) discard(l rootfs.Layer) error      { return l.Discard() }
func (*onePerStep) finish(*step) (*rootfs.Job, error) { return nil, nil } //nolint:nilnil // documented
func (*onePerStep) abandon() error                    { return nil }
func (*onePerStep) linkable() error                   { return nil }

// onePerStage gives all steps of a stage one layer (--layers=false). The layer is in no cache.
type onePerStage struct {
	build *build
	layer rootfs.Layer // nil: no step has written files yet
}

func (c *onePerStage) begin(ctx context.Context, files rootfs.Stack) (rootfs.Layer, error) {
	if c.layer != nil {
		return c.layer, nil
	}

	l, err := files.Begin(ctx)
	if err != nil {
		return nil, err
	}
	c.layer = l
	return l, nil
}

func (c *onePerStage) files(stack rootfs.Stack) rootfs.Files {
	if c.layer == nil {
		return stack
	}
	return c.layer
}

func (*onePerStage) commit(finished) (*rootfs.Job, error) { return nil, nil } //nolint:nilnil // documented
func (*onePerStage) discard(rootfs.Layer) error           { return nil }

func (c *onePerStage) finish(whole *step) (*rootfs.Job, error) {
	if c.layer == nil {
		return nil, nil //nolint:nilnil // documented
	}

	job, err := c.layer.Commit(c.build.schedule.interrupt, c.build.commitOptions(whole, &notes{}))
	if err != nil {
		return nil, err
	}

	c.layer = nil
	c.build.watch(whole, job, func() {})
	return job, nil
}

func (c *onePerStage) abandon() error {
	if c.layer == nil {
		return nil
	}
	return c.layer.Discard()
}

func (*onePerStage) linkable() error {
	return errors.New("--link makes a layer that does not depend on those below, which --layers=false does not have")
}

// commitOptions are those of all layers. Warnings about large sparse files of the layer are added to kept while the layer is
// read.
func (b *build) commitOptions(st *step, kept *notes) rootfs.CommitOptions {
	return rootfs.CommitOptions{
		Times: b.times(),
		Sparse: func(path string, size, data int64) {
			if text := st.sparseFile(path, size, data); text != "" {
				kept.Warnings = append(kept.Warnings, text)
			}
		},
	}
}

// watch waits in the background for a layer to be stored. A failure ends the build, with the name of the step; else stored
// is called.
func (b *build) watch(st *step, job *rootfs.Job, stored func()) {
	b.schedule.background.Go(func() {
		<-job.Done()
		if err := job.Err(); err != nil {
			b.schedule.cancel(at(st.Step, err))
			return
		}
		stored()
	})
}
