package runner

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/docker/go-units"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Bounds of the lines that complaints keeps.
const (
	maxComplaints = 16
	maxLine       = 512 // bytes
)

// complaint matches lines of shells about programs that cannot be executed, and lines about files
// that cannot be written.
var complaint = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)not found|no such file|cannot execute|bad interpreter|exec format error|required file|` +
		`syntax error|not executable|read-only file system|resource busy`)
})

// complaints is a writer that passes the output of a process on, and keeps the last lines that name
// a reason for a failure, for example "sh: make: not found".
type complaints struct {
	to    io.Writer
	line  []byte // the line that has not ended, up to maxLine bytes
	lines []string
}

func (c *complaints) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		text, after, ended := bytes.Cut(rest, []byte("\n"))
		c.line = append(c.line, text[:min(len(text), maxLine-len(c.line))]...)
		if ended {
			c.keep()
		}
		rest = after
	}
	return c.to.Write(p)
}

func (c *complaints) keep() {
	if complaint().Match(c.line) {
		if len(c.lines) == maxComplaints {
			c.lines = append(c.lines[:0], c.lines[1:]...)
		}
		c.lines = append(c.lines, string(c.line))
	}
	c.line = c.line[:0]
}

// all returns the kept lines, oldest first. No Write may follow.
func (c *complaints) all() []string {
	c.keep()
	return c.lines
}

// kernelString bounds one argument or variable, in bytes with the final zero: 32 pages of 4 KiB
// (MAX_ARG_STRLEN of linux/binfmts.h).
const kernelString = 32 * 4096

// maxNamed bounds the number of arguments and variables that a message names.
const maxNamed = 3

// tooLong explains which arguments and variables of the process are too long for the kernel
// (execve(2)).
func tooLong(p *specs.Process) string {
	type size struct {
		what  string
		bytes int
	}

	var sizes []size
	total, arguments := 0, 0
	for _, e := range p.Env {
		name, _, _ := strings.Cut(e, "=")
		sizes = append(sizes, size{"variable " + name, len(e) + 1})
		total += len(e) + 1
	}

	for i, a := range p.Args {
		sizes = append(sizes, size{fmt.Sprintf("argument %d of the command", i), len(a) + 1})
		arguments += len(a) + 1
	}

	slices.SortStableFunc(sizes, func(a, b size) int { return b.bytes - a.bytes })

	var largest []string
	for _, s := range sizes[:min(maxNamed, len(sizes))] {
		largest = append(largest, fmt.Sprintf("%s %s", s.what, units.BytesSize(float64(s.bytes))))
	}
	limit := "the kernel accepts a quarter of the stack limit (--ulimit stack) for all of them, and 6 MiB at most"
	if len(sizes) > 0 && sizes[0].bytes > kernelString {
		limit = fmt.Sprintf("the kernel accepts %s for one string", units.BytesSize(kernelString))
	}

	return fmt.Sprintf("%d variables have %s, the command %s (largest: %s); %s: shorten the ENV or ARG, or put the text in a file",
		len(p.Env), units.BytesSize(float64(total)), units.BytesSize(float64(arguments)), strings.Join(largest, ", "), limit)
}
