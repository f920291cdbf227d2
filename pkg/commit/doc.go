// Package commit turns the results of a build into the parts of a container image: a directory into
// a layer, and layers, a history and a config into an image. It knows no Dockerfile and no store.
//
// # Layers
//
// [WriteTar] reads a directory once. It produces the tar of the layer, the digest of the tar (the
// DiffID of the layer) and the tar-split record, from which containers/storage rebuilds the same
// bytes later:
//
//	dir, err := os.Open("/var/lib/build/upper")
//	tar, err := commit.WriteTar(ctx, dir, w, commit.TarOptions{TarSplit: record})
//
// The directory can be the upper directory of an overlay mount. A whiteout of overlayfs becomes an
// empty file .wh.NAME in the tar, and an opaque directory contains .wh..wh..opq, as image-spec
// layer.md says. Directories that overlayfs copied up only because a file below them changed have
// entries too, as in the layers of other engines. [TarWriter] writes the same tar from entries that
// are in no directory.
//
// The tar depends on the content of the directory only, so equal directories have equal digests:
// entries are sorted by the bytes of their names, a directory comes before its entries, and times
// are whole seconds, as buildah and podman write them. The tar contains no access times, no names
// of users and no sockets. It contains the extended attributes security.capability and user.* of
// regular files and directories. POSIX ACLs, security.selinux, security.ima, trusted.* and the
// attributes of overlayfs are left out.
//
// # Images
//
// An [Image] holds a config, a history and layers. [Image.Documents] turns them into the config and
// manifest documents, in the OCI or the Docker format. [Record] stores the documents through the
// interface [Images].
//
// # Limits
//
// WriteTar works on Linux. It returns an error that names the path for: a file named .wh.*, because
// every reader takes the file for a whiteout; the overlayfs attributes redirect and metacopy,
// because the content of the file is then in a lower layer; a device node in an upper directory,
// because a build step cannot make one; a path of 4,096 bytes or more; extended attributes of more
// than 1 MiB on one file; and a file that changes while it is read. The directory must not change
// during the call. Memory stays below some MiB, plus the names in the directories of the current
// path and one name for each file with several hard links. WriteTar keeps one descriptor open for
// each level of directories, at most 2,047.
//
// # Stability
//
// The package is at v0: its API can change with each minor version. The bytes of a tar and of the
// documents of an image do not change, because caches and digests depend on them.
//
// Sources: image-spec v1.1 layer.md, config.md and manifest.md; overlayfs.rst of Linux 6.18,
// "whiteouts and opaque directories" and "nesting overlayfs mounts"; vbatts/tar-split tar/asm.
package commit
