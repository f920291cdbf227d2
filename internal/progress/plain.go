package progress

import (
	"bytes"
	"io"
	"sync"
)

// Plain writes a log:
//
//	[build 4/7] RUN make
//	cc -o prog main.c
//	[build 4/7] RUN make  1.2s, cpu 2.1s, memory 64 MiB, read 1.2 MiB, written 340 KiB
//	[build 5/7] CACHED RUN make test
//	[build 6/7] COPY --from=docs /out /docs  0.1s (waited 4.2s)
//
// Output follows the line of its step, byte for byte. If w is a terminal, pass [Safe] of the terminal. When another step runs,
// or had a line meanwhile, each line of output begins with the label of its step.
func Plain(w io.Writer) Listener {
	return &plain{w: w, running: clock{}}
}

type plain struct {
	mu      sync.Mutex
	w       io.Writer
	running clock
	current *Step // whose opening line or output stands last
	open    *Step // whose output ended without a newline
}

// Event implements Listener.
func (p *plain) Event(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()

	e = p.running.note(e)
	switch e.Kind {
	case StepStarted:
		p.line(opening(e.Step))
		p.current = e.Step
	case StepOutput:
		p.output(e.Step, e.Data)
	case StepCached, StepDone, StepFailed, StepStopped:
		p.line(closing(e) + used(e.Usage) + waited(e))
		p.current = nil
	case Notice, Warning:
		p.line(message(e))
	}
}

// line writes a line of rbuild. If a step has left a line unfinished, line ends that line first.
func (p *plain) line(text string) {
	p.write(append(p.newline(nil), text+"\n"...))
}

// output writes the output of a step in one call, so that the output of other processes does not
// come in between.
func (p *plain) output(s *Step, data []byte) {
	if len(data) == 0 {
		return
	}

	alone := p.current == s && len(p.running) <= 1
	if alone && (p.open == nil || p.open == s) {
		p.write(data)
	} else {
		var out []byte
		if p.open != s {
			out = p.newline(out)
		}
		p.write(prefixed(out, label(s)+" ", data, p.open == s))
	}

	p.open = nil
	if data[len(data)-1] != '\n' {
		p.open = s
	}
}

// prefixed appends data to out with prefix before each line, but not before the first when that
// continues a line.
func prefixed(out []byte, prefix string, data []byte, continues bool) []byte {
	for line := range bytes.Lines(data) {
		if !continues {
			out = append(out, prefix...)
		}
		out = append(out, line...)
		continues = false
	}
	return out
}

// newline appends the newline that a step's output lacks.
func (p *plain) newline(out []byte) []byte {
	if p.open != nil {
		out = append(out, '\n')
	}
	p.open = nil
	return out
}

func (p *plain) write(b []byte) {
	_, _ = p.w.Write(b) // see the package comment
}
