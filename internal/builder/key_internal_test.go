package builder

import (
	"testing"
	"time"

	"codeberg.org/rbuild/rbuild/internal/cache"
	"codeberg.org/rbuild/rbuild/internal/cache/cachetest"
	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/runner"
)

// The reasons for options whose effect is in a key in another form.
const (
	asStep    cache.Reason = "Key.Step, Args and Platform are parts of the plan"
	asContent cache.Reason = "Key.Content and Parent have digests of the files"
	inRunner  cache.Reason = "the tests of package runner classify each field"
	inStages  cache.Reason = "the layer of all steps is in no cache, and that of --squash has a key of its own"
)

// ambient are the options that change no key of a step by themselves.
var ambient = map[string]cache.Reason{
	"Plan":            asStep,
	"Inputs.Context":  asContent,
	"Inputs.Contexts": asContent,
	"Inputs.Remote":   asContent,
	"Inputs.Pull":     asContent,
	"Inputs.Origin":   cache.Ambient.Image,
	"Files":           cache.Ambient.Storage,
	"Images":          cache.Ambient.Storage,
	"Cache.Cache":     cache.Ambient.Lookup,
	"Cache.Refresh":   cache.Ambient.Lookup,
	"Cache.Uncached":  cache.Ambient.Lookup,
	"Cache.MaxAge":    cache.Ambient.Lookup,
	"Caches":          cache.Ambient.Caches,
	"Run":             inRunner,

	"Layers.OnePerStage": inStages,
	"Layers.Squash":      inStages,
	"Layers.Owner":       cache.Ambient.Storage,

	"Image.None":                  cache.Ambient.Image,
	"Image.Names":                 cache.Ambient.Image,
	"Image.Platform.Architecture": cache.Ambient.Image,
	"Image.Platform.OS":           cache.Ambient.Image,
	"Image.Platform.OSVersion":    cache.Ambient.Image,
	"Image.Platform.OSFeatures":   cache.Ambient.Image,
	"Image.Platform.Variant":      cache.Ambient.Image,
	"Image.Format":                cache.Ambient.Image,
	"Image.AnyFormat":             cache.Ambient.Image,
	"Image.NoHistory":             cache.Ambient.Image,
	"Image.Labels.Set.Key":        cache.Ambient.Image,
	"Image.Labels.Set.Value":      cache.Ambient.Image,
	"Image.Labels.Unset":          cache.Ambient.Image,
	"Image.Labels.NoBase":         cache.Ambient.Image,
	"Image.Annotations.Set":       cache.Ambient.Image,
	"Image.Annotations.Unset":     cache.Ambient.Image,
	"Image.Annotations.NoBase":    cache.Ambient.Image,
	"Image.Annotations.Created":   cache.Ambient.Image,
	"Image.System.Version":        cache.Ambient.Image,
	"Image.System.Features":       cache.Ambient.Image,
	"Image.Stages.Save":           cache.Ambient.Image,
	"Image.Stages.Describe":       cache.Ambient.Image,
	"Image.Stages.Labels.Key":     cache.Ambient.Image,
	"Image.Stages.Labels.Value":   cache.Ambient.Image,
	"Image.UnsetEnv":              cache.Ambient.Image,

	"Outputs":        cache.Ambient.Image,
	"Limits.Jobs":    cache.Ambient.Limits,
	"Limits.Step":    cache.Ambient.Limits,
	"Checks.Linter":  cache.Ambient.Reports,
	"Checks.Options": cache.Ambient.Reports,
	"Listener":       cache.Ambient.Reports,
	"Explain":        cache.Ambient.Reports,
}

// keyOfRun returns the key of a RUN with the options.
func keyOfRun(o Options) cache.ID {
	b := &build{options: o, epoch: o.Layers.Epoch}
	s := &stage{build: b, plan: &plan.Stage{}, now: snapshot{key: "below"}}
	return s.key(&step{Step: &plan.Step{Canon: "RUN make"}}, &change{process: o.Run.Key(runner.Command{})})
}

// TestEveryOptionIsClassified changes each option: either the key of a RUN changes, or the option is listed as ambient.
func TestEveryOptionIsClassified(t *testing.T) {
	epoch := time.Unix(5, 0)
	ownKey := func(o Options) cache.ID {
		o.Run = runner.Options{}
		return keyOfRun(o)
	}
	cachetest.Classify(t, Options{Layers: LayerOptions{Epoch: &epoch, FileTimes: SetTimes}}, ownKey, ambient)

	private := Options{Run: runner.Options{Network: runner.Network{Mode: runner.Private}}}
	if keyOfRun(private) == keyOfRun(Options{}) {
		t.Error("the options of the process are not in the key")
	}
}
