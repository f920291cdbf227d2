// Package doctor holds the report on things that a host lacks for builds, with remedies.
//
// The report is a list of findings, each the result of a trial:
//
//	report := doctor.NewReport(mode, findings)
//	err := report.Write(os.Stdout) // or json.Marshal(report)
//
// A finding is made from an error with a cause and a remedy (package remedy), see [FromError]. So a
// failing build and the doctor say the same. The trials are in package probe; this package touches
// neither files nor the kernel.
package doctor

import (
	"slices"
	"strings"

	"codeberg.org/rbuild/rbuild/internal/remedy"
	"codeberg.org/rbuild/rbuild/pkg/userns"
)

// Status says how well something works.
type Status string

// The statuses.
const (
	OK       Status = "ok"
	Degraded Status = "degraded" // builds work, but something does not work, or works with restrictions
	Missing  Status = "missing"  // RUN cannot work; of a registry: the registry cannot be used
)

// ID names the thing that was tried. IDs are stable; docs/doctor.md lists them.
type ID string

// The IDs. The ID of a registry is Registry followed by the host, for example "registry:quay.io".
const (
	Kernel         ID = "kernel"
	Userns         ID = "userns"
	IDMap          ID = "idmap"
	Confinement    ID = "confinement"
	Store          ID = "store"
	StoreDisk      ID = "store-disk"
	StoreInodes    ID = "store-inodes"
	TempDisk       ID = "tmp-disk"
	TempInodes     ID = "tmp-inodes"
	Overlay        ID = "overlay"
	Sandbox        ID = "sandbox"
	PivotRoot      ID = "pivot-root"
	Proc           ID = "proc"
	WithoutRun     ID = "without-run"
	PIDNamespace   ID = "pid-namespace"
	Cgroup         ID = "cgroup"
	Network        ID = "network"
	Emulators      ID = "emulators"
	Git            ID = "git"
	Auth           ID = "auth"
	RegistriesConf ID = "registries-conf"
	Policy         ID = "policy"
	Registry       ID = "registry:"
)

// order returns the IDs in the order of a report. Registries follow.
func order() []ID {
	return []ID{
		Kernel, Confinement, Userns, IDMap, WithoutRun, PIDNamespace, Store, StoreDisk, StoreInodes, TempDisk,
		TempInodes, Overlay, Sandbox, PivotRoot, Proc, Cgroup, Network, Emulators, Git, Auth, RegistriesConf, Policy,
	}
}

// Finding is the result of one trial.
type Finding struct {
	ID      ID     `json:"id"`
	Status  Status `json:"status"`
	Summary string `json:"summary"`          // one line
	Detail  string `json:"detail,omitempty"` // the system's own error, or other details; not printed by Write
	Fix     string `json:"fix,omitempty"`    // the command or the field of a pod that helps
}

// FromError is the finding for a trial that failed with err: with the cause and the remedy of err,
// if err has them.
func FromError(id ID, status Status, err error) Finding {
	e, ok := remedy.Of(err)
	if !ok {
		return Finding{ID: id, Status: status, Summary: err.Error()}
	}

	f := Finding{ID: id, Status: status, Summary: e.Why, Fix: e.Do}
	if e.Err != nil {
		f.Detail = e.Err.Error()
	}
	return f
}

// Report is everything that was found.
type Report struct {
	Mode     userns.Mode `json:"mode"` // how builds become root, or None
	Run      bool        `json:"run"`  // RUN works
	Findings []Finding   `json:"findings"`
}

// NewReport puts the findings in order. The mode None is that of a host where no namespace could be
// made.
func NewReport(mode userns.Mode, findings []Finding) Report {
	known := order()
	place := func(f Finding) int {
		if i := slices.Index(known, f.ID); i >= 0 {
			return i
		}
		return len(known)
	}

	sorted := slices.Clone(findings)
	slices.SortStableFunc(sorted, func(a, b Finding) int { return place(a) - place(b) })

	prevents := func(f Finding) bool {
		return f.Status == Missing && !strings.HasPrefix(string(f.ID), string(Registry))
	}
	return Report{Mode: mode, Findings: sorted, Run: !slices.ContainsFunc(sorted, prevents)}
}

// Healthy reports whether RUN works and all registries that were asked can be used.
func (r Report) Healthy() bool { return r.count(Missing) == 0 }

func (r Report) count(s Status) (n int) {
	for _, f := range r.Findings {
		if f.Status == s {
			n++
		}
	}
	return n
}
