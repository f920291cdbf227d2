package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"codeberg.org/rbuild/rbuild/internal/doctor"
	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/source/git"
	"codeberg.org/rbuild/rbuild/internal/transfer"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// Outside makes the probes that need no namespace, as the user who calls it.
func Outside(ctx context.Context, o Options) []doctor.Finding {
	out := []doctor.Finding{kernel(fdfs.KernelRelease()), confinement(userns.ReadConfinement())}
	out = append(out, places(o)...)
	out = append(out, cgroups(ctx, o.Cgroups), gitProgram(ctx, o.Path), auth(o.Registry))
	out = append(out, configuration(o.Registry)...)
	return append(out, registries(ctx, o)...)
}

// The oldest kernel on which RUN works (package sandbox).
const (
	oldestMajor = 5
	oldestMinor = 12
)

// kernel judges the release of the kernel, for example "6.1.0-13-amd64".
func kernel(release string, err error) doctor.Finding {
	if err != nil {
		return doctor.Finding{
			ID:      doctor.Kernel,
			Status:  doctor.Degraded,
			Summary: "the kernel does not tell its version",
			Detail:  err.Error(),
		}
	}

	f := doctor.Finding{ID: doctor.Kernel, Status: doctor.OK, Summary: "Linux " + release}
	var major, minor int
	n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor)
	if n == 2 && (major < oldestMajor || major == oldestMajor && minor < oldestMinor) {
		f.Status, f.Fix = doctor.Missing, fmt.Sprintf("use Linux %d.%d or newer", oldestMajor, oldestMinor)
	}
	return f
}

// confinement helps to read other findings: no profile or filter in the finding forbids anything by
// itself.
func confinement(c userns.Confinement) doctor.Finding {
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
	return doctor.Finding{ID: doctor.Confinement, Status: doctor.OK, Summary: strings.Join(parts, ", ")}
}

// places looks at the directories that builds write to.
func places(o Options) []doctor.Finding {
	store, out := storeFindings(o)
	temp, err := tempPlace(o.Temp)
	if err != nil || temp.dir != filepath.Clean(o.Temp) {
		summary := fmt.Sprintf("there is no directory %s for temporary files", o.Temp)
		return append(out, noTemp(summary, "set TMPDIR to one that is there"))
	}

	if temp.Dev != store.Dev {
		out = append(out, temp.findings()...)
	}
	if err := tryWriting(o.Temp); err != nil {
		summary := "temporary files cannot be made: " + err.Error()
		out = append(out, noTemp(summary, "set TMPDIR to a directory of your own"))
	}
	return out
}

func noTemp(summary, fix string) doctor.Finding {
	return doctor.Finding{ID: doctor.TempDisk, Status: doctor.Degraded, Summary: summary, Fix: fix}
}

// storeFindings looks at the directory of the store.
func storeFindings(o Options) (store place, out []doctor.Finding) {
	if o.Store == "" {
		return store, []doctor.Finding{storeFinding(o.StoreErr)}
	}

	store, err := storePlace(o.Store)
	if denied, ok := o.denied(err, o.Store); ok {
		return store, []doctor.Finding{denied}
	}
	if err != nil {
		return store, []doctor.Finding{storeFinding(errors.Join(o.StoreErr, err))}
	}

	out = store.findings()
	f := storeFinding(o.StoreErr)
	switch {
	case o.StoreErr != nil:
	case store.ReadOnly:
		f = store.readOnly()
	default:
		f.Summary = fmt.Sprintf("%s on %s", o.Store, store.Kind)
	}
	return store, append(out, f)
}

// storeFinding is the finding for the store's directory, without a summary if err is nil.
func storeFinding(err error) doctor.Finding {
	if err != nil {
		return doctor.FromError(doctor.Store, doctor.Missing, err)
	}
	return doctor.Finding{ID: doctor.Store, Status: doctor.OK}
}

// tryWriting makes a directory in dir and removes the directory.
func tryWriting(dir string) error {
	made, err := os.MkdirTemp(dir, Prefix)
	if err != nil {
		return err
	}
	return os.Remove(made)
}

// tryWritingBelow is tryWriting in dir, or in the next ancestor that exists.
func tryWritingBelow(dir string) error {
	at, err := existing(dir)
	if err != nil {
		return err
	}
	return tryWriting(at)
}

// WithoutRun tries dir, the directory in which builds keep images if they have no namespace. Then
// only Dockerfiles without RUN can be built.
func WithoutRun(dir string) doctor.Finding {
	if err := tryWritingBelow(dir); err != nil {
		return doctor.Finding{
			ID:      doctor.WithoutRun,
			Status:  doctor.Missing,
			Summary: "images cannot be kept in " + dir,
			Detail:  err.Error(),
			Fix: "pass --root with a directory of your own; " +
				"in a pod mount a volume there, and give it to the user with fsGroup",
		}
	}

	summary := "Dockerfiles without RUN are built, in memory; images are kept in " + dir
	return doctor.Finding{ID: doctor.WithoutRun, Status: doctor.OK, Summary: summary}
}

// cgroups makes cgroups as a build has them made, and removes them.
func cgroups(ctx context.Context, o cgroup.Options) doctor.Finding {
	r, err := cgroup.Probe(ctx, o)
	switch {
	case err != nil:
		return noCgroups("RUN gets no cgroup, so that limits are refused: ", err)
	case r.Missing != nil:
		return noCgroups("some limits are refused: ", r.Missing)
	}
	return doctor.Finding{
		ID:     doctor.Cgroup,
		Status: doctor.OK,
		Summary: fmt.Sprintf("RUN gets a cgroup (v%d) by %s, with %s", r.Version, r.Manager,
			strings.Join(r.Controllers, ", ")),
	}
}

// noCgroups is the finding for an error of package cgroup.
func noCgroups(consequence string, err error) doctor.Finding {
	if e, ok := errors.AsType[*cgroup.Error](err); ok && e.Reason == cgroup.Off {
		return doctor.Finding{
			ID:      doctor.Cgroup,
			Status:  doctor.OK,
			Summary: "RUN gets no cgroup: they are switched off",
		}
	}
	f := doctor.FromError(doctor.Cgroup, doctor.Degraded, err)
	f.Summary = consequence + f.Summary
	return f
}

// gitProgram starts git and asks for the version.
func gitProgram(ctx context.Context, path string) doctor.Finding {
	env := []string{"PATH=" + path}
	f := doctor.Finding{ID: doctor.Git, Status: doctor.Degraded, Fix: "run as root: apt-get install git"}
	file, err := git.Find(env)
	if err != nil {
		f.Summary, f.Detail = "git repositories are refused as contexts and in ADD: there is no git", err.Error()
		return f
	}

	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	version, err := git.Version(ctx, env)
	switch {
	case err != nil:
		f.Summary = fmt.Sprintf("git repositories cannot be fetched: %s does not work: %v", file, err)
	case !git.Supported(version):
		f.Summary = fmt.Sprintf("git repositories cannot be fetched: %s is git %s, and %s is needed",
			file, version, git.OldestVersion)
	default:
		return doctor.Finding{ID: doctor.Git, Status: doctor.OK, Summary: fmt.Sprintf("%s, version %s", file, version)}
	}
	return f
}

// configuration reads registries.conf and policy.json as a pull does.
func configuration(o transfer.Options) []doctor.Finding {
	return []doctor.Finding{
		parsed(doctor.RegistriesConf, "registries.conf", transfer.CheckRegistriesConf(o),
			"containers-registries.conf(5)"),
		parsed(doctor.Policy, "policy.json", transfer.CheckPolicy(o), "containers-policy.json(5)"),
	}
}

// parsed is the finding for a configuration file that a pull reads. err is the error of reading the
// file.
func parsed(id doctor.ID, file string, err error, manual string) doctor.Finding {
	if err != nil {
		return doctor.Finding{
			ID:      id,
			Status:  doctor.Degraded,
			Summary: "images cannot be pulled: " + err.Error(),
			Fix:     "correct the file that is named: " + manual,
		}
	}
	return doctor.Finding{ID: id, Status: doctor.OK, Summary: file + " can be read"}
}

// auth reads the user's credentials, and asks the helpers that keep credentials, in bounded time.
func auth(o transfer.Options) doctor.Finding {
	type answer struct {
		names []string
		err   error
	}

	answers := make(chan answer, 1)
	go func() {
		names, err := transfer.Known(o)
		answers <- answer{names, err}
	}()

	f := doctor.Finding{ID: doctor.Auth, Status: doctor.OK}
	select {
	case a := <-answers:
		switch {
		case a.err != nil:
			f.Status = doctor.Degraded
			f.Summary = a.err.Error()
			f.Fix = "fix or remove the file"
		case len(a.names) == 0:
			f.Summary = "no credentials are kept; public images need none"
		default:
			f.Summary = "credentials are kept for " + strings.Join(a.names, ", ")
		}
	case <-time.After(patience):
		f.Status, f.Summary = doctor.Degraded, "a credential helper does not answer"
		f.Fix = "see credHelpers and credsStore in the auth file"
	}
	return f
}

// registries asks the registries that were named, all at once.
func registries(ctx context.Context, o Options) []doctor.Finding {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	out := make([]doctor.Finding, len(o.Registries))
	var all sync.WaitGroup
	for i, host := range o.Registries {
		all.Go(func() { out[i] = checkRegistry(ctx, host, o.Registry) })
	}
	all.Wait()
	return out
}

func checkRegistry(ctx context.Context, host string, o transfer.Options) doctor.Finding {
	f := doctor.Finding{ID: doctor.Registry + doctor.ID(host), Status: doctor.Missing}
	location, user, err := transfer.Check(ctx, host, o)
	switch {
	case errors.Is(err, transfer.ErrUnauthorized):
		f.Summary, f.Fix = fmt.Sprintf("%s does not let in %s", location, user), "rbuild login "+host
		if user == "" {
			f.Summary = location + " asks for credentials, and none are kept for it"
		}
	case errors.Is(err, context.DeadlineExceeded):
		f.Summary = fmt.Sprintf("%s has not answered after %v", host, patience)
		f.Fix = "look at the network, and at the proxy variables of the environment"
	case err != nil:
		f.Summary = err.Error()
		f.Fix = "look at the name, the network and the proxy variables; " +
			"registries.conf can mark it insecure, and certs.d hold its certificate"
	case user == "":
		f.Status = doctor.OK
		f.Summary = location + " answers, without credentials"
	default:
		f.Status = doctor.OK
		f.Summary = location + " answers, as " + user
	}
	return f
}
