// Package builder runs a plan: it is the step loop, and the way of a Dockerfile to an image can be read here from top to
// bottom.
//
//	Build          every stage that the target needs, each once, side by side (schedule)
//	stage.run      the instructions of a stage
//	stage.do       one instruction: key -> cache -> run or copy -> commit
//	stage.change   what an instruction does to files: copyChange, runChange, workdirChange
//	committer      how the files of steps become layers: one for each step, or one for the stage
//	build.record   config, history and layers -> image (package record)
//
// The loop knows no mounts, no processes and no format of layers: packages rootfs, runner, copier, cache and commit
// do. It knows no flags and no terminals either. Where Options.Files are overlay mounts, Build must be called as root of a
// user namespace with a mount namespace of its own (pkg/userns).
package builder

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"codeberg.org/rbuild/rbuild/internal/cache"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/record"
	"codeberg.org/rbuild/rbuild/internal/rootfs"
	"codeberg.org/rbuild/rbuild/internal/runner"
)

// Build runs the plan and records the image. Whatever the outcome, only finished layers and images stay in the store:
// the next build finds the finished layers of a failed build in the cache.
func Build(ctx context.Context, o Options) (Result, error) {
	schedule, ctx, cancel := newSchedule(ctx, o.Limits.Jobs)
	defer cancel()

	b := &build{options: o, plan: o.Plan, schedule: schedule, show: newAnnouncer(o.Listener, o.Plan.File())}
	files, err := o.Files(b.show.warnOnce)
	if err != nil {
		return Result{}, err
	}
	defer b.close(files)

	b.files = files
	b.runner = runner.New(o.Run, files.TempDir())
	b.inputs = newInputs(b)
	b.findings = newFindings(b)

	for _, w := range o.Plan.Warnings {
		b.show.warn(w)
	}
	if err := b.setEpoch(ctx); err != nil {
		return Result{}, err
	}
	if err := b.findings.start(ctx); err != nil {
		return Result{}, err
	}

	target, err := b.runStages(ctx)
	if err != nil {
		return Result{}, err
	}
	return b.deliver(ctx, target)
}

// build is the state of one Build.
type build struct {
	options  Options
	plan     *plan.Plan // Options.Plan, with the time of SOURCE_DATE_EPOCH
	schedule *schedule
	files    rootfs.Backend
	runner   *runner.Runner
	inputs   *inputs
	show     *announcer
	findings *findings
	epoch    *time.Time // LayerOptions.Epoch, else that of the plan; nil: none
	copies   sync.Map   // digest.Digest -> func() (string, error): parts of the context that are copied for mounts
}

// runStages runs the stages and returns the target.
func (b *build) runStages(ctx context.Context) (target *snapshot, err error) {
	for _, s := range b.plan.Stages { // all needed stages start at once
		b.inputs.stage(ctx, s)
	}

	for _, s := range b.plan.Stages {
		target, err = b.inputs.stage(ctx, s).wait(ctx)
		if err != nil {
			return nil, err
		}
	}
	return target, nil
}

// deliver records the images and passes the files of the target on.
func (b *build) deliver(ctx context.Context, target *snapshot) (Result, error) {
	r := &record.Recorder{Images: b.options.Images, Options: b.options.Image, Epoch: b.epoch}
	if err := b.saveStages(ctx, r); err != nil {
		return Result{}, err
	}

	result, err := b.record(ctx, r, target)
	if err != nil {
		return result, err
	}
	return result, b.output(ctx, target)
}

// close waits for the background and closes the files.
func (b *build) close(files rootfs.Backend) {
	b.schedule.close()
	if err := files.Close(); err != nil {
		b.show.warn(fmt.Sprintf("%v", err))
	}
}

// times says what becomes of the times of files in new layers.
func (b *build) times() rootfs.Times {
	mode := b.options.Layers.FileTimes
	if mode == KeepTimes {
		return rootfs.Times{}
	}
	return rootfs.Times{Epoch: b.epoch, Clamp: mode == ClampTimes}
}

// timesKey is times for a cache key.
func (b *build) timesKey() cache.Times {
	t := b.times()
	if t.Epoch == nil {
		return cache.Times{}
	}
	return cache.Times{Set: !t.Clamp, Clamp: t.Clamp, Epoch: t.Epoch.Unix()}
}

// contextCopy copies a part of the context to a directory, once for all steps of the build, under the digest of the part.
func (b *build) contextCopy(part digest.Digest, write func(dir string) error) (string, error) {
	made, _ := b.copies.LoadOrStore(part, sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp(b.files.TempDir(), "context-")
		if err != nil {
			return "", err
		}
		return dir, write(dir)
	}))
	return made.(func() (string, error))() //nolint:forcetypeassert // stored above
}
