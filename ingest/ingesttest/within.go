// Package ingesttest helps tests that measure time on machines that others use too.
package ingesttest

import (
	"testing"
	"time"
)

// Within fails a test if what took longer than limit. It is done again, up to twice, if the machine itself stood still
// meanwhile: if somebody who only slept woke late.
func Within(t testing.TB, what string, limit time.Duration, do func() (took time.Duration)) {
	t.Helper()
	for try := 1; ; try++ {
		overslept := sleep()
		took := do()
		late := overslept()
		if took <= limit {
			return
		}
		if late < limit/4 || try == 3 {
			t.Errorf("%s took %v, at most %v are due; the machine stood still for %v", what, took, limit, late)
			return
		}
		t.Logf("%s took %v, but the machine stood still for %v", what, took, late)
	}
}

// sleep sleeps over and over until it is asked by how much it woke late at most.
func sleep() (overslept func() time.Duration) {
	const nap = time.Millisecond
	stop, late := make(chan struct{}), make(chan time.Duration)
	go func() {
		for longest, awake := time.Duration(0), false; ; {
			began := time.Now()
			select {
			case <-stop:
				awake = true
			case <-time.After(nap):
			}
			longest = max(longest, time.Since(began)-nap)
			if awake {
				late <- longest
				return
			}
		}
	}()
	return func() time.Duration {
		close(stop)
		return <-late
	}
}
