package poll

import (
	"iter"
	"net"
)

// Serving connections in line, by the Poller's own goroutine.

// serve lets a connection that is served in line go on, and says whether it wants to again at once.
func (p *Poller) serve(c *conn) (again bool) {
	c.polled, c.turn = true, turnSize
	_, more := c.next()
	switch {
	case more && c.wants == input:
		return false
	case more && c.wants == turn:
		p.mu.Lock()
		p.todo = append(p.todo, c)
		p.mu.Unlock()
		return true
	}
	p.mu.Lock()
	c.inLine = false
	p.mu.Unlock()
	c.back <- more
	return false
}

// Run calls f, which reads nc and returns when it is done with it, and returns when f does. While f has said so with InLine,
// the Poller's goroutine runs it whenever there is input, and for the rest of the time a goroutine of its own: f is a
// coroutine that goes from one to the other.
func Run(nc net.Conn, f func()) {
	c, ok := nc.(*conn)
	if !ok {
		f()
		return
	}
	next, stop := iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		f()
	})
	defer stop()
	c.next, c.back = next, make(chan bool)
	for {
		c.polled = false
		if _, more := next(); !more {
			return
		}
		switch {
		case c.wants != input:
		case !c.wantsInLine:
			<-c.ready
		case c.p.adopt(c):
			if more := <-c.back; !more {
				return
			}
		}
	}
}

// adopt takes c to be served in line, and says false if there was input meanwhile.
func (p *Poller) adopt(c *conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-c.ready:
		return false
	default:
		c.inLine = true
		return true
	}
}

// InLine says whether what follows may be run by the Poller's goroutine, between reads of other connections: it must not
// block, and a Write that would fails. The function that Run has been given calls it. Without Run or without a Poller it
// does nothing.
func InLine(nc net.Conn, on bool) {
	c, ok := nc.(*conn)
	if !ok || c.yield == nil {
		return
	}
	if c.wantsInLine = on; !on && c.polled {
		c.wants = owner
		c.yield(struct{}{})
	}
}

// A wish is what a coroutine waits for.
type wish int

const (
	input wish = iota
	turn       // the others to have theirs
	owner      // its own goroutine
)

// pause waits for input, or for whatever else there is reason to look at.
func (c *conn) pause() {
	if c.yield == nil {
		<-c.ready
		return
	}
	c.wants = input
	c.yield(struct{}{})
}

func (c *conn) wake() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}
