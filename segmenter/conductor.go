package segmenter

import (
	"math"
	"slices"
	"sync/atomic"
	"time"

	"headwater/segmenter/media"
)

// A boundary is where a segment begins in all renditions: at the leader's key frame, at every other rendition's key frame of
// the same time, and at the first audio frame from there on.
type boundary struct {
	msn     uint64
	time    int64 // presentation time on the run's timeline, ns
	disc    bool
	discSeq uint64
	loose   bool  // it is not at a key frame: every rendition begins with whatever frame comes
	torn    bool  // it is where the media ended of an encoder that was lost: nothing begins there
	early   int64 // by how much sound ends before that, whose gap is the longer for it, ns
	arrived int64 // of the frame that begins it, Unix ns
	moved   int64 // what is added to the run's Epoch from there on, ns
}

// A conductor decides where segments begin, in all renditions of a run, whatever publications feed them. One publication
// leads: it announces boundaries, and says with decided up to where it has made up its mind. The lanes of the others, and
// its own audio, take the boundaries over when they get there. A rendition that nobody feeds goes on as gaps.
//
// Run.mu protects what is not atomic.
type conductor struct {
	leader  atomic.Pointer[Publication] // nil: nobody leads, and no segment is open
	last    atomic.Uint64               // the number of the latest boundary; 0 before the first
	decided atomic.Int64                // no further boundary will be at or before this time on the timeline, ns
	nextDue atomic.Int64                // when the next boundary is to be expected, ns
	heard   atomic.Int64                // when the leader's latest sample arrived, Unix ns
	orphans atomic.Uint64               // rises when a rendition has lost whoever fed it
	gen     atomic.Uint64               // rises when the run comes to a halt: every publication has to be placed anew

	heir   *Publication   // takes the lead with the next boundary
	pubs   []*Publication // that are on the timeline, in the order in which they came
	recent []boundary     // the latest boundaries, the last one last
	keys   []keyTime      // the latest key frames of the leader
	discs  uint64         // discontinuities so far: the Discontinuity Sequence Number of what is being made
	due    bool           // a discontinuity is wanted at the next boundary
	edge   int64          // where the furthest rendition ends on the timeline, ns
	slew   slew

	fed map[string]*pulse // by rung: whoever feeds it, or fed it last
}

// How many boundaries and key frames are remembered. A lane that is further behind has lost its rendition's place.
const (
	maxRecent = 16
	maxKeys   = 32
	maxBehind = 2 // boundaries that a rendition may lag before the conductor makes gaps of what is missing
)

// leads says whether p leads.
func (r *Run) leads(p *Publication) bool { return r.leader.Load() == p }

// lead makes p the leader if there is none, and says whether it did. Whoever leads announces a boundary next.
func (r *Run) lead(p *Publication) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leader.Load() != nil {
		return false
	}
	r.enlist(p)
	p.leadFrom.Store(math.MinInt64)
	r.slew.restart()
	r.leader.Store(p)
	r.keys = r.keys[:0]
	r.heard.Store(p.arrived)
	return true
}

// join puts p beside the leader, and says whether there still is one.
func (r *Run) join(p *Publication) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leader.Load() == nil {
		return false
	}
	r.enlist(p)
	return true
}

func (r *Run) enlist(p *Publication) {
	p.gen = r.gen.Load()
	r.pair(p)
	r.pubs = append(r.pubs, p)
}

// announce begins the next segment, at a time on the timeline, for everybody. It says false when p does not lead (any more), or when
// whoever led before has begun one there or later.
func (r *Run) announce(p *Publication, b boundary) (boundary, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.recent); r.leader.Load() != p || n > 0 && b.time <= r.recent[n-1].time {
		return boundary{}, false
	}
	if n := len(r.recent); n > 0 && r.settling() && r.begun() {
		r.stretch(time.Duration(b.time - r.recent[n-1].time))
	}
	b.msn = r.last.Load() + 1
	if b.msn == 1 {
		b.msn = r.FirstMSN
	}
	b.disc = b.disc || r.due
	r.due = false
	if b.disc {
		r.discs++
	}
	b.discSeq = r.discs
	if b.arrived != 0 {
		r.slew.note(b.arrived - r.date(b.time))
	}
	b.moved = r.slew.moved
	r.remember(b)
	for _, x := range *r.renditions.Load() {
		switch {
		case x.window.Load() == nil:
		case x.owner == nil:
			r.advance(x, b.msn)
		case b.msn > maxBehind:
			r.advance(x, b.msn-maxBehind)
		}
	}
	if q := p.relief; q != nil && q.inStep.Load() {
		r.crown(q)
	} else if r.heir != nil && r.heir.inStep.Load() || r.heir != nil && !p.hasVideo.Load() {
		r.crown(r.heir)
	}
	return b, true
}

// begun says whether some rendition has a segment open. Run.mu is held.
func (r *Run) begun() bool {
	return slices.ContainsFunc(*r.renditions.Load(), func(x *Rendition) bool { return x.running })
}

// remember makes b the latest boundary. Run.mu is held.
func (r *Run) remember(b boundary) {
	if len(r.recent) == maxRecent {
		r.recent = append(r.recent[:0], r.recent[1:]...)
	}
	r.recent = append(r.recent, b)
	r.decided.Store(b.time)
	r.last.Store(b.msn)
	lasts := r.most()
	if n := len(r.recent); n > 1 {
		lasts = min(lasts, max(b.time-r.recent[n-2].time, int64(r.limit())/2))
	}
	r.nextDue.Store(b.time + lasts)
	r.noteBoundary(&b)
}

// progress says that p, if it still leads, has decided everything up to that time on the timeline, ns.
func (r *Run) progress(p *Publication, decided, arrived int64) {
	if r.leads(p) {
		r.decided.Store(max(decided, r.decided.Load()))
		r.heard.Store(arrived)
	}
}

// advance makes gaps of x's segments up to that number, which is open then, at least.
func (r *Run) advance(x *Rendition, msn uint64) {
	for _, b := range r.recent {
		if b.msn > msn {
			return
		}
		if x.running && x.open.MSN < b.msn || !x.running && x.open.MSN <= b.msn {
			x.vacate(b)
		}
	}
}

// since returns the boundaries after msn, as far as they are remembered.
func (r *Run) since(dst []boundary, msn uint64) []boundary {
	for _, b := range r.recent {
		if b.msn > msn {
			dst = append(dst, b)
		}
	}
	return dst
}

// noteKey remembers a key frame of the leader.
func (r *Run) noteKey(k keyTime) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.keys) == maxKeys {
		r.keys = append(r.keys[:0], r.keys[1:]...)
	}
	r.keys = append(r.keys, k)
}

// inherit makes p the leader from the next boundary on.
func (r *Run) inherit(p *Publication) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leader.Load() != p && p.gen == r.gen.Load() {
		r.heir = p
	}
}

// seize makes p the leader now, if the one that leads has not been heard of for so long, or is so slow that p has waited for
// it too long.
func (r *Run) seize(p *Publication, now int64, slow bool) bool {
	if p.stands() || !slow && now-r.heard.Load() < maxSilence {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.gen != r.gen.Load() || r.leader.Load() == nil || !p.inStep.Load() || !slow && now-r.heard.Load() < maxSilence {
		return false
	}
	r.crown(p)
	r.heard.Store(now)
	return true
}

// crown makes p the leader, from where the one before it stands.
func (r *Run) crown(p *Publication) {
	p.leadFrom.Store(r.decided.Load())
	r.leader.Store(p)
	r.heir = nil
}

// maxSilence is how long, in arrival time, the others wait for a leader that says nothing.
const maxSilence = 1 * media.Second

// yield hands the lead over to another publication, if p has it, and says whether somebody leads who is not p.
func (r *Run) yield(p *Publication) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.handOver(p)
}

func (r *Run) handOver(p *Publication) bool {
	if r.heir == p {
		r.heir = nil
	}
	if r.leader.Load() != p {
		return r.leader.Load() != nil
	}
	var best *Publication
	for _, q := range r.pubs {
		if q != p && q.inStep.Load() && !q.stands() && (best == nil || q.interval.Load() > best.interval.Load()) {
			best = q
		}
	}
	if best == nil {
		return false
	}
	r.crown(best)
	return true
}

// leave takes p off the timeline, which it has filled up to end. When nobody is left to lead, every open segment ends, and
// whoever else is on the timeline has to be placed anew.
// It says false when the run has come to a halt already.
func (r *Run) leave(p *Publication, end int64) bool {
	r.mu.Lock()
	on := p.gen == r.gen.Load()
	for i, q := range r.pubs {
		if q == p {
			r.pubs = append(r.pubs[:i:i], r.pubs[i+1:]...)
			break
		}
	}
	if on {
		r.part(p)
		if r.handOver(p) {
			for _, l := range p.lanes {
				r.vacant(l)
			}
		} else {
			r.halt(p, end)
		}
	}
	r.mu.Unlock()
	r.settle()
	return on
}

// vacant leaves l's rendition to others. Run.mu is held.
func (r *Run) vacant(l *lane) {
	x := l.rend
	l.open = false
	if x.owner == l {
		r.free(x)
	}
}

// free leaves x to others: whoever feeds it has gone, or is told nothing. Run.mu is held.
func (r *Run) free(x *Rendition) {
	if r.ended {
		return
	}
	x.owner = nil
	r.orphans.Add(1)
	x.nextPart = -1 // what was hinted will not come
	if n := len(r.recent); n > 0 && x.open.MSN < r.recent[n-1].msn {
		r.advance(x, r.recent[n-1].msn)
	} else {
		x.publish()
	}
}

// abandon gives up what p's lanes have, after a halt that was not its own.
func (r *Run) abandon(p *Publication) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range p.lanes {
		l.open = false
		if x := l.rend; x.owner == l {
			x.owner = nil
			if r.leader.Load() != nil && !r.ended {
				r.advance(x, r.last.Load())
			}
		}
	}
}

// halt ends every open segment at about end, but not before the picture in it does, because p leaves. Other publications' renditions
// stay theirs until they notice: a rendition's file has one writer at any time. Run.mu is held.
func (r *Run) halt(p *Publication, end int64) {
	r.leader.Store(nil)
	r.heir = nil
	r.pubs = nil
	r.gen.Add(1)
	if r.ended {
		return
	}
	end = max(end, r.pictureEnds())
	if n := len(r.recent); n > 0 && r.settling() {
		all := end
		for _, x := range *r.renditions.Load() {
			if e, ok := x.soundEnd(); ok {
				all = max(all, media.Rescale(e, x.open.Init.Track.Timescale, media.Second))
			}
		}
		r.stretch(time.Duration(all - r.recent[n-1].time))
	}
	for _, x := range *r.renditions.Load() {
		if x.owner != nil && x.owner.pub == p {
			x.owner = nil
		}
		if x.window.Load() == nil {
			continue
		}
		last := media.Rescale(end, media.Second, x.open.Init.Track.Timescale)
		if e, ok := x.soundEnd(); ok && x.running && x.open.MSN+1 == r.last.Load() && last > e &&
			last-e <= media.Rescale(int64(slackOverTarget), media.Second, x.open.Init.Track.Timescale) {
			// What lags is missing at the end: the gap begins where the media ends.
			x.vacateAt(r.recent[len(r.recent)-1], e)
		}
		r.advance(x, r.last.Load())
		if !x.running {
			continue
		}
		at := max(last, x.open.Start+1)
		if e, ok := x.soundEnd(); ok && last-e < media.Rescale(int64(slackOverTarget), media.Second, x.open.Init.Track.Timescale) {
			at = e // a discontinuity follows, a gap that makes up for it, or nothing
		}
		x.cut(at, nil)
		x.publish()
	}
}

// ends is where the furthest rendition ends on the timeline, ns.
func (r *Run) ends() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.edge
}

// video says whether the leader has video.
func (r *Run) video() bool {
	p := r.leader.Load()
	return p != nil && p.hasVideo.Load()
}

// feeds says whether another publication than p feeds x.
func (r *Run) feeds(x *Rendition, p *Publication) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return x.owner != nil && x.owner.pub != p
}

// tighten lowers by how much a video segment may exceed the target duration.
func (r *Run) tighten(ns int64) {
	for {
		was := r.slack.Load()
		if was <= ns || r.slack.CompareAndSwap(was, ns) {
			return
		}
	}
}

// latest is where the latest segment began and by when it has to end, ns, and whether that has nothing in it.
func (r *Run) latest() (at, most int64, torn bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.recent); n > 0 {
		b := &r.recent[n-1]
		return b.time, b.time + r.most() - b.early, b.torn
	}
	return 0, r.most(), false
}
