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

	mu   sync.Mutex  // protects what follows
	held map[any]int // by what is waited for: *segmenter.Rendition or, before it has any, *segmenter.Stream
}

// enter takes a place for a rendition or a stream.
func (g *gate) enter(what any) bool {
	if g.now.Add(1) > g.total {
		g.now.Add(-1)
		g.refused.Add(1)
		return false
	}
	g.mu.Lock()
	n := g.held[what]
	if n < g.each {
		if g.held == nil {
			g.held = map[any]int{}
		}
		g.held[what] = n + 1
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
func (g *gate) leave(what any) {
	defer g.now.Add(-1)
	g.mu.Lock()
	if n := g.held[what]; n > 1 {
		g.held[what] = n - 1
	} else {
		delete(g.held, what)
	}
	g.mu.Unlock()
}

// noWait is a context in which whatever has to be waited for fails at once.
var noWait = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// hold takes a place for what is waited for, a rendition or a stream, and calls wait with a context that ends when the client leaves, when the server drains, or after limit; late is the
// error for the last of these. The others, and being refused a place, are errors of this package. wait's own errors stay.
func (s *Server) hold(w *response, r *http.Request, what any, limit time.Duration, late error, wait func(context.Context) error) error {
	if s.draining.Load() {
		return errDraining
	}
	if !s.gate.enter(what) {
		return errCrowded
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	err := wait(ctx)
	cancelled := err != nil && ctx.Err() != nil
	cancel()
	s.gate.leave(what)
	w.held += time.Since(began)
	switch {
	case !cancelled:
		return err
	case s.draining.Load():
		return errDraining
	case r.Context().Err() != nil:
		return errLeft
	}
	return late
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
	run, err := st.AwaitReady(noWait)
	if err != segmenter.ErrNotReady {
		return run, err
	}
	err = s.hold(w, r, st, s.warmLimit(st.Run()), segmenter.ErrNotReady, func(ctx context.Context) (err error) {
		run, err = st.AwaitReady(ctx)
		return
	})
	return run, err
}

// awaitReady waits until the run can be played. One that has ended before never can.
func (s *Server) awaitReady(w *response, r *http.Request, run *segmenter.Run) error {
	if run.IsReady() {
		return nil
	}
	return s.hold(w, r, run.Stream, s.warmLimit(run), segmenter.ErrNotReady, func(ctx context.Context) error {
		for {
			var changed <-chan struct{} // a run ends with a last Window of each rendition that has begun
			if list := run.Renditions(); len(list) > 0 {
				changed = list[0].Window().Published()
			}
			if run.Ended() && !run.IsReady() {
				return segmenter.ErrNotReady
			}
			select {
			case <-run.Ready():
				return nil
			case <-changed:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

// awaitWindow returns the Window that answers a blocking request.
func (s *Server) awaitWindow(w *response, r *http.Request, rend *segmenter.Rendition, d *directives) (*segmenter.Window, error) {
	win, err := rend.Await(noWait, d.msn, d.part)
	if err != context.Canceled {
		return win, err
	}
	err = s.hold(w, r, rend, blockLimit(rend.Run.TargetDuration()), errHeld, func(ctx context.Context) (err error) {
		win, err = rend.Await(ctx, d.msn, d.part)
		return
	})
	return win, err
}

// awaitPart returns a part that is there or hinted.
func (s *Server) awaitPart(w *response, r *http.Request, rend *segmenter.Rendition, t int64) (*segmenter.Part, error) {
	p, err := rend.AwaitPart(noWait, t)
	if err != context.Canceled {
		return p, err
	}
	err = s.hold(w, r, rend, blockLimit(rend.Run.TargetDuration()), errHeld, func(ctx context.Context) (err error) {
		p, err = rend.AwaitPart(ctx, t)
		return
	})
	return p, err
}
