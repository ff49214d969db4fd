package conns

import (
	"sync"
	"sync/atomic"
	"time"
)

// An HTTP server gives its connections half a dozen deadlines for each request, nearly all of which are taken back long before they
// pass. A timer in the runtime for each of them costs a few percent of a small answer. So those that are far away are only written
// down, and a sweep over all connections looks after them: they pass late by at most deadlineEvery.

// deadlineEvery is how often the sweep comes. What is nearer than two sweeps has a timer.
const deadlineEvery = 500 * time.Millisecond

var longAgo = time.Unix(1, 0)

// epoch is what times are counted from, on the monotonic clock: setting the wall clock makes no deadline pass.
var epoch = time.Now()

// A deadline is that of one direction of a connection.
type deadline struct {
	at atomic.Int64 // ns since epoch; 0 is none, or one that the socket has

	mu  sync.Mutex // orders those who set it and the sweep
	own bool       // the socket has a deadline; protected by mu
}

// set is a connection's SetReadDeadline or SetWriteDeadline, where apply is the socket's. swept is when the sweep has last been, ns
// since epoch; 0: it does not come.
func (d *deadline) set(t time.Time, swept int64, apply func(time.Time) error) error {
	var at int64
	if !t.IsZero() {
		at = int64(t.Sub(epoch))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !t.IsZero() && (swept == 0 || at <= swept+2*int64(deadlineEvery)) {
		d.at.Store(0)
		d.own = true
		return apply(t)
	}
	d.at.Store(at)
	if !d.own {
		return nil
	}
	d.own = false
	return apply(time.Time{})
}

// sweep lets the deadline pass if it has come.
func (d *deadline) sweep(now int64, apply func(time.Time) error) {
	if at := d.at.Load(); at == 0 || at > now {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if at := d.at.Load(); at != 0 && at <= now {
		d.at.Store(0)
		d.own = true
		_ = apply(longAgo)
	}
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	return c.reads.set(t, c.port.Limit.sweptAt.Load(), c.TCPConn.SetReadDeadline)
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	return c.writes.set(t, c.port.Limit.sweptAt.Load(), c.TCPConn.SetWriteDeadline)
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// sweepDeadlines looks after the deadlines of all connections, and comes again as long as there are any.
func (l *Limit) sweepDeadlines() {
	now := int64(time.Since(epoch))
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		c.reads.sweep(now, c.TCPConn.SetReadDeadline)
		c.writes.sweep(now, c.TCPConn.SetWriteDeadline)
	}
	if len(l.open) > 0 {
		l.sweptAt.Store(now)
		time.AfterFunc(deadlineEvery, l.sweepDeadlines)
	} else {
		l.sweptAt.Store(0)
	}
}
