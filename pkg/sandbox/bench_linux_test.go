package sandbox_test

import (
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
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
	i := 0
	for b.Loop() {
		c.Root.Upper = box.path("u" + strconv.Itoa(i))
		c.Root.Work = box.path("w" + strconv.Itoa(i))
		check(b, mkdirs(c.Root.Upper, c.Root.Work))
		p, err := start(c)
		check(b, err)
		state, err := p.Wait()
		check(b, err)
		if state.ExitCode != 0 {
			b.Fatal(filepath.Base(c.Root.Upper), state)
		}
		i++
	}
	runtime.KeepAlive(heap)
}
