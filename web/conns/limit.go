// Package conns bounds how many connections are open at one time, over all listeners together: past the bound an HTTP client
// is told to come back later, where that can be said, and otherwise turned away, at a cost that does not grow with the flood.
package conns

import (
	"cmp"
	"crypto/tls"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// When connections that are open without a request give way to new ones: past 15/16 of the Limit, the longest idle first,
// until 7/8 are left. One that has had a request less than minIdle ago stays: its client is likely to send the next.
const (
	minIdle    = time.Second
	sweepEvery = 100 * time.Millisecond // a look at all connections takes milliseconds
)

// A Limit is how many connections may be open at one time, over all Ports that share it. Max is set before its first use.
type Limit struct {
	Max int

	now     atomic.Int64
	sweptAt atomic.Int64 // when deadlines were looked at last, ns since epoch; 0: nobody looks

	mu    sync.Mutex // protects what follows
	open  map[*conn]struct{}
	swept time.Time
	clock func() time.Time // nil is time.Now
}

// A Port is what comes in by one address, within a Limit that others may share.
type Port struct {
	Limit *Limit

	now, refused, closed, failed atomic.Int64
}

// Stats are a Port's counts; all but Open since it was made.
type Stats struct {
	Open         int64 // now
	Refused      int64 // turned away because there were too many
	IdleClosed   int64 // closed to make room
	AcceptErrors int64 // of the listener, which goes on
}

// Stats returns the counts as they are now.
func (p *Port) Stats() Stats {
	return Stats{p.now.Load(), p.refused.Load(), p.closed.Load(), p.failed.Load()}
}

// Enter takes a place for a connection, or says that there is none.
func (p *Port) Enter() bool {
	l := p.Limit
	if l.now.Add(1) > int64(l.Max-l.Max/16) {
		l.sweep()
	}
	if l.now.Load() > int64(l.Max) {
		l.now.Add(-1)
		p.refused.Add(1)
		return false
	}
	p.now.Add(1)
	return true
}

// Leave gives the place back.
func (p *Port) Leave() {
	p.now.Add(-1)
	p.Limit.now.Add(-1)
}

// A conn is a connection in its place. All of TCPConn's methods are its own, so that files go out by sendfile(2) and slices
// by writev(2).
type conn struct {
	*net.TCPConn
	port *Port
	once sync.Once
	idle atomic.Int64 // Unix ns since when it has had no request; 0 while it has one, or has not had any

	unread []byte // what Read returns first; of whoever reads

	reads, writes deadline
}

// Unread gives back what was read last: the next Read returns b, but WriteTo would skip it. It is not called while one is under way.
func (c *conn) Unread(b []byte) { c.unread = b }

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	if len(c.unread) == 0 {
		return c.TCPConn.Read(b)
	}
	n := copy(b, c.unread)
	if c.unread = c.unread[n:]; len(c.unread) == 0 {
		c.unread = nil
	}
	return n, nil
}

func (c *conn) Close() error {
	err := c.TCPConn.Close()
	c.once.Do(func() {
		l := c.port.Limit
		l.mu.Lock()
		delete(l.open, c)
		l.mu.Unlock()
		c.port.Leave()
	})
	return err
}

// add makes a connection that has entered known.
func (l *Limit) add(c *conn) {
	l.mu.Lock()
	if l.open == nil {
		l.open = map[*conn]struct{}{}
	}
	l.open[c] = struct{}{}
	if l.sweptAt.Load() == 0 {
		l.sweptAt.Store(int64(time.Since(epoch)))
		time.AfterFunc(deadlineEvery, l.sweepDeadlines)
	}
	l.mu.Unlock()
}

func (l *Limit) time() time.Time {
	if l.clock != nil {
		return l.clock()
	}
	return time.Now()
}

// Watch notes which of a server's connections are idle, for those that come from a Listener of this Limit.
func (l *Limit) Watch(srv *http.Server) {
	next := srv.ConnState
	srv.ConnState = func(nc net.Conn, state http.ConnState) {
		if next != nil {
			next(nc, state)
		}
		if t, ok := nc.(*tls.Conn); ok {
			nc = t.NetConn()
		}
		c, ok := nc.(*conn)
		if !ok {
			return
		}
		switch state {
		case http.StateActive:
			c.idle.Store(0)
		case http.StateIdle:
			c.idle.Store(l.time().UnixNano())
		}
	}
}

// sweep closes the connections that have been idle longest. A client whose request crosses with that sends it again, on
// another connection (RFC 9112 9.3.1, RFC 9113 8.7).
func (l *Limit) sweep() {
	now := l.time()
	type candidate struct {
		c     *conn
		since int64
	}
	var list []candidate
	l.mu.Lock()
	if now.Sub(l.swept) < sweepEvery {
		l.mu.Unlock()
		return
	}
	l.swept = now
	for c := range l.open {
		if since := c.idle.Load(); since != 0 && now.UnixNano()-since >= int64(minIdle) {
			list = append(list, candidate{c, since})
		}
	}
	l.mu.Unlock()
	slices.SortFunc(list, func(a, b candidate) int { return cmp.Compare(a.since, b.since) })
	most := int(l.now.Load()) - (l.Max - l.Max/8)
	for _, x := range list[:max(min(len(list), most), 0)] {
		if x.c.idle.Load() == x.since { // it has had no request meanwhile
			x.c.port.closed.Add(1)
			x.c.Close()
		}
	}
}
