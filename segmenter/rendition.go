package segmenter

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"headwater/segmenter/media"
	"headwater/segmenter/store"
)

// A Rendition is one track of a Run, as a sequence of Windows. Reading takes no lock. Start, Append and Cut are called by
// whoever owns the rendition: one goroutine, that of the publication that feeds it.
type Rendition struct {
	ID   string // its path element: "video", "audio"
	Kind media.Kind
	Rung string // of the publication that it is called after; "" is the source, or several
	Run  *Run
	// Lower says that it is audio that has been made of another rendition of the run: no choice beside the others, but the same
	// with fewer bits.
	Lower bool

	window atomic.Pointer[Window]
	stats  renditionStats

	memoOnce sync.Once
	memo     any

	lastRate float64 // frame rate that was described last, 0: none; protected by Run.presMu

	// What follows belongs to the owner; it is changed while Run.mu is held, so that sibling edges are taken in order.
	list     []*Segment // retained, then listed
	first    int        // index in list of the first listed segment
	dead     int        // segments dropped from the array behind list since it was made
	until    []int64    // for list[:first]: where the live edge is, in ticks, when the segment may go
	cold     int        // list[:cold] are stored, or gaps
	listed   listing    // list[first:]
	inits    []use      // what list needs, in order; shared with Windows
	last     uint64     // the latest segment that needs the last of inits
	squeezed int        // how many segments were stored when the disk had failed for too long; 0: it has not
	longest  int64      // the longest that has been
	open     Open
	running  bool   // open is a segment to which parts are being added
	began    uint64 // see Window.Began
	nextPart int64  // decode time of the next part
	tail     int64  // where the latest part ends
	owner    *lane  // who feeds it now; nil: nobody, and it goes on as gaps while others do

	// A copy that outlives the process; protected by Run.mu. See keeper.
	disk    *store.File // nil: none
	number  int         // of the rendition, there
	diskMSN uint64      // the segment that the latest range of disk is of
	index   *store.Log  // of what is stored; nil: nothing has been yet
	base    uint64      // the segment that it begins with

	feed *feeder // of whoever feeds it
}

// Window returns the newest Window. It is never nil, but may hold no segment yet.
func (r *Rendition) Window() *Window { return r.window.Load() }

// Memo returns what make returned when it was first called for r: what is true of the rendition in all its Windows. It lives and dies
// with r.
func (r *Rendition) Memo(make func() any) any {
	r.memoOnce.Do(func() { r.memo = make() })
	return r.memo
}

// PartTarget is the run's part target in nanoseconds, 0 for a run without parts.
func (r *Rendition) PartTarget() int64 { return int64(r.Run.Config.PartTarget) }

// Init returns the initialization section of the newest media in w.
func (w *Window) Init() *Init {
	if w.Open.Init != nil {
		return w.Open.Init
	}
	return w.Segments[len(w.Segments)-1].Init
}

// InitByHash returns the initialization section of that name, if a segment in w, listed or retained, needs it.
func (w *Window) InitByHash(hash string) (*Init, bool) {
	if w.Open.Init != nil && w.Open.Init.Hash == hash {
		return w.Open.Init, true
	}
	for i := len(w.inits) - 1; i >= 0; i-- {
		if in := w.inits[i].init; in.Hash == hash {
			return in, true
		}
	}
	return nil, false
}

// Timescale is the number of ticks a second in which w's times are given. It does not change while a rendition lives on
// in one continuity run; see each Segment's Init for its own.
func (w *Window) Timescale() uint32 { return w.Init().Track.Timescale }

// A Start says how a segment begins.
type Start struct {
	MSN           uint64
	Time          int64 // presentation time on the run's timeline, ticks
	NextPart      int64 // decode time of its first part, ticks
	ProgramTime   int64 // Unix ns
	Discontinuity bool
	DiscSeq       uint64
	Init          *Init
}

// Start opens a segment on a rendition that has none open: its first, or the first after a pause. Like Append and Cut it does
// nothing once the run has ended: no segment follows EXT-X-ENDLIST (RFC 8216bis 4.4.3.4).
func (r *Rendition) Start(s Start) {
	r.Run.mu.Lock()
	defer r.Run.mu.Unlock()
	if r.Run.ended {
		return
	}
	if r.window.Load() == nil {
		r.began = s.MSN
	}
	r.begin(s)
	r.publish()
}

func (r *Rendition) begin(s Start) {
	r.open = Open{MSN: s.MSN, Discontinuity: s.Discontinuity, DiscSeq: s.DiscSeq, Init: s.Init, Start: s.Time, Time: s.ProgramTime}
	r.nextPart = s.NextPart
	r.running = true
	r.Run.noteBegin(r, &s)
}

// Append adds a part to the open segment and publishes it. It sets p's place in the segment and stores its chunk; p must not
// change afterwards. payload, the samples' data in order, is the caller's again on return.
func (r *Rendition) Append(p *Part, payload []byte) {
	p.MSN, p.Index = r.open.MSN, len(r.open.Parts)
	r.feed.store(p, r.open.Init.Track.ID, payload)
	r.attach(nil, p, r.feed.head, payload)
}

// attach adds p, whose chunk, head and payload, is stored, to the open segment, and publishes it. It says false when that segment
// is no longer open for whoever feeds the rendition.
func (r *Rendition) attach(by *lane, p *Part, head, payload []byte) bool {
	r.Run.mu.Lock()
	defer r.Run.mu.Unlock()
	if r.Run.ended {
		return true
	}
	if r.owner != by || !r.running || r.open.MSN != p.MSN {
		return false
	}
	r.Run.notePart(r, p, head, payload)
	r.add(p)
	if r.PartTarget() > 0 {
		r.publish()
	}
	return true
}

func (r *Rendition) add(p *Part) {
	r.open.Parts = append(r.open.Parts, p)
	r.nextPart = p.Time + p.Duration
	r.tail = r.nextPart
	r.stats.parts.Add(1)
	r.account(p.cost())
}

// Cut completes the open segment, which ends at presentation time end, and opens the next one, or with next nil none:
// a pause. A segment without parts becomes a gap.
func (r *Rendition) Cut(end int64, next *Start) {
	r.Run.mu.Lock()
	defer r.Run.mu.Unlock()
	if r.Run.ended {
		return
	}
	r.cut(end, next)
	r.publish()
}

// cut is Cut without the new Window. Run.mu is held.
func (r *Rendition) cut(end int64, next *Start) {
	r.Run.noteCut(r, end)
	s := r.open.segment(end)
	if s.Gap {
		r.stats.gaps.Add(1)
	}
	r.complete(s)
	r.close(s)
	if next != nil {
		r.begin(*next)
	}
}

// shownUntil is where the picture of an open segment with parts ends, ticks: where its decode times do, as its parts', or, where these
// are behind by more than frames are reordered (see cutter), when its last frame has been presented for as long as the shortest one, but
// for no longer than most altogether.
func (o *Open) shownUntil(most int64) int64 {
	last, shortest := int64(math.MinInt64), int64(math.MaxInt64)
	for _, p := range o.Parts {
		t := p.Time
		for i := range p.Samples {
			last = max(last, t+int64(p.Samples[i].CTO))
			shortest = min(shortest, int64(p.Samples[i].Duration))
			t += int64(p.Samples[i].Duration)
		}
	}
	end := o.Parts[len(o.Parts)-1].end()
	shown := min(last+shortest, max(o.Start+most, last+1))
	if end > o.Start && shown-end <= int64(o.Init.Track.Timescale)/4 {
		return end
	}
	return max(end, shown)
}

// segment is the open segment, complete, which ends at that time.
func (o *Open) segment(end int64) *Segment {
	s := &Segment{
		MSN: o.MSN, Discontinuity: o.Discontinuity, DiscSeq: o.DiscSeq, Init: o.Init,
		Start: o.Start, Duration: end - o.Start, Time: o.Time,
		Parts: o.Parts, Gap: len(o.Parts) == 0,
	}
	if !s.Gap {
		s.Independent = s.Parts[0].Samples[0].Sync
	}
	return s
}

// close leaves no segment open after s.
func (r *Rendition) close(s *Segment) {
	end := s.Start + s.Duration
	r.running = false
	scale := s.Init.Track.Timescale
	r.open = Open{MSN: s.MSN + 1, DiscSeq: s.DiscSeq, Init: s.Init, Start: end, Time: s.Time + media.Rescale(s.Duration, scale, media.Second)}
	r.Run.edge = max(r.Run.edge, media.Rescale(end, scale, media.Second))
}

// vacate ends the open segment, if there is one, and opens the one that b begins without media for it. Run.mu is held.
func (r *Rendition) vacate(b boundary) {
	at := media.Rescale(b.time, media.Second, r.open.Init.Track.Timescale)
	if r.running {
		at = r.mediaEnd(at)
	}
	r.vacateAt(b, at)
}

// vacateAt is vacate with the time where the gap begins, ticks.
func (r *Rendition) vacateAt(b boundary, at int64) {
	track := &r.open.Init.Track
	s := Start{MSN: b.msn, Time: at, NextPart: -1, ProgramTime: r.Run.Epoch + b.moved + media.Rescale(at, track.Timescale, media.Second),
		Discontinuity: b.disc, DiscSeq: b.discSeq, Init: r.open.Init}
	if r.running {
		r.cut(at, &s)
	} else {
		r.begin(s)
	}
	r.publish()
}

// mediaEnd is where the open segment ends when it ends at about t: audio where its media does, if that is not more than a frame
// away. In a playlist every segment begins where the one before it ends, also where media is missing.
func (r *Rendition) mediaEnd(t int64) int64 {
	t = max(t, r.open.Start+1)
	if end, ok := r.soundEnd(); ok && end > t-frameTicks(&r.open.Init.Track) {
		return end
	}
	return t
}

// soundEnd is where the media of the open segment ends, if it has any and is audio.
func (r *Rendition) soundEnd() (int64, bool) {
	n := len(r.open.Parts)
	if n == 0 || r.Kind != media.Audio {
		return 0, false
	}
	return r.open.Parts[n-1].end(), true
}

// frameTicks is how long an audio frame lasts.
func frameTicks(t *media.Track) int64 { return int64(max(t.FrameSamples, 1)) }

func (p *Part) end() int64 { return p.Time + p.Duration }

// complete appends s to the list, and lets go of what has left the playlist long enough ago.
func (r *Rendition) complete(s *Segment) {
	r.list = append(r.list, s)
	r.stats.segments.Add(1)
	r.measure(s)

	r.needs(s)
	r.listed.add(s, 1)
	r.longest = max(r.longest, r.listed.ticks)
	edge := s.Start + s.Duration
	r.slide(edge)
	r.unload(edge)
}

// slide takes what is too old from the playlist, and lets go of what has left it long enough ago.
func (r *Rendition) slide(edge int64) {
	cfg, scale := &r.Run.Config, r.open.Init.Track.Timescale
	least, longest, drop := media.Rescale(int64(cfg.WindowMin), media.Second, scale), r.longest, 0
	most := media.Rescale(int64(6*r.Run.limit()+memoryDVR), media.Second, scale)
	unkept := r.unkept(edge)
	switch {
	case unkept <= most:
		r.squeezed = 0
	case cfg.Event:
		r.Run.exhausted = true // an EVENT playlist loses nothing (RFC 8216bis 6.2.2): another run follows
	case r.cold > 0:
		// The disk fails. It may be full, and anyhow what follows what is stored must not fill the memory.
		if r.squeezed == 0 {
			r.squeezed = r.cold
		}
		drop = min(r.squeezed/squeezeOver+1, r.cold)
	default:
		least, longest = min(least, most), min(longest, most)
	}
	for !cfg.Event && (r.first < drop || len(r.list)-r.first > cfg.WindowSegments && r.listed.ticks-r.list[r.first].Duration >= least) {
		// A segment stays available for its own duration and that of the longest playlist it was in after it has left
		// (RFC 8216bis 6.2.2).
		gone := r.list[r.first]
		until := edge + longest + gone.Duration
		if cfg.Record > 0 && r.Run.hasDisk() {
			until = math.MaxInt64
		}
		r.until = append(r.until, until)
		r.listed.add(gone, -1)
		r.first++
	}
	for drop < r.first && (edge >= r.until[drop] || drop >= r.cold && edge-r.list[drop].Start > 2*most && unkept > most) {
		drop++
	}
	if drop > 0 {
		r.drop(drop)
	}
}

// drop lets go of the first n segments, which are not listed.
func (r *Rendition) drop(n int) {
	for _, s := range r.list[:n] {
		r.account(-s.cost())
	}
	// Windows share the array behind list, so it is never written to below its end: what has been dropped lives as long
	// as the array does. A short list is copied at once, a long one after every few, so that the cost of a segment does not
	// grow with the window.
	r.list = r.list[n:]
	r.until = r.until[n:]
	r.first -= n
	r.cold = max(r.cold-n, 0)
	if r.dead += n; len(r.list) <= shortList || 8*r.dead >= len(r.list) {
		r.list = append(make([]*Segment, 0, len(r.list)+len(r.list)/8+1), r.list...)
		r.dead = 0
	}
	if len(r.inits) > 1 && r.inits[0].last < r.list[0].MSN {
		r.inits = r.uses()
	}
}

// shortList is how many segments are not worth sparing a copy.
const shortList = 256

// cost is about how many bytes of memory a part takes: its chunk, its sample table, and itself.
func (p *Part) cost() int64 { return int64(p.Size()) + 16*int64(len(p.Samples)) + 512 }

func (s *Segment) cost() int64 {
	if s.Stored() {
		return storedCost
	}
	var n int64
	for _, p := range s.Parts {
		n += p.cost()
	}
	return n
}

// account notes that n bytes more are kept, for the rendition and for the origin.
func (r *Rendition) account(n int64) {
	r.stats.retained.Add(n)
	if s := r.Run.Stream; s != nil && s.origin != nil {
		s.origin.kept.Add(n)
		if n < 0 {
			s.origin.dropped.Add(-n)
		}
	}
}

// publish makes a new Window of the rendition's state and wakes whoever waits for one. Run.mu is held.
func (r *Rendition) publish() {
	r.Run.flush()
	old := r.window.Load()
	w := &Window{
		Rendition: r,
		Segments:  slices.Clip(r.list[r.first:]),
		retained:  slices.Clip(r.list),
		Open:      r.open,
		NextPart:  -1,
		next:      make(chan struct{}),

		Mixed:  r.listed.mixed,
		inits:  r.inits,
		ticks:  r.listed.ticks,
		stored: r.cold,
		media:  r.listed.media,
		Began:  r.began,

		Ended:          r.Run.ended,
		TargetDuration: r.Run.TargetDuration(),
		DiscSeq:        r.open.DiscSeq,
	}
	w.Open.Parts = slices.Clip(r.open.Parts)
	if r.PartTarget() <= 0 {
		w.Open.Parts = nil
	} else if r.running && !w.Ended {
		w.NextPart = r.nextPart
	}
	if len(w.Segments) > 0 {
		w.DiscSeq = w.Segments[0].DiscSeq
		if w.Segments[0].Discontinuity {
			w.DiscSeq--
		}
	} else if r.open.Discontinuity {
		w.DiscSeq--
	}
	rs := *r.Run.renditions.Load()
	if len(rs) > 1 {
		w.Siblings = make([]Edge, 0, len(rs)-1)
		for _, o := range rs {
			if o == r {
				continue
			}
			if ow := o.window.Load(); ow != nil && len(ow.Segments)+len(ow.Open.Parts) > 0 {
				w.Siblings = append(w.Siblings, ow.Edge())
			}
		}
	}
	done := old != nil && (w.Ended || w.LastMSN() != old.LastMSN() || w.Open.MSN != old.Open.MSN)
	if old == nil || done {
		w.whole = make(chan struct{})
	} else {
		w.whole = old.whole
	}
	r.window.Store(w)
	if old != nil {
		old.succ = w
		close(old.next)
	}
	if done {
		close(old.whole)
	}
	if r.open.Parts == nil { // a segment begins or ends: what a multivariant playlist says may have changed
		r.Run.version.Add(1)
	}
}
