package cache

import "crypto/rand"

// salt changes whenever the same Key would give another result than before.
const salt = "rbuild step cache, version 4"

// namePrefix marks the names of layers that are IDs.
const namePrefix = "rbuild-cache-"

// ID identifies the result of a step: 64 hexadecimal digits. The zero value identifies nothing.
type ID string

// Name is the name of the layer in the store, for example "rbuild-cache-1f0c...".
func (id ID) Name() string { return namePrefix + string(id) }

// Key is everything that can change the result of a step. Its ID is a digest of all fields, so a new field cannot be
// forgotten. Ambient has the reasons for facts that are in no Key.
type Key struct {
	// Parent identifies the files below the step: the step below, or the base image.
	Parent ID
	// Step is the instruction in canonical form, after expansion (plan.Step.Canon). For RUN it has the whole environment,
	// the user, the directory, the host name and the flags of the mounts.
	Step string
	// Args are the build arguments that the process of a RUN sees, as K=V, in order of declaration.
	Args []string
	// Content are the digests of the files that the step copies or mounts, in the order of the instruction.
	Content []string
	// Platform is the platform of the stage.
	Platform Platform
	// Times says what becomes of the modification times of the files.
	Times Times
	// Process has the options that the process of a RUN can notice. Nil: the step runs no process.
	Process ProcessKey
}

// ProcessKey is the part of a Key that the package that runs processes declares: runner.Key. The method has no effect. It
// marks a struct whose fields all belong into a key, so that a struct of options cannot be passed by mistake. The
// interface is here because the packages that run processes know no cache.
type ProcessKey interface{ ProcessKey() }

// ID returns the identity of the result.
func (k Key) ID() ID { return sum("step", k) }

// Platform is an operating system, a CPU architecture and its variant, for example linux, arm, v7.
type Platform struct{ OS, Architecture, Variant string }

// Times are modification times of files in layers (--timestamp, --rewrite-timestamp). The zero value keeps them.
type Times struct {
	Set, Clamp bool  // all times are Epoch; no time is later than Epoch
	Epoch      int64 // seconds since 1970
}

// Base identifies an image by the digest of its config document, which covers the digests of the layers. The zero value
// is scratch.
type Base struct{ Config string }

// ID returns the identity of the image's files.
func (b Base) ID() ID { return sum("base", b) }

// Squash is the key of the layer that is made of all layers of an image (--squash).
type Squash struct {
	Layers []string // DiffIDs, lowest first
	Times  Times
}

// ID returns the identity of the layer.
func (s Squash) ID() ID { return sum("squash", s) }

// Unknown returns a random ID, for a result that belongs to no Key. No Get finds it.
func Unknown() ID { return sum("unknown", struct{ Random string }{rand.Text()}) }

// Reason says why a fact that a step may notice is in no Key.
type Reason string

// Ambient has the reasons. The tests of the packages that have options (runner and builder) fail for an option that is
// neither in a Key nor has one of these reasons; see package cachetest.
var Ambient = struct {
	Limits    Reason // of time, memory, processes, open files and /dev/shm, and the cgroups that enforce them
	Secrets   Reason // values of secrets
	SSH       Reason // agents
	Volumes   Reason // files of --volume
	Devices   Reason // data of --device
	Stdin     Reason // bytes of standard input
	Caches    Reason // files of cache mounts
	Network   Reason // its data, and the helper program, proxies and resolvers on the way
	Emulators Reason // for programs of other architectures
	Storage   Reason // how and where files and images are kept
	Image     Reason // names, labels, annotations and other properties of the image
	Lookup    Reason // which results of earlier builds are used
	Reports   Reason // progress, warnings, checks and explanations
	Clock     Reason // and everything else that differs between two runs on the same machine
}{
	Limits:    "a limit decides whether a step succeeds, not the result of the step",
	Secrets:   "a value in a key could be guessed from the name of a layer",
	SSH:       "an agent signs with keys that the build cannot see",
	Volumes:   "the user promises that no result depends on the files",
	Devices:   "the user promises that no result depends on the data",
	Stdin:     "the bytes are read only while a step runs",
	Caches:    "a step must also work with an empty cache",
	Network:   "all ways lead to the same network, whose data has no digest",
	Emulators: "an emulator runs the same program",
	Storage:   "the tar of the layer is the same",
	Image:     "no step can see it",
	Lookup:    "the result of a step does not depend on earlier results",
	Reports:   "text for the user changes no file",
	Clock:     "the time differs at each run",
}
