// Package transfer moves images between a [Store] on this machine and everything outside:
// registries (docker://), OCI layouts and archives (oci:, oci-archive:, docker-archive:, dir:). It
// uses go.podman.io/image and decides:
//
//   - when to pull, and which image of the store a name means ([Pull]);
//   - which errors are worth another attempt (retry.go), and which answers of a registry are too
//     slow or too long (watch.go);
//   - which layers are not compressed and sent again ([Push]).
//
// The Store decides how an image is kept and checks the layers; see
// [codeberg.org/rbuild/rbuild/internal/images].
//
// Credentials, registries.conf, certs.d and policy.json are found where podman finds them, because
// the same library reads them; see containers-auth.json(5), containers-registries.conf(5),
// containers-certs.d(5) and containers-policy.json(5). There is one difference: if no policy.json
// exists at all, podman refuses to pull, and this package accepts any image, as the policy.json of
// distributions does.
//
// The package prints nothing and reads no environment variable itself. The library reads the
// variables that its manual pages name.
//
// Not offered: signing, encryption, manifest lists as a whole, partial pulls of zstd:chunked layers
// (such a layer is downloaded and verified as a whole), and the transports docker-daemon:, sif:,
// tarball: and atomic:.
package transfer
