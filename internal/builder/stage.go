package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"codeberg.org/rbuild/rbuild/internal/cache"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/runner"
	"codeberg.org/rbuild/rbuild/pkg/commit"
	"codeberg.org/rbuild/rbuild/pkg/layer"
)

// stage is a stage that is being run.
type stage struct {
	*builder
	*snapshot
	plan    *plan.Stage
	history []entry // of this stage's own steps
	missed  bool    // a step was not cached, so nothing above it can be
	single  *upper  // of the one layer that the stage has (--layers=false); nil: nothing is in it yet
	users   runner.Users
	clock   *stepClock
	notes   notes    // of the current step
	reads   reads    // of the current step
	unkeyed bool     // the current step has seen something else than its key says
	sparse  sync.Map // the sparseSources of the stage
	number  int      // of the current step, from 1; FROM is 1
	total   int
}

// entry is a step in the history.
type entry struct {
	createdBy string
	layer     *commit.Job // nil: the step made none
	step      *plan.Step  // that made the layer
}

// runStage runs a stage to its end.
func (b *builder) runStage(ctx context.Context, p *plan.Stage) (*snapshot, error) {
	clock := startClock()
	clock.pause() // FROM works while its image is pulled only
	for _, before := range p.After {
		if _, err := b.stage(ctx, before).wait(ctx); err != nil {
			return nil, err
		}
	}

	base, pulled, err := b.base(ctx, p.From)
	if err != nil {
		return nil, at(p.Heading(), Because(ctx, err))
	}

	clock.charge(pulled)
	s := &stage{builder: b, snapshot: base.clone(b), plan: p, number: 1}
	if b.Image.NoLabels {
		s.config.Config.Labels = nil
	}
	scope, err := p.Begin(s.config)
	if err != nil {
		return nil, err
	}

	// The defaults of a config belong to the stage: a stage without instructions has them too.
	s.config = scope.Image()
	s.total = scope.Len() + 1
	s.report(p.Heading(), clock).end(ctx, nil)
	if err := s.run(ctx, scope); err != nil {
		return nil, errors.Join(err, s.discard())
	}

	return s.finish(ctx)
}

// run is the step loop.
func (s *stage) run(ctx context.Context, scope *plan.Scope) error {
	for {
		step, err := scope.Next()
		if err != nil {
			return err
		}
		if step == nil {
			return nil
		}

		s.number++
		s.origin = nil
		if step.Warning != "" {
			s.warnAt(step, step.Warning)
		}
		if err := s.step(ctx, step); err != nil {
			return err
		}
		s.config = scope.Image()
	}
}

// step runs one instruction: most edit the config only, which the plan has done already.
func (s *stage) step(ctx context.Context, step *plan.Step) (err error) {
	stage := ctx
	ctx, clock, done := s.limitStep(ctx)
	s.clock, s.reads, s.unkeyed = clock, reads{builder: s.builder}, false
	r := s.report(step, clock)
	defer func() {
		// Also of a step that was cached: its key may have come from files that were no longer there.
		if ctx.Err() == nil {
			err = gone(s.reads.check(), err)
		}
		err = at(step, Because(ctx, err))
		done()
		s.tell(step)
		r.end(stage, err)
	}()

	switch op := step.Op.(type) {
	case *plan.Run:
		return s.runStep(ctx, step, op, r)
	case *plan.Copy:
		return s.copyStep(ctx, step, op, r)
	case *plan.Workdir:
		return s.workdirStep(ctx, step, op, r)
	}

	if step.CreatedBy != "" {
		s.history = append(s.history, entry{createdBy: step.CreatedBy})
	}

	return nil
}

// other is the snapshot of another stage or image that the step needs.
func (s *stage) other(ctx context.Context, from plan.Source) (*snapshot, error) {
	defer s.clock.pause()()
	return s.source(ctx, from)
}

// upper is the directory that a step fills; the zero value where that is in memory.
type upper struct {
	*containers.Staging
	work string // overlay's work directory
}

// Discard gives up what was filled.
func (u upper) Discard() error {
	if u.Staging == nil {
		return nil
	}
	return u.Staging.Discard()
}

// fill makes a step's files. It says whether there is anything to commit.
type fill func(ctx context.Context, u upper) (changed bool, err error)

// files runs a step that makes files: from the cache, or by do.
func (s *stage) files(ctx context.Context, step *plan.Step, content []string, r *report, do fill) error {
	if !s.OneLayer && s.Plain == nil {
		s.key = cache.Ingredients{
			Parent: s.key, Step: step.Canon, Args: step.Args, Content: content,
			Platform: s.platform(), Options: append(s.runIngredients(step.Op), s.timeIngredients()...),
		}.Key()
		hit, err := s.lookup(ctx, step, r)
		if hit || err != nil {
			return err
		}
		s.missed = true
	}

	resume := s.clock.pause()
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}

	resume()
	r.begin()
	s.reads.add(s.snapshot)
	s.reads.hold()
	s.notes.kept = &keptNotes{}
	if s.OneLayer {
		return s.intoSingle(ctx, step, do)
	}

	return s.intoLayer(ctx, step, do)
}

// intoLayer runs a step that has a layer of its own.
func (s *stage) intoLayer(ctx context.Context, step *plan.Step, do fill) error {
	u, err := s.newUpper(ctx)
	if err != nil {
		return err
	}

	changed, err := do(ctx, u)
	if err == nil {
		err = s.reads.settle()
	}
	if err != nil {
		return errors.Join(s.why(ctx, err), u.Discard())
	}

	if s.unkeyed {
		s.key = cache.Unknown()
	}
	if !changed {
		s.unchanged(step)
		return u.Discard()
	}
	return s.commit(step, u)
}

// why looks for what is behind the failure of a step, if there is an error.
func (s *stage) why(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}

	// What lies below may have been taken away while the step ran, and then that is why it failed.
	if removed := s.reads.check(); removed != nil {
		return removed
	}
	if s.Explain != nil && ctx.Err() == nil {
		return s.Explain(err)
	}
	return err
}

// timeIngredients is what --timestamp and its kin do to the files of every layer.
func (b *builder) timeIngredients() []string {
	if b.FileTimes == KeepTimes || b.Epoch == nil {
		return nil
	}
	return []string{fmt.Sprintf("file times=%d,%d", b.FileTimes, b.Epoch.Unix())}
}

// runIngredients are the options of the command line that change the result of a RUN.
func (s *stage) runIngredients(op plan.Op) []string {
	run, ok := op.(*plan.Run)
	if !ok {
		return nil
	}
	return []string{fmt.Sprintf("%#v", s.Run.Key(s.command(run)))}
}

// lookup takes the step from the cache if it is there.
func (s *stage) lookup(ctx context.Context, step *plan.Step, r *report) (bool, error) {
	if s.NoCache || s.missed || s.uncached() {
		return false, nil
	}

	resume := s.clock.pause()
	parent, err := s.top().Wait(ctx)
	resume()
	if err != nil {
		return false, err
	}

	l, ok, err := cache.Lookup(s.Store, s.key, parent.ID)
	if !ok || err != nil {
		return false, err
	}
	if s.CacheTTL > 0 && l.ID != parent.ID && time.Since(l.Created) > s.CacheTTL {
		return false, nil
	}

	r.cached = true
	if l.ID == parent.ID { // whose notes are those of another step
		s.history = append(s.history, entry{createdBy: step.CreatedBy})
		return true, nil
	}

	dir, err := s.Store.Directory(l.ID)
	if err == nil {
		err = s.push(dir)
	}
	if errors.Is(err, fs.ErrNotExist) { // removed since it was looked up
		r.cached = false
		return false, nil
	}

	s.notes.kept = s.recall(l)
	s.add(step, commit.Stored(l))

	return true, err
}

// uncached tells whether no step of the stage may come from the cache.
func (s *stage) uncached() bool {
	return s.plan.Name != "" && slices.ContainsFunc(s.Uncached, func(name string) bool { return strings.EqualFold(name, s.plan.Name) })
}

// commit makes the filled directory the next layer. The step above starts on it at once, while it is read and stored.
func (s *stage) commit(step *plan.Step, u upper) error {
	if s.Plain != nil {
		return s.plainCommit(step)
	}

	below, err := s.root.attributes()
	if err == nil {
		err = s.setTimes(u)
	}
	if err == nil {
		err = s.push(u.Upper)
	}
	if err != nil {
		return errors.Join(err, u.Discard())
	}

	o := commit.LayerOptions{Below: &below, Parent: s.top(), Check: s.intactBelow(s.snapshot, len(s.layers)), Trusted: s.Trusted}
	if s.FileTimes != KeepTimes {
		o.Epoch, o.Clamp = s.Epoch, s.FileTimes == ClampTimes
	}
	kept := s.notes.kept.clone()
	if !s.OneLayer {
		o.Notes = kept.encode
	}
	if !s.OneLayer && !s.unkeyed {
		o.Name = s.key.Name()
	}
	o.Sparse = func(path string, size, data int64) {
		if text := s.warnSparse(step, path, size, data); text != "" {
			kept.Warnings = append(kept.Warnings, text)
		}
	}

	job := commit.Layer(s.interrupt, s.Store, u.Staging, o)
	s.background.Go(func() {
		<-job.Done()
		if err := job.Err(); err != nil {
			s.cancel(at(step, err))
		}
	})

	s.add(step, job)

	return nil
}

// setTimes does to the files what --timestamp and its kin ask for.
func (s *stage) setTimes(u upper) error {
	if s.FileTimes == KeepTimes {
		return nil
	}
	dir, err := os.Open(u.Upper)
	if err != nil {
		return err
	}
	return errors.Join(layer.SetTimes(s.interrupt, dir, *s.Epoch, s.FileTimes == ClampTimes), dir.Close())
}

// push puts a step's directory on the stage's files.
func (s *stage) push(dir string) error {
	if err := s.root.push(dir); err != nil {
		return err
	}
	s.users.Changed(s.root.dirs[len(s.root.dirs)-1])
	return nil
}

func (s *stage) add(step *plan.Step, job *commit.Job) {
	s.layers = append(s.layers, job)
	s.history = append(s.history, entry{createdBy: step.CreatedBy, layer: job, step: step})
}

// unchanged records that the step makes no difference to the layer below it, for the cache.
func (s *stage) unchanged(step *plan.Step) {
	s.history = append(s.history, entry{createdBy: step.CreatedBy})
	if s.Plain != nil {
		return
	}

	top, name := s.top(), s.key.Name()
	s.background.Go(func() {
		l, err := top.Wait(s.interrupt)
		if err != nil || l.ID == "" {
			return
		}
		// A base in a read-only store cannot be named: the step is then done again next time, at no great cost.
		_ = s.Store.NameLayer(l.ID, name)
	})
}

// intoSingle runs a step of a stage that is to have one layer.
func (s *stage) intoSingle(ctx context.Context, step *plan.Step, do fill) error {
	if s.single == nil {
		u, err := s.newUpper(ctx)
		if err != nil {
			return err
		}
		s.single = &u
	}

	s.history = append(s.history, entry{createdBy: step.CreatedBy})
	s.users.Forget()
	_, err := do(ctx, *s.single)
	if err == nil {
		err = s.reads.settle()
	}
	return s.why(ctx, err)
}

func (s *stage) newUpper(ctx context.Context) (upper, error) {
	if s.Plain != nil {
		return upper{}, s.memory.begin(ctx)
	}

	staging, err := s.Store.NewStaging()
	if err != nil {
		return upper{}, err
	}

	u := upper{Staging: staging, work: staging.Dir + "/work"}
	err = os.Mkdir(u.work, 0o700)
	if err == nil {
		err = s.root.shape(u.Upper)
	}
	if err != nil {
		return upper{}, errors.Join(fmt.Errorf("making the step's directories: %w", err), staging.Discard())
	}
	return u, nil
}

// discard ends what a failed stage leaves.
func (s *stage) discard() error {
	if s.single == nil {
		return nil
	}
	return s.single.Discard()
}

// finish turns the stage into the snapshot that others build on: the single layer if there is to be one, and the
// history of its steps behind the base's.
func (s *stage) finish(ctx context.Context) (*snapshot, error) {
	if s.single != nil {
		last := s.history[len(s.history)-1]
		s.history = s.history[:len(s.history)-1]
		whole := s.plan.Heading()
		whole.CreatedBy = last.createdBy
		if err := s.commit(whole, *s.single); err != nil {
			return nil, err
		}
	}

	s.config.History = slices.Clone(s.config.History)
	if s.Flatten && s.plan == s.Plan.Target { // only the base's layers have that history
		s.config.History = nil
	}
	created := s.baseTime()
	if first := created; s.config.Created == nil {
		s.config.Created = &first
	}
	for _, e := range s.history {
		if e.layer != nil {
			l, err := e.layer.Wait(ctx)
			if err != nil {
				return nil, at(e.step, err)
			}
			created = l.Created.UTC()
		}
		if s.Epoch != nil {
			created = s.Epoch.UTC()
		}
		at := created
		s.config.History = append(s.config.History, ocispec.History{Created: &at, CreatedBy: e.createdBy, EmptyLayer: e.layer == nil})
		s.config.Created = &at
	}

	return s.snapshot, nil
}

// baseTime is when the base was made: the time of steps that make no files, so that a build whose steps are all cached
// gives the same image again.
func (s *stage) baseTime() time.Time {
	if s.config.Created != nil {
		return s.config.Created.UTC()
	}
	return time.Unix(0, 0).UTC()
}

func (s *stage) platform() string {
	p := s.plan.Platform
	return p.OS + "/" + p.Architecture + "/" + p.Variant
}
