//go:build !race

package lint

const slow = 1 // factor for bounds of time
