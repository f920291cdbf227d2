package transfer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/docker/config"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"
)

// ErrUnauthorized is the error of [Check] if a registry answers and refuses the user's credentials.
var ErrUnauthorized = errors.New("the registry asks for other credentials")

// Check asks a registry whether it answers and accepts the known credentials, as a pull does: first
// the mirrors of registries.conf, then the location; the first host that answers counts. host is
// HOST[:PORT], for example "localhost:5000". Check returns the host that answered, and the user
// name; "": no credentials are known. Credentials are sent only to the host for which they are
// kept. Check stops when ctx ends.
func Check(ctx context.Context, host string, o Options) (location, user string, err error) {
	ref, err := docker.ParseReference("//" + host + "/library/image:tag")
	if err != nil || reference.Domain(ref.DockerReference()) != host {
		return "", "", fmt.Errorf("%q is no registry: want HOST[:PORT]", host)
	}

	sys, err := o.systemContext()
	if err != nil {
		return "", "", err
	}
	if sys, err = o.Sources.admit(sys, ref); err != nil {
		return "", "", err
	}

	sources, err := pullSources(sys, ref.DockerReference())
	if err != nil {
		return "", "", err
	}

	var errs []error
	for _, s := range sources {
		location = reference.Domain(s.Reference)
		to := *sys
		if location != host { // as the library does in a pull
			to.DockerAuthConfig = nil
		}
		if user, err = checkOne(ctx, to, location, s.Endpoint.Insecure, o); err == nil {
			return location, user, nil
		}
		errs = append(errs, err)
	}

	return location, user, errors.Join(errs...)
}

// pullSources returns the places from which the library would pull a reference, in order.
func pullSources(sys *types.SystemContext, ref reference.Named) ([]sysregistriesv2.PullSource, error) {
	reg, err := sysregistriesv2.FindRegistry(sys, ref.Name())
	if err != nil {
		return nil, fmt.Errorf("reading registries.conf: %w", err)
	}
	if reg == nil {
		return []sysregistriesv2.PullSource{{Reference: ref}}, nil
	}
	if reg.Blocked {
		return nil, fmt.Errorf("registries.conf blocks the registry %s", reg.Prefix)
	}
	return reg.PullSourcesFromReference(ref)
}

// checkOne asks a host. user is the name of the known credentials; "": none are known.
func checkOne(ctx context.Context, sys types.SystemContext, host string, insecure bool, o Options) (user string, err error) {
	if sys.DockerInsecureSkipTLSVerify == types.OptionalBoolUndefined {
		sys.DockerInsecureSkipTLSVerify = types.NewOptionalBool(insecure)
	}
	known, err := config.GetCredentials(&sys, host)
	if err != nil {
		return "", fmt.Errorf("reading the credentials for %s: %w", host, err)
	}

	err = o.watched(ctx, func(ctx context.Context, _ chan types.ProgressProperties) error {
		return docker.CheckAuth(ctx, &sys, known.Username, known.Password, host)
	})
	if _, ok := errors.AsType[docker.ErrUnauthorizedForCredentials](err); ok {
		err = ErrUnauthorized
	}
	return known.Username, err
}

// Known lists the registries, and paths in registries, for which credentials are kept, sorted.
// Example: "quay.io/team".
func Known(o Options) ([]string, error) {
	sys, err := o.systemContext()
	if err != nil {
		return nil, err
	}
	all, err := config.GetAllCredentials(sys)
	if err != nil {
		return nil, fmt.Errorf("reading the credentials: %w", err)
	}
	return slices.Sorted(maps.Keys(all)), nil
}

// CheckRegistriesConf reads registries.conf and the files of registries.conf.d as a pull does. The
// error names the file. A missing file is accepted.
func CheckRegistriesConf(o Options) error {
	sys, err := o.systemContext()
	if err != nil {
		return err
	}
	if _, err := sysregistriesv2.GetRegistries(sys); err != nil {
		return fmt.Errorf("reading registries.conf: %w", err)
	}
	return nil
}

// CheckPolicy reads policy.json as a pull does. The error names the file. A missing file is
// accepted.
func CheckPolicy(o Options) error {
	sys, err := o.systemContext()
	if err != nil {
		return err
	}
	policy, err := policyContext(sys)
	if err != nil {
		return err
	}
	return policy.Destroy()
}
