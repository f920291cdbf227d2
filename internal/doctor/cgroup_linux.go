package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
)

// cgroups makes cgroups by whom a build would have them made, and removes them.
func cgroups(ctx context.Context, o cgroup.Options) Finding {
	r, err := cgroup.Probe(ctx, o)
	switch {
	case err != nil:
		return noCgroups("RUN gets no cgroup, so that limits are refused: ", err)
	case r.Missing != nil:
		return noCgroups("some limits are refused: ", r.Missing)
	}
	return Finding{
		ID: idCgroup, Status: OK,
		Summary: fmt.Sprintf("RUN gets a cgroup (v%d) by %s, with %s", r.Version, r.Manager, strings.Join(r.Controllers, ", ")),
	}
}

// noCgroups is the finding for what package cgroup says.
func noCgroups(what string, err error) Finding {
	f := Finding{ID: idCgroup, Status: Degraded, Summary: what + err.Error()}
	e, ok := errors.AsType[*cgroup.Error](err)
	if !ok {
		return f
	}
	if e.Reason == cgroup.Off {
		return Finding{ID: idCgroup, Status: OK, Summary: "RUN gets no cgroup: they are switched off"}
	}

	f.Summary, f.Fix = what+e.Detail, e.Fix
	if e.Err != nil {
		f.Detail = e.Err.Error()
	}
	return f
}
