// Package http1 serves HTTP/1.1 on connections that ask for what has no body, as players and edges do: GET, HEAD and OPTIONS in
// their usual form. It runs the handler of an http.Server, at two thirds of what net/http costs, and has that server do everything
// else: a connection on which something comes that is not a plain request, whatever it is, is given to it, with every byte as it came.
// So net/http decides on other methods, bodies, upgrades, HTTP/1.0, HTTP/2 by prior knowledge, and what is malformed or too long.
package http1

import (
	"context"
	"errors"
	"log"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// newGrace is how long a connection that has not sent anything yet is left alone by Shutdown: its request may be on its way.
const newGrace = 5 * time.Second

// How often Shutdown looks whether all have gone.
const (
	firstPoll = time.Millisecond
	lastPoll  = 100 * time.Millisecond
)

// A Server serves the connections of one listener. HTTP is set before Serve, and not served by anybody else; of its fields Handler,
// ReadHeaderTimeout, IdleTimeout, MaxHeaderBytes, BaseContext, ConnState and ErrorLog are looked at, all of which but ConnState
// and ErrorLog have to be set, and not changed any more. There is no ReadTimeout and no WriteTimeout: a handler sets the deadlines of its
// reply by http.ResponseController. ConnState hears StateNew twice of a connection that is given to net/http.
//
// A handler must not keep the request, its header, or its context when it has returned: they are used again.
type Server struct {
	HTTP *http.Server

	draining atomic.Bool
	date     atomic.Pointer[date]

	base, values context.Context // of the requests; values is without its end

	mu    sync.Mutex // protects what follows
	ln    net.Listener
	rest  *rest
	conns map[*conn]struct{}
}

// An Unreader is a connection that can be given back what was read from it: the next Read returns b, which is the connection's from
// then on.
type Unreader interface {
	net.Conn
	Unread(b []byte)
}

// Serve serves connections until ln is closed, by Shutdown or Close mostly, after which it returns http.ErrServerClosed. Those that are no
// Unreaders are net/http's from the beginning. It is called once.
func (s *Server) Serve(ln net.Listener) error {
	defer ln.Close()
	rest := &rest{addr: ln.Addr(), conns: make(chan net.Conn), done: make(chan struct{})}
	s.mu.Lock()
	s.ln, s.rest, s.conns = ln, rest, map[*conn]struct{}{}
	s.mu.Unlock()
	if s.draining.Load() {
		return http.ErrServerClosed
	}
	s.base = s.HTTP.BaseContext(ln)
	s.values = context.WithoutCancel(s.base)
	// Instead of each request's being registered there, under one lock for all.
	context.AfterFunc(s.base, s.cut)
	var other sync.WaitGroup
	defer other.Wait()
	defer rest.Close()
	other.Go(func() { _ = s.HTTP.Serve(rest) }) // it ends with rest, or before it by Shutdown or Close
	for {
		nc, err := ln.Accept()
		if err != nil {
			if s.draining.Load() || errors.Is(err, net.ErrClosed) {
				return http.ErrServerClosed
			}
			return err
		}
		if u, ok := nc.(Unreader); ok {
			s.start(u)
		} else {
			rest.take(nc)
		}
	}
}

func (s *Server) start(nc Unreader) {
	c := newConn(s, nc)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	if s.draining.Load() {
		c.close()
		return
	}
	c.tell(http.StateNew)
	go c.run()
}

// Shutdown ends as http.Server's does: no connection is accepted, those without a request are closed, and those with one when it
// has been answered. It returns when all have gone, or with ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	other := make(chan error, 1)
	go func() { other <- s.HTTP.Shutdown(ctx) }()
	poll := firstPoll
	for timer := time.NewTimer(poll); !s.closeIdle(); timer.Reset(poll) {
		select {
		case <-ctx.Done():
			timer.Stop()
			<-other
			return ctx.Err()
		case <-timer.C:
			poll = min(2*poll, lastPoll)
		}
	}
	return <-other
}

// Close ends everything at once.
func (s *Server) Close() error {
	s.stop()
	for _, c := range s.all() {
		c.close()
	}
	return s.HTTP.Close()
}

// cut ends the contexts of all requests.
func (s *Server) cut() {
	for _, c := range s.all() {
		c.scope.cut()
	}
}

func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.conns))
}

func (s *Server) stop() {
	s.draining.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ln != nil {
		s.ln.Close()
	}
}

// closeIdle closes the connections without a request, and says whether none is left.
func (s *Server) closeIdle() bool {
	done := true
	for _, c := range s.all() {
		if !c.closeIdle() {
			done = false
		}
	}
	return done
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

func (s *Server) logf(format string, args ...any) {
	if s.HTTP.ErrorLog != nil {
		s.HTTP.ErrorLog.Printf(format, args...)
	} else {
		log.Printf(format, args...)
	}
}

// A date is what a reply's Date field says within one second.
type date struct {
	second int64
	text   string
}

// now is the Date field's value.
func (s *Server) now() string {
	t := time.Now()
	d := s.date.Load()
	if d == nil || d.second != t.Unix() {
		d = &date{t.Unix(), t.UTC().Format(http.TimeFormat)}
		s.date.Store(d)
	}
	return d.text
}

// A rest is the listener from which net/http gets the connections that are its.
type rest struct {
	addr  net.Addr
	conns chan net.Conn
	once  sync.Once
	done  chan struct{} // closed by Close
}

// take gives a connection to net/http, or closes it if that has ended.
func (r *rest) take(c net.Conn) {
	select {
	case r.conns <- c:
	case <-r.done:
		c.Close()
	}
}

// Accept implements net.Listener.
func (r *rest) Accept() (net.Conn, error) {
	select {
	case c := <-r.conns:
		return c, nil
	case <-r.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (r *rest) Close() error {
	r.once.Do(func() { close(r.done) })
	return nil
}

// Addr implements net.Listener.
func (r *rest) Addr() net.Addr { return r.addr }
