package web

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"headwater/segmenter"
)

// A gate counts the requests that are held, and bounds them.
type gate struct {
	total int64
	each  int

	now     atomic.Int64
	refused atomic.Uint64

	mu   sync.Mutex // protects held
	held map[*segmenter.Stream]int
}

// enter takes a place for a stream.
func (g *gate) enter(st *segmenter.Stream) bool {
	if g.now.Add(1) > g.total {
		g.now.Add(-1)
		g.refused.Add(1)
		return false
	}
	g.mu.Lock()
	n := g.held[st]
	if n < g.each {
		if g.held == nil {
			g.held = map[*segmenter.Stream]int{}
		}
		g.held[st] = n + 1
	}
	g.mu.Unlock()
	if n >= g.each {
		g.now.Add(-1)
		g.refused.Add(1)
		return false
	}
	return true
}

// leave gives the place back. Nothing is kept of what nobody waits for.
func (g *gate) leave(st *segmenter.Stream) {
	defer g.now.Add(-1)
	g.mu.Lock()
	if n := g.held[st]; n > 1 {
		g.held[st] = n - 1
	} else {
		delete(g.held, st)
	}
	g.mu.Unlock()
}

// Holds says whether requests are held now.
func (s *Server) Holds() bool { return s.gate.now.Load() > 0 }

// lateTick is within what all whose time is up are told at once.
const lateTick = 100 * time.Millisecond

// alarms tell requests that their time is up: one timer for all of the same tick, where each would otherwise need its own.
type alarms struct {
	mu sync.Mutex              // protects at
	at map[int64]chan struct{} // by lateTick since the Unix epoch
}

// after returns a channel that is closed when limit has passed, or a tick later.
func (a *alarms) after(limit time.Duration) <-chan struct{} {
	now := time.Now()
	tick := now.Add(limit+lateTick-1).UnixNano() / int64(lateTick)
	a.mu.Lock()
	defer a.mu.Unlock()
	ch, ok := a.at[tick]
	if !ok {
		ch = make(chan struct{})
		if a.at == nil {
			a.at = map[int64]chan struct{}{}
		}
		a.at[tick] = ch
		time.AfterFunc(time.Unix(0, tick*int64(lateTick)).Sub(now), func() {
			a.mu.Lock()
			delete(a.at, tick)
			a.mu.Unlock()
			close(ch)
		})
	}
	return ch
}

// noWait is a context in which whatever has to be waited for fails at once.
var noWait = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// hold takes a place for the stream of which something is waited for, and calls wait with a context that ends when the client
// leaves or the server drains, and a channel that is closed after limit. Both ends, and being refused a place, are errors of
// this package, the second of them the error late. wait's own errors stay.
func (s *Server) hold(w *response, r *http.Request, st *segmenter.Stream, limit time.Duration, late error, wait func(context.Context, <-chan struct{}) error) error {
	if s.draining.Load() {
		return errDraining
	}
	if !s.gate.enter(st) {
		return errCrowded
	}
	began := time.Now()
	ctx := r.Context()
	err := func() error {
		defer s.gate.leave(st) // a panic is answered, and must not keep the place
		return wait(ctx, s.alarms.after(limit))
	}()
	w.held += time.Since(began)
	switch {
	case err == nil:
		return nil
	case err == segmenter.ErrLate:
		return late
	case ctx.Err() == nil:
		return err
	case s.draining.Load():
		return errDraining
	}
	return errLeft
}

// blockLimit is how long a request may be held for what a playlist has announced: three target durations (RFC 8216bis
// 6.2.5.2).
func blockLimit(td int) time.Duration { return 3 * time.Duration(max(td, 1)) * time.Second }

// warmLimit is how long a request is held for a stream that is not ready: three target durations, or for as long as the
// first group of pictures may take to settle what the target duration is.
func (s *Server) warmLimit(run *segmenter.Run) time.Duration {
	if run == nil {
		return s.WarmUp
	}
	limit := blockLimit(run.TargetDuration())
	if run.Config.LongGOP == segmenter.Stretch {
		limit = max(limit, s.WarmUp)
	}
	return limit
}

// readyRun returns the stream's current run, when it can be played.
func (s *Server) readyRun(w *response, r *http.Request, st *segmenter.Stream) (*segmenter.Run, error) {
	run, err := st.AwaitReady(noWait, nil)
	if err != segmenter.ErrNotReady {
		return run, err
	}
	err = s.hold(w, r, st, s.warmLimit(st.Run()), segmenter.ErrNotReady, func(ctx context.Context, late <-chan struct{}) (err error) {
		run, err = st.AwaitReady(ctx, late)
		return
	})
	return run, err
}

// awaitReady waits until the run can be played. One that has ended before never can.
func (s *Server) awaitReady(w *response, r *http.Request, run *segmenter.Run) error {
	if run.IsReady() {
		return nil
	}
	return s.hold(w, r, run.Stream, s.warmLimit(run), segmenter.ErrNotReady, func(ctx context.Context, late <-chan struct{}) error {
		select {
		case <-run.Ready():
			return nil
		case <-run.Over():
			if run.IsReady() {
				return nil
			}
			return segmenter.ErrNotReady
		case <-late:
			return segmenter.ErrNotReady
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

// fed says with an error that a run's live playlists are not to be had: nothing comes in, and it is set that others are to be asked
// then.
func fed(run *segmenter.Run) error {
	if run.Config.FailStarved && run.Starved(time.Now()) {
		return errStarved
	}
	return nil
}

// awaitWindow returns the Window that answers a blocking request.
func (s *Server) awaitWindow(w *response, r *http.Request, rend *segmenter.Rendition, d *directives) (*segmenter.Window, error) {
	win, err := rend.Await(noWait, nil, d.msn, d.part)
	if err != context.Canceled {
		return win, err
	}
	err = s.hold(w, r, rend.Run.Stream, blockLimit(rend.Run.TargetDuration()), errHeld, func(ctx context.Context, late <-chan struct{}) (err error) {
		win, err = rend.Await(ctx, late, d.msn, d.part)
		return
	})
	return win, err
}

// awaitPart returns a part that is there or hinted.
func (s *Server) awaitPart(w *response, r *http.Request, rend *segmenter.Rendition, t int64) (*segmenter.Part, error) {
	p, err := rend.AwaitPart(noWait, nil, t)
	if err != context.Canceled {
		return p, err
	}
	err = s.hold(w, r, rend.Run.Stream, blockLimit(rend.Run.TargetDuration()), errHeld, func(ctx context.Context, late <-chan struct{}) (err error) {
		p, err = rend.AwaitPart(ctx, late, t)
		return
	})
	return p, err
}
