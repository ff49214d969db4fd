package poll

import (
	"runtime"
	"sync/atomic"
	"testing"
)

// Who waits for what has come in runs before the Poller rests, and everybody before the scheduler takes it for one that hogs.
func TestRest(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for _, c := range []struct {
		awaited func() bool
		rests   int
	}{{nil, 1}, {func() bool { return true }, 1}, {func() bool { return false }, yieldEvery}} {
		p := &Poller{Awaited: c.awaited}
		var ran atomic.Bool
		go func() { ran.Store(true) }()
		for range 2 * c.rests { // once in 61 times, yielding is to oneself
			p.rest(0)
		}
		if !ran.Load() {
			t.Errorf("after %d rests nobody else has run", 2*c.rests)
		}
		runtime.Gosched()
	}
}
