package segmenter

import (
	"slices"
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

	// What follows belongs to the owner; it is changed while Run.mu is held, so that sibling edges are taken in order.
	list     []*Segment // retained, then listed
	first    int        // index in list of the first listed segment
	dead     int        // segments dropped from the array behind list since it was made
	until    []int64    // for list[:first]: where the live edge is, in ticks, when the segment may go
	listed   int64      // ticks of list[first:]: the duration of the playlist
	longest  int64      // the longest that has been
	open     Open
	running  bool  // open is a segment to which parts are being added
	nextPart int64 // decode time of the next part
	tail     int64 // where the latest part ends
	owner    *lane // who feeds it now; nil: nobody, and it goes on as gaps while others do

	// The feeder's alone.
	file   *store.File
	marked uint64 // the segment that the file's latest range is of
	head   []byte // room for rendering a chunk's head
}

// renditionStats are counted by the owner and read by anybody.
type renditionStats struct {
	parts, segments, gaps, samples, bytes atomic.Uint64
	peak                                  atomic.Uint64 // bits a second, the largest so far
	mediaBytes                            atomic.Uint64 // bytes and ticks of the complete segments that hold media
	mediaTicks                            atomic.Int64
	retained                              atomic.Int64 // bytes held now
	dropped, adjusted                     atomic.Uint64
}

// A RenditionStats is a snapshot of a Rendition's counters, all since the run began except Retained.
type RenditionStats struct {
	Parts, Segments, Gaps uint64
	Samples, Bytes        uint64 // accepted from the encoder
	Dropped               uint64 // samples that could not be placed on the timeline
	Adjusted              uint64 // samples whose timestamp was moved to keep decode times rising
	Peak                  int    // bits a second: the largest rate over any run of segments of 0.5 to 1.5 target durations
	Average               int    // bits a second
	Retained              int64  // bytes kept in memory, about
}

// Stats returns the rendition's counters.
func (r *Rendition) Stats() RenditionStats {
	s := &r.stats
	out := RenditionStats{
		Parts: s.parts.Load(), Segments: s.segments.Load(), Gaps: s.gaps.Load(),
		Samples: s.samples.Load(), Bytes: s.bytes.Load(),
		Dropped: s.dropped.Load(), Adjusted: s.adjusted.Load(),
		Peak: int(s.peak.Load()), Retained: s.retained.Load(),
	}
	if t := s.mediaTicks.Load(); t > 0 {
		if w := r.window.Load(); w != nil {
			out.Average = int(float64(s.mediaBytes.Load()) * 8 * float64(w.Init().Track.Timescale) / float64(t))
		}
	}
	return out
}

// Window returns the newest Window. It is never nil, but may hold no segment yet.
func (r *Rendition) Window() *Window { return r.window.Load() }

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
	for i := len(w.retained) - 1; i >= 0; i-- {
		if in := w.retained[i].Init; in.Hash == hash {
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
	r.begin(s)
	r.publish()
}

func (r *Rendition) begin(s Start) {
	r.open = Open{MSN: s.MSN, Discontinuity: s.Discontinuity, DiscSeq: s.DiscSeq, Init: s.Init, Start: s.Time, Time: s.ProgramTime}
	r.nextPart = s.NextPart
	r.running = true
}

// Append adds a part to the open segment and publishes it. It sets p's place in the segment and stores its chunk; p must not
// change afterwards. payload, the samples' data in order, is the caller's again on return.
func (r *Rendition) Append(p *Part, payload []byte) {
	p.MSN, p.Index = r.open.MSN, len(r.open.Parts)
	r.store(p, r.open.Init.Track.ID, payload)
	r.attach(nil, p)
}

// store puts p's chunk into the file.
func (r *Rendition) store(p *Part, track uint32, payload []byte) {
	if p.MSN != r.marked {
		r.file.Mark() // segments are given back whole
		r.marked = p.MSN
	}
	r.head = p.appendHead(r.head[:0], track)
	p.head, p.chunk = len(r.head), r.file.Append(r.head, payload)
}

// attach adds p, whose chunk is stored, to the open segment, and publishes it. It says false when that segment is no longer
// open for whoever feeds the rendition.
func (r *Rendition) attach(by *lane, p *Part) bool {
	r.Run.mu.Lock()
	defer r.Run.mu.Unlock()
	if r.Run.ended {
		return true
	}
	if r.owner != by || !r.running || r.open.MSN != p.MSN {
		return false
	}
	r.open.Parts = append(r.open.Parts, p)
	r.nextPart = p.Time + p.Duration
	r.tail = r.nextPart
	r.stats.parts.Add(1)
	r.account(p.cost())
	if r.PartTarget() > 0 {
		r.publish()
	}
	return true
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
	o := &r.open
	s := &Segment{
		MSN: o.MSN, Discontinuity: o.Discontinuity, DiscSeq: o.DiscSeq, Init: o.Init,
		Start: o.Start, Duration: end - o.Start, Time: o.Time,
		Parts: o.Parts, Gap: len(o.Parts) == 0,
	}
	if s.Gap {
		r.stats.gaps.Add(1)
	} else {
		s.Independent = s.Parts[0].Samples[0].Sync
	}
	r.complete(s)
	r.running = false
	scale := s.Init.Track.Timescale
	r.open = Open{MSN: s.MSN + 1, DiscSeq: s.DiscSeq, Init: s.Init, Start: end, Time: s.Time + media.Rescale(s.Duration, scale, media.Second)}
	r.Run.edge = max(r.Run.edge, media.Rescale(end, scale, media.Second))
	if next != nil {
		r.begin(*next)
	}
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
	s := Start{MSN: b.msn, Time: at, NextPart: -1, ProgramTime: r.Run.Epoch + media.Rescale(at, track.Timescale, media.Second),
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

	cfg := &r.Run.Config
	edge := s.Start + s.Duration
	r.listed += s.Duration
	r.longest = max(r.longest, r.listed)
	least := media.Rescale(int64(cfg.WindowMin), media.Second, s.Init.Track.Timescale)
	for len(r.list)-r.first > cfg.WindowSegments && r.listed-r.list[r.first].Duration >= least {
		// A segment stays available for its own duration and that of the longest playlist it was in after it has left
		// (RFC 8216bis 6.2.2).
		gone := r.list[r.first]
		r.until = append(r.until, edge+r.longest+gone.Duration)
		r.listed -= gone.Duration
		r.first++
	}
	drop := 0
	for drop < r.first && edge >= r.until[drop] {
		r.account(-r.list[drop].cost())
		drop++
	}
	if drop > 0 {
		// Windows share the array behind list, so it is never written to below its end: what has been dropped lives as long
		// as the array does. A short list is copied at once, a long one after every few, so that the cost of a segment does not
		// grow with the window.
		r.list = r.list[drop:]
		r.until = slices.Clone(r.until[drop:])
		r.first -= drop
		if r.dead += drop; len(r.list) <= shortList || 8*r.dead >= len(r.list) {
			r.list = append(make([]*Segment, 0, len(r.list)+len(r.list)/8+1), r.list...)
			r.dead = 0
		}
	}
}

// shortList is how many segments are not worth sparing a copy.
const shortList = 256

// cost is about how many bytes of memory a part takes: its chunk, its sample table, and itself.
func (p *Part) cost() int64 { return int64(p.Size()) + 16*int64(len(p.Samples)) + 512 }

func (s *Segment) cost() int64 {
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

// maxMeasured bounds how many segments are looked at to find the peak bit rate.
const maxMeasured = 64

// measure updates the peak bit rate: the largest over any contiguous run of segments that lasts 0.5 to 1.5 target
// durations (RFC 8216bis 4.4.6.2). Only runs that end with s are new.
func (r *Rendition) measure(s *Segment) {
	if s.Gap {
		return
	}
	ts := float64(s.Init.Track.Timescale)
	td := float64(max(r.Run.TargetDuration(), 1))
	r.stats.mediaBytes.Add(uint64(s.Size()))
	r.stats.mediaTicks.Add(s.Duration)
	var bytes, dur float64
	for i := len(r.list) - 1; i >= max(len(r.list)-maxMeasured, 0) && !r.list[i].Gap; i-- {
		bytes += float64(r.list[i].Size())
		dur += float64(r.list[i].Duration) / ts
		if dur > 1.5*td && i < len(r.list)-1 {
			break
		}
		if dur >= 0.5*td {
			if rate := uint64(bytes * 8 / dur); rate > r.stats.peak.Load() {
				r.stats.peak.Store(rate)
			}
		}
	}
	if r.stats.peak.Load() == 0 && dur > 0 { // a short first segment is better than no figure
		r.stats.peak.Store(uint64(bytes * 8 / dur))
	}
}

// publish makes a new Window of the rendition's state and wakes whoever waits for one. Run.mu is held.
func (r *Rendition) publish() {
	old := r.window.Load()
	w := &Window{
		Rendition: r,
		Segments:  slices.Clip(r.list[r.first:]),
		retained:  slices.Clip(r.list),
		Open:      r.open,
		NextPart:  -1,
		next:      make(chan struct{}),

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
	r.window.Store(w)
	if old != nil {
		old.succ = w
		close(old.next)
	}
	if r.open.Parts == nil { // a segment begins or ends: what a multivariant playlist says may have changed
		r.Run.version.Add(1)
	}
}
