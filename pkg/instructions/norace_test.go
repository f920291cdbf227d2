//go:build !race

package instructions

const raceDetector = false
