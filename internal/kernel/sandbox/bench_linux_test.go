package sandbox_test

import (
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/sandbox"
)

// BenchmarkRun is one RUN step of nothing, from a process with a heap of 50 MB as a build has it.
// Its measure is the C program of hack/bench that does the same.
func BenchmarkRun(b *testing.B) {
	box := newBox(b)
	heap := make([][]byte, 50)
	for i := range heap {
		heap[i] = make([]byte, 1<<20)
		for k := range heap[i] {
			heap[i][k] = byte(k)
		}
	}

	c := box.config("echo")
	profile, err := sandbox.DefaultSeccomp(sandbox.DefaultCapabilities())
	check(b, err)
	c.Filter, err = sandbox.NewFilter(profile)
	check(b, err)
	var starts, runs []time.Duration
	for b.Loop() {
		c.Root.Upper = box.path("u" + strconv.Itoa(len(runs)))
		c.Root.Work = box.path("w" + strconv.Itoa(len(runs)))
		check(b, mkdirs(c.Root.Upper, c.Root.Work))
		begin := time.Now()
		p, err := sandbox.Start(c)
		check(b, err)
		starts = append(starts, time.Since(begin))
		state, err := p.Wait()
		check(b, err)
		runs = append(runs, time.Since(begin))
		if state.ExitCode != 0 {
			b.Fatal(state)
		}
	}

	runtime.KeepAlive(heap)
	report := func(name string, d []time.Duration) {
		slices.Sort(d)
		b.ReportMetric(float64(d[0].Microseconds()), name+"-min-us")
		b.ReportMetric(float64(d[len(d)/2].Microseconds()), name+"-median-us")
	}

	report("start", starts)
	report("run", runs)
}
