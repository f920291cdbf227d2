// Package probe finds out which things a host lacks for builds, by trying the operations of a
// build.
//
// A build has two parts, and so have the probes: [Outside] runs as the user, in the launcher;
// [Inside] runs as root of the user namespace, in the builder (package userns). Where no namespace
// can be made, [Refused] stands in for Inside:
//
//	findings := probe.Outside(ctx, o)                              // launcher
//	code, err := userns.Enter(...)                                 // the builder calls probe.Inside
//	if err != nil { findings = append(findings, probe.Refused(err)) }
//	report := doctor.NewReport(doctor.None, findings)
//
// Configuration is read only to explain a refusal. [Explain] adds the same findings to the error of
// a build that fails.
//
// The probes do not open the store, leave no directory behind, change no setting, and ask only the
// registries that are named. For the trials they make a directory in the store, or where the store
// would be made, and in the directory of temporary files, and remove the directory.
package probe

import (
	"time"

	"codeberg.org/rbuild/rbuild/internal/kernel/cgroup"
	"codeberg.org/rbuild/rbuild/internal/transfer"
)

// Prefix begins the names of the directories in which trials are made.
const Prefix = "doctor-probe-"

// patience bounds a wait for others: registries, credential helpers, git, a trial process.
const patience = 10 * time.Second

// Options select the trials.
type Options struct {
	Store    string // directory of images and layers; empty: not known
	RunRoot  string // directory of the store's run-time state
	StoreErr error  // why the store is not known, or cannot be used

	Temp string // directory of temporary files
	Path string // directories of programs, as in PATH

	Registries []string         // hosts to ask, each HOST[:PORT]
	Registry   transfer.Options // how registries are reached
	Cgroups    cgroup.Options   // who makes cgroups
	Trusted    bool             // real root: overlayfs keeps marks in the attributes trusted.*
}
