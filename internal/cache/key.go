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

// Key is everything that can change the result of a step. Its ID is a digest of all fields (Sum), so a new field cannot be
// forgotten. Ambient says what is not in a Key, and why.
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
	// Process is the part of the command line's options that the process of a RUN can notice: a struct of the package
	// that runs processes. Nil: the step runs no process.
	Process any
}

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

// Ambient names what a step may notice and what is not in its Key. Every field says why. The type documents the decision:
// the tests of the packages that have options fail for an option that is neither in a Key nor here.
type Ambient struct {
	Limits    struct{} // of memory, processes, open files and /dev/shm: they decide whether a step succeeds, not what it makes
	Timeouts  struct{} // as Limits: --step-timeout, --no-output-timeout
	Cgroups   struct{} // as Limits: the cgroup that enforces them
	Secrets   struct{} // a value in a key could be guessed from the name of a layer
	SSH       struct{} // an agent signs with keys that the build cannot see
	Volumes   struct{} // the files in them: the user's word is that no result depends on them
	Devices   struct{} // the data that they deliver, as for Volumes
	Stdin     struct{} // its bytes, which are read only while a step runs
	Caches    struct{} // the files of cache mounts: a step must work with an empty cache too
	Proxies   struct{} // the network path to the same data
	Resolvers struct{} // --dns, --dns-search, --dns-option and the files of the host: they find the same data
	Network   struct{} // the data of the network, and the helper program that connects to it
	Emulators struct{} // an emulator runs the same program
	Trusted   struct{} // the form of overlayfs's marks on disk; the layer's tar is the same
	Labels    struct{} // and names, annotations and other properties of the image: no step can see them
	Clock     struct{} // and everything else that differs between two runs on the same machine
}
