package web

import (
	"container/list"
	"context"
	"errors"
	"runtime"
	"sync"
)

const (
	// tsCacheBytes bounds the MPEG-TS segments that are kept in memory, of all streams together: those least recently asked
	// for are dropped, and made again when they are asked for again.
	tsCacheBytes = 64 << 20
	// tsEntryBytes is what an entry takes beside the segment: enough that failures cannot fill the memory either.
	tsEntryBytes = 512
)

// A tsCache keeps segments by their entity tags. The zero tsCache is ready for use.
type tsCache struct {
	mu      sync.Mutex // protects what follows
	entries map[string]*tsEntry
	used    list.List // of *tsEntry whose bytes are there, most recently used first
	bytes   int       // of used

	once  sync.Once
	turns chan struct{} // a place for each segment that is being made
}

// A tsEntry is a segment that is there or is being made.
type tsEntry struct {
	tag  string
	at   *list.Element // nil while it is being made
	done chan struct{} // closed when what follows is set
	body []byte
	err  error // kept with it if permanent
}

// errNotMade is the error of an entry whose maker panicked.
var errNotMade = errors.New("the segment has not been made")

func (e *tsEntry) cost() int { return cap(e.body) + tsEntryBytes }

// size is how many bytes are kept.
func (c *tsCache) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// peek returns what get would, if that is there already.
func (c *tsCache) peek(tag string) (body []byte, ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[tag]
	if e == nil || e.at == nil {
		return nil, false, nil
	}
	c.used.MoveToFront(e.at)
	return e.body, true, e.err
}

// get returns what produce returned for that tag: it is called by the first who asks, and everybody who asks meanwhile waits
// for it. At most as many segments are being made at one time as there are processors. Waiting ends with ctx and its error;
// making does not, as others may want the segment.
func (c *tsCache) get(ctx context.Context, tag string, produce func() ([]byte, error)) ([]byte, error) {
	c.once.Do(func() { c.turns = make(chan struct{}, runtime.GOMAXPROCS(0)) })
	for {
		c.mu.Lock()
		e := c.entries[tag]
		if e == nil {
			e = &tsEntry{tag: tag, done: make(chan struct{}), err: errNotMade}
			if c.entries == nil {
				c.entries = map[string]*tsEntry{}
			}
			c.entries[tag] = e
			c.mu.Unlock()
			return c.fill(ctx, e, produce)
		}
		if e.at != nil {
			c.used.MoveToFront(e.at)
		}
		c.mu.Unlock()
		select {
		case <-e.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if errors.Is(e.err, context.Canceled) || errors.Is(e.err, context.DeadlineExceeded) {
			continue // the other one left before its turn
		}
		return e.body, e.err
	}
}

// fill makes e.
func (c *tsCache) fill(ctx context.Context, e *tsEntry, produce func() ([]byte, error)) ([]byte, error) {
	keep := false
	defer func() { c.finish(e, keep) }()
	select {
	case c.turns <- struct{}{}:
	case <-ctx.Done():
		e.err = ctx.Err()
		return nil, e.err
	}
	defer func() { <-c.turns }()
	e.body, e.err = produce()
	if e.err != nil {
		e.body = nil
	}
	keep = e.err == nil || permanent(e.err)
	return e.body, e.err
}

// finish lets everybody have e, keeps it if it may, and drops what there is no room for.
func (c *tsCache) finish(e *tsEntry, keep bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(e.done)
	if !keep || e.cost() > tsCacheBytes {
		delete(c.entries, e.tag)
		return
	}
	e.at = c.used.PushFront(e)
	c.bytes += e.cost()
	for c.bytes > tsCacheBytes {
		last := c.used.Back()
		old := c.used.Remove(last).(*tsEntry)
		c.bytes -= old.cost()
		delete(c.entries, old.tag)
	}
}
