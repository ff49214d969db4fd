package main

import (
	"container/heap"
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// retryBlocked is when to try again after a socket had no room.
	retryBlocked = 5 * time.Millisecond
	// maxBehind is how far a publisher may fall behind a server that does not read before it gives up.
	maxBehind = 10 * time.Second
)

var errBehind = errors.New("server reads too slowly: more than 10 s behind")

// A sink takes bytes without waiting; fewer than offered means that there is no room now.
type sink interface {
	tryWrite([]byte) (int, error)
	pong() []byte
}

// A cursor is one publisher's place in the stream that all share. It keeps absolute deadlines: a late write does not
// delay the next one.
type cursor struct {
	s      *stream
	out    sink
	start  time.Time
	round  int64
	i      int    // the packet that is next
	rest   []byte // what is left of the one being sent, or of a pong before it
	inside bool   // rest belongs to packet i
	frames int64  // video packets sent
	bytes  int64
	late   *durations
	// onVideo, if set, is told when the write began that took the last byte of video frame n.
	onVideo func(n int64, at time.Time)
}

// due is when packet i is to be sent.
func (c *cursor) due() time.Time {
	return c.start.Add(time.Duration(c.round)*c.s.period + c.s.packets[c.i].at)
}

// step sends what is due at now and returns when to call again.
func (c *cursor) step(now func() time.Time) (time.Time, error) {
	for {
		due := c.due()
		if len(c.rest) == 0 && !c.inside {
			t := now()
			if t.Before(due) {
				return due, nil
			}
			if t.Sub(due) > maxBehind {
				return t, errBehind
			}
			if c.rest = c.out.pong(); len(c.rest) == 0 {
				c.rest, c.inside = c.s.packets[c.i].bytes, true
			}
		}
		began := due
		if c.onVideo != nil {
			began = now()
		}
		n, err := c.out.tryWrite(c.rest)
		c.bytes += int64(n)
		if err != nil {
			return due, err
		}
		if c.rest = c.rest[n:]; len(c.rest) > 0 {
			t := now()
			if t.Sub(due) > maxBehind {
				return t, errBehind
			}
			return t.Add(retryBlocked), nil
		}
		if !c.inside {
			continue
		}
		c.inside = false
		t := now()
		c.late.add(t.Sub(due))
		if c.s.packets[c.i].video {
			if c.onVideo != nil {
				c.onVideo(c.frames, began)
			}
			c.frames++
		}
		if c.i++; c.i == len(c.s.packets) {
			c.i, c.round = 0, c.round+1
		}
	}
}

// A pacer drives many cursors from one goroutine: the one that is due next is at the top of its heap.
type pacer struct {
	queue []*paced
	join  chan *paced // new ones; unbuffered
	late  durations
}

type paced struct {
	cursor
	pub  *publisher
	name string
	next time.Time
	end  func(p *paced, err error) // called once from the pacer's goroutine; nil is the run's end
}

func (p *pacer) Len() int           { return len(p.queue) }
func (p *pacer) Less(i, j int) bool { return p.queue[i].next.Before(p.queue[j].next) }
func (p *pacer) Swap(i, j int)      { p.queue[i], p.queue[j] = p.queue[j], p.queue[i] }
func (p *pacer) Push(x any)         { p.queue = append(p.queue, x.(*paced)) }
func (p *pacer) Pop() any {
	last := p.queue[len(p.queue)-1]
	p.queue = p.queue[:len(p.queue)-1]
	return last
}

// run paces until ctx ends, then ends every publisher cleanly.
func (p *pacer) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := time.Hour
		if len(p.queue) > 0 {
			wait = time.Until(p.queue[0].next)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			for _, c := range p.queue {
				c.finish(nil)
			}
			return
		case c := <-p.join:
			c.late = &p.late
			c.start = time.Now()
			c.next = c.start
			heap.Push(p, c)
		case <-timer.C:
			c := p.queue[0]
			var err error
			if dead := c.pub.dead.Load(); dead != nil {
				err = *dead
			} else {
				c.next, err = c.step(time.Now)
			}
			if err != nil {
				heap.Pop(p)
				c.finish(err)
				continue
			}
			heap.Fix(p, 0)
		}
	}
}

func (c *paced) finish(err error) {
	c.pub.close(c.name, err == nil && !(c.inside && len(c.rest) < len(c.s.packets[c.i].bytes)))
	c.end(c, err)
}

// A pool spreads publishers over a few pacers.
type pool struct {
	pacers []*pacer
	wg     sync.WaitGroup
}

func newPool(ctx context.Context, n int) *pool {
	pl := &pool{}
	for range n {
		p := &pacer{join: make(chan *paced)}
		pl.pacers = append(pl.pacers, p)
		pl.wg.Go(func() { p.run(ctx) })
	}
	return pl
}

// late merges how late the writes were; only after the pacers have ended.
func (pl *pool) late() *durations {
	var d durations
	for _, p := range pl.pacers {
		d.merge(&p.late)
	}
	return &d
}
