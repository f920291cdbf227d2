//go:build race

package commit

// raceDetector reports whether the race detector is on, which makes tests about fifty times slower.
const raceDetector = true
