package segmenter

import (
	"math"

	"headwater/segmenter/media"
)

// A lane leads one track of a publication into its rendition.
type lane struct {
	pub   *Publication
	rend  *Rendition
	init  *Init
	scale uint32 // the rendition's timescale, for life (ISO/IEC 23000-19, 7.3.4: one timescale in a switching set)
	in    uint32 // the input track's timescale
	off   int64  // from the input's times to the run's timeline, ticks

	queue  []boundary // segments that have begun and that this lane has not reached
	pulled uint64     // the number of the latest one that it knows
	floor  int64      // where another's media ends in the rendition, ticks

	// The open segment.
	open  bool
	feed  *feeder // the rendition's
	msn   uint64
	index int   // parts that it has
	tail  int64 // where they end; meaningful with index > 0
	start int64 // where it begins

	// Video.
	cut     *cutter
	reorder int64 // composition offset of the first key frame: added to every decode time, so that no edit list is needed
	strays  int   // samples in a row that are far off
	latest  int64 // decode time of the latest sample that was taken
	taken   bool  // there is one
	held    hold  // samples from a key frame on that has yet to be decided

	// Audio.
	grid   *grid
	astray bool // another lane feeds the rendition: with the same sound, or this one belongs elsewhere
}

func (l *lane) ticks(ns int64) int64 { return media.Rescale(ns, media.Second, l.scale) }
func (l *lane) nanos(t int64) int64  { return media.Rescale(t, l.scale, media.Second) }

// setTrack makes t the configuration of what follows.
func (l *lane) setTrack(t media.Track) {
	l.in = t.Timescale
	out := t
	out.Timescale = l.scale
	out.ID = 1
	if t.Kind == media.Audio {
		out.ID = 2
	}
	if l.init == nil || !sameConfig(&l.init.Track, &out) {
		l.init = newInit(out)
	}
	partMax := l.ticks(l.rend.PartTarget())
	l.strays = 0
	if t.Kind == media.Video {
		if l.cut == nil {
			l.cut = &cutter{}
		}
		l.cut.partMax = partMax
		// RTMP rounds to milliseconds: a part's two ends may each be off by one.
		l.cut.slack = l.ticks(2 * media.Second / 1000)
		l.cut.pace = pace{}
		if r := t.FrameRate; r.Num > 0 && r.Den > 0 {
			l.cut.pace.fixed = int64(math.Round(float64(l.scale) / r.Float()))
			l.cut.pace.nominal = l.cut.pace.fixed
		}
		return
	}
	if l.grid == nil {
		l.grid = &grid{}
	}
	l.grid.scale, l.grid.partMax = l.scale, partMax
	l.grid.frame = max(media.Rescale(int64(max(t.FrameSamples, 1)), t.Timescale, l.scale), 1)
}

func sameConfig(a, b *media.Track) bool {
	return a.Timescale == b.Timescale && a.ID == b.ID && a.Codec.Type == b.Codec.Type && string(a.Codec.Config) == string(b.Codec.Config)
}

// pull takes note of the boundaries that have been announced.
func (l *lane) pull() {
	run := l.rend.Run
	if run.last.Load() == l.pulled {
		return
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	l.queue = run.since(l.queue, l.pulled)
	l.pulled = run.last.Load()
}

// refloor returns where the media of whoever has fed the rendition ends, ticks.
func (l *lane) refloor() int64 {
	run := l.rend.Run
	run.mu.Lock()
	defer run.mu.Unlock()
	if x, ok := run.find(l.rend.ID); ok && x.owner != l { // which may be another's, who was quicker
		l.floor = x.tail
	}
	return l.floor
}

// enter begins b's segment at time from, with a part that decodes at next, and ends the one before it there. It says false
// when the segment is not to be had: another lane feeds the rendition, the segment has passed, or this lane's configuration
// is not the rendition's and has to wait for a discontinuity, which it asks for.
func (l *lane) enter(b boundary, from, next int64) bool {
	ok := l.begin(b, from, next)
	l.rend.Run.settle()
	return ok
}

func (l *lane) begin(b boundary, from, next int64) bool {
	run := l.rend.Run
	run.mu.Lock()
	defer run.mu.Unlock()
	l.open = false
	if x, ok := run.find(l.rend.ID); ok && x != l.rend {
		if x.open.Init.Track.Timescale != l.scale {
			l.astray = true
			return false
		}
		l.rend = x // another publication was quicker
	}
	if l.pub.paired.Load() && l.pub.gen == run.gen.Load() && run.yields(l, b, from) {
		return false
	}
	if b.torn {
		return false
	}
	r := l.rend
	l.astray = r.owner != nil && r.owner != l
	if l.astray || l.pub.gen != run.gen.Load() {
		return false
	}
	begun := r.window.Load() != nil
	if begun && r.open.Init.Hash != l.init.Hash && !b.disc {
		run.due = true
		return false
	}
	s := Start{
		MSN: b.msn, Time: from, NextPart: next, ProgramTime: run.Epoch + b.moved + l.nanos(from),
		Discontinuity: b.disc, DiscSeq: b.discSeq, Init: l.init,
	}
	switch {
	case run.ended:
	case !begun:
		if len(*run.renditions.Load()) >= MaxRenditions {
			l.pub.err = errRenditions
			return false
		}
		run.add(r)
		r.began = s.MSN
		r.begin(s)
		r.publish()
	case r.running && r.open.MSN == b.msn && len(r.open.Parts) == 0:
		if !b.disc { // the one before it ends where the gap would have begun
			s.Time, s.ProgramTime = r.open.Start, r.open.Time
		}
		r.begin(s)
		r.publish()
	case r.running && r.open.MSN+1 == b.msn && r.owner == l:
		r.cut(from, &s)
		r.publish()
	default:
		return false
	}
	r.owner, l.feed = l, r.feed
	l.open, l.msn, l.index, l.start = true, b.msn, 0, s.Time
	return true
}

// MaxRenditions is how many one run presents at most.
const MaxRenditions = 32

// leave gives the rendition up: from the latest boundary on it is a gap until some lane begins a segment.
func (l *lane) leave() {
	run := l.rend.Run
	run.mu.Lock()
	defer run.mu.Unlock()
	run.vacant(l)
}

// pass leaves b's segment without media. The lane goes on to wait for a later one.
func (l *lane) pass(b boundary) {
	r, run := l.rend, l.rend.Run
	run.mu.Lock()
	defer run.mu.Unlock()
	if r.owner != l || run.ended {
		return
	}
	run.advance(r, b.msn)
	l.open = r.open.MSN == b.msn
	l.msn, l.index, l.start = r.open.MSN, 0, r.open.Start
}

// publish appends a part to the rendition.
func (l *lane) publish(p *Part, payload []byte) {
	stats := &l.rend.stats
	if l.open {
		p.MSN, p.Index = l.msn, l.index
		l.feed.store(p, l.init.Track.ID, payload)
		l.open = l.rend.attach(l, p, l.feed.head, payload)
	}
	if !l.open { // too late: the segment is a gap by now
		l.lost(len(p.Samples))
		return
	}
	l.index++
	l.tail = p.end()
	stats.samples.Add(uint64(len(p.Samples)))
	stats.bytes.Add(uint64(len(payload)))
	if stats.retained.Load() > maxRetained {
		l.pub.err = media.Formatf(l.rend.ID, "takes more than %d MiB to keep", maxRetained>>20)
	} else if l.pub.stream.origin.full() {
		l.pub.err = errFull
	}
	if f := l.pub.stream.origin.OnPart; f != nil {
		f(l.rend, p)
	}
}

// resync lets the grid begin again with the next frame, wherever that is. What waits is published first, as far as it can be. A
// segment has no hole in it, and what was hinted to come next does not come: the next segment is the first with sound again.
func (l *lane) resync(arrived int64) {
	if l.grid.in > 0 {
		l.publish(l.grid.take(arrived))
	}
	l.lost(len(l.grid.rows))
	l.grid.reset()
	if l.open {
		l.leave()
	}
}

// follow puts the frames that wait into parts and segments, as far as the leader has decided where those begin.
func (l *lane) follow(arrived int64) {
	g, run := l.grid, l.rend.Run
	limit := int64(math.MaxInt64)
	if l.pub.leader != l || !run.leads(l.pub) {
		limit = l.ticks(run.decided.Load())
	}
	l.followTo(limit, g, arrived)
}

func (l *lane) followTo(limit int64, g *grid, arrived int64) {
	for {
		t, ok := g.next()
		if !ok {
			return
		}
		if l.pub.leader == l {
			l.pub.leadAudio(t)
		}
		l.pull()
		if len(l.queue) > 0 && t >= l.ticks(l.queue[0].time) {
			if l.waits(l.queue[0], arrived) {
				return
			}
			if !l.open {
				floor := l.refloor()
				if d := floor - t; floor > 0 && abs(d) <= g.frame/2 {
					g.move(d) // it goes on where another publication's audio ends
					t = floor
				} else if t < floor {
					g.skip() // that goes as far as this
					continue
				}
			}
			l.cross(t, arrived)
			continue
		}
		if t >= limit {
			return
		}
		if !l.open {
			if g.in > 0 {
				l.publish(g.take(arrived)) // dropped
				continue
			}
			g.skip() // before the first segment begins, or after the rendition was lost
			continue
		}
		if !g.fits() {
			l.publish(g.take(arrived))
			continue
		}
		if g.admit() {
			l.publish(g.take(arrived))
		}
	}
}

// cross begins the segments that have begun by t, where the next frame is. Those that have ended before it too are gaps.
func (l *lane) cross(t int64, arrived int64) {
	g := l.grid
	if g.in > 0 {
		l.publish(g.take(arrived))
	}
	b := l.queue[0]
	l.queue = append(l.queue[:0], l.queue[1:]...)
	if l.pub.leader == l {
		l.pub.alongside()
	}
	if len(l.queue) > 0 && t >= l.ticks(l.queue[0].time) {
		l.pass(b)
		return
	}
	from := t
	if at := l.ticks(b.time); t-at > g.frame {
		// Nothing came for a while: the segment begins where the others do, its media later.
		if from = max(at, l.floor); l.open {
			from = l.mediaEnd(at)
		}
	}
	l.enter(b, from, t)
}

// mediaEnd is where the open segment ends when it ends at about t: where its media ends, if that is within a frame of it. In
// a playlist every segment begins where the one before it ends, also where media is missing.
func (l *lane) mediaEnd(t int64) int64 {
	if l.index > 0 && l.tail > t-l.grid.frame {
		return l.tail
	}
	return max(t, l.start+1)
}

// finish publishes what waits of an audio track, as far as a time on the timeline.
func (l *lane) finish(end int64, arrived int64) {
	g := l.grid
	l.followTo(l.ticks(end), g, arrived)
	if g.in > 0 {
		l.publish(g.take(arrived))
	}
	g.reset()
}

// A hold keeps samples in order.
type hold struct {
	frames []frame
	data   []byte
	head   int // frames before this one have been taken
	from   int // and their data lies before this
	keys   int // of those that have not: key frames
}

// A frame is a video sample on the run's timeline.
type frame struct {
	dts, pts int64 // the rendition's ticks
	sync     bool
	arrived  int64
	clock    int64 // media.Sample.Clock
	data     []byte
	size     int // of data, in a hold
}

// Bounds on a hold.
const (
	maxHoldFrames = 1024
	maxHoldBytes  = 8 << 20
)

func (h *hold) empty() bool { return h.head == len(h.frames) }

// add keeps a copy of f. It says false if there is no room.
func (h *hold) add(f *frame) bool {
	if h.empty() {
		h.frames, h.data, h.head, h.from = h.frames[:0], reuse(h.data), 0, 0
	}
	if len(h.frames) >= maxHoldFrames || len(h.data)+len(f.data) > maxHoldBytes {
		if h.head == 0 {
			return false
		}
		h.data = h.data[:copy(h.data, h.data[h.from:])]
		h.frames = h.frames[:copy(h.frames, h.frames[h.head:])]
		h.head, h.from = 0, 0
		return h.add(f)
	}
	c := *f
	c.data, c.size = nil, len(f.data)
	h.data = append(h.data, f.data...)
	h.frames = append(h.frames, c)
	if f.sync {
		h.keys++
	}
	return true
}

// first returns the oldest frame; its data is good until the next call of add.
func (h *hold) first() frame {
	f := h.frames[h.head]
	f.data = h.data[h.from : h.from+f.size]
	return f
}

// forget drops what is held.
func (l *lane) forget() {
	l.lost(len(l.held.frames) - l.held.head)
	l.held.clear()
}

func (h *hold) drop() {
	if h.frames[h.head].sync {
		h.keys--
	}
	h.from += h.frames[h.head].size
	h.head++
}

func (h *hold) clear() { h.head, h.keys = len(h.frames), 0 }
