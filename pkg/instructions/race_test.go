//go:build race

package instructions

// raceDetector makes everything some fifty times slower.
const raceDetector = true
