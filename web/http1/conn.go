package http1

import (
	"context"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// firstBuffer is what a connection reads into until a header is longer: players' are half of it.
const firstBuffer = 2 << 10

// What a connection is doing.
const (
	isNew    int32 = iota // nothing has come yet
	isIdle                // it waits for a request, or the rest of one
	isActive              // a request is being answered
	isClosed              // or handed over
)

// A conn is served by one goroutine, which reads a request, has it answered, and reads the next one. When a handler waits for the first
// time, by its context's Done, there are two from then on: one that reads, and so notices when the client leaves, and one that
// answers.
type conn struct {
	srv   *Server
	nc    Unreader
	since time.Time // it was accepted
	state atomic.Int32
	scope scope

	// Of the goroutine that reads.
	buf      []byte // of which [from:to) has been read and not been used
	from, to int
	line     int // of that, in front of which the header's lines are whole

	// Of the one that answers, while it does.
	req   request
	reply response

	// Of both, made by split.
	asked    chan struct{} // there is a request: for the one that answers; nil as long as there is one goroutine
	answered chan bool     // it has been answered: whether to go on
}

func newConn(s *Server, nc Unreader) *conn {
	c := &conn{srv: s, nc: nc, since: time.Now()}
	c.scope.conn = c
	c.req.blank = *new(http.Request).WithContext(&c.scope)
	c.req.blank.RemoteAddr = nc.RemoteAddr().String()
	c.reply.conn = c
	return c
}

// run serves requests until the connection ends, is handed over, or another goroutine reads.
func (c *conn) run() {
	for c.await() {
		keep := c.answer()
		if c.asked != nil {
			c.answered <- keep
			for range c.asked {
				c.answered <- c.answer()
			}
			return
		}
		if !keep {
			return
		}
	}
}

// split has another goroutine read from now on, while a request is being answered. scope.mu is held.
func (c *conn) split() {
	if c.asked != nil {
		return
	}
	c.asked, c.answered = make(chan struct{}, 1), make(chan bool, 1)
	_ = c.nc.SetReadDeadline(time.Time{})
	go c.read()
}

// read reads on while requests are being answered.
func (c *conn) read() {
	defer close(c.asked)
	for {
		var n int
		var err error
		if c.compact(); c.to == 0 { // otherwise the next request has begun already, and who makes one is there
			if n, err = c.nc.Read(c.space()); err != nil {
				c.scope.leave()
			}
		}
		if !<-c.answered {
			return
		}
		c.to += n
		if n == 0 && err != nil {
			c.close()
			return
		}
		if !c.await() {
			return
		}
		_ = c.nc.SetReadDeadline(time.Time{}) // the answer may take its time
		c.asked <- struct{}{}
	}
}

// await reads until there is a request. If it says false the connection is closed, or net/http's.
func (c *conn) await() bool {
	c.compact()
	first := c.state.Load() == isNew
	if first {
		_ = c.nc.SetReadDeadline(c.since.Add(c.srv.HTTP.ReadHeaderTimeout))
	}
	for begun := first; ; {
		b := c.buf[c.from:c.to]
		if len(b) > 0 {
			if !mayBegin(b) {
				return c.handOver()
			}
			var ended, ok bool
			if c.line, ended, ok = lines(b, c.line); !ok {
				return c.handOver()
			}
			if ended {
				head := b[:c.line]
				if !c.req.parse(head) {
					return c.handOver()
				}
				c.from, c.line = c.from+len(head), 0
				return c.begin()
			}
			if len(b) >= c.srv.HTTP.MaxHeaderBytes {
				return c.handOver()
			}
			if !begun {
				begun = true
				_ = c.nc.SetReadDeadline(time.Now().Add(c.srv.HTTP.ReadHeaderTimeout))
			}
		}
		n, err := c.nc.Read(c.space())
		c.to += n
		if n == 0 && err != nil {
			c.close()
			return false
		}
	}
}

// compact moves what has been read to the beginning of the buffer, and gives up one that has been needed once.
func (c *conn) compact() {
	if c.from == c.to {
		c.from, c.to = 0, 0
		if len(c.buf) > firstBuffer {
			c.buf = nil
		}
		return
	}
	c.to = copy(c.buf, c.buf[c.from:c.to])
	c.from = 0
}

// space is where more can be read to.
func (c *conn) space() []byte {
	if c.to == len(c.buf) {
		more := make([]byte, min(max(2*len(c.buf), firstBuffer), max(c.srv.HTTP.MaxHeaderBytes, firstBuffer)))
		copy(more, c.buf)
		c.buf = more
	}
	return c.buf[c.to:]
}

// begin says false if the connection has been closed meanwhile.
func (c *conn) begin() bool {
	for {
		was := c.state.Load()
		if was == isClosed {
			return false
		}
		if c.state.CompareAndSwap(was, isActive) {
			c.tell(http.StateActive)
			return true
		}
	}
}

// answer has the request answered, and says whether there can be another one. If not the connection is closed.
func (c *conn) answer() bool {
	w := &c.reply
	w.begin(&c.req.Request)
	c.scope.begin()
	keep := c.handle() && c.state.CompareAndSwap(isActive, isIdle)
	c.scope.end()
	c.req.forget()
	if keep {
		_ = c.nc.SetReadDeadline(time.Now().Add(c.srv.HTTP.IdleTimeout))
		c.tell(http.StateIdle)
	} else {
		c.close()
	}
	return keep
}

// handle runs the handler and finishes the reply, and says whether there can be another.
func (c *conn) handle() (keep bool) {
	defer func() {
		if v := recover(); v != nil && v != http.ErrAbortHandler {
			c.srv.logf("http1: panic serving %s: %v\n%s", c.req.RemoteAddr, v, debug.Stack())
		}
	}()
	c.srv.HTTP.Handler.ServeHTTP(&c.reply, &c.req.Request)
	return c.reply.finish()
}

// handOver gives the connection to net/http, with what has been read of it. It says false.
func (c *conn) handOver() bool {
	if c.state.Swap(isClosed) == isClosed {
		return false // closed meanwhile
	}
	c.srv.forget(c)
	_ = c.nc.SetDeadline(time.Time{})
	c.nc.Unread(c.buf[c.from:c.to:c.to])
	c.srv.rest.take(c.nc)
	return false
}

func (c *conn) close() {
	if c.state.Swap(isClosed) != isClosed {
		c.closed()
	}
}

// closeIdle closes it if nobody is answered on it, and says whether it is closed. One that is new may have a request on its way.
func (c *conn) closeIdle() bool {
	state := c.state.Load()
	switch {
	case state == isClosed:
		return true
	case state == isActive, state == isNew && time.Since(c.since) < newGrace:
		return false
	}
	if !c.state.CompareAndSwap(state, isClosed) {
		return false
	}
	c.closed()
	return true
}

func (c *conn) closed() {
	c.srv.forget(c)
	c.nc.Close()
	c.tell(http.StateClosed)
}

func (c *conn) tell(state http.ConnState) {
	if f := c.srv.HTTP.ConnState; f != nil {
		f(c.nc, state)
	}
}

// A scope is the context of a connection's requests, one after the other. Most are answered before anybody could leave, and cost nothing
// until somebody asks for Done.
type scope struct {
	conn *conn

	mu     sync.Mutex // protects what follows
	open   bool       // there is a request
	left   bool       // the client has
	ctx    context.Context
	cancel context.CancelFunc
}

// over is closed.
var over = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

// Deadline implements context.Context.
func (s *scope) Deadline() (time.Time, bool) { return s.conn.srv.base.Deadline() }

// Value implements context.Context, with the values that net/http's contexts have.
func (s *scope) Value(key any) any {
	switch key {
	case http.ServerContextKey:
		return s.conn.srv.HTTP
	case http.LocalAddrContextKey:
		return s.conn.nc.LocalAddr()
	}
	s.mu.Lock()
	ctx := s.ctx
	s.mu.Unlock()
	if ctx == nil {
		ctx = s.conn.srv.values
	}
	return ctx.Value(key)
}

// Done implements context.Context.
func (s *scope) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return over // somebody has not noticed that the request has been answered
	}
	if s.ctx == nil {
		s.ctx, s.cancel = context.WithCancel(s.conn.srv.values)
		if s.left || s.conn.srv.base.Err() != nil { // otherwise it will be cut
			s.cancel()
		}
		s.conn.split()
	}
	return s.ctx.Done()
}

// Err implements context.Context.
func (s *scope) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ctx != nil:
		return s.ctx.Err()
	case !s.open, s.left:
		return context.Canceled
	}
	return s.conn.srv.base.Err()
}

// begin begins a request.
func (s *scope) begin() {
	s.mu.Lock()
	s.open = true
	s.mu.Unlock()
}

// cut ends the context of a request that goes on.
func (s *scope) cut() {
	s.mu.Lock()
	cancel := s.cancel
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// leave ends the context of the request under way, and of all later ones: the client has left.
func (s *scope) leave() {
	s.mu.Lock()
	s.left = true
	s.mu.Unlock()
	s.cut()
}

// end ends the request.
func (s *scope) end() {
	s.mu.Lock()
	cancel := s.cancel
	s.open, s.ctx, s.cancel = false, nil, nil
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}
