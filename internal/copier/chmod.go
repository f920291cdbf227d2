package copier

import (
	"fmt"
	"strconv"
	"strings"
)

// modeChange is a parsed --chmod. The zero value changes nothing.
type modeChange struct {
	octal   bool
	mode    uint32
	clauses []modeClause
}

// modeClause is one operation of a symbolic mode, such as g=u or o-w.
type modeClause struct {
	who  uint32 // the bits of 0777 it may touch
	op   byte   // + - =
	perm uint32 // as if for all of ugo: multiples of 0111, with setuid, setgid and sticky
	from byte   // u, g or o: permissions are copied from there
	bigX bool
}

// parseChmod understands an octal mode up to 07777 and the symbolic modes of chmod(1). The umask is 0.
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

// parseClauses parses what stands between two commas: [ugoa]*([-+=]([rwxXst]*|[ugo]))+.
func parseClauses(s string) (clauses []modeClause, ok bool) {
	var who uint32
	for ; s != "" && strings.IndexByte("ugoa", s[0]) >= 0; s = s[1:] {
		who |= map[byte]uint32{'u': 0o700, 'g': 0o070, 'o': 0o007, 'a': 0o777}[s[0]]
	}
	if who == 0 {
		who = 0o777
	}
	for s != "" {
		c := modeClause{who: who, op: s[0]}
		if strings.IndexByte("+-=", c.op) < 0 {
			return nil, false
		}
		s = s[1:]
		if s != "" && strings.IndexByte("ugo", s[0]) >= 0 {
			c.from, s = s[0], s[1:]
		} else {
			s = c.permissions(s)
		}
		clauses = append(clauses, c)
	}

	return clauses, len(clauses) > 0
}

// permissions reads letters into c up to what is none and returns the rest.
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

// apply returns what becomes of mode.
func (c modeChange) apply(mode uint32, dir bool) uint32 {
	if c.octal {
		return c.mode
	}
	for _, cl := range c.clauses {
		mode = cl.apply(mode, dir)
	}
	return mode
}

// forNewDir returns the mode of a directory that is made for a destination: setuid, setgid and sticky are for the
// files named, not for their parents.
func (c modeChange) forNewDir() uint32 { return c.apply(0o755, true) & 0o777 }

func (cl modeClause) apply(mode uint32, dir bool) uint32 {
	bits := cl.perm
	switch cl.from {
	case 'u':
		bits = mode >> 6 & 7 * 0o111
	case 'g':
		bits = mode >> 3 & 7 * 0o111
	case 'o':
		bits = mode & 7 * 0o111
	}

	if cl.bigX && (dir || mode&0o111 != 0) {
		bits |= 0o111
	}
	mask := cl.who
	if cl.who&0o700 != 0 {
		mask |= 0o4000
	}
	if cl.who&0o070 != 0 {
		mask |= 0o2000
	}
	if cl.who&0o007 != 0 {
		mask |= 0o1000
	}
	switch cl.op {
	case '+':
		return mode | bits&mask
	case '-':
		return mode &^ (bits & mask)
	}

	if dir { // as chmod(1): = leaves setuid and setgid of a directory unless they are named
		return mode&^(mask&^0o6000) | bits&mask
	}

	return mode&^mask | bits&mask
}
