package rbuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"go.podman.io/storage/pkg/reexec"
	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/dockerfile/plan"
	"codeberg.org/rbuild/rbuild/internal/engine"
	"codeberg.org/rbuild/rbuild/internal/images"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/lookpath"
	"codeberg.org/rbuild/rbuild/internal/progress"
	"codeberg.org/rbuild/rbuild/internal/spec"
	"codeberg.org/rbuild/rbuild/internal/transfer"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// channelVar names the variable that tells the builder the number of its end of the socket.
const channelVar = "_RBUILD_CHANNEL"

// Bounds and defaults.
const (
	maxSecret  = 500 << 10 // bytes, as BuildKit has it
	pidsOfRun  = 2048      // processes of a RUN, podman's default; enforced where that is possible
	exitFailed = 1         // of the builder; the launcher reads the error from the socket
)

// secretPrefix begins the names of variables that only the lookup of the builder knows. No variable of the environment can
// have such a name.
const secretPrefix = "\x00secret="

// spec checks the options and returns the build that they describe.
func (o Options) spec() (*spec.Build, error) {
	b := &spec.Build{}
	b.Input.Context = o.Context
	if o.Context == "" {
		b.Input.Context = "."
	}
	if o.Context == "-" || o.Dockerfile == "-" {
		return nil, errors.New("standard input is not read: give a directory and a path")
	}
	if o.Dockerfile != "" {
		b.Input.Dockerfiles = []string{o.Dockerfile}
	}

	b.Plan.Target = o.Target
	b.Plan.Host = platforms.Normalize(ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH})
	b.Plan.Platform = b.Plan.Host
	if o.Platform != "" {
		p, ok := plan.ParsePlatform(o.Platform, b.Plan.Host)
		if !ok {
			return nil, fmt.Errorf("platform %q: want OS/ARCH[/VARIANT]", o.Platform)
		}
		b.Plan.Platform = p
		b.Plan.PlatformGiven = true
	}

	for name, value := range o.Args {
		if name == "" || strings.Contains(name, "=") {
			return nil, fmt.Errorf("build argument %q: not a name", name)
		}
		b.Arguments.List = append(b.Arguments.List, name+"="+value)
	}
	slices.Sort(b.Arguments.List)
	b.Arguments.Proxies = true

	for _, tag := range o.Tags {
		name, err := images.NormalizeTag(tag)
		if err != nil {
			return nil, fmt.Errorf("tag %q: %w", tag, err)
		}
		b.Image.Names = append(b.Image.Names, name.String())
	}
	if o.Timestamp != nil {
		b.Image.Time = spec.Clock{Epoch: o.Timestamp, Files: spec.SetTimes}
	}

	b.Cache.Off = o.NoCache
	b.Limits.Standing.Pids = pidsOfRun
	policy, err := transfer.ParsePolicy(string(o.Pull))
	if o.Pull != "" && err != nil {
		return nil, fmt.Errorf("pull policy: %w", err)
	}
	if o.Pull != "" {
		b.Pull.Policy = policy
	}
	return b, o.addSecrets(b)
}

func (o Options) addSecrets(b *spec.Build) error {
	for id, value := range o.Secrets {
		if id == "" {
			return errors.New("a secret has an empty ID")
		}
		if len(value) > maxSecret {
			return fmt.Errorf("secret %q has more than %d bytes", id, maxSecret)
		}
		b.Run.Secrets = append(b.Run.Secrets, spec.Secret{ID: id, Variable: secretPrefix + id, From: fmt.Sprintf("secret %q", id)})
	}
	return nil
}

// process returns the process for the engine, without the fields of a launcher or a builder.
func (o Options) process(events func(Event)) engine.Process {
	return engine.Process{
		Env: func(name string) (string, bool) {
			if id, ok := strings.CutPrefix(name, secretPrefix); ok {
				value, ok := o.Secrets[id]
				return string(value), ok
			}
			return os.LookupEnv(name)
		},
		Environ:  os.Environ(),
		Stdin:    os.Stdin,
		Text:     io.Discard,
		Listener: &forwarder{to: events},
		Store:    containers.Options{GraphRoot: o.Store.Root, RunRoot: o.Store.RunRoot},
		Registry: func() transfer.Options {
			var r transfer.Options
			r.AuthFile, _ = os.LookupEnv("REGISTRY_AUTH_FILE")
			r.RegistriesConf, _ = os.LookupEnv("CONTAINERS_REGISTRIES_CONF")
			r.UserAgent = "rbuild"
			return r
		},
		Abandon: func(error) {},
	}
}

// forwarder turns the events of a build into those of this package.
type forwarder struct {
	mu sync.Mutex
	to func(Event)
}

// Event implements progress.Listener.
func (f *forwarder) Event(e progress.Event) {
	out := Event{Kind: EventKind(e.Kind.String()), Text: e.Text, Output: e.Data, Elapsed: e.Elapsed}
	if s := e.Step; s != nil {
		out.Stage = s.Stage
		out.Number = s.Number
		out.Total = s.Total
		out.Text = s.Text
	}
	if e.Err != nil {
		out.Error = e.Err.Error()
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	f.to(out)
}

// request is the first message of the launcher to the builder. Later, the end of the stream means that the build must end.
type request struct{ Options Options }

// message is a message of the builder: an event, or the last message with the result.
type message struct {
	Event  *Event  `json:",omitempty"`
	Result *Result `json:",omitempty"`
	Error  *Error  `json:",omitempty"`
}

// newError returns the public form of an error of the engine.
func newError(err error) *Error {
	e := &Error{Text: progress.Lines(err.Error())}
	e.ExitCode, _ = engine.ExitCode(err)
	if source, ok := errors.AsType[*engine.SourceError](err); ok {
		e.FirstLine = source.First
		e.Lines = source.Lines
	}
	return e
}

func newResult(r engine.Result) Result {
	return Result{Image: Image{ID: r.ID, Digest: r.Manifest.String(), Names: r.Names}}
}

// launch builds in a builder, or in this process if no user namespace can be made.
func launch(ctx context.Context, o Options, s *spec.Build) (Result, error) {
	events := o.Events
	if events == nil {
		events = func(Event) {}
	}
	ours, theirs, err := socketpair()
	if err != nil {
		return Result{}, fmt.Errorf("rbuild: %w", err)
	}
	defer theirs.Close()

	stop := context.AfterFunc(ctx, func() { _ = unix.Shutdown(int(ours.Fd()), unix.SHUT_WR) })
	defer stop()
	go func() { _ = json.NewEncoder(ours).Encode(request{o}) }() // fails only if the builder has ended
	received := make(chan message, 1)
	go func() { received <- receive(ours, events) }()

	p := o.process(events)
	p.BuilderFiles = []*os.File{theirs}
	p.BuilderEnv = []string{channelVar + "=" + strconv.Itoa(int(theirs.Fd()))}
	e := engine.New(p)
	built, err := e.Build(ctx, s)

	_ = unix.Shutdown(int(theirs.Fd()), unix.SHUT_RDWR) // ends receive where no builder was started
	last := <-received
	_ = ours.Close()
	switch {
	case last.Error != nil:
		return Result{}, last.Error
	case last.Result != nil:
		return *last.Result, nil
	case err != nil:
		return Result{}, newError(err)
	case built.ID == "":
		return Result{}, &Error{Text: fmt.Sprintf("the builder ended without a result, with exit code %d", e.ExitCode)}
	}
	return newResult(built), nil // without a namespace
}

// receive calls events for each event, and returns the last message. It is empty if the builder has sent none.
func receive(r io.Reader, events func(Event)) message {
	dec := json.NewDecoder(r)
	for {
		var m message
		if err := dec.Decode(&m); err != nil {
			return message{}
		}
		if m.Event == nil {
			return m
		}
		events(*m.Event)
	}
}

func socketpair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "launcher"), os.NewFile(uintptr(fds[1]), "builder"), nil
}

// runHelper runs a function of the storage library and exits, if this process was started for that: the library unpacks
// layers in a chroot, in a process of its own.
func runHelper() {
	if reexec.Init() {
		os.Exit(0)
	}
}

// isBuilder reports whether this process was started as a builder.
func isBuilder() bool {
	_, ok := os.LookupEnv(channelVar)
	return ok
}

// serve is the builder: it reads a request, builds, and exits.
func serve() {
	number := os.Getenv(channelVar)
	_ = os.Unsetenv(channelVar) // not for programs that the build starts
	state, err := userns.Join()
	fd, convErr := strconv.Atoi(number)
	if err != nil || convErr != nil || state == nil {
		os.Exit(exitFailed) // the launcher reports that the builder did not join
	}
	unix.CloseOnExec(fd)
	channel := os.NewFile(uintptr(fd), "launcher")

	send := newSender(channel)
	log.SetOutput(io.Discard) // x/crypto's SSH agent would let a step write lines to the program's standard error
	logrus.SetOutput(warner{send})
	logrus.SetFormatter(plainFormatter{})
	result, err := work(channel, state, send)
	if err != nil {
		send(message{Error: newError(err)})
		os.Exit(exitFailed)
	}
	send(message{Result: &result})
	os.Exit(0)
}

// newSender returns a function that sends a message. It is safe for concurrent use.
func newSender(w io.Writer) func(message) {
	var mu sync.Mutex
	enc := json.NewEncoder(w)
	return func(m message) {
		mu.Lock()
		defer mu.Unlock()
		_ = enc.Encode(m) // fails only if the launcher has ended, which ends this process
	}
}

// work reads the request and builds.
func work(channel io.Reader, state *userns.State, send func(message)) (Result, error) {
	var r request
	dec := json.NewDecoder(channel)
	if err := dec.Decode(&r); err != nil {
		return Result{}, fmt.Errorf("reading the options: %w", err)
	}
	s, err := r.Options.spec()
	if err != nil {
		return Result{}, err
	}
	if path, ok := os.LookupEnv("PATH"); ok {
		if err := os.Setenv("PATH", lookpath.Clean(path)); err != nil {
			return Result{}, err
		}
	}

	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, channel)
		cancel() // the launcher has closed the stream
	}()

	p := r.Options.process(func(e Event) { send(message{Event: &e}) })
	p.State = state
	p.Abandon = func(err error) {
		send(message{Error: newError(err)})
		os.Exit(exitFailed)
	}
	e := engine.New(p)
	if err := e.LeaveHome(); err != nil {
		return Result{}, err
	}
	built, err := e.Build(ctx, s)
	if err != nil {
		return Result{}, err
	}
	return newResult(built), nil
}

// warner sends log lines of libraries as warnings.
type warner struct{ send func(message) }

func (w warner) Write(line []byte) (int, error) {
	w.send(message{Event: &Event{Kind: Warning, Text: progress.Line(strings.TrimSuffix(string(line), "\n"))}})
	return len(line), nil
}

// plainFormatter writes the message of a log entry alone.
type plainFormatter struct{}

// Format implements logrus.Formatter.
func (plainFormatter) Format(e *logrus.Entry) ([]byte, error) { return []byte(e.Message + "\n"), nil }
