package instructions

import (
	"fmt"
	"strings"
)

// MaxExpansion bounds the bytes that variables may add to one word or to one here-document.
const MaxExpansion = 1 << 20

// Expander replaces variables in words: $v, ${v}, and ${v...} with the modifiers - :- + :+ ? :? # ## % %% / and //.
//
// A word that grows by more than MaxExpansion is an error. BuildKit's own expansion has no limit: forty lines of ENV a=$a$a
// need gigabytes of memory there.
type Expander struct {
	Escape rune                             // escape character of the text: '\\' or '`', see File.EscapeAt
	Lookup func(name string) (string, bool) // returns the value, and whether the variable is set

	// Total is the number of bytes by which all words together may still grow. Every expansion reduces it. Nil: only
	// MaxExpansion counts.
	Total *int
}

// Word expands one word and removes quotes and escape characters: "$A"'$A' becomes the value of A followed by $A.
func (x Expander) Word(word string) (string, error) {
	return x.expand(&lexer{in: word, escape: byte(x.Escape), quotes: true})
}

// Text expands the content of a here-document. Quotes are ordinary characters, and the escape character is the backslash.
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

// Command returns c with the variables of the operands replaced. The language expands ADD, COPY, ENV, EXPOSE, LABEL, STOPSIGNAL,
// USER, VOLUME and WORKDIR, and the mount options of RUN except from=. Other commands are returned without a change. The caller
// expands ARG, because only the caller knows which defaults are used.
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

// words expands words until the first error, which it keeps in err.
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
	c.Chown = w.word(c.Chown)
	c.Chmod = w.word(c.Chmod)
	c.Checksum = w.word(c.Checksum)
	c.Sources = w.list(c.Sources)
	c.Dest = w.word(c.Dest)

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
