package progress

import (
	"bytes"
	"slices"
)

// tailSize is the number of bytes at the end of a step's output that are kept.
const tailSize = 64 << 10

// tail keeps the end of the bytes that were added. The zero value is empty; a nil tail may be read.
type tail struct {
	buf []byte
	cut bool // something was dropped
}

func (t *tail) add(p []byte) {
	if len(p) >= tailSize {
		t.cut = t.cut || len(t.buf) > 0 || len(p) > tailSize
		t.buf = append(t.buf[:0], p[len(p)-tailSize:]...)
		return
	}

	// Dropping only when twice the size is reached makes the moves cheap.
	if t.buf = append(t.buf, p...); len(t.buf) > 2*tailSize {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-tailSize:]...)
		t.cut = true
	}
}

// lines returns a copy of the kept bytes, ending in a newline. If bytes before them were dropped,
// the first line says so, and an incomplete line is left out.
func (t *tail) lines() []byte {
	if t == nil || len(t.buf) == 0 {
		return nil
	}

	buf, cut := t.buf, t.cut
	if len(buf) > tailSize {
		buf, cut = buf[len(buf)-tailSize:], true
	}
	var out []byte
	if cut {
		if i := bytes.IndexByte(buf, '\n'); i >= 0 && i < len(buf)-1 {
			buf = buf[i+1:]
		}
		out = append(out, "[earlier output left out]\n"...)
	}

	out = append(out, buf...)
	if out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return out
}

// last returns the last n lines that are not empty, fit for the live view; looking at no more than
// 16 KiB.
func (t *tail) last(n int) []string {
	const reach = 16 << 10
	buf := t.buf[max(0, len(t.buf)-reach):]
	var lines []string
	for len(buf) > 0 && len(lines) < n {
		buf = bytes.TrimSuffix(buf, []byte("\n"))
		start := bytes.LastIndexByte(buf, '\n') + 1
		if text := printable(buf[start:]); text != "" {
			lines = append(lines, text)
		}
		buf = buf[:start]
	}

	slices.Reverse(lines)
	return lines
}
