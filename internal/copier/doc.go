// Package copy brings files into an image: what COPY and ADD name in a build context, in another stage or image, in the
// text of the Dockerfile or has been fetched is selected, filtered and digested, and then written below the image's root.
//
//	tree, err := copy.OpenContext(".", patterns)      // or copy.OpenRoot(root of a stage)
//	sel, err := copy.Select(ctx, tree, copy.Spec{Sources: []string{"src/*.go"}, Dest: "/app/"})
//	key := sel.Digest()                               // an ingredient of the step's cache key
//	err = sel.Write(ctx, root)                        // root: the merged directory of a mounted overlay
//
// Everything is reached by descriptors: sources from the root of their tree, destinations from the root of the image,
// each component opened relative to the directory before it. Symbolic links resolve inside the tree they lie in and ".."
// stops at its root, so no source and no destination lies outside, whatever links a context or an image holds and whoever
// changes them meanwhile.
//
// What is written is what was digested: a file that changed since Select is digested again while it is copied, and if
// that gives another result Write fails and names it. (A write through a mapping that the kernel has not yet
// put into the file's times goes unseen in files over 1 MiB.)
//
// The rules are those of the Dockerfile reference and, where it is silent, of BuildKit (August 2026): the destination is
// a directory if it ends in a slash or exists as one; of a source directory the content is copied; missing directories
// are made, mode 0755, owned by --chown or root; a file replaces what it meets, except a directory; a directory that
// meets a symbolic link is an error, as is the opposite; directories below the first take over mode, owner and time of
// their source even if they exist. Files of a context belong to root and lose setuid and setgid, files of a stage keep
// both; of extended attributes only security.capability is kept. Sockets are left out with a warning.
// Names that begin with ".wh." are refused: in a layer they mean a deletion.
//
// Limits: paths below a root are at most 4096 directories deep and lead through at most 255 symbolic links; see
// ExtractContext for those of archives.
package copier
