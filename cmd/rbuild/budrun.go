package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"codeberg.org/rbuild/rbuild/pkg/build"
	"codeberg.org/rbuild/rbuild/pkg/instructions"
	"codeberg.org/rbuild/rbuild/pkg/plan"
	"codeberg.org/rbuild/rbuild/pkg/progress"
	"codeberg.org/rbuild/rbuild/pkg/registry"
	"codeberg.org/rbuild/rbuild/pkg/store"
)

// progressModes are the values of --progress.
var progressModes = []string{"auto", "plain", "tty", "quiet", "rawjson"}

// listener is where progress goes: by default a live view on a terminal, and lines elsewhere. finish restores the
// terminal; it may be called more than once.
func listener(mode string, quiet bool) (l progress.Listener, finish func() error) {
	none := func() error { return nil }
	terminal := progress.IsTerminal(os.Stderr) && os.Getenv("TERM") != "dumb"
	switch {
	case quiet || mode == "quiet":
		return progress.Quiet(os.Stderr), none
	case mode == "rawjson":
		return progress.JSON(os.Stderr), none
	case mode == "tty" || mode == "auto" && terminal:
		t := progress.Terminal(os.Stderr, progress.TerminalOptions{NoColor: os.Getenv("NO_COLOR") != ""})
		return t, sync.OnceValue(t.Close)
	}
	return progress.Plain(os.Stderr), none
}

// plan parses the Dockerfile and says what is to be done.
func (f *budFlags) plan(in *input, o build.Options, show progress.Listener) (*plan.Plan, error) {
	file, err := instructions.Parse(in.name, in.text)
	if err != nil {
		return nil, err
	}
	for _, w := range file.Warnings {
		show.Event(progress.Event{Kind: progress.Warning, Text: fmt.Sprintf("%s:%d: %s", file.Name, w.Line, w.Msg)})
	}
	args, err := buildArgs(f.buildArgs, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	addProxies(args)
	p, err := plan.New(file, plan.Options{Target: f.target, BuildArgs: args, Platform: o.Platform})
	if err != nil {
		return nil, err
	}
	for _, name := range p.Unused {
		show.Event(progress.Event{Kind: progress.Warning, Text: fmt.Sprintf("build argument %s: no ARG declares it", name)})
	}
	return p, nil
}

// addProxies passes the proxy variables of the environment on, as docker and buildah do. They reach the environment of
// RUN, and neither image nor key.
func addProxies(args map[string]string) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"} {
		value, ok := os.LookupEnv(name)
		if _, given := args[name]; ok && !given {
			args[name] = value
		}
	}
}

// puller pulls the images that a build needs.
func (a *app) puller(st *store.Store, f budFlags, show progress.Listener) func(context.Context, string) (string, error) {
	return func(ctx context.Context, name string) (string, error) {
		o, err := f.access.apply(a.sys())
		if err != nil {
			return "", err
		}
		if !f.quiet {
			o.Report = notices{show}
		}
		policy, err := parsePull(f.pull)
		if err != nil {
			return "", err
		}
		if registry.HasTransport(name) && !strings.HasPrefix(name, "docker://") {
			return "", fmt.Errorf("%s: an image in a Dockerfile is a name; pull it first with rbuild pull, and use the name", name)
		}
		id, _, err := registry.Pull(ctx, st.Storage(), name, policy, o)
		return id, err
	}
}

// notices makes lines of text events.
type notices struct{ to progress.Listener }

func (n notices) Write(p []byte) (int, error) {
	n.to.Event(progress.Event{Kind: progress.Notice, Text: strings.TrimRight(string(p), "\n")})
	return len(p), nil
}

// accessFlags are the flags for reaching a registry, the same with every command that does.
type accessFlags struct {
	authfile  string
	certDir   string
	creds     string
	tlsVerify bool
	flags     *pflag.FlagSet
}

func (f *accessFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.authfile, "authfile", "", "file with credentials for registries (default: $REGISTRY_AUTH_FILE, then podman's and docker's)")
	fs.StringVar(&f.certDir, "cert-dir", "", "directory with certificates for the registry")
	fs.StringVar(&f.creds, "creds", "", "USER:PASSWORD for the registry")
	fs.BoolVar(&f.tlsVerify, "tls-verify", true, "require TLS, with a certificate that can be verified")
	f.flags = fs
}

// apply adds what the flags say to how registries are reached.
func (f *accessFlags) apply(o registry.Options) (registry.Options, error) {
	if f.authfile != "" {
		if _, err := os.Stat(f.authfile); err != nil {
			return o, fmt.Errorf("--authfile: %w", err)
		}
		o.AuthFile = f.authfile
	}
	o.CertDir, o.Creds = f.certDir, f.creds
	if f.flags.Changed("tls-verify") {
		o.TLSVerify = &f.tlsVerify
	}
	return o, nil
}
