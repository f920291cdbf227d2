package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// defaultKills is the number of builds that a run of all tests kills; hack/chaos/kill.sh asks for more.
const defaultKills = 30

// TestKill kills builds with SIGKILL; the number of them is in KILLS.
func TestKill(t *testing.T) { run(t, "chaos") }

// phases are the parts of a build in their order. Each begins with the first event that has the text, or with the one
// behind that, and ends where the next begins.
var phases = []struct{ name, kind, text string }{
	{"pull", "", ""},
	{"copy", "started", "COPY tree "},
	{"run", "started", "RUN echo phase"},
	{"commit", "done", "RUN echo phase"},
	{"push", "notice", "Getting image source"}, // the second one: the first is the pull's
}

// mixedBuild is the build that is killed, over and over.
type mixedBuild struct {
	ts      *testscript.TestScript
	context string
	want    string                   // the image's ID
	lasts   map[string]time.Duration // how long each phase takes
	hits    map[string]int           // kills by the phase that they met
}

// killbuilds CONTEXT starts builds that pull, copy, run, commit and push, and kills each at a random moment of one of these
// phases in turn: at random the launcher, the builder, or both with all that they started. After each the next command must leave
// nothing behind, the next build must be right, on what the killed one left, and podman must read the store.
func killbuilds(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, "killbuilds CONTEXT")
	count := defaultKills
	if text := os.Getenv("KILLS"); text != "" {
		n, err := strconv.Atoi(text)
		ts.Check(err)
		count = n
	}

	b := &mixedBuild{ts: ts, context: args[0], lasts: map[string]time.Duration{}, hits: map[string]int{}}
	b.measure()
	for i := range count {
		b.killOne(i, b.next(), rand.IntN(3))
		ended(ts, false, nil)
		output(ts, "rbuild", "images")
		storeclean(ts, false, nil)
		b.verify(i)
		fmt.Fprintf(os.Stderr, "\r%d of %d", i+1, count)
	}

	ts.Logf("%d kills, by phase: %v", count-b.hits["ended"], b.hits)
	for _, p := range phases {
		if count >= 5*len(phases) && b.hits[p.name] < count/(4*len(phases)) {
			ts.Fatalf("phase %s was met %d times only: %v", p.name, b.hits[p.name], b.hits)
		}
	}
}

// next is the phase that was met least.
func (b *mixedBuild) next() string {
	least := phases[0].name
	for _, p := range phases {
		if b.hits[p.name] < b.hits[least] {
			least = p.name
		}
	}
	return least
}

// stopRounds is how often each signal is sent in each phase.
const stopRounds = 2

// stopbuilds CONTEXT interrupts the same builds in each phase, by SIGINT to the whole group, as a terminal does, and by
// SIGTERM to the launcher: they end with 130 and leave nothing, before any other command has run. That they end is all
// that is asked of their speed here, where several tests share the machine; the slowest is logged.
func stopbuilds(ts *testscript.TestScript, neg bool, args []string) {
	wantArgs(ts, neg, args, 1, "stopbuilds CONTEXT")
	b := &mixedBuild{ts: ts, context: args[0], lasts: map[string]time.Duration{}, hits: map[string]int{}}
	b.measure()
	var slowest time.Duration
	for i := range 2 * stopRounds * len(phases) {
		phase, whom := phases[i%len(phases)].name, []int{0, 1}[i/len(phases)%2]
		output(ts, "rbuild", "prune", "--all", "--force")
		p := b.start(i)
		p.reach(phase)
		time.Sleep(time.Duration(rand.Int64N(int64(b.lasts[phase]) + 1)))
		began := time.Now()
		if whom == 0 {
			_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT)
		} else {
			_ = p.cmd.Process.Signal(syscall.SIGTERM)
		}

		_ = p.wait()
		slowest = max(slowest, time.Since(began))
		if code := p.cmd.ProcessState.ExitCode(); code == 0 {
			b.hits["ended"]++
		} else if code != 130 && code != 128+int(syscall.SIGINT) && code != 128+int(syscall.SIGTERM) || time.Since(began) > patience {
			ts.Fatalf("build %d, interrupted in its %s, ended with %d after %v:\n%s", i, phase, code, time.Since(began), p.log.String())
		}

		storeclean(ts, false, nil)
		b.verify(i)
	}

	ts.Logf("the slowest took %v to end; %d had ended before", slowest.Round(time.Millisecond), b.hits["ended"])
}

// name is that of the image of build i.
func (b *mixedBuild) name(i int) string {
	return fmt.Sprintf("%s/chaos/%s-x%d", b.ts.Getenv("REGISTRY"), b.ts.Getenv("BASE"), i)
}

// arguments are those of build i; each pushes to a place of its own, so that the registry has nothing of it yet.
func (b *mixedBuild) arguments(i int) []string {
	return []string{
		"bud", "--progress=rawjson", "-t", b.name(i), "--push", "--tls-verify=false",
		"--timestamp", "0", "--build-arg", "BASE=" + b.ts.Getenv("REGISTRY") + "/chaos/" + b.ts.Getenv("BASE"), b.context,
	}
}

// measure builds once undisturbed, for the ID of the image and the lengths of the phases.
func (b *mixedBuild) measure() {
	output(b.ts, "rbuild", "prune", "--all", "--force")
	p := b.start(-1)
	began := time.Now()
	for i, phase := range phases[1:] {
		if !p.reach(phase.name) {
			b.ts.Fatalf("phase %s was not seen:\n%s", phase.name, p.log.String())
		}
		b.lasts[phases[i].name] = time.Since(began)
		began = time.Now()
	}

	b.ts.Check(p.wait())
	b.lasts["push"] = time.Since(began)
	b.want = strings.TrimSpace(p.out.String())
	b.ts.Logf("phases: %v", b.lasts)
}

// killOne kills build i in a phase, if it is quick enough.
func (b *mixedBuild) killOne(i int, phase string, whom int) {
	output(b.ts, "rbuild", "prune", "--all", "--force")
	p := b.start(i)
	moment := time.Duration(rand.Int64N(int64(b.lasts[phase]) + 1))
	p.reach(phase)
	p.kill(moment, whom)
	met := "ended"
	if p.wait() != nil {
		met = p.phase
	}
	b.hits[met]++
}

// verify checks what is to hold after build i was killed and one more command has run.
func (b *mixedBuild) verify(i int) {
	fields := strings.Fields(output(b.ts, "rbuild", b.arguments(i)...))
	if len(fields) != 1 || fields[0] != b.want {
		b.ts.Fatalf("build after kill %d made %q, not %s", i, fields, b.want)
	}
	storeclean(b.ts, false, nil)
	if id := strings.TrimSpace(output(b.ts, "podman", "images", "-q", "--no-trunc", b.name(i))); id != "sha256:"+b.want {
		b.ts.Fatalf("podman after kill %d sees %q, not %s", i, id, b.want)
	}
	if i%10 == 0 {
		layertree(b.ts, false, []string{b.name(i)})
	}
}

// runningBuild is a build whose events are read.
type runningBuild struct {
	cmd    *exec.Cmd
	events *bufio.Scanner
	out    strings.Builder
	log    strings.Builder
	phase  string
	pulled bool
}

func (b *mixedBuild) start(i int) *runningBuild {
	p := &runningBuild{cmd: exec.Command(b.ts.Getenv("RBUILD"), b.arguments(i)...), phase: "pull"}
	p.cmd.Env, p.cmd.Dir, p.cmd.Stdout = environ(b.ts), b.ts.MkAbs("."), &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := p.cmd.StderrPipe()
	b.ts.Check(err)
	p.events = bufio.NewScanner(stderr)
	b.ts.Check(p.cmd.Start())
	return p
}

// reach reads events until the phase begins; it says whether it did.
func (p *runningBuild) reach(phase string) bool {
	for p.phase != phase {
		if !p.next() {
			return false
		}
	}
	return true
}

// next reads one event.
func (p *runningBuild) next() bool {
	if !p.events.Scan() {
		return false
	}

	fmt.Fprintln(&p.log, p.events.Text())
	var e struct{ Kind, Instruction, Text string }
	if json.Unmarshal(p.events.Bytes(), &e) != nil {
		return true
	}

	for _, phase := range phases[1:] {
		if e.Kind != phase.kind || !strings.HasPrefix(e.Instruction+e.Text, phase.text) {
			continue
		}
		if e.Kind == "notice" && !p.pulled {
			p.pulled = true
			continue
		}
		p.phase = phase.name
	}

	return true
}

// kill kills after the delay, and reads what came until then.
func (p *runningBuild) kill(delay time.Duration, whom int) {
	time.AfterFunc(delay, func() {
		switch whom {
		case 0:
			_ = p.cmd.Process.Kill()
		case 1:
			for _, pid := range children(p.cmd.Process.Pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		default:
			_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		}
	})

	for p.next() { // until the last process that writes is gone
	}
}

func (p *runningBuild) wait() error {
	for p.next() {
	}
	return p.cmd.Wait()
}

// children lists the processes that pid has started.
func children(pid int) []int {
	var out []int
	lists, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	for _, list := range lists {
		data, _ := os.ReadFile(list)
		for f := range strings.FieldsSeq(string(data)) {
			if n, err := strconv.Atoi(f); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}
