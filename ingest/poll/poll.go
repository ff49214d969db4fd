// Package poll lets many connections wait for input together. Each of them is read by a function of its own, with a plain
// Read; but instead of waking one thread for every packet of every connection, a Poller looks for input at most once in an
// interval, and runs all the readers that have some, one after the other, on its own goroutine. With fifty publishers that
// saves half of the processor time; the price is that input may be noticed an interval late, or two while nobody waits for
// it. With few publishers nothing is late: the interval only counts when there is input in most of them.
package poll

import (
	"net"
	"runtime"
	"sync"
	"time"
)

// DefaultInterval is short beside the 3 ms after which a full part has to be fetchable, and long beside the time between
// packets when many publish.
const DefaultInterval = time.Millisecond

// connsPerPoller is how many connections one Poller, and with it one processor, looks after before there is another.
const connsPerPoller = 100

// A Pool is as many Pollers as its connections are worth, one for each processor at most. The zero Pool is ready. Close it
// when the last of the connections has been closed.
type Pool struct {
	Interval time.Duration // of the Pollers; 0 is DefaultInterval
	// Awaited says whether goroutines wait for what comes in: then a Poller lets them run before it rests, and otherwise it rests for
	// twice as long. nil is that they do. It is called once in an interval.
	Awaited func() bool

	mu      sync.Mutex
	pollers []*Poller // protected by mu
}

// Wrap returns a connection in c's place, which it takes over, or c itself if it is not a TCP connection.
func (g *Pool) Wrap(c net.Conn) net.Conn {
	g.mu.Lock()
	defer g.mu.Unlock()
	var best *Poller
	sum := 0
	for _, p := range g.pollers {
		n := p.Len()
		if sum += n; best == nil || n < best.Len() {
			best = p
		}
	}
	if best == nil || sum >= connsPerPoller*len(g.pollers) && len(g.pollers) < runtime.GOMAXPROCS(0) {
		best = &Poller{Interval: g.Interval, Awaited: g.Awaited}
		g.pollers = append(g.pollers, best)
	}
	return best.Wrap(c)
}

// Close closes the Pollers.
func (g *Pool) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.pollers {
		p.Close()
	}
	return nil
}
