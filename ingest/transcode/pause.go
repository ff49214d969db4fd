package transcode

import "time"

// A pause grows with each failure that follows another.
type pause struct {
	first, limit time.Duration
	healthy      time.Duration // a success that lasted so long makes the next failure the first again; 0 is never
	last         time.Duration
}

// next returns how long to wait after a failure. lived is how long it went well before.
func (p *pause) next(lived time.Duration) time.Duration {
	if p.last == 0 || p.healthy > 0 && lived >= p.healthy {
		p.last = p.first
	} else {
		p.last = min(2*p.last, p.limit)
	}
	return p.last
}

// A watch tells a child that hangs from one that has nothing to do.
type watch struct {
	limit         time.Duration
	offered, tags int64
	quiet         time.Duration // how long it has been fed without giving anything
}

// tick is told what has gone in and come out since the child's start, each time that every has passed. It says whether
// the child hangs.
func (w *watch) tick(every time.Duration, offered, tags int64) bool {
	switch {
	case tags != w.tags:
		w.quiet = 0
	case offered != w.offered:
		w.quiet += every
	}
	w.offered, w.tags = offered, tags
	return w.quiet >= w.limit
}
