package lint

import (
	"iter"
	"slices"

	"github.com/moby/buildkit/util/suggest"
)

// budget bounds work that would grow faster than the file.
type budget struct {
	names   int // comparisons of names, for suggestions
	ignored int // comparisons of a path with a pattern of the ignore file
	growth  int // bytes that variables may add
	scripts int // bytes of RUN commands that are split
}

func fullBudget() budget {
	return budget{names: 100_000, ignored: 200_000, growth: 16 << 20, scripts: 2 << 20}
}

// suggest returns the option that is most similar to name, or an empty string. n is the number of
// options.
func (r *run) suggest(name string, n int, options iter.Seq[string]) string {
	const longest = 60 // bytes; the distance of longer names is not computed
	if n > r.budget.names || len(name) > longest {
		return ""
	}
	r.budget.names -= n
	match, _ := suggest.Search(name, slices.Sorted(options), true)
	if len(match) <= 2 { // every short name is similar to such an option
		return ""
	}
	return match
}

// near reports whether two names differ by one character, or by two exchanged characters.
func near(a, b string) bool {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) <= 1 && len(b) <= 1 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}
