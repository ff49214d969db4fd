//go:build linux

package poll

import (
	"testing"
	"time"
)

// Few publishers are never kept waiting, many are looked at together.
func TestLoad(t *testing.T) {
	for _, c := range []struct {
		perSecond int
		heavy     bool
	}{{77, false}, {77 * 5, false}, {77 * 20, true}, {77 * 50, true}} {
		var l load
		now := time.Unix(1000, 0)
		heavy := 0
		for range c.perSecond {
			now = now.Add(time.Second / time.Duration(c.perSecond))
			if l.heavy(1, now, 2*time.Millisecond) {
				heavy++
			}
		}
		if got := heavy > c.perSecond/2; got != c.heavy || !c.heavy && heavy > 0 {
			t.Errorf("%d a second: heavy %d times", c.perSecond, heavy)
		}
	}
}
