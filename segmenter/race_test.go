//go:build race

package segmenter

const raceEnabled = true
