package segmenter

import (
	"math"

	"headwater/segmenter/media"
)

// A boundary is where a segment begins in all renditions: at the first frame from time on, in those that do not lead.
type boundary struct {
	msn     uint64
	time    int64 // presentation time on the run's timeline, ns
	disc    bool
	discSeq uint64
}

// A lane leads one track of a publication into its rendition.
type lane struct {
	pub   *Publication
	rend  *Rendition
	init  *Init
	scale uint32 // the rendition's timescale, for life (ISO/IEC 23000-19, 7.3.4: one timescale in a switching set)
	in    uint32 // the input track's timescale
	off   int64  // from the input's times to the run's timeline, ticks

	// Video, which leads.
	cut     *cutter
	reorder int64 // composition offset of the first key frame: added to every decode time, so that no edit list is needed
	strays  int   // samples in a row that are far off

	// Audio.
	grid   *grid
	open   bool       // the rendition has an open segment
	joined bool       // a segment of this continuity run is complete
	end    int64      // where it ended
	queue  []boundary // segments that the leader has begun and this lane has not
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

func (l *lane) start(b boundary, t, nextPart int64) Start {
	return Start{
		MSN: b.msn, Time: t, NextPart: nextPart, ProgramTime: l.rend.Run.Epoch + l.nanos(t),
		Discontinuity: b.disc, DiscSeq: b.discSeq, Init: l.init,
	}
}

// resync lets the grid begin again with the next frame, wherever that is. What waits is published first, as far as it can be.
func (l *lane) resync(arrived int64) {
	if l.grid.in > 0 {
		l.publish(l.grid.take(arrived))
	}
	l.rend.stats.dropped.Add(uint64(len(l.grid.rows)))
	l.grid.reset()
}

// publish appends a part to the rendition.
func (l *lane) publish(p *Part, payload []byte) {
	l.rend.stats.samples.Add(uint64(len(p.Samples)))
	l.rend.stats.bytes.Add(uint64(len(payload)))
	l.rend.Append(p, payload)
	if l.rend.stats.retained.Load() > maxRetained {
		l.pub.err = media.Formatf(l.rend.ID, "takes more than %d MiB to keep", maxRetained>>20)
	} else if l.pub.stream.origin.full() {
		l.pub.err = errFull
	}
	if f := l.pub.stream.origin.OnPart; f != nil {
		f(l.rend, p)
	}
}

// complete cuts the rendition and notes how far the run has come.
func (l *lane) complete(end int64, next *Start) {
	l.rend.Cut(end, next)
	l.open, l.end, l.joined = next != nil, end, true
	run := l.rend.Run
	run.edge = max(run.edge, l.nanos(end))
	run.settle()
}

// follow puts the frames that wait into parts and segments, as far as the leader's progress, in ticks, allows.
func (l *lane) follow(limit int64, arrived int64) {
	g := l.grid
	for {
		t, ok := g.next()
		if !ok {
			return
		}
		if l.pub.leader == l {
			l.pub.leadAudio(t)
		}
		if len(l.queue) > 0 && t >= l.ticks(l.queue[0].time) {
			l.cross(t, arrived)
			continue
		}
		if !l.open {
			if len(l.queue) == 0 || t >= limit {
				return
			}
			g.skip() // before the first segment begins
			continue
		}
		if t >= limit {
			return
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
	if len(l.queue) > 1 && t >= l.ticks(l.queue[1].time) {
		l.skip(b)
		return
	}
	l.queue = append(l.queue[:0], l.queue[1:]...)
	from := t
	if !l.open && l.joined {
		from = l.end
	} else if at := l.ticks(b.time); t-at > g.frame && (l.open || l.joined) {
		from = l.mediaEnd(at) // nothing came for a while: the segment begins where the others do, its media later
	}
	s := l.start(b, from, t)
	if l.open {
		l.complete(from, &s)
		return
	}
	l.rend.Start(s)
	l.open = true
}

// mediaEnd is where the open segment ends when it ends at about t: where its media ends, if that is within a frame of it. In
// a playlist every segment begins where the one before it ends, also where media is missing.
func (l *lane) mediaEnd(t int64) int64 {
	frame := int64(l.scale) / 20
	if l.grid != nil {
		frame = l.grid.frame
	}
	if end, ok := l.lastEnd(); ok && end > t-frame {
		return end
	}
	return max(t, l.rend.open.Start+1)
}

// lastEnd is where the media of the open segment ends, if it has any.
func (l *lane) lastEnd() (int64, bool) {
	n := len(l.rend.open.Parts)
	if !l.open || n == 0 {
		return 0, false
	}
	p := l.rend.open.Parts[n-1]
	return p.Time + p.Duration, true
}

// endOpen ends the open segment, if there is one, at about t.
func (l *lane) endOpen(t int64) {
	if l.open {
		l.complete(l.mediaEnd(t), nil)
	}
}

// vacant opens the segment that b begins without any media for it. The one before it has ended.
func (l *lane) vacant(b boundary) {
	at := l.ticks(b.time)
	if l.joined {
		at = l.end
	}
	l.queue = append(l.queue[:0], l.queue[1:]...)
	l.rend.Start(l.start(b, at, -1))
	l.open = true
}

// skip makes a gap of the segment that b begins: no frame falls into it. Another boundary follows b in the queue.
func (l *lane) skip(b boundary) {
	l.endOpen(l.ticks(b.time))
	l.vacant(b)
	l.endOpen(l.ticks(l.queue[0].time))
}

// fill makes gaps of the segments that the leader has left behind while nothing came for this lane.
func (l *lane) fill(arrived int64) {
	for len(l.queue) > 2 {
		if l.grid != nil {
			if l.grid.in > 0 {
				l.publish(l.grid.take(arrived))
			}
			if len(l.grid.rows) == 0 {
				l.grid.synced = false
			}
		}
		l.skip(l.queue[0])
	}
}

// finish ends the lane's open segment at the leader's end: whatever waits is published as far as that, and every segment
// that the leader began is there.
func (l *lane) finish(end int64, arrived int64) {
	if l.grid != nil {
		l.follow(l.ticks(end), arrived)
		if l.grid.in > 0 {
			l.publish(l.grid.take(arrived))
		}
		l.grid.reset()
	}
	last := l.ticks(end)
	for len(l.queue) > 0 {
		b := l.queue[0]
		// What lags is missing at the end: the gap begins where the media ends, if it is not too long for a segment then.
		if e, ok := l.lastEnd(); ok && len(l.queue) == 1 && last > e && last-e <= l.ticks(int64(l.pub.most())) {
			l.complete(e, nil)
		} else {
			l.endOpen(l.ticks(b.time))
		}
		l.vacant(b)
	}
	if e, ok := l.lastEnd(); ok {
		l.complete(e, nil) // a discontinuity follows, or nothing
		return
	}
	l.endOpen(last)
}
