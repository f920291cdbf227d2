package builder

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/cache"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/internal/runner"
)

// stage is a stage that is being run.
type stage struct {
	build   *build
	plan    *plan.Stage
	now     snapshot // after the steps so far
	cache   cache.Cache
	layers  committer
	history []entry // of the stage's own steps
	users   runner.Users
	number  int // of the current step, from 1; FROM is 1
	total   int
}

// entry is a step in the history.
type entry struct {
	createdBy string
	layer     *rootfs.Job // nil: the step made none
	step      *plan.Step  // that made the layer
}

// change is what an instruction does to files.
type change struct {
	content []string         // digests of the files that it reads: part of the cache key
	process cache.ProcessKey // options of the process that the instruction runs: part of the cache key; nil: no process
	// write makes the files. It reports whether any has changed.
	write func(ctx context.Context, l rootfs.Layer) (changed bool, err error)
}

// newStage returns a stage whose steps start from base.
func (b *build) newStage(p *plan.Stage, base *snapshot) *stage {
	o := b.options.Cache
	c := cache.None()
	if o.Cache != nil && !b.options.Layers.OnePerStage {
		c = cache.MaxAge(o.Cache, o.MaxAge)
	}
	isStage := func(name string) bool { return p.Name != "" && strings.EqualFold(name, p.Name) }
	if o.Refresh || slices.ContainsFunc(o.Uncached, isStage) {
		c = cache.PutOnly(c)
	}
	return &stage{build: b, plan: p, now: base.clone(), cache: c, layers: newCommitter(b, c), number: 1, total: 1}
}

// runStage runs a stage to its end.
func (b *build) runStage(ctx context.Context, p *plan.Stage) (*snapshot, error) {
	_, clock, stop := startClock(ctx, 0)
	defer stop()
	clock.pause() // only the pull of the image is work of FROM

	for _, before := range p.After {
		if _, err := b.inputs.stage(ctx, before).wait(ctx); err != nil {
			return nil, err
		}
	}
	base, pulled, err := b.inputs.base(ctx, p.From)
	if err != nil {
		return nil, at(p.Heading(), Because(ctx, err))
	}
	clock.charge(pulled)

	s := b.newStage(p, base)
	if b.options.Image.Labels.NoBase {
		s.now.config.Config.Labels = nil
	}
	scope, err := p.Begin(s.now.config, s.now.args)
	if err != nil {
		return nil, err
	}
	s.now.config = scope.Image() // the defaults belong to the stage: a stage without instructions has them too
	s.total = scope.Len() + 1
	s.newStep(p.Heading(), clock).reportEnd(ctx, nil)

	if err := s.run(ctx, scope); err != nil {
		return nil, errors.Join(err, s.layers.abandon())
	}
	s.now.args = scope.Args()
	return s.finish(ctx, p.Heading())
}

// run carries out the instructions of the stage.
func (s *stage) run(ctx context.Context, scope *plan.Scope) error {
	for {
		planned, err := scope.Next()
		if err != nil {
			return err
		}
		if planned == nil {
			return nil
		}

		s.number++
		s.now.found = nil
		if err := s.step(ctx, planned); err != nil {
			return err
		}
		s.now.config = scope.Image()
	}
}

// step carries out one instruction within its time limit, and reports it.
func (s *stage) step(stage context.Context, planned *plan.Step) error {
	if planned.Warning != "" {
		s.build.show.warnAt(planned, planned.Warning)
	}

	ctx, clock, stop := startClock(stage, s.build.options.Limits.Step)
	defer stop()
	st := s.newStep(planned, clock)
	err := s.do(ctx, st)
	err = errors.Join(err, st.finish())
	if ctx.Err() == nil { // also of a cached step: its key may have come from files that were no longer there
		err = removedOr(st.reads.Check(), err)
	}

	err = at(planned, Because(ctx, err))
	s.build.findings.notes(st)
	st.reportEnd(stage, err)
	return err
}

// do carries out one instruction: most edit the config only, which the plan has done already.
func (s *stage) do(ctx context.Context, st *step) error {
	change, err := s.change(ctx, st)
	if err != nil {
		return err
	}
	if change == nil {
		s.record(st, nil)
		return nil
	}

	s.now.key = s.key(st, change)
	hit, err := s.lookUp(ctx, st)
	if hit || err != nil {
		return err
	}

	leave, err := s.build.schedule.enter(ctx, st.clock)
	if err != nil {
		return err
	}
	defer leave()
	st.report(progress.StepStarted, nil)
	st.notes.writing = true
	st.reads.Add(s.now.files)
	st.reads.Hold()

	layer, err := s.layers.begin(ctx, s.now.files)
	if err != nil {
		return err
	}
	changed, err := s.write(ctx, st, change, layer)
	if err != nil {
		return errors.Join(s.why(ctx, st, err), s.layers.discard(layer))
	}

	if st.unkeyed {
		s.now.key = cache.Unknown()
	}
	job, err := s.layers.commit(finished{step: st, files: s.now.files, layer: layer, changed: changed, key: s.now.key})
	if err != nil {
		return err
	}
	s.record(st, job)
	s.checkUsers(changed, job)
	return nil
}

// write makes the files of a step. Afterwards the layers that the step has read stay in the store.
func (s *stage) write(ctx context.Context, st *step, c *change, layer rootfs.Layer) (changed bool, err error) {
	changed, err = c.write(ctx, layer)
	if err != nil {
		return false, err
	}
	return changed, st.reads.Settle()
}

// checkUsers drops the users of the image that are known, if the step may have changed them.
func (s *stage) checkUsers(changed bool, job *rootfs.Job) {
	if !changed {
		return
	}

	m, err := s.now.files.Mount()
	if err != nil || job == nil { // nobody runs a process; the files are in a layer that later steps write to, too
		s.users.Forget()
		return
	}
	s.users.Changed(m.Lowers[0])
}

// change returns what the instruction does to files; nil: nothing.
func (s *stage) change(ctx context.Context, st *step) (*change, error) {
	switch op := st.Op.(type) {
	case *plan.Run:
		return s.runChange(ctx, st, op)
	case *plan.Copy:
		return s.copyChange(ctx, st, op)
	case *plan.Workdir:
		return s.workdirChange(op), nil
	}
	return nil, nil //nolint:nilnil // documented
}

// key identifies the result of a step.
func (s *stage) key(st *step, c *change) cache.ID {
	p := s.plan.Platform
	return cache.Key{
		Parent: s.now.key, Step: st.Canon, Args: st.Args, Content: c.content, Process: c.process,
		Platform: cache.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant},
		Times:    s.build.timesKey(),
	}.ID()
}

// lookUp takes the result of the step from the cache. After a miss no later step of the stage can be found: its parent is new.
func (s *stage) lookUp(ctx context.Context, st *step) (hit bool, err error) {
	e, hit, err := s.cache.Get(ctx, s.now.key, func(ctx context.Context) (string, error) {
		defer st.clock.pause()()
		l, err := s.now.top(ctx)
		return l.ID, err
	})
	if err != nil {
		return false, err
	}

	if hit && !e.Unchanged {
		err = s.now.files.Push(ctx, e.Layer)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return true, err
		}
		hit = err == nil // else the layer was removed since it was looked up
	}
	if !hit {
		s.cache = cache.PutOnly(s.cache)
		return false, nil
	}

	st.cached = true
	if e.Unchanged {
		s.record(st, nil)
		return true, nil
	}
	job := rootfs.Stored(e.Layer)
	st.notes.files = decodeNotes(e.Notes)
	s.record(st, job)
	s.checkUsers(true, job)
	return true, nil
}

// record adds the step to the history. job is the layer on top of the files now that the step has made; nil: it made none.
func (s *stage) record(st *step, job *rootfs.Job) {
	if st.CreatedBy != "" || job != nil {
		s.history = append(s.history, entry{createdBy: st.CreatedBy, layer: job, step: st.Step})
	}
}

// why returns the cause of the failure of a step.
func (s *stage) why(ctx context.Context, st *step, err error) error {
	// The layers below may have been removed while the step ran, and then that is why it failed.
	if removed := st.reads.Check(); removed != nil {
		return removed
	}
	if explain := s.build.options.Explain; explain != nil && ctx.Err() == nil {
		return explain(err)
	}
	return err
}

// finish turns the stage into the snapshot that others build on. heading names the stage in errors of its one layer.
func (s *stage) finish(ctx context.Context, heading *plan.Step) (*snapshot, error) {
	_, clock, stop := startClock(ctx, 0)
	defer stop()
	whole := s.newStep(heading, clock)
	job, err := s.layers.finish(whole)
	if err != nil {
		return nil, errors.Join(at(heading, err), s.layers.abandon())
	}
	if job != nil {
		last := &s.history[len(s.history)-1]
		last.layer, last.step = job, heading
	}

	return &s.now, s.writeHistory(ctx)
}

// writeHistory puts the history of the steps behind that of the base.
func (s *stage) writeHistory(ctx context.Context) error {
	config := &s.now.config
	config.History = slices.Clone(config.History)
	if s.build.options.Layers.Squash && s.plan == s.build.plan.Target { // only the base's layers have that history
		config.History = nil
	}

	created := baseTime(config.Created)
	if config.Created == nil {
		first := created
		config.Created = &first
	}
	for _, e := range s.history {
		if e.layer != nil {
			l, err := e.layer.Wait(ctx)
			if err != nil {
				return at(e.step, err)
			}
			created = l.Created.UTC()
		}
		if epoch := s.build.epoch; epoch != nil {
			created = epoch.UTC()
		}

		at := created
		config.History = append(config.History, ocispec.History{
			Created: &at, CreatedBy: e.createdBy, EmptyLayer: e.layer == nil,
		})
		config.Created = &at
	}

	return nil
}

// baseTime is the time of steps that make no files: when the base was made, so that a build whose steps are all cached gives
// the same image again.
func baseTime(created *time.Time) time.Time {
	if created == nil {
		return time.Unix(0, 0).UTC()
	}
	return created.UTC()
}

// newStep starts a step of the stage.
func (s *stage) newStep(planned *plan.Step, c *clock) *step {
	name := s.plan.Name
	if name == "" && len(s.build.plan.Stages) > 1 {
		name = strconv.Itoa(s.plan.Index)
	}
	return &step{
		Step: planned, show: s.build.show, clock: c,
		progress: &progress.Step{
			Stage: name, Number: s.number, Total: s.total, Text: planned.Text, File: planned.File, Line: planned.Line,
		},
	}
}
