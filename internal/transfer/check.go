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

// ErrUnauthorized is the error of [Check] where a registry is there and does not let the user in.
var ErrUnauthorized = errors.New("the registry asks for other credentials")

// Check asks a registry whether it is there and takes the credentials that are known for it, as a pull from it would:
// its mirrors and its location of registries.conf come first, in this order, and the first that answers counts. host is
// HOST[:PORT]. It returns what was asked, and the user name; empty: nobody's. No credentials go to another host than the
// one that they are kept for. ctx bounds it.
func Check(ctx context.Context, host string, o Options) (location, user string, err error) {
	ref, err := docker.ParseReference("//" + host + "/library/image:tag")
	if err != nil || reference.Domain(ref.DockerReference()) != host {
		return "", "", fmt.Errorf("%q is no registry: want HOST[:PORT]", host)
	}

	sys, err := o.systemContext()
	if err == nil {
		sys, err = o.Sources.admit(sys, ref)
	}
	if err != nil {
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
		if location != host { // as the library does, when it pulls
			to.DockerAuthConfig = nil
		}
		if user, err = checkOne(ctx, to, location, s.Endpoint.Insecure, o); err == nil {
			return location, user, nil
		}
		errs = append(errs, err)
	}

	return location, user, errors.Join(errs...)
}

// pullSources are the places from which the library would pull a reference.
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

// checkOne asks one host.
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

// Known lists the registries, and the paths below them, for which credentials are kept, in order.
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

// CheckRegistriesConf reads registries.conf and the files of registries.conf.d as a pull does. The error names the file. It is
// no error if there is none.
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

// CheckPolicy reads policy.json as a pull does. The error names the file. It is no error if there is none.
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
