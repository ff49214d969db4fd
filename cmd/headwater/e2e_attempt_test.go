//go:build e2e

package main

import (
	"fmt"
	"testing"
)

// attempts is how often a measurement of what depends on the time is made at most. A browser that decodes pictures on two processors
// stalls now and then for their sake alone: a fault of the origin's is there in each attempt.
const attempts = 3

// complaints takes them, as a *testing.T and an attempt do.
type complaints interface {
	Errorf(format string, args ...any)
}

// An attempt is one measurement's, and what it complains of.
type attempt struct {
	n        int // from 1
	problems []string
}

func (a *attempt) Errorf(format string, args ...any) {
	a.problems = append(a.problems, fmt.Sprintf(format, args...))
}

// fairly makes a measurement of what depends on the time until it complains of nothing, and fails t if it always did.
func fairly(t *testing.T, measure func(a *attempt)) {
	t.Helper()
	for n := 1; ; n++ {
		a := &attempt{n: n}
		measure(a)
		for _, p := range a.problems {
			if n == attempts {
				t.Error(p)
			} else {
				t.Logf("attempt %d, to be made again: %s", n, p)
			}
		}
		if len(a.problems) == 0 || n == attempts {
			return
		}
	}
}
