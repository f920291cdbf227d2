package instructions

import (
	"fmt"
	"strings"
)

// MaxExpansion bounds, in bytes, what variables may add to one word, or to one
// here-document.
const MaxExpansion = 1 << 20

// Expander replaces variables in words: $v, ${v}, and ${v...} with the
// modifiers - :- + :+ ? :? # ## % %% / and //.
//
// BuildKit's own expansion cannot be bounded: forty lines of ENV a=$a$a take
// it gigabytes. Here a word that grows by more than MaxExpansion is an error.
type Expander struct {
	Escape rune                             // '\\' or '`'
	Lookup func(name string) (string, bool) // value, and whether the variable is set

	// Total, if not nil, is what all words together may still grow by, in
	// bytes. Each expansion takes from it.
	Total *int
}

// Word expands one word and removes its quotes and escapes.
func (x Expander) Word(word string) (string, error) {
	return x.expand(&lexer{in: word, escape: byte(x.Escape), quotes: true})
}

// Text expands the body of a here-document: quotes are ordinary characters
// and the escape character is always the backslash.
func (x Expander) Text(text string) (string, error) {
	return x.expand(&lexer{in: text, escape: '\\'})
}

func (x Expander) expand(l *lexer) (string, error) {
	special := "$" + string(rune(l.escape))
	if l.quotes {
		special += `'"`
	}
	if !strings.ContainsAny(l.in, special) {
		return l.in, nil
	}

	l.lookup, l.left = x.Lookup, MaxExpansion
	if x.Total != nil {
		l.left = min(l.left, *x.Total)
	}
	given := l.left
	out, err := l.until(0, false)
	if x.Total != nil {
		*x.Total -= given - max(l.left, 0)
	}
	if err != nil {
		return "", fmt.Errorf("expanding %q: %w", shown(l.in), err)
	}

	return out, nil
}

// Command expands the words of a command that the language expands: those of
// ADD, COPY, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR, and the
// options of a RUN's mounts, but for from. Others are returned as they are; ARG is left to the caller, who knows which
// defaults are used.
func (x Expander) Command(c Command) (Command, error) {
	w := words{x: x}
	switch c := c.(type) {
	case Env:
		c.Vars = w.pairs(c.Vars)
		return c, w.err
	case Label:
		c.Labels = w.pairs(c.Labels)
		return c, w.err
	case User:
		c.User = w.word(c.User)
		return c, w.err
	case Workdir:
		c.Path = w.word(c.Path)
		return c, w.err
	case StopSignal:
		c.Signal = w.word(c.Signal)
		return c, w.err
	case Volume:
		c.Paths = w.list(c.Paths)
		return c, w.err
	case Expose:
		c.Ports = strings.Fields(strings.Join(w.list(c.Ports), " "))
		return c, w.err
	case Run:
		c.Mounts = w.mounts(c.Mounts)
		return c, w.err
	case Copy:
		return w.copy(c)
	}

	return c, nil
}

// words expands until the first error.
type words struct {
	x   Expander
	err error
}

func (w *words) word(s string) string {
	if w.err != nil {
		return ""
	}
	var out string
	out, w.err = w.x.Word(s)
	return out
}

func (w *words) list(in []string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = w.word(s)
	}
	return out
}

func (w *words) pairs(in []Pair) []Pair {
	out := make([]Pair, len(in))
	for i, p := range in {
		out[i] = Pair{Key: w.word(p.Key), Value: w.word(p.Value)}
		if out[i].Key == "" && w.err == nil {
			w.err = fmt.Errorf("the name %s is empty after expansion", shown(p.Key))
		}
	}
	return out
}

func (w *words) copy(c Copy) (Command, error) {
	c.Chown, c.Chmod, c.Checksum = w.word(c.Chown), w.word(c.Chmod), w.word(c.Checksum)
	c.Sources, c.Dest = w.list(c.Sources), w.word(c.Dest)
	inline := make([]InlineFile, len(c.Inline))
	for i, doc := range c.Inline {
		inline[i] = InlineFile{Name: doc.Name, Data: doc.Data}
		if doc.Expand && w.err == nil {
			inline[i].Data, w.err = w.x.Text(doc.Data)
		}
	}
	c.Inline = inline
	return c, w.err
}

func (w *words) mounts(in []MountFlag) []MountFlag {
	if len(in) == 0 {
		return nil
	}

	out := make([]MountFlag, len(in))
	for i, m := range in {
		out[i].Fields = make([]MountField, len(m.Fields))
		for j, f := range m.Fields {
			if f.Key != "from" {
				f.Value = w.word(f.Value)
			}
			out[i].Fields[j] = f
		}
	}

	return out
}
