package copier

import (
	"fmt"
	"strconv"
	"strings"
)

// modeChange is a parsed --chmod. The zero value changes nothing.
//
// The parser is our own: github.com/tonistiigi/dchapes-mode, which BuildKit uses, follows BSD,
// where "u+t" sets the sticky bit and "o+t", "go=rX" or "a=" do not change it, and where "u=rw"
// removes setuid of a directory. Here the results are those of chmod(1) of GNU.
type modeChange struct {
	octal   bool
	mode    uint32
	clauses []modeClause
}

// modeClause is one operation of a symbolic mode, such as "g=u" or "o-w".
type modeClause struct {
	who  uint32 // the permission bits that the clause may change: 0700 for "u", 0777 for "a"
	op   byte   // '+', '-' or '='
	perm uint32 // permissions for all of u, g and o, for example 0444 for "r", with setuid, setgid and sticky
	from byte   // 'u', 'g' or 'o': the permissions are those of that class
	bigX bool   // "X": execute permission for directories and files that somebody may execute
}

// parseChmod parses an octal mode up to 07777 ("0755") or a symbolic mode as in chmod(1)
// ("u=rwX,go=rX"). The umask is 0.
func parseChmod(s string) (modeChange, error) {
	if s == "" {
		return modeChange{}, nil
	}
	if s[0] >= '0' && s[0] <= '9' {
		m, err := strconv.ParseUint(s, 8, 32)
		if err != nil || m > 0o7777 {
			return modeChange{}, fmt.Errorf("mode %q is not an octal number up to 07777", s)
		}
		return modeChange{octal: true, mode: uint32(m)}, nil
	}

	var c modeChange
	for part := range strings.SplitSeq(s, ",") {
		clauses, ok := parseClauses(part)
		if !ok {
			return modeChange{}, fmt.Errorf("mode %q is neither octal nor like u=rwX,go=rX", s)
		}
		c.clauses = append(c.clauses, clauses...)
	}

	return c, nil
}

// classes are the permission bits of the letters before an operation.
var classes = map[byte]uint32{'u': 0o700, 'g': 0o070, 'o': 0o007, 'a': 0o777}

// parseClauses parses the text between two commas: [ugoa]*([-+=]([rwxXst]*|[ugo]))+.
func parseClauses(s string) (clauses []modeClause, ok bool) {
	var who uint32
	for ; s != "" && classes[s[0]] != 0; s = s[1:] {
		who |= classes[s[0]]
	}
	if who == 0 {
		who = classes['a']
	}

	for s != "" {
		c := modeClause{who: who, op: s[0]}
		if strings.IndexByte("+-=", c.op) < 0 {
			return nil, false
		}
		s = s[1:]
		if s != "" && strings.IndexByte("ugo", s[0]) >= 0 {
			c.from = s[0]
			s = s[1:]
		} else {
			s = c.permissions(s)
		}
		clauses = append(clauses, c)
	}

	return clauses, len(clauses) > 0
}

// permissions reads the permission letters at the start of s into c, and returns the rest of s.
func (c *modeClause) permissions(s string) string {
	for ; s != ""; s = s[1:] {
		switch s[0] {
		case 'r':
			c.perm |= 0o444
		case 'w':
			c.perm |= 0o222
		case 'x':
			c.perm |= 0o111
		case 'X':
			c.bigX = true
		case 's':
			c.perm |= 0o6000
		case 't':
			c.perm |= 0o1000
		default:
			return s
		}
	}

	return s
}

// apply returns the mode that a file of the given mode gets.
func (c modeChange) apply(mode uint32, dir bool) uint32 {
	if c.octal {
		return c.mode
	}
	for _, cl := range c.clauses {
		mode = cl.apply(mode, dir)
	}
	return mode
}

// forNewDir returns the mode of a directory that is made on the way to a destination. Setuid,
// setgid and sticky are for the sources, not for the directories that lead to them.
func (c modeChange) forNewDir() uint32 { return c.apply(0o755, true) & 0o777 }

func (c modeClause) apply(mode uint32, dir bool) uint32 {
	bits := c.bits(mode, dir) & c.mask()
	switch c.op {
	case '+':
		return mode | bits
	case '-':
		return mode &^ bits
	}

	cleared := c.mask()
	if dir { // as chmod(1) of GNU: "=" keeps setuid and setgid of a directory, unless the clause names them
		cleared &^= 0o6000
	}

	return mode&^cleared | bits
}

// bits returns the permissions of the clause for all of u, g and o.
func (c modeClause) bits(mode uint32, dir bool) uint32 {
	bits := c.perm
	switch c.from {
	case 'u':
		bits = mode >> 6 & 7 * 0o111
	case 'g':
		bits = mode >> 3 & 7 * 0o111
	case 'o':
		bits = mode & 7 * 0o111
	}
	if c.bigX && (dir || mode&0o111 != 0) {
		bits |= 0o111
	}

	return bits
}

// mask returns the bits that the clause may change: setuid belongs to "u", setgid to "g" and sticky
// to "o".
func (c modeClause) mask() uint32 {
	mask := c.who
	if c.who&0o700 != 0 {
		mask |= 0o4000
	}
	if c.who&0o070 != 0 {
		mask |= 0o2000
	}
	if c.who&0o007 != 0 {
		mask |= 0o1000
	}

	return mask
}
