// Package transfer moves images between the store and everything outside it:
// registries (docker://), layouts and archives (oci:, oci-archive:,
// docker-archive:, dir:). It is go.podman.io/image with the decisions that a
// builder needs made in one place:
//
//   - which names a user may mean, and which image of the store that is
//     (Resolve, Lookup);
//   - when to pull (Pull), and what a pulled image must satisfy before the
//     store accepts it (guard.go);
//   - what is not sent a second time (Push);
//   - which errors are worth another attempt (retry.go).
//
// Credentials, registries.conf, certs.d and policy.json are found where podman
// finds them, because the same library looks for them; see
// containers-auth.json(5), containers-registries.conf(5),
// containers-certs.d(5) and containers-policy.json(5). One thing differs: where
// no policy.json exists at all, podman refuses to pull and this package accepts
// any image, as the policy.json does that distributions ship.
//
// The package prints nothing and reads no environment variable itself; the
// library below it reads those that its manual pages name.
//
// Not offered: signing, encryption, manifest lists as a whole, partial pulls of
// zstd:chunked layers (such a layer is downloaded whole, so that it can be
// verified whole), and the transports docker-daemon:, sif:, tarball: and
// atomic:.
package transfer
