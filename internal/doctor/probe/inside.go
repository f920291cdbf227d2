package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/doctor"
	"codeberg.org/rbuild/rbuild/internal/images/containers"
	"codeberg.org/rbuild/rbuild/internal/kernel/binfmt"
	"codeberg.org/rbuild/rbuild/internal/kernel/fdfs"
	"codeberg.org/rbuild/rbuild/internal/remedy"
	"codeberg.org/rbuild/rbuild/pkg/overlay"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// Inside makes the probes of the builder, in the namespaces of the builder.
func Inside(ctx context.Context, state *userns.State, o Options) []doctor.Finding {
	out := namespaces(state)
	out = append(out, overlays(o)...)
	tried, dir := trials(ctx, o)
	out = append(out, tried...)
	if dir == "" {
		return out
	}
	return append(out, network(ctx, o, dir), emulators(ctx, o))
}

// namespaces describes the namespaces of the builder.
func namespaces(state *userns.State) []doctor.Finding {
	out := []doctor.Finding{{ID: doctor.Userns, Status: doctor.OK, Summary: usernsSummary(state.Mode)}}
	if state.Mode != userns.Single { // Refused says why there is a single id
		out = append(out, idMap(state))
	}
	if !state.PIDNamespace {
		out = append(out, doctor.Finding{
			ID: doctor.PIDNamespace, Status: doctor.Degraded, Summary: "the builder has no PID namespace of its own",
			Detail: strings.Join(state.Warnings, "\n"),
			Fix:    "in a pod set procMount: Unmasked with hostUsers: false",
		})
	}
	return out
}

func usernsSummary(m userns.Mode) string {
	switch m {
	case userns.Root:
		return "not needed by root of the machine"
	case userns.Identity:
		return "the one in which rbuild was started is used as it is"
	case userns.Direct, userns.Helper, userns.Single:
	}
	return "the builder has a user namespace of its own"
}

// idMap says which IDs there are.
func idMap(state *userns.State) doctor.Finding {
	f := doctor.Finding{ID: doctor.IDMap, Status: doctor.OK}
	f.Summary = fmt.Sprintf("%d user ids and %d group ids", count(state.UIDMap), count(state.GIDMap))
	switch state.Mode {
	case userns.Helper:
		f.Summary += ", mapped by newuidmap and newgidmap"
	case userns.Direct:
		f.Summary += ", mapped by root itself"
	case userns.Root:
		f.Summary = "all ids of the machine"
	case userns.Identity, userns.Single:
	}
	return f
}

// count returns the number of IDs of a map.
func count(m []userns.IDMap) (n uint64) {
	for _, e := range m {
		n += uint64(e.Size)
	}
	return n
}

// Refused is the finding that no namespace, or no namespace with enough IDs, could be made. err is
// the error of userns.Enter without Options.AllowSingle. The status is Degraded if builds may go on
// with a single ID.
func Refused(err error) doctor.Finding {
	f := doctor.FromError(doctor.Userns, doctor.Missing, err)
	if e, ok := errors.AsType[*userns.Error](err); ok && e.Reason.AboutIDs() {
		f.ID, f.Status = doctor.IDMap, doctor.Degraded
	}
	return f
}

// overlays tries an overlay on the file system of the store.
func overlays(o Options) []doctor.Finding {
	if o.Store == "" {
		return nil
	}

	dir, err := existing(o.Store)
	if err != nil {
		return []doctor.Finding{o.untried(doctor.Overlay, err)}
	}
	if err := overlay.Probe(dir, o.Trusted); err != nil {
		return []doctor.Finding{o.untried(doctor.Overlay, err)}
	}

	if file, text := containers.Refusal(o.RunRoot); file != "" {
		return []doctor.Finding{{
			ID:     doctor.Overlay,
			Status: doctor.Missing,
			Detail: text,
			Fix:    "rm " + file,
			Summary: "overlays work on the store's file system, " +
				"but the storage library remembers that once they did not",
		}}
	}
	return []doctor.Finding{{
		ID:      doctor.Overlay,
		Status:  doctor.OK,
		Summary: "overlays work on the store's file system",
	}}
}

// untried is the finding for a trial that failed with err. A cause for which Outside has a finding
// is not repeated.
func (o Options) untried(id doctor.ID, err error) doctor.Finding {
	dir, existErr := existing(o.Store)
	f, ok := o.cause(err)
	if !ok && existErr == nil {
		f, ok = o.denied(err, dir)
	}
	if !ok {
		return doctor.Finding{ID: id, Status: doctor.Missing, Summary: err.Error()}
	}

	// Outside tries the store's own directory only.
	deniedHere := f.ID == doctor.Store && existErr == nil && !says(err, fdfs.EROFS)
	places := []doctor.ID{doctor.StoreDisk, doctor.StoreInodes, doctor.TempDisk, doctor.TempInodes, doctor.Store}
	if !deniedHere && slices.Contains(places, f.ID) {
		return untriedBecause(id, f.ID, err)
	}

	f.ID = id
	return f
}

// untriedBecause is the finding for a trial that failed for a reason that the finding cause
// explains.
func untriedBecause(id, cause doctor.ID, err error) doctor.Finding {
	return doctor.Finding{
		ID:      id,
		Status:  doctor.Missing,
		Summary: "could not be tried: see " + string(cause),
		Detail:  err.Error(),
	}
}

// emulators tries the programs of every architecture.
func emulators(ctx context.Context, o Options) doctor.Finding {
	dir, err := existing(o.Temp)
	if err != nil {
		return doctor.Finding{
			ID:      doctor.Emulators,
			Status:  doctor.Degraded,
			Summary: "could not be tried: " + err.Error(),
		}
	}

	e := binfmt.New(o.Path)
	var can, cannot []string
	var why *remedy.Error
	for _, architecture := range binfmt.Architectures() {
		err := e.Ensure(ctx, architecture, dir)
		failed, ok := errors.AsType[*remedy.Error](err)
		switch {
		case err == nil:
			can = append(can, architecture)
		case ok:
			cannot = append(cannot, architecture)
			why = failed
		}
	}

	if err := e.Close(); err != nil || len(cannot)+len(can) == 0 {
		return doctor.Finding{
			ID:      doctor.Emulators,
			Status:  doctor.Degraded,
			Summary: "programs of other architectures could not be tried",
		}
	}

	f := doctor.Finding{
		ID:      doctor.Emulators,
		Status:  doctor.OK,
		Summary: "RUN executes programs of " + strings.Join(can, ", "),
	}
	if len(cannot) > 0 {
		f.Status = doctor.Degraded
		f.Detail = why.Error()
		f.Fix = why.Do
		f.Summary += ", not of " + strings.Join(cannot, ", ")
	}
	return f
}
