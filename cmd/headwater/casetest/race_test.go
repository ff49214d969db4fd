//go:build race

package casetest

// slow: the race detector makes everything so.
const slow = true
