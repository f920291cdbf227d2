// Package copier brings files into an image, for COPY and ADD. The sources are files of a build
// context, of another stage or image, here-documents of the Dockerfile, and files that were
// fetched.
//
//	tree, err := copier.OpenContext(".", patterns)    // or copier.OpenRoot(root of a stage)
//	selection, err := copier.Select(ctx, tree, copier.Spec{Sources: []string{"src/*.go"}, Dest: "/app/"})
//	key := selection.Digest()                         // an ingredient of the step's cache key
//	err = selection.Write(ctx, root)                  // root: the merged directory of a mounted overlay
//
// Select finds, filters and digests the sources; Write writes them below the root of the image.
//
// # Safety
//
// Every file is reached by descriptors: sources from the root of their tree, destinations from the
// root of the image, each component opened relative to the directory before it. Symbolic links
// resolve inside the tree that holds them, and ".." stops at its root. So no source and no
// destination is outside, whatever links a context or an image contains and whoever changes them
// meanwhile.
//
// Write writes the content that Select digested. Write digests a file that changed since Select
// again while it copies the file. If the digest differs, Write fails with an error that names the
// file. One change is not seen: a write through a mapping, into a file over 1 MiB, before the
// kernel updates the times of the file.
//
// # Rules
//
// The rules are those of the Dockerfile reference and, where the reference is silent, of BuildKit
// (August 2026):
//
//   - The destination is a directory if it ends in a slash or exists as a directory.
//   - Of a source directory, the content is copied.
//   - Missing directories are made, mode 0755, owned by --chown or root.
//   - A file replaces an entry that has its name, except a directory.
//   - If a directory meets a symbolic link, or a link a directory, that is an error.
//   - A directory below a source directory gets the mode, owner and time of its source, even if it
//     exists.
//   - Files of a context belong to root and lose setuid and setgid. Files of a stage keep both.
//   - Of extended attributes, security.capability is kept.
//   - Sockets and devices are left out with a warning.
//   - A name that begins with ".wh." is an error, because it means a deletion in a layer.
//
// # Limits
//
// A path below a root has at most 4096 directories and leads through at most 255 symbolic links.
// Package archive has the limits of archives.
package copier
