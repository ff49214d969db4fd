package segmenter

import (
	"cmp"
	"sync/atomic"

	"headwater/segmenter/media"
)

// Two publications may feed one rung: a primary and its backup, encoders of one source. One of them is active, the first that
// comes, and the other stands by: it lies on the timeline and is cut where the active one is, but feeds nothing. It gets past a
// boundary only when the active one has, so that it can begin the segment there if that fails: it sends nothing, has no key
// frames, or leaves. Where its key frames are not those of the active one it cannot do so: it waits outside, and then a discontinuity
// follows. A primary that is well again gets the rung back, at a boundary that both know of.

// A Reason says why a rung went over from one publication to the other.
type Reason string

// The reasons.
const (
	Silent      Reason = "silent"        // the other one sent nothing for a second
	NoKeyFrames Reason = "no key frames" // its key frames stayed away, or were not those of the ladder
	Gone        Reason = "disconnected"
	Restarted   Reason = "restarted" // its times or its configuration changed
	Returned    Reason = "returned"  // the primary is well again
)

// Reasons are all reasons, in the order of Status.Switches.
var Reasons = [...]Reason{Silent, NoKeyFrames, Gone, Restarted, Returned}

// A Switch is a rung that went over to a publication.
type Switch struct {
	At     int64 // Unix ns
	Reason Reason
}

// steadyBoundaries is at how many boundaries in a row a primary has a key frame before the backup makes room for it.
const steadyBoundaries = 3

// A pulse is what the other publication of a rung looks at.
type pulse struct {
	backup   bool
	heard    atomic.Int64 // when the latest sample of the leading track arrived, Unix ns
	keyHeard atomic.Int64 // and the latest key frame
	interval atomic.Int64 // the mean time between key frames, ns
	hasVideo atomic.Bool
	closed   atomic.Bool
	took     atomic.Pointer[Switch] // when it became active; nil: from the beginning
}

// fails says why a publication with that pulse cannot go on feeding its rung; "" is that it can. Key frames are expected about as
// often as the other one has them.
func (r *Run) fails(q *pulse, now, interval int64) Reason {
	switch {
	case q.closed.Load():
		return Gone
	case now-q.heard.Load() >= maxSilence:
		return Silent
	case q.hasVideo.Load() && now-q.keyHeard.Load() > 3*max(int64(r.limit()), interval, q.interval.Load())/2:
		return NoKeyFrames
	}
	return ""
}

// other returns the publication of p's rung that is on the timeline too, if there is one. Run.mu is held.
func (r *Run) other(p *Publication) *Publication {
	for _, q := range r.pubs {
		if q != p && q.Rung == p.Rung {
			return q
		}
	}
	return nil
}

// pair lets p, which joins the timeline, stand by if another publication feeds its rung. Run.mu is held.
func (r *Run) pair(p *Publication) {
	p.inRow, p.relief = 0, nil
	if q := r.other(p); q != nil {
		p.standsFor.Store(q)
		p.paired.Store(true)
		q.paired.Store(true)
		return
	}
	p.standsFor.Store(nil)
	p.paired.Store(false)
	if was := r.fed[p.Rung]; was != nil && was != p.pulse && was.backup != p.backup {
		p.turn(cmp.Or(r.fails(was, p.arrived, p.interval.Load()), Returned))
	}
	r.feedsRung(p)
}

// feedsRung notes that p is what feeds its rung. Run.mu is held.
func (r *Run) feedsRung(p *Publication) {
	if r.fed == nil {
		r.fed = map[string]*pulse{}
	}
	r.fed[p.Rung] = p.pulse
}

// part takes p, which leaves the timeline, from its pair: whoever stood by for it feeds the rung from now on. Run.mu is held.
func (r *Run) part(p *Publication) {
	q := r.other(p)
	if q == nil {
		return
	}
	q.paired.Store(false)
	q.relief = nil
	if q.standsFor.Load() == p {
		r.tear(p, q)
		q.standsFor.Store(nil)
		q.turn(cmp.Or(r.fails(p.pulse, q.heard.Load(), q.interval.Load()), Restarted))
		r.feedsRung(q)
	}
}

// turn counts that the rung has gone over to p.
func (p *Publication) turn(why Reason) {
	p.took.Store(&Switch{p.heard.Load(), why})
	p.stream.turned(why)
}

// replace makes p, which stands by for q, the one that feeds the rung, now: q is not asked. Run.mu is held.
func (r *Run) replace(p, q *Publication, why Reason, now int64) {
	p.standsFor.Store(nil)
	q.standsFor.Store(p)
	p.relief, q.relief = nil, nil
	p.turn(why)
	r.feedsRung(p)
	r.tear(q, p)
	for _, x := range *r.renditions.Load() {
		if x.owner != nil && x.owner.pub == q {
			r.dispossess(x)
		}
	}
	if r.leader.Load() == q {
		r.crown(p)
		r.heard.Store(now)
	}
}

// tear ends the open segment where the media of p ends, which is lost, and lets a gap follow, up to where q begins a segment:
// EXTINF is what there is (RFC 8216bis 4.4.4.1). In a ladder the others go on, and their segments are not to be torn. Run.mu is
// held.
func (r *Run) tear(p, q *Publication) {
	if n := len(r.recent); r.leader.Load() != p || !q.inStep.Load() || n == 0 || r.ended || !r.ready || r.mediaEnds() <= r.recent[n-1].time {
		return
	}
	for _, o := range r.pubs {
		if o != p && o != q && o.inStep.Load() {
			return
		}
	}
	for _, x := range *r.renditions.Load() {
		if x.Kind == media.Video && (!x.running || len(x.open.Parts) == 0) {
			return // what q begins takes its place
		}
	}
	last := r.last.Load()
	b := boundary{msn: last + 1, time: r.mediaEnds(), loose: true, torn: true, discSeq: r.discs, moved: r.slew.moved}
	r.remember(b)
	early := int64(0)
	for _, x := range *r.renditions.Load() {
		if x.window.Load() == nil {
			continue
		}
		if !x.running {
			r.advance(x, b.msn)
			continue
		}
		r.advance(x, last)
		scale := x.open.Init.Track.Timescale
		at := max(media.Rescale(b.time, media.Second, scale), x.open.Start+1)
		if e, ok := x.soundEnd(); ok && at-e <= media.Rescale(int64(slackOverTarget), media.Second, scale) {
			at = min(at, e) // or else the gap that begins there gets too long
		}
		x.vacateAt(b, at)
		early = max(early, b.time-media.Rescale(at, scale, media.Second))
	}
	r.recent[len(r.recent)-1].early = early
	r.nextDue.Store(min(r.nextDue.Load(), b.time+r.longest()-early))
}

// minTorn is what is worth a segment of its own.
const minTorn = 100 * media.Second / 1000

// dispossess takes x from whoever feeds it, who may be writing just now. Run.mu is held.
func (r *Run) dispossess(x *Rendition) {
	x.feed = newFeeder()
	r.free(x)
}

// relieve lets p feed its rung, for which it stands by, if the other publication fails.
func (r *Run) relieve(p *Publication, now int64) {
	q := p.standsFor.Load()
	if q == nil || !p.inStep.Load() || r.fails(q.pulse, now, p.interval.Load()) == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.gen == r.gen.Load() && p.standsFor.Load() == q {
		r.replace(p, q, cmp.Or(r.fails(q.pulse, now, p.interval.Load()), Restarted), now)
	}
}

// outcast lets whoever stands by for p feed the rung, because p's key frames are not those of the ladder.
func (r *Run) outcast(p *Publication, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if q := r.other(p); q != nil && q.standsFor.Load() == p && q.inStep.Load() {
		r.replace(q, p, NoKeyFrames, now)
	}
}

// offer notes whether p, which stands by, has a key frame at a boundary. A primary that has had enough of them gets the rung back
// with the next boundary that the backup reaches.
func (r *Run) offer(p *Publication, hit bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	q := p.standsFor.Load()
	if q == nil || p.gen != r.gen.Load() {
		return
	}
	if !hit {
		p.inRow, q.relief = 0, nil
		return
	}
	p.inRow++
	if p.backup || !q.backup || r.Config.KeepBackup || p.inRow < steadyBoundaries || p.lag > maxSilence || q.relief != nil {
		return
	}
	q.relief = p
	for _, l := range p.lanes {
		if x, ok := r.find(l.rend.ID); ok && x.window.Load() != nil && x.open.Init.Hash != l.init.Hash {
			r.due = true
		}
	}
}

// yields does for l, which reaches b, what has been agreed with the other publication of the rung, and says whether that, and not
// l's, feeds the rendition from there on. Run.mu is held.
func (r *Run) yields(l *lane, b boundary, from int64) bool {
	p := l.pub
	if q := p.relief; q != nil && p.leader == l {
		p.relief = nil
		q.standsFor.Store(nil)
		p.standsFor.Store(q)
		q.turn(Returned)
		r.feedsRung(q)
	}
	q := p.standsFor.Load()
	if q == nil {
		return false
	}
	x := l.rend
	switch {
	case x.owner == l && x.running && x.open.MSN+1 == b.msn && !r.ended:
		x.owner = nil
		r.orphans.Add(1)
		x.vacateAt(b, from)
	case x.owner == l:
		r.free(x)
	case x.owner == nil && l.cut != nil && q.inStep.Load() && x.window.Load() != nil && !b.torn:
		r.replace(p, q, NoKeyFrames, b.arrived) // it has missed the boundary
		return false
	}
	return true
}

// begunAt says whether the segment of that number has begun for good: with parts, as long as there are any before it is complete.
func (r *Rendition) begunAt(msn uint64) bool {
	return r.open.MSN > msn || r.open.MSN == msn && (len(r.open.Parts) > 0 || r.PartTarget() <= 0)
}

// waits says whether the other publication of l's rung feeds l's rendition, and has yet to get to b, or to have a part there: if it
// fails before that the segment is l's.
func (l *lane) waits(b boundary, now int64) bool {
	p, run := l.pub, l.rend.Run
	if !p.paired.Load() {
		return false
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	x, ok := run.find(l.rend.ID)
	if !ok || x.owner == nil || x.owner.pub == p || x.owner.pub.Rung != p.Rung || !x.running || x.begunAt(b.msn) || p.gen != run.gen.Load() {
		return false
	}
	if p.standsFor.Load() == nil && run.fails(x.owner.pub.pulse, now, p.interval.Load()) != "" {
		run.dispossess(x) // the rung is p's, and this rest of it never comes
		return false
	}
	return true
}

// oust brings the run to a halt if the publication that leads is the other one of p's rung, and fails, or is a backup that makes
// room for p: p cannot be laid beside it, and begins anew. It does not where others go on with the ladder.
func (r *Run) oust(p *Publication, now int64) {
	q := r.leader.Load()
	if q == nil || q == p || q.Rung != p.Rung {
		return
	}
	if r.fails(q.pulse, now, p.interval.Load()) == "" && (p.backup || !q.backup || r.Config.KeepBackup || !p.steady(r, now)) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leader.Load() != q {
		return
	}
	for _, o := range r.pubs {
		if o != q && o.inStep.Load() && r.fails(o.pulse, now, 0) == "" {
			return
		}
	}
	r.halt(nil, r.mediaEnds())
	p.kept = nil // its times may lie before that
	for _, x := range *r.renditions.Load() {
		if x.owner != nil && x.owner.pub == q {
			x.owner, x.feed = nil, newFeeder()
		}
	}
}

// steady says whether p, which is not on the timeline, has been well for so long that it would not have to be asked twice.
func (p *Publication) steady(r *Run, now int64) bool {
	return p.warmed > 0 && now-p.warmed >= steadyBoundaries*int64(r.limit()) && (p.keysSeen > steadyBoundaries || !p.hasPicture())
}

// feedsBeside says whether a publication of another rung feeds x.
func (r *Run) feedsBeside(x *Rendition, p *Publication) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return x.owner != nil && x.owner.pub != p && x.owner.pub.Rung != p.Rung
}

// stands says whether p stands by: what it does not publish is not missing.
func (p *Publication) stands() bool { return p.standsFor.Load() != nil }

// lost counts samples that could not be placed, unless nobody wanted them.
func (l *lane) lost(n int) {
	if !l.pub.stands() {
		l.rend.stats.dropped.Add(uint64(n))
	}
}
