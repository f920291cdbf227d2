//go:build race

package plan_test

// raceDetector makes everything some fifty times slower.
const raceDetector = true
