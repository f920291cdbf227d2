package instructions

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxNesting bounds the depth of ${a:-${b:-...}}, because every level keeps a text in memory.
const maxNesting = 50

// maxMatch bounds the work of one pattern: the length of the pattern times the length of the value.
const maxMatch = 64 << 20

var (
	errTooLong = fmt.Errorf("variables would add more than %d bytes", MaxExpansion)
	errBrace   = errors.New("syntax error: missing '}'")
)

// lexer expands one word. The language is the language of BuildKit's shell.Lex, with three differences: the lexer works on
// bytes, so that text that is not UTF-8 passes unchanged; the size of the output has a limit; the replacement of ${v//p/r} is
// literal.
type lexer struct {
	in     string
	pos    int
	escape byte
	quotes bool // quotes group and are removed
	raw    bool // escapes are kept, for a pattern
	depth  int
	left   int // bytes that variables may still add
	lookup func(string) (string, bool)
}

// until reads up to the byte stop and consumes it. If stop is 0, until reads to the end.
func (l *lexer) until(stop byte, raw bool) (string, error) {
	l.depth++
	if l.depth > maxNesting {
		return "", fmt.Errorf("substitutions nested more than %d deep", maxNesting)
	}

	outer := l.raw
	l.raw = raw
	defer func() { l.raw = outer; l.depth-- }()

	var out strings.Builder
	for l.pos < len(l.in) {
		c := l.in[l.pos]
		switch {
		case stop != 0 && c == stop:
			l.pos++
			return out.String(), nil
		case c == '$':
			if err := l.dollar(&out); err != nil {
				return "", err
			}
		case c == '\'' && l.quotes:
			if err := l.single(&out); err != nil {
				return "", err
			}
		case c == '"' && l.quotes:
			if err := l.double(&out); err != nil {
				return "", err
			}
		case c == l.escape:
			l.escaped(&out)
		default:
			out.WriteByte(c)
			l.pos++
		}
	}

	if stop != 0 {
		return "", fmt.Errorf("unexpected end while looking for the matching %c", stop)
	}

	return out.String(), nil
}

// escaped reads the escape character and the character after it.
func (l *lexer) escaped(out *strings.Builder) {
	if l.raw {
		out.WriteByte(l.escape)
	}
	l.pos++
	if l.pos < len(l.in) {
		out.WriteByte(l.in[l.pos])
		l.pos++
	}
}

// single reads '...', in which every character is itself.
func (l *lexer) single(out *strings.Builder) error {
	end := strings.IndexByte(l.in[l.pos+1:], '\'')
	if end < 0 {
		l.pos = len(l.in)
		return errors.New("unexpected end while looking for the matching single-quote")
	}
	out.WriteString(l.in[l.pos+1 : l.pos+1+end])
	l.pos += end + 2
	return nil
}

// double reads "...". Variables are expanded; only the quote, the dollar sign and the escape character can be escaped.
func (l *lexer) double(out *strings.Builder) error {
	for l.pos++; l.pos < len(l.in); {
		c := l.in[l.pos]
		switch c {
		case '"':
			l.pos++
			return nil
		case '$':
			if err := l.dollar(out); err != nil {
				return err
			}
			continue
		}

		l.pos++
		if c == l.escape {
			if l.raw {
				out.WriteByte(c)
			}
			if l.pos < len(l.in) && (l.in[l.pos] == '"' || l.in[l.pos] == '$' || l.in[l.pos] == l.escape) {
				c = l.in[l.pos]
				l.pos++
			}
		}

		out.WriteByte(c)
	}

	return errors.New("unexpected end while looking for the matching double-quote")
}

// dollar reads $name or ${name...} and writes the value.
func (l *lexer) dollar(out *strings.Builder) error {
	l.pos++
	if l.peek() != '{' {
		name := l.name()
		if name == "" {
			out.WriteByte('$')
			return nil
		}
		value, _ := l.lookup(name)
		return l.write(out, value)
	}

	l.pos++
	switch l.peek() {
	case 0:
		return errBrace
	case '{', '}', ':':
		return errors.New("syntax error: bad substitution")
	}

	value, err := l.substitution(l.name())
	if err != nil {
		return err
	}

	return l.write(out, value)
}

// write adds the value of a variable to the result.
func (l *lexer) write(out *strings.Builder, value string) error {
	if l.left -= len(value); l.left < 0 {
		return errTooLong
	}
	out.WriteString(value)
	return nil
}

// peek returns the next byte, or 0 at the end. The text contains no zero bytes.
func (l *lexer) peek() byte {
	if l.pos < len(l.in) {
		return l.in[l.pos]
	}
	return 0
}

// name reads the name of a variable: letters, digits and underscores; digits alone; or one special parameter of the shell,
// such as ?. The name may be empty.
func (l *lexer) name() string {
	start := l.pos
	digits := false
	for l.pos < len(l.in) {
		r, n := utf8.DecodeRuneInString(l.in[l.pos:])
		first := l.pos == start
		switch {
		case first && unicode.IsDigit(r):
			digits = true
		case digits && !unicode.IsDigit(r):
			return l.in[start:l.pos]
		case first && strings.ContainsRune("@*#?-$!", r):
			l.pos += n
			return l.in[start:l.pos]
		case !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_':
			return l.in[start:l.pos]
		}
		l.pos += n
	}

	return l.in[start:l.pos]
}

// substitution reads the text after the name in ${name...}.
func (l *lexer) substitution(name string) (string, error) {
	value, set := l.lookup(name)
	if l.pos == len(l.in) {
		return "", errBrace
	}

	op, n := utf8.DecodeRuneInString(l.in[l.pos:])
	l.pos += n
	switch op {
	case '}':
		return value, nil
	case '/':
		return l.replace(value)
	case '#', '%':
		pattern, err := l.operand('}', true)
		if err != nil {
			return "", err
		}
		return trim(value, pattern, op == '%')
	case ':':
		if l.pos == len(l.in) {
			return "", errBrace
		}
		op, n = utf8.DecodeRuneInString(l.in[l.pos:])
		l.pos += n
		if !strings.ContainsRune("-+?", op) {
			return "", fmt.Errorf("unsupported modifier (:%c) in substitution", op)
		}
		set = set && value != ""
		return l.conditional(name, value, op, set, "is not allowed to be empty")
	case '-', '+', '?':
		return l.conditional(name, value, op, set, "")
	}

	return "", fmt.Errorf("unsupported modifier (%c) in substitution", op)
}

// operand reads the word of a substitution.
func (l *lexer) operand(stop byte, raw bool) (string, error) {
	word, err := l.until(stop, raw)
	if err != nil && l.pos == len(l.in) && !errors.Is(err, errTooLong) {
		return "", fmt.Errorf("syntax error: missing '%c'", stop)
	}
	return word, err
}

// conditional reads the rest of ${name-word}, ${name+word} and ${name?word}. empty is the message for a variable that is set
// and empty.
func (l *lexer) conditional(name, value string, op rune, set bool, empty string) (string, error) {
	word, err := l.operand('}', false)
	switch {
	case err != nil:
		return "", err
	case op == '+' && set, op == '-' && !set:
		return word, nil
	case op == '+':
		return "", nil
	case set || op == '-':
		return value, nil
	}

	if word == "" {
		word = "is not allowed to be unset"
		if _, ok := l.lookup(name); ok {
			word = empty
		}
	}

	return "", fmt.Errorf("%s: %s", name, word)
}

// replace reads the rest of ${name/pattern/word}, which replaces the first match, or of ${name//pattern/word}, which replaces
// all matches. The longest match wins.
func (l *lexer) replace(value string) (string, error) {
	all := l.peek() == '/'
	if all {
		l.pos++
	}
	pattern, err := l.operand('/', true)
	if err != nil {
		return "", err
	}

	word, err := l.operand('}', true)
	if err != nil {
		return "", err
	}

	tokens, err := parsePattern(pattern)
	if err != nil {
		return "", err
	}

	re, err := compile(tokens, "", true, len(value))
	if err != nil {
		return "", err
	}

	most := 1
	if all {
		most = -1
	}
	matches := re.FindAllStringIndex(value, most)
	if len(value)+len(matches)*len(word) > MaxExpansion {
		return "", errTooLong
	}

	var out strings.Builder
	end := 0
	for _, m := range matches {
		out.WriteString(value[end:m[0]])
		out.WriteString(word)
		end = m[1]
	}

	out.WriteString(value[end:])

	return out.String(), nil
}

// trim removes the shortest prefix (#) or suffix (%) that matches the pattern. With ## or %% it removes the longest.
func trim(value, pattern string, suffix bool) (string, error) {
	op := "#"
	if suffix {
		op = "%"
	}
	pattern, longest := strings.CutPrefix(pattern, op)
	tokens, err := parsePattern(pattern)
	if err != nil {
		return "", err
	}

	if suffix { // a regular expression finds the leftmost match: reverse the value and the pattern
		slices.Reverse(tokens)
		value = mirror(value)
	}

	re, err := compile(tokens, "^", longest, len(value))
	if err != nil {
		return "", err
	}

	if m := re.FindStringIndex(value); m != nil {
		value = value[m[1]:]
	}
	if suffix {
		value = mirror(value)
	}

	return value, nil
}

func mirror(s string) string {
	runes := []rune(s)
	slices.Reverse(runes)
	return string(runes)
}

// token is one element of a pattern: a character, or the wildcard * or ?.
type token struct {
	char rune
	wild bool
}

// parsePattern reads a pattern. A backslash before *, ?, \, / or } makes the character a part of the pattern.
func parsePattern(pattern string) ([]token, error) {
	var out []token
	escaped := false
	for _, r := range pattern {
		switch {
		case escaped && !strings.ContainsRune(`*?\/}`, r):
			return nil, fmt.Errorf("invalid pattern (%s) in substitution: invalid escape '\\%c'", shown(pattern), r)
		case !escaped && r == '\\':
			escaped = true
			continue
		}
		out = append(out, token{char: r, wild: !escaped && (r == '*' || r == '?')})
		escaped = false
	}

	if escaped {
		return nil, fmt.Errorf("invalid pattern (%s) in substitution: it ends with a backslash", shown(pattern))
	}
	return out, nil
}

// compile makes a regular expression of a pattern, for a value of size bytes.
func compile(tokens []token, prefix string, longest bool, size int) (*regexp.Regexp, error) {
	if len(tokens) > maxMatch/max(size, 1) {
		return nil, errors.New("the pattern and the value are too long")
	}

	var expr strings.Builder
	expr.WriteString(prefix)
	for _, t := range tokens {
		switch {
		case !t.wild:
			expr.WriteString(regexp.QuoteMeta(string(t.char)))
		case t.char == '?':
			expr.WriteByte('.')
		case longest:
			expr.WriteString(".*")
		default:
			expr.WriteString(".*?")
		}
	}

	return regexp.Compile(expr.String())
}
