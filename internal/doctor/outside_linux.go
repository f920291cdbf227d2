package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"codeberg.org/rbuild/rbuild/internal/source/git"
	"codeberg.org/rbuild/rbuild/internal/transfer"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// patience bounds what waits for others: registries, credential helpers, a trial process.
const patience = 10 * time.Second

// Outside makes the probes that need no namespace, as whoever calls it.
func Outside(ctx context.Context, o Options) []Finding {
	out := []Finding{kernel(), confinement()}
	out = append(out, places(o)...)
	out = append(out, cgroups(ctx, o.Cgroups), gitProgram(ctx, o.Path), auth(o.Registry))
	out = append(out, configuration(o.Registry)...)
	return append(out, registries(ctx, o)...)
}

// The oldest kernel on which RUN works (package sandbox).
const oldestMajor, oldestMinor = 5, 12

func kernel() Finding {
	f := Finding{ID: idKernel, Status: OK}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Finding{ID: idKernel, Status: Degraded, Summary: "the kernel does not tell its version", Detail: err.Error()}
	}

	release := unix.ByteSliceToString(u.Release[:])
	f.Summary = "Linux " + release
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n == 2 && (major < oldestMajor || major == oldestMajor && minor < oldestMinor) {
		f.Status, f.Fix = Missing, fmt.Sprintf("use Linux %d.%d or newer", oldestMajor, oldestMinor)
	}
	return f
}

// confinement is for the reader of other findings: what it names forbids nothing by itself.
func confinement() Finding {
	c := userns.ReadConfinement()
	parts := []string{"no seccomp filter", "no AppArmor profile", "no_new_privs is not set"}
	if c.Seccomp {
		parts[0] = "a seccomp filter"
	}
	if c.AppArmor != "" {
		parts[1] = "the AppArmor profile " + c.AppArmor
	}
	if c.NoNewPrivs {
		parts[2] = "no_new_privs is set"
	}
	return Finding{ID: idConfined, Status: OK, Summary: strings.Join(parts, ", ")}
}

// places looks where builds write to.
func places(o Options) (out []Finding) {
	store := Finding{ID: idStore, Status: OK}
	var kept place
	var err error
	if o.Store != "" {
		if kept, err = storePlace(o.Store); err == nil {
			store.Summary = fmt.Sprintf("%s on %s", o.Store, kept.kind)
			if kept.readOnly {
				store = kept.readOnlyFinding()
			}
			out = append(out, kept.findings()...)
		}
	}

	if denied, ok := o.denied(err, o.Store); ok {
		store = denied
	} else if err = errors.Join(o.StoreErr, err); err != nil {
		store.Status, store.Summary = Missing, err.Error()
	}

	temp, err := tempPlace(o.Temp)
	switch {
	case err != nil || temp.dir != filepath.Clean(o.Temp):
		out = append(out, Finding{ID: idTempDisk, Status: Degraded, Summary: fmt.Sprintf("there is no directory %s for temporary files", o.Temp), Fix: "set TMPDIR to one that is there"})
	case temp.dev != kept.dev:
		out = append(out, temp.findings()...)
	}

	if err == nil && temp.dir == filepath.Clean(o.Temp) {
		if err := tryWriting(o.Temp); err != nil {
			out = append(out, Finding{ID: idTempDisk, Status: Degraded, Summary: "temporary files cannot be made: " + err.Error(), Fix: "set TMPDIR to a directory of your own"})
		}
	}

	return append(out, store)
}

// tryWriting makes a directory in dir and removes it.
func tryWriting(dir string) error {
	made, err := os.MkdirTemp(dir, ProbePrefix)
	if err != nil {
		return err
	}
	return os.Remove(made)
}

// WithoutRun tries where builds keep images if they have no namespace, dir: then Dockerfiles without RUN are all that can be
// built.
func WithoutRun(dir string) Finding {
	f := Finding{ID: idWithoutRun, Status: OK, Summary: "Dockerfiles without RUN are built, in memory; images are kept in " + dir}
	at, err := existing(dir)
	if err == nil {
		err = tryWriting(at)
	}
	if err != nil {
		f.Status, f.Summary, f.Detail = Missing, "images cannot be kept in "+dir, err.Error()
		f.Fix = "pass --root with a directory of your own; in a pod mount a volume there, and give it to the user with fsGroup"
	}
	return f
}

// readOnlyFinding says that the place is on a file system that nobody can write to.
func (p *place) readOnlyFinding() Finding {
	return Finding{
		ID: idStore, Status: Missing, Summary: fmt.Sprintf("the file system of %s is mounted read-only (%s)", p.what, p.dir),
		Fix: "pass --root with a directory of another; in a pod mount a volume there, without readOnly: true",
	}
}

// gitProgram starts git, and asks for its version.
func gitProgram(ctx context.Context, path string) Finding {
	const install = "run as root: apt-get install git"
	env := []string{"PATH=" + path}
	file, err := git.Find(env)
	if err != nil {
		return Finding{idGit, Degraded, "git repositories are refused as contexts and in ADD: there is no git", err.Error(), install}
	}

	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	version, err := git.Version(ctx, env)
	switch {
	case err != nil:
		return Finding{idGit, Degraded, fmt.Sprintf("git repositories cannot be fetched: %s does not work: %v", file, err), "", install}
	case !git.Supported(version):
		return Finding{idGit, Degraded, fmt.Sprintf("git repositories cannot be fetched: %s is git %s, and %s is needed", file, version, git.OldestVersion), "", install}
	}

	return Finding{ID: idGit, Status: OK, Summary: fmt.Sprintf("%s, version %s", file, version)}
}

// configuration reads registries.conf and policy.json as a pull does.
func configuration(o transfer.Options) []Finding {
	names := Finding{ID: idRegConf, Status: OK, Summary: "registries.conf can be read"}
	if err := transfer.CheckRegistriesConf(o); err != nil {
		names.Status, names.Summary = Degraded, "images cannot be pulled: "+err.Error()
		names.Fix = "correct the file that is named: containers-registries.conf(5)"
	}
	policy := Finding{ID: idPolicy, Status: OK, Summary: "policy.json can be read"}
	if err := transfer.CheckPolicy(o); err != nil {
		policy.Status, policy.Summary = Degraded, "images cannot be pulled: "+err.Error()
		policy.Fix = "correct the file that is named: containers-policy.json(5)"
	}
	return []Finding{names, policy}
}

// auth reads the user's credentials, and asks the helpers that keep them, in bounded time.
func auth(o transfer.Options) Finding {
	type answer struct {
		names []string
		err   error
	}

	answers := make(chan answer, 1)
	go func() {
		names, err := transfer.Known(o)
		answers <- answer{names, err}
	}()

	select {
	case a := <-answers:
		switch {
		case a.err != nil:
			return Finding{ID: idAuth, Status: Degraded, Summary: a.err.Error(), Fix: "mend or remove the file"}
		case len(a.names) == 0:
			return Finding{ID: idAuth, Status: OK, Summary: "no credentials are kept; public images need none"}
		}
		return Finding{ID: idAuth, Status: OK, Summary: "credentials are kept for " + strings.Join(a.names, ", ")}
	case <-time.After(patience):
		return Finding{ID: idAuth, Status: Degraded, Summary: "a credential helper does not answer", Fix: "see credHelpers and credsStore in the auth file"}
	}
}

// registries asks those that were named, all at once.
func registries(ctx context.Context, o Options) []Finding {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out := make([]Finding, len(o.Registries))
	var all sync.WaitGroup
	for i, host := range o.Registries {
		all.Go(func() { out[i] = checkRegistry(ctx, host, o.Registry) })
	}
	all.Wait()
	return out
}

func checkRegistry(ctx context.Context, host string, o transfer.Options) Finding {
	f := Finding{ID: idRegistry + host, Status: Missing}
	location, user, err := transfer.Check(ctx, host, o)
	as := "without credentials"
	if user != "" {
		as = "as " + user
	}
	switch {
	case err == nil:
		f.Status, f.Summary = OK, fmt.Sprintf("%s answers, %s", location, as)
	case errors.Is(err, transfer.ErrUnauthorized):
		f.Summary, f.Fix = fmt.Sprintf("%s does not let in %s", location, strings.Replace(as, "as ", "", 1)), "rbuild login "+host
		if user == "" {
			f.Summary = location + " asks for credentials, and none are kept for it"
		}
	case errors.Is(err, context.DeadlineExceeded):
		f.Summary, f.Fix = fmt.Sprintf("%s has not answered after %v", host, patience), "look at the network, and at the proxy variables of the environment"
	default:
		f.Summary, f.Fix = err.Error(), "look at the name, the network and the proxy variables; registries.conf can mark it insecure, and certs.d hold its certificate"
	}

	return f
}
