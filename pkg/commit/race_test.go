//go:build race

package commit

// raceDetector makes everything some fifty times slower.
const raceDetector = true
