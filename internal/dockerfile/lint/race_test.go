//go:build race

package lint

// With the race detector everything takes several times as long.
const slow = 10
