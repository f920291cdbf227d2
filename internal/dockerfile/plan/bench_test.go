package plan_test

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
)

// quadratic is the kind of Dockerfile with a result of quadratic size: each of n RUNs has an
// environment of n arguments.
const quadratic = "ARG and RUN"

// large returns Dockerfiles with many instructions or operands of one kind; @ is replaced by the
// number.
func large(n int) map[string]string {
	lines := func(format string) string {
		var b strings.Builder
		b.WriteString("FROM a AS s0\n")
		for i := range n {
			b.WriteString(strings.ReplaceAll(format, "@", fmt.Sprint(i+1)))
		}
		return b.String()
	}

	return map[string]string{
		"RUN":           lines("RUN echo @\n"),
		"LABEL":         lines("LABEL l@=v@\n"),
		"ENV":           lines("ENV e@=v@\n"),
		"ARG":           lines("ARG a@=v@\n"),
		quadratic:       lines("ARG a@=v@\nRUN x\n"),
		"EXPOSE":        lines("EXPOSE @\n"),
		"VOLUME":        lines("VOLUME /v@\n"),
		"ONBUILD":       lines("ONBUILD RUN x@\n"),
		"COPY":          lines("COPY f@ /d/\n"),
		"COPY --from":   lines("COPY --from=image@ f /d/\n"),
		"stages":        lines("FROM a AS s@\n"),
		"chain":         lines("FROM s0 AS s@\n"),
		"here-document": lines("RUN <<E\nx@\nE\n"),
		"one ENV":       "FROM a\nENV" + strings.TrimPrefix(lines(" \\\n e@=v@"), "FROM a AS s0\n"),
		"one LABEL":     "FROM a\nLABEL" + strings.TrimPrefix(lines(" \\\n l@=v@"), "FROM a AS s0\n"),
		"--exclude":     "FROM a\nCOPY" + strings.TrimPrefix(lines(" --exclude=e@"), "FROM a AS s0\n") + " . /d/\n",
		"--mount":       "FROM a\nRUN" + strings.TrimPrefix(lines(" --mount=type=tmpfs,target=/t@"), "FROM a AS s0\n") + " x\n",
		"sources":       "FROM a\nCOPY" + strings.TrimPrefix(lines(" f@"), "FROM a AS s0\n") + " /d/\n",
		"documents":     "FROM a\nCOPY" + strings.TrimPrefix(lines(" <<E@"), "FROM a AS s0\n") + " /d/\n" + strings.TrimPrefix(lines("x\nE@\n"), "FROM a AS s0\n"),
		"continued":     "FROM a\nRUN x" + strings.TrimPrefix(lines(" \\\n y@"), "FROM a AS s0\n") + "\n",
		"comments":      lines("# c@\n"),
		"one line":      "FROM a\nRUN " + strings.TrimPrefix(lines("word@ "), "FROM a AS s0\n") + "\n",
	}
}

func walkAll(tb testing.TB, text string) {
	tb.Helper()
	f, err := instructions.Parse("Dockerfile", []byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	p, err := plan.New(f, plan.Options{Platform: amd64})
	if err != nil {
		tb.Fatal(err)
	}
	images := map[*plan.Stage]instructions.Image{}
	scopes := map[*plan.Stage]*plan.Scope{}
	for _, s := range p.Stages {
		scope, err := s.Begin(images[s.From.Stage], argsOf(scopes[s.From.Stage]))
		if err != nil {
			tb.Fatal(err)
		}
		for {
			step, err := scope.Next()
			if err != nil {
				tb.Fatal(err)
			}
			if step == nil {
				break
			}
		}
		images[s] = scope.Image()
		scopes[s] = scope
	}
}

// BenchmarkLarge takes 10,000 instructions of a kind through parser and plan; docs/bench.md has the
// figures.
func BenchmarkLarge(b *testing.B) {
	files := large(10_000)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name == quadratic {
			continue
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				walkAll(b, files[name])
			}
		})
	}
}

// TestLarge: the memory for a file grows in proportion to its size. The test measures memory
// because memory does not depend on the machine.
func TestLarge(t *testing.T) {
	allocated := func(text string) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		walkAll(t, text)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}

	const times = 8
	small, big := large(500), large(500*times)
	for name := range small {
		if name == quadratic {
			continue
		}
		if a, b := allocated(small[name]), allocated(big[name]); b > a*times*2 {
			t.Errorf("%s: %d bytes for %d times what takes %d", name, b, times, a)
		}
	}
}

// TestGrowth: the size of the result of a short text is bounded.
func TestGrowth(t *testing.T) {
	for text, want := range map[string]string{
		strings.Repeat("EXPOSE 0-65535\n", 4):                                            "Dockerfile:5: EXPOSE names more than 196608 ports",
		"ARG a=" + strings.Repeat("x", 1_000_000) + "\n" + strings.Repeat("RUN x\n", 70): "Dockerfile:69: the history of the stage would have more than 67108864 bytes",
	} {
		if _, err := try("FROM a\n"+text, "", nil); err == nil || err.Error() != want {
			t.Errorf("%.20s: %.200v, want %s", text, err, want)
		}
	}
}
