package segmenter

import (
	"math"
	"time"

	"headwater/segmenter/media"
)

// Time in which nothing comes. A live playlist gets a new segment within one and a half target durations of the last (RFC 8216bis
// 6.2.1), and where the media is missing that segment is a gap (4.4.4.7): so the dates in the playlist stay those of the wall clock,
// and nobody takes an origin that waits for its encoder for one that has died.

// maxFill bounds the time that gaps are made of at once. After a longer one, that of a machine which has slept, the date jumps.
const maxFill = 30 * 60 * media.Second

// stall makes gaps, at the wall clock's time, of the time in which nobody publishes or whoever leads says nothing. What comes again
// begins with a discontinuity, at a key frame.
func (r *Run) stall(now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || !r.ready {
		return
	}
	patience := r.patience()
	if r.leader.Load() != nil {
		if now-r.heard.Load() < patience {
			return
		}
		r.halt(nil, r.mediaEnds())
	}
	if to := now - r.date(0) - patience; to-r.edge >= 0 {
		r.gaps(to+int64(r.limit()), false)
	}
}

// mediaEnds is how far what has been published goes, ns: what has not is lost if the leader stalls. Run.mu is held.
func (r *Run) mediaEnds() int64 {
	if end := r.pictureEnds(); end != noPicture {
		return end
	}
	return r.decided.Load()
}

// pictureEnds is where the picture ends that has been published of the segment that is open, ns, whoever it is of, or noPicture.
// Run.mu is held.
func (r *Run) pictureEnds() int64 {
	end := int64(noPicture)
	for _, x := range *r.renditions.Load() {
		if x.Kind == media.Video && x.running && x.open.MSN == r.last.Load() && len(x.open.Parts) > 0 {
			scale := x.open.Init.Track.Timescale
			end = max(end, media.Rescale(x.open.shownUntil(media.Rescale(r.most(), media.Second, scale)), scale, media.Second))
		}
	}
	return end
}

const noPicture = math.MinInt64

// bridge makes gaps of all that is missing up to a time on the timeline where media goes on, if that is more than a target duration.
func (r *Run) bridge(to int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || !r.ready || to-r.edge <= int64(r.limit()) {
		return
	}
	r.gaps(to, true)
}

// gaps appends gaps of a target duration each, as many as fit before a time on the timeline; with all, the last goes as far as
// that. No segment is open. Run.mu is held.
func (r *Run) gaps(to int64, all bool) {
	td := int64(r.limit())
	if to-r.edge > maxFill {
		r.edge, r.due = to-maxFill, true
	}
	for {
		left, most := to-r.edge, td+int64(slackOverTarget)-r.trails()
		lasts := min(td, most)
		switch {
		case all && left < most:
			lasts = left
		case all && left < td+int64(slackOverTarget):
			lasts = left / 2
		case left < td:
			return
		}
		if lasts < int64(time.Millisecond) {
			return
		}
		r.gap(r.edge, r.edge+lasts)
	}
}

// trails is by how much the rendition that ends first ends before the edge, ns: its gap is the longer for it. Run.mu is held.
func (r *Run) trails() (most int64) {
	if r.due {
		return 0
	}
	for _, x := range *r.renditions.Load() {
		if x.window.Load() != nil && !x.running {
			most = max(most, r.edge-media.Rescale(x.open.Start, x.open.Init.Track.Timescale, media.Second))
		}
	}
	return min(most, int64(r.limit()))
}

// gap appends a gap to every rendition. In each it begins where the one before it ends, unless there is a discontinuity.
func (r *Run) gap(from, to int64) {
	b := boundary{msn: r.last.Load() + 1, time: from, disc: r.due, loose: true, moved: r.slew.moved}
	r.due = false
	if b.disc {
		r.discs++
	}
	b.discSeq = r.discs
	r.remember(b)
	for _, x := range *r.renditions.Load() {
		if x.window.Load() == nil {
			continue
		}
		r.advance(x, b.msn-1)
		scale := x.open.Init.Track.Timescale
		at := media.Rescale(from, media.Second, scale)
		if !x.running {
			if !b.disc && x.open.MSN == b.msn {
				at = min(at, x.open.Start)
			}
			x.vacateAt(b, at)
		}
		x.cut(max(media.Rescale(to, media.Second, scale), at+1), nil)
		x.publish()
	}
	r.edge = to
}
