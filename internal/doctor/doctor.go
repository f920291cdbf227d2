// Package doctor finds out what a host lacks for builds, and what mends it.
//
// It probes by doing what a build does, and reads configuration only to explain a refusal. There are two parts, because a
// build has two: [Outside] is run as the user, [Inside] as root of the user namespace of the builder (see pkg/userns),
// which [Refused] stands in for where there is none:
//
//	findings := doctor.Outside(ctx, o)       // launcher
//	code, err := userns.Enter(...)           // the builder: doctor.Report(mode, append(findings, doctor.Inside(ctx, state, o)...))
//	if err != nil { findings = append(findings, doctor.Refused(err)) }
//
// The findings of a probe and the hint of a failing build come from the same place: [Explain] adds to the error of a build
// what is found at that moment.
//
// What it leaves alone: it does not open the store, makes no directory that stays, changes no setting, and asks registries
// only that are named to it. For the trials it makes a directory in the store, or where the store would be made, and
// removes it.
package doctor

import (
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/transfer"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// ProbePrefix begins the names of the directories in which trials are made.
const ProbePrefix = "doctor-probe-"

// Status is how well something works.
type Status string

// The statuses.
const (
	OK       Status = "ok"
	Degraded Status = "degraded" // builds work; something about them does not, or works in a lesser way
	Missing  Status = "missing"  // RUN cannot work; of a registry: it cannot be used
)

// Finding is what came out of one probe.
type Finding struct {
	ID      string `json:"id"` // stable; docs/doctor.md lists them
	Status  Status `json:"status"`
	Summary string `json:"summary"`          // one line
	Detail  string `json:"detail,omitempty"` // what else is known, such as the system's error
	Fix     string `json:"fix,omitempty"`    // the command or the pod field that mends it
}

// The findings' ids. Those of registries are followed by the name.
const (
	idKernel      = "kernel"
	idUserns      = "userns"
	idIDMap       = "idmap"
	idConfined    = "confinement"
	idStore       = "store"
	idStoreDisk   = "store-disk"
	idStoreInodes = "store-inodes"
	idTempDisk    = "tmp-disk"
	idTempInodes  = "tmp-inodes"
	idOverlay     = "overlay"
	idSandbox     = "sandbox"
	idPivot       = "pivot-root"
	idProc        = "proc"
	idWithoutRun  = "without-run"
	idPIDs        = "pid-namespace"
	idCgroup      = "cgroup"
	idNetwork     = "network"
	idEmulators   = "emulators"
	idGit         = "git"
	idAuth        = "auth"
	idRegConf     = "registries-conf"
	idPolicy      = "policy"
	idRegistry    = "registry:"
)

// order is that of a report.
func order() []string {
	return []string{
		idKernel, idConfined, idUserns, idIDMap, idWithoutRun, idPIDs, idStore, idStoreDisk, idStoreInodes, idTempDisk, idTempInodes, idOverlay,
		idSandbox, idPivot, idProc, idCgroup, idNetwork, idEmulators, idGit, idAuth, idRegConf, idPolicy,
	}
}

// Report is all that was found.
type Report struct {
	Mode     userns.Mode `json:"mode"` // how builds become root; empty: they cannot
	Run      bool        `json:"run"`  // RUN works
	Findings []Finding   `json:"findings"`
}

// NewReport puts findings in order. An empty mode is that of a host where no namespace could be made.
func NewReport(mode userns.Mode, findings []Finding) Report {
	known := order()
	findings = slices.Clone(findings)
	place := func(f Finding) int {
		if i := slices.Index(known, f.ID); i >= 0 {
			return i
		}
		return len(known)
	}

	slices.SortStableFunc(findings, func(a, b Finding) int { return place(a) - place(b) })
	return Report{Mode: mode, Findings: findings, Run: !slices.ContainsFunc(findings, func(f Finding) bool {
		return f.Status == Missing && !strings.HasPrefix(f.ID, idRegistry)
	})}
}

// Healthy tells whether RUN works and the registries that were asked can be used.
func (r Report) Healthy() bool { return r.count(Missing) == 0 }

func (r Report) count(s Status) (n int) {
	for _, f := range r.Findings {
		if f.Status == s {
			n++
		}
	}
	return n
}

// Options says what is looked at.
type Options struct {
	Store      string           // directory of images and layers; empty: not known
	RunRoot    string           // directory of the store's run-time state
	StoreErr   error            // why it is not known, or cannot be used
	Temp       string           // directory of temporary files
	Path       string           // directories of programs, as in PATH
	Registries []string         // HOST[:PORT] of those that are asked
	Registry   transfer.Options // how registries are reached
	Cgroups    cgroup.Options   // who makes cgroups
	Trusted    bool             // real root: overlayfs marks in trusted.*
}
