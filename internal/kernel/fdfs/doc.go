// Package fdfs holds what several mechanisms need of the kernel and the libraries do not have:
// files named relative to directories, locks, and processes that are made by a list of system
// calls ([Program]) rather than by executing a helper.
package fdfs
