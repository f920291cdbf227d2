//go:build race

package layer

// raceDetector makes everything some fifty times slower.
const raceDetector = true
