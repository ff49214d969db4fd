package segmenter

import (
	"context"
	"errors"
	"sort"
	"sync"

	"headwater/segmenter/media"
)

// A Window is a rendition at one instant: what a Media Playlist shows. Nothing reachable from it ever changes, so it may
// be read from any number of goroutines and for as long as somebody likes.
type Window struct {
	Rendition *Rendition

	// Segments are the complete segments that are listed, oldest first.
	Segments []*Segment
	// Open is the segment whose parts are arriving; Open.Parts may be empty. When the run has ended it is meaningless.
	Open Open
	// DiscSeq is the Discontinuity Sequence Number of the first listed segment, less one if that segment itself carries
	// the discontinuity: the value of EXT-X-DISCONTINUITY-SEQUENCE (RFC 8216bis 4.4.3.3).
	DiscSeq uint64
	// NextPart is the decode time of the part that comes next, which is its name. While the publication lasts it will be
	// published in this segment or as the first of the following one (EXT-X-PRELOAD-HINT); -1 when nothing is to be hinted.
	NextPart int64
	// Began is the segment that the rendition began with; there was nothing of it before. 0: that is not known since a restart.
	Began uint64
	// Ended says that no segment will follow: EXT-X-ENDLIST.
	Ended bool
	// TargetDuration in whole seconds (RFC 8216bis 4.4.3.1), fixed for the run.
	TargetDuration int
	// Siblings are the edges of the run's other renditions when this Window was made, for EXT-X-RENDITION-REPORT.
	Siblings []Edge

	// Mixed is how many of Segments begin neither with a sync sample nor are gaps: with one there is no
	// EXT-X-INDEPENDENT-SEGMENTS.
	Mixed int

	retained []*Segment // Segments and, before them, those no longer listed but still to be served
	inits    []use      // that those need; of the last it does not say for how long
	ticks    int64      // how long Segments last together
	media    int        // how many of them are no gaps
	stored   int        // how many of retained are stored, or gaps before such

	memoOnce sync.Once
	memo     any

	next  chan struct{} // closed when succ is set
	succ  *Window
	whole chan struct{} // closed when the open segment no longer is; until then the same in every Window. Closed after next
}

// Open is a segment that is not complete yet.
type Open struct {
	MSN           uint64
	Discontinuity bool
	DiscSeq       uint64
	Init          *Init
	Start         int64 // ticks
	Time          int64 // Unix ns
	Parts         []*Part
}

// An Edge is how far a rendition had come: the Media Sequence Number of its last segment, and the index of the last part
// of it, as EXT-X-RENDITION-REPORT counts them (RFC 8216bis 4.4.5.4). Part is -1 for a rendition without parts.
type Edge struct {
	Rendition *Rendition
	MSN       uint64
	Part      int
}

// Edge is where w ends: the last part, or the last whole segment if the open one has no part yet.
func (w *Window) Edge() Edge {
	e := Edge{Rendition: w.Rendition, Part: -1}
	if n := len(w.Open.Parts); n > 0 && !w.Ended {
		e.MSN, e.Part = w.Open.MSN, n-1
		return e
	}
	if n := len(w.Segments); n > 0 {
		s := w.Segments[n-1]
		e.MSN = s.MSN
		if w.Rendition.PartTarget() > 0 {
			e.Part = max(len(s.Parts)-1, 0)
		}
	}
	return e
}

// alive says whether w has media: what is not fed goes on as gaps.
func (w *Window) alive() bool {
	if len(w.Open.Parts) > 0 && !w.Ended {
		return true
	}
	return w.media > 0
}

// Retained returns the complete segments that are still to be served, those that are no longer listed before those that are. The
// slice is shared and does not change.
func (w *Window) Retained() []*Segment { return w.retained }

// LastMSN is the Media Sequence Number of the last complete segment, 0 when there is none.
func (w *Window) LastMSN() uint64 {
	if n := len(w.Segments); n > 0 {
		return w.Segments[n-1].MSN
	}
	return 0
}

// Memo returns what render returned when it was first called for w. It is how a playlist is rendered at most once: the
// memo lives and dies with the Window. render must not call Memo.
func (w *Window) Memo(render func() any) any {
	w.memoOnce.Do(func() { w.memo = render() })
	return w.memo
}

// Segment returns the complete segment of that number if it is still to be served, listed or not.
func (w *Window) Segment(msn uint64) (*Segment, bool) {
	if len(w.retained) == 0 || msn < w.retained[0].MSN || msn-w.retained[0].MSN >= uint64(len(w.retained)) {
		return nil, false
	}
	return w.retained[msn-w.retained[0].MSN], true
}

// Part returns the part whose decode time is t, in ticks, if it is still to be served.
func (w *Window) Part(t int64) (*Part, bool) {
	parts := w.Open.Parts
	if len(parts) == 0 || t < parts[0].Time {
		i := sort.Search(len(w.retained), func(i int) bool {
			ps := w.retained[i].Parts
			return len(ps) > 0 && ps[0].Time > t || len(ps) == 0 && w.retained[i].Start > t
		})
		if i == 0 {
			return nil, false
		}
		parts = w.retained[i-1].Parts
	}
	i := sort.Search(len(parts), func(i int) bool { return parts[i].Time >= t })
	if i == len(parts) || parts[i].Time != t {
		return nil, false
	}
	return parts[i], true
}

// holds says whether w contains the part, or with part < 0 the complete segment, that a blocking request names, or
// something later (RFC 8216bis 6.2.5.2).
func (w *Window) holds(msn uint64, part int) bool {
	last := w.LastMSN()
	if msn <= last && len(w.Segments) > 0 {
		if part < 0 || msn < last {
			return true
		}
		// A part past the end of the finished segment means the first part of the one that follows.
		if part < len(w.Segments[len(w.Segments)-1].Parts) {
			return true
		}
		return len(w.Open.Parts) > 0
	}
	return part >= 0 && msn == w.Open.MSN && part < len(w.Open.Parts)
}

// Errors of Await, AwaitPart and Origin look-ups.
var (
	// ErrTooFar: the request names something further ahead than a client may ask for (RFC 8216bis 6.2.5.2).
	ErrTooFar = errors.New("too far ahead of the live edge")
	// ErrNotFound: not here, and not about to be.
	ErrNotFound = errors.New("not found")
	// ErrLate: it has been waited for as long as the caller wanted to.
	ErrLate = errors.New("not published in time")
	// ErrNotReady: it has been waited for as long as is sensible and is still not there.
	ErrNotReady = errors.New("not ready")
)

// tooFar says whether a blocking request lies beyond what RFC 8216bis 6.2.5.2 lets a client ask for: more than two
// segments ahead of the last one, or more parts ahead than the Advance Part Limit (three seconds' worth, at least three).
func (w *Window) tooFar(msn uint64, part int) bool {
	last := max(w.LastMSN(), w.Open.MSN-1)
	if msn > last+2 {
		return true
	}
	pt := w.Rendition.PartTarget()
	if part < 0 || pt <= 0 || msn <= last {
		return false
	}
	limit := 3
	if pt < media.Second {
		limit = int((3*media.Second + pt - 1) / pt)
	}
	ahead := part - (len(w.Open.Parts) - 1)
	if msn > w.Open.MSN {
		// Part 0 of the next segment comes after whatever is left of the open one, of which at least nothing.
		ahead = part + 1
	}
	return ahead > limit
}

// Await returns the first Window that holds that part, or with part < 0 that complete segment: the same one to everybody
// who asks for the same thing while it is in the future, so that identical requests can be given identical bytes. What
// lies in the past is answered with the newest Window at once. An ended Window answers everything. The error is ErrTooFar,
// ctx's, or ErrLate when late is closed; a nil late never is. (A context with a deadline would do, but each costs a timer and
// a place in its parent, and those who wait for one thing come by the thousand.)
func (r *Rendition) Await(ctx context.Context, late <-chan struct{}, msn uint64, part int) (*Window, error) {
	w := r.window.Load()
	if w.Ended || w.holds(msn, part) {
		return w, nil
	}
	if w.tooFar(msn, part) {
		return nil, ErrTooFar
	}
	for {
		if err := ctx.Err(); err != nil { // whoever only looks is not to queue up with those who wait
			return nil, err
		}
		published := w.next
		if part < 0 || msn > w.Open.MSN {
			published = w.whole // before that it is not there
		}
		select {
		case <-published:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late:
			return nil, ErrLate
		}
		if w = w.succ; w.Ended || w.holds(msn, part) {
			return w, nil
		}
	}
}

// AwaitPart returns the part whose decode time is t: at once if it is there, when it is published if it is the one hinted
// (RFC 8216bis 6.2.6). The error is ErrNotFound, at once, for a part that is neither or whose hint is abandoned; or ctx's, or
// ErrLate, as with Await.
func (r *Rendition) AwaitPart(ctx context.Context, late <-chan struct{}, t int64) (*Part, error) {
	w := r.window.Load()
	for {
		if p, ok := w.Part(t); ok {
			return p, nil
		}
		if w.NextPart != t {
			return nil, ErrNotFound
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		select {
		case <-w.next:
			w = w.succ
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late:
			return nil, ErrLate
		}
	}
}

// Published is closed when a newer Window has taken w's place.
func (w *Window) Published() <-chan struct{} { return w.next }
