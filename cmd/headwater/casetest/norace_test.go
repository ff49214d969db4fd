//go:build !race

package casetest

const slow = false
