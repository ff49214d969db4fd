package ingest

import (
	"bytes"
	"cmp"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"headwater/segmenter/media"
)

// What a challenger keeps while it waits for its place: more than comes in DefaultTakeoverWait, and at least the longest message
// that a listener takes.
const (
	maxKeptBytes   = 16 << 20
	maxKeptSamples = 4096
)

// soundFlows is how much audio must have come, ns, where no video is announced: sound alone may be the sound of a picture whose
// configuration is late.
const soundFlows = 1 * media.Second

// beginWithin is how long a challenger may keep others from the place without anything that a player could begin with: longer than
// any group of pictures.
const beginWithin = 2 * time.Minute

// A challenger is the Writer of a publication that has to wait for its place: until something has come that a player can begin
// with, and then for the end of who has the place. What comes from there on it keeps, and hands to the Writer that is opened at
// last; after that it is that Writer. Its methods but Close do not block: a goroutine of its own waits, opens the Writer, which may
// take a while, and hands over, whether or not more comes.
type challenger struct {
	gate *Gate
	done chan struct{} // closed when run has returned

	// For run, which forgets them at its end: they lead to other connections.
	hold, old *admission // ours, and of who has the place; old is nil when we have it
	first     *challenger
	open      func() (Writer, error)

	// For the publisher's goroutine.
	w Writer // everything goes there; nil before run has caught up

	flows  chan struct{} // closed when a player could begin
	leaves chan struct{} // closed by Close

	mu       sync.Mutex // protects what follows
	tracks   []media.Track
	heard    bool // audio, for the first time at since, ticks
	since    int64
	keeping  bool   // what comes
	queue    []kept // while not keeping, the latest SetTracks or nothing
	bytes    int    // of queue
	opened   Writer
	caughtUp bool // opened has had everything that came
	err      error
	panicked any // run has; it is for the publisher's goroutine to end of that
}

// kept is a call of SetTracks, or of WriteSample.
type kept struct {
	tracks []media.Track
	track  int
	sample *media.Sample // nil: it is SetTracks
}

func (k *kept) size() (n int) {
	if k.sample != nil {
		return len(k.sample.Data)
	}
	for i := range k.tracks {
		n += len(k.tracks[i].Codec.Config)
	}
	return n
}

// challenge returns the Writer of a publication that has the place after old, and begins after first; either may be nil.
func (g *Gate) challenge(hold, old *admission, first *challenger, open func() (Writer, error)) *challenger {
	c := &challenger{gate: g, hold: hold, old: old, first: first, open: open,
		done: make(chan struct{}), flows: make(chan struct{}), leaves: make(chan struct{})}
	go c.run()
	return c
}

// settled says whether there is nothing to wait for any more.
func (c *challenger) settled() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// SetTracks implements Writer.
func (c *challenger) SetTracks(tracks []media.Track) error {
	if c.w == nil {
		if done, err := c.keep(kept{tracks: slices.Clone(tracks)}); done {
			return err
		}
	}
	return c.w.SetTracks(tracks)
}

// WriteSample implements Writer.
func (c *challenger) WriteSample(track int, s *media.Sample) error {
	if c.w == nil {
		if done, err := c.keep(kept{track: track, sample: s}); done {
			return err
		}
	}
	return c.w.WriteSample(track, s)
}

// Close implements Writer. It waits for a Target that has been called.
func (c *challenger) Close(reason error) (err error) {
	close(c.leaves)
	<-c.done
	if c.panicked != nil {
		defer panic(c.panicked)
	}
	if c.opened != nil {
		err = c.opened.Close(reason)
	}
	return cmp.Or(err, c.err)
}

// keep does with a call what there is to do, or says that it is one for w.
func (c *challenger) keep(k kept) (done bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.panicked != nil:
		v := c.panicked
		c.panicked = nil
		panic(v)
	case c.err != nil:
		return true, c.err
	case c.caughtUp:
		c.w = c.opened
		return false, nil
	}
	if k.sample == nil {
		c.tracks = k.tracks
	}
	if !c.keeping {
		if k.sample == nil {
			c.queue, c.bytes = append(c.queue[:0], k), k.size()
			return true, nil
		}
		if !c.begins(k.track, k.sample) {
			return true, nil
		}
		c.keeping = true
		close(c.flows)
	}
	if len(c.queue) >= maxKeptSamples || c.bytes+k.size() > maxKeptBytes {
		c.err = fmt.Errorf("%w, and more has come than is kept until it lets go", ErrInUse)
		c.gate.refused(c.err)
		return true, c.err
	}
	if k.sample != nil { // Data is the caller's
		s := *k.sample
		s.Data = bytes.Clone(s.Data)
		k.sample = &s
	}
	c.queue, c.bytes = append(c.queue, k), c.bytes+k.size()
	return true, nil
}

// begins says whether a player can begin with a sample.
func (c *challenger) begins(track int, s *media.Sample) bool {
	if track >= len(c.tracks) || !c.tracks[track].Ready() {
		return false
	}
	t := &c.tracks[track]
	if t.Kind == media.Video {
		return s.Sync
	}
	if track > 0 || slices.ContainsFunc(c.tracks, func(t media.Track) bool { return t.Kind == media.Video }) {
		return false
	}
	if !c.heard || s.DTS < c.since {
		c.heard, c.since = true, s.DTS
	}
	return media.Rescale(s.DTS-c.since, t.Timescale, media.Second) >= soundFlows
}

// run waits for the place, opens the Writer and catches up with what has been kept.
func (c *challenger) run() {
	defer close(c.done)
	defer func() {
		c.hold, c.old, c.first, c.open = nil, nil, nil, nil
		if v := recover(); v != nil {
			c.mu.Lock()
			c.panicked = fmt.Sprintf("%v\n%s", v, debug.Stack())
			c.mu.Unlock()
		}
	}()
	if !c.await() {
		return
	}
	c.mu.Lock()
	c.keeping = true
	c.mu.Unlock()
	w, err := c.open()
	if err != nil {
		c.refuse(err)
		return
	}
	c.mu.Lock()
	c.opened = w
	c.mu.Unlock()
	for k, ok := c.next(); ok; k, ok = c.next() {
		if k.sample == nil {
			err = w.SetTracks(k.tracks)
		} else {
			err = w.WriteSample(k.track, k.sample)
		}
		if err != nil {
			c.fail(err)
			return
		}
	}
}

// next takes what is to be handed over next out of the queue. Where there is nothing, everything has been.
func (c *challenger) next() (k kept, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.queue, c.caughtUp = nil, true
		return k, false
	}
	k, c.queue[0] = c.queue[0], k
	c.queue = c.queue[1:]
	c.bytes -= k.size()
	return k, true
}

// await waits until the connection's first track is through, and the publication has its place: a track by itself ends nobody. It says
// false if the publication is over before that.
func (c *challenger) await() bool {
	if c.first != nil {
		select {
		case <-c.first.done:
			if err := c.first.through(); err != nil {
				c.giveUp()
				c.fail(err)
				return false
			}
		case <-c.leaves:
			c.giveUp()
			return false
		}
	}
	return c.old == nil || c.succeed()
}

// through says with an error that a publication which is settled has not come about.
func (c *challenger) through() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opened != nil {
		return nil
	}
	return cmp.Or(c.err, errNotFirst)
}

var errNotFirst = fmt.Errorf("%w, and so the connection's first track has not begun", ErrInUse)

// giveUp leaves the place, or the wait for it.
func (c *challenger) giveUp() {
	if c.old == nil || !c.gate.withdraw(c.hold, c.old) {
		c.hold.free()
	}
}

// succeed waits for the end of who has the place, and brings it about once a player can begin with what comes.
func (c *challenger) succeed() bool {
	flows := c.flows
	late := time.After(beginWithin)
	for {
		select {
		case <-c.old.done:
			if flows == nil {
				c.gate.stats.takeovers.Add(1)
			}
			return true
		case <-flows:
			select {
			case <-c.old.done: // it has left by itself
				return true
			default:
			}
			flows = nil
			late = time.After(cmp.Or(c.gate.TakeoverWait, DefaultTakeoverWait))
			if c.old.kick != nil {
				c.old.kick(ErrKicked)
			}
		case <-late:
			if !c.gate.withdraw(c.hold, c.old) { // it is our place by a hair
				late = nil
				continue
			}
			err := fmt.Errorf("%w, and does not let go of it", ErrInUse)
			if flows != nil {
				err = fmt.Errorf("%w, and nothing has come in %v to take over with: send key frames, or announce no video", ErrInUse, beginWithin)
			}
			c.refuse(err)
			return false
		case <-c.leaves:
			c.giveUp()
			return false
		}
	}
}

// refuse ends a publication that does not come about.
func (c *challenger) refuse(err error) {
	c.gate.refused(err)
	c.fail(err)
}

// fail has the publisher told with what it does next.
func (c *challenger) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}
