package segmenter

import (
	"slices"
	"time"

	"headwater/segmenter/media"
)

// Where a Publication lies on its run's timeline, and which renditions its tracks feed.

// base lays the publication's times onto the run's timeline, with a sample of the track with that index, and says whether it
// could.
func (p *Publication) base(track int, s *media.Sample) (bool, error) {
	cto, arrived := int64(s.CTO), s.Arrived
	pts := s.DTS + cto
	if p.run == nil || p.run.Ended() {
		p.run = p.stream.runFor(p, arrived)
	}
	run := p.run
	t := &p.tracks[track]
	p.heard.Store(arrived)
	if t.Kind == media.Video {
		p.keyHeard.Store(arrived)
	}
	run.oust(p, arrived)
	if run.leader.Load() == nil && run.last.Load() > 0 {
		if _, ok := p.resume(track, pts, arrived); !ok {
			return false, nil
		}
	}
	if !run.lead(p) {
		return p.beside(track, s)
	}
	var at int64
	resumed := run.last.Load() > 0
	if resumed {
		at, _ = p.resume(track, pts, arrived)
		run.bridge(at)
	}
	p.by, p.hits, p.out = Leads, 0xff, false
	if !p.lay(track, cto, func(scale uint32) int64 {
		return media.Rescale(at, media.Second, scale) - media.Rescale(pts, t.Timescale, scale)
	}) {
		return false, nil
	}
	p.began, p.slots = at, 0
	p.await(p.missing() && !run.IsReady())
	p.begin(at, resumed)
	return true, nil
}

// resume finds where on the timeline of a run that goes on a key frame lies. That is where the wall clock says, but never before
// the end of what is there. What a publication that has stalled sends after all, at once, lies where its times say: the date stays
// true and the delay what it was. What of that belongs into the gap comes too late, and ok is false.
func (p *Publication) resume(track int, pts, arrived int64) (at int64, ok bool) {
	run := p.run
	ends := run.ends()
	at = max(ends, run.dated(arrived))
	k := p.kept
	if k == nil || p.tracks[track].Kind != media.Video {
		return at, true
	}
	own := media.Rescale(media.Rescale(pts, p.tracks[track].Timescale, k.scale)+k.ticks, k.scale, media.Second)
	switch {
	case !near(own, at, maxKept):
		p.kept = nil // its times have changed meanwhile
	case own >= ends:
		return own, true
	case p.late == 0:
		p.late = arrived
		return 0, false
	case arrived-p.late < maxBurst:
		return 0, false
	}
	return at, true
}

// How far the times of a publication that has stalled may be from the wall clock's to be believed, and how long what it held back
// may take to arrive.
const (
	maxKept  = 30 * media.Second
	maxBurst = 1 * media.Second
)

// beside lays the publication's times onto the timeline of the leader, if that can be done.
func (p *Publication) beside(track int, s *media.Sample) (bool, error) {
	run, t, cto := p.run, &p.tracks[track], int64(s.CTO)
	own := media.Rescale(s.DTS+cto, t.Timescale, media.Second)
	var offset int64
	var shared *shift
	ok := true
	if t.Kind == media.Video {
		p.noteKey(keyTime{own, s.Arrived, s.Clock})
		half := int64(media.Second) / 100
		if r := t.FrameRate; r.Num > 0 && r.Den > 0 {
			half = int64(float64(media.Second) / r.Float() / 2)
		}
		offset, shared, p.by, ok = run.place(p, media.Rescale(cto, t.Timescale, media.Second), half)
	} else if r, known := run.Rendition(p.id(track)); known && run.feeds(r, p) {
		ok = false // the same audio is there
		p.held, p.heldBytes = nil, 0
		if len(p.tracks) == 1 {
			p.standsAlone() // and nothing of this publication is missing
		}
	} else {
		last := p.held[len(p.held)-1].s
		offset, shared, p.by, ok = run.placeAudio(p, media.Rescale(last.DTS, t.Timescale, media.Second))
	}
	if !ok || !run.join(p) {
		p.tell()
		return false, nil
	}
	p.hits, p.out, p.leaning = 0xff, false, 0
	if t.Kind == media.Audio {
		// What was held for long is far behind the leader, where nothing is open any more.
		last := p.held[len(p.held)-1].s.DTS
		for last-p.held[0].s.DTS > int64(t.Timescale)*silentWait/media.Second {
			p.held = p.held[1:]
		}
	}
	if !p.lay(track, cto, func(scale uint32) int64 {
		if shared != nil {
			return media.Rescale(shared.ticks, shared.scale, scale)
		}
		return media.Rescale(offset, media.Second, scale)
	}) {
		p.tell()
		return false, nil
	}
	p.began = own + offset
	p.lastKey, p.cadence, p.sparse = noKey, 0, false
	for _, l := range p.lanes {
		// What has begun before this is over.
		l.pull()
		for len(l.queue) > 0 && l.queue[0].time < p.began-int64(media.Second)/50 {
			l.queue = l.queue[1:]
		}
		l.queue = append([]boundary(nil), l.queue...)
	}
	p.await(p.missing() && !run.IsReady())
	if t.Kind == media.Video && !run.video() {
		run.inherit(p) // audio led; now there are key frames
	}
	p.tell()
	return true, nil
}

// standsAlone notes that no video of the publication has to find its place.
func (p *Publication) standsAlone() {
	if !p.alone.Swap(true) {
		p.stream.placed(p)
	}
}

// noteKey remembers a key frame of this publication.
func (p *Publication) noteKey(k keyTime) {
	const most = 8
	if n := len(p.keys); n > 0 && p.keys[n-1].time == k.time {
		return // it has been noted where the publication was placed
	} else if n > 0 && !near(p.keys[n-1].time, k.time, maxKeyGap) {
		p.keys, p.keysSeen, p.doubted = p.keys[:0], 0, false // its time has jumped
	} else if n == most {
		p.keys = append(p.keys[:0], p.keys[1:]...)
	}
	p.keys = append(p.keys, k)
	p.keysSeen++
	p.keyHeard.Store(k.arrived)
	p.interval.Store(interval(p.keys))
}

// maxKeyGap is how far two key frames in a row may be apart on one time base.
const maxKeyGap = 60 * media.Second

// lay gives the tracks their lanes, and says whether the one with that index has one. offset is what has to be added to the
// publication's times, by timescale.
func (p *Publication) lay(track int, cto int64, offset func(scale uint32) int64) bool {
	p.lanes, p.leader = p.lanes[:0], nil
	clear(p.of)
	p.place(track)
	if p.of[track] == nil { // somebody else has begun to feed its rendition meanwhile
		p.run.leave(p, 0)
		return false
	}
	p.leader = p.of[track]
	for i := range p.tracks {
		if i == track || !p.tracks[i].Ready() || p.tracks[i].Kind != media.Audio {
			continue
		}
		// A header is no promise: a rendition begins when a sample has come, or the run has it already.
		if _, known := p.run.Rendition(p.id(i)); known || p.seen[i] {
			p.place(i)
		}
	}
	for _, l := range p.lanes {
		l.off = offset(l.scale)
	}
	t := &p.tracks[track]
	p.leader.reorder = media.Rescale(cto, t.Timescale, p.leader.scale)
	p.shift.Store(&shift{p.leader.off, p.leader.scale, p.leader.nanos(p.leader.reorder)})
	p.hasVideo.Store(p.leader.cut != nil)
	if p.leader.cut == nil {
		p.standsAlone()
	}
	p.based, p.change, p.cadence, p.sparse, p.kept, p.warmed = true, false, 0, false, nil, 0
	for i := range p.tracks {
		if t := &p.tracks[i]; t.Ready() && t.Kind == media.Audio {
			frame := media.Rescale(int64(t.FrameSamples), t.Timescale, media.Second)
			p.run.tighten(int64(499*time.Millisecond) - frame)
		}
	}
	return true
}

// id names the rendition of the track with that index. Audio that several publications carry is one rendition: whoever has the
// same is as good.
func (p *Publication) id(i int) string {
	t := &p.tracks[i]
	own := renditionID(t.Kind, p.Rung)
	if t.Kind == media.Video || p.shares != nil {
		return own // what shares another's times is another track of its connection, or another encoding
	}
	common := t.Kind.String()
	r, ok := p.run.Rendition(common)
	switch {
	case !ok && (p.Rung == "" || p.hasPicture()), ok && sameSound(&r.Window().Init().Track, t):
		return common
	case p.Rung != "":
		return own
	case p.run.feedsBeside(r, p):
		return t.Kind.String() + besideCommon // who came first has taken its name
	}
	return common
}

// besideCommon ends the name of the source's audio when another publication's, which is not the same, has come first. No rung's
// is called that.
const besideCommon = "-source"

// rung is the rung that a rendition of that name is called after.
func (p *Publication) rung(id string, k media.Kind) string {
	if id == k.String() {
		return ""
	}
	return p.Rung
}

// hasPicture says whether one of the tracks is video.
func (p *Publication) hasPicture() bool {
	return slices.ContainsFunc(p.tracks, func(t media.Track) bool { return t.Kind == media.Video })
}

// sameSound says whether two audio tracks are as good as one, by what is known of them.
func sameSound(a, b *media.Track) bool {
	return a.Codec.String == b.Codec.String && a.Channels == b.Channels && a.Language == b.Language && a.Label == b.Label &&
		(a.BitRate <= 0 || b.BitRate <= 0 || 4*a.BitRate <= 5*b.BitRate && 4*b.BitRate <= 5*a.BitRate)
}

// renditionID names a rendition: "video", "video_720p".
func renditionID(k media.Kind, rung string) string {
	if rung == "" {
		return k.String()
	}
	return k.String() + "_" + rung
}

// place gives the track with that index a lane, once for each rendition, unless another publication feeds that.
func (p *Publication) place(i int) {
	t := &p.tracks[i]
	id := p.id(i)
	for _, l := range p.lanes {
		if l.rend.ID == id {
			return
		}
	}
	l := &lane{pub: p, scale: t.Timescale}
	if r, ok := p.run.Rendition(id); ok {
		if t.Kind == media.Audio && p.run.feedsBeside(r, p) {
			return
		}
		l.rend = r
		l.scale = r.Window().Init().Track.Timescale
	} else {
		l.rend = p.run.newRendition(id, t.Kind, p.rung(id, t.Kind))
		l.rend.Lower = p.lower && t.Kind == media.Audio
	}
	l.setTrack(*t)
	p.of[i] = l
	p.lanes = append(p.lanes, l)
}

// elsewhere gives audio another lane: where this one was to go, another publication was quicker, with other audio.
func (p *Publication) elsewhere(track int, l *lane, s *media.Sample) error {
	if p.leader == l {
		return p.anew(track, s)
	}
	p.lanes = slices.DeleteFunc(p.lanes, func(x *lane) bool { return x == l })
	p.of[track] = nil
	p.adopt()
	if l = p.of[track]; l == nil {
		return nil
	}
	return p.audio(track, l, s)
}

// adopt gives lanes to audio that came while another publication fed its rendition, if that has left or says nothing. It is called
// when one may have left, and once a segment.
func (p *Publication) adopt() {
	for i := range p.tracks {
		if t := &p.tracks[i]; p.of[i] != nil || !p.seen[i] || !t.Ready() || t.Kind != media.Audio {
			continue
		}
		n := len(p.lanes)
		p.run.rescue(p.id(i), p)
		p.place(i)
		if len(p.lanes) > n {
			l := p.lanes[n]
			l.off = media.Rescale(p.leader.off, p.leader.scale, l.scale)
			l.pulled = p.run.last.Load()
		}
	}
}

// rescue takes an audio rendition from a publication that has stalled, for p, which has the same sound.
func (r *Run) rescue(id string, p *Publication) {
	r.mu.Lock()
	defer r.mu.Unlock()
	x, ok := r.find(id)
	if ok && x.Kind == media.Audio && x.owner != nil && x.owner.pub != p && p.arrived-x.owner.pub.heard.Load() >= maxSilence {
		r.dispossess(x)
	}
}

// place finds what has to be added to p's times, from its key frames, the latest of which has that composition offset, ns. If
// it is what is added to another's, s is that, exactly.
func (r *Run) place(p *Publication, cto, half int64) (offset int64, s *shift, by Evidence, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.shares != nil {
		if offset, s, by, ok = r.sharing(p); ok || p.lower || len(p.keys) < loneKeys {
			return offset, s, by, ok
		}
	}
	var offsets []int64
	var shifts []*shift
	for _, q := range r.pubs {
		if s := q.shift.Load(); s != nil && q.hasVideo.Load() {
			off := media.Rescale(s.ticks, s.scale, media.Second)
			offsets, shifts = append(offsets, off), append(shifts, s)
			// Multiplexers that begin at decode time 0 delay presentation by the depth of reordering.
			if s.reorder != cto {
				offsets, shifts = append(offsets, off+s.reorder-cto), append(shifts, nil)
			}
		}
	}
	if lead := r.leader.Load(); lead != nil && !lead.hasVideo.Load() {
		// Audio leads: there are no key frames to compare with.
		offset, s, by = r.arriving(p.keys[len(p.keys)-1].time)
		return offset, s, by, true
	}
	offset, by, ok = align(p.keys, r.keys, p.keysSeen == len(p.keys), p.doubted, offsets, half)
	if by == SharedBase {
		for i, o := range offsets {
			if o == offset {
				s = shifts[i]
				break
			}
		}
	}
	return offset, s, by, ok
}

// loneKeys is with how many key frames a track is placed by itself whose connection's first track is not on the timeline, and
// announcedWait how long audio waits for that: it may be audio that somebody else has too.
const loneKeys = 4

// placeAudio finds what has to be added to the times of p, audio that has no picture, of which the latest has arrived just now.
func (r *Run) placeAudio(p *Publication, now int64) (offset int64, s *shift, by Evidence, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.shares != nil {
		held := p.held[len(p.held)-1].s.DTS - p.held[0].s.DTS
		if offset, s, by, ok = r.sharing(p); ok || p.lower || held < int64(p.tracks[p.held[0].track].Timescale)*announcedWait/media.Second {
			return offset, s, by, ok
		}
	}
	offset, s, by = r.arriving(now)
	return offset, s, by, true
}

// sharing finds what is added to the times of the publication that p shares its times with, if it is on the timeline. Run.mu is
// held.
func (r *Run) sharing(p *Publication) (offset int64, s *shift, by Evidence, ok bool) {
	for _, q := range r.pubs {
		if s := q.shift.Load(); s != nil && q.Rung == *p.shares && q.backup == p.backup {
			return media.Rescale(s.ticks, s.scale, media.Second), s, SharedBase, true
		}
	}
	return 0, nil, "", false
}

// alongside moves audio along with the publication that it shares its times with, which leans.
func (p *Publication) alongside() {
	l := p.leader
	if p.shares == nil || l.grid == nil {
		return
	}
	p.run.mu.Lock()
	_, s, _, ok := p.run.sharing(p)
	p.run.mu.Unlock()
	if !ok {
		return
	}
	// If it is far it has been laid elsewhere, and so will this be, when its times are others too.
	if off := media.Rescale(s.ticks, s.scale, l.scale); off != l.off && !l.grid.far(off, l.off) {
		l.off = off
		p.shift.Store(&shift{off, l.scale, 0})
	}
}

// arriving finds what has to be added to now, the time of a sample that has just arrived: what is added to another publication's,
// if that puts it about where the leader is. Run.mu is held.
func (r *Run) arriving(now int64) (offset int64, s *shift, by Evidence) {
	for _, q := range r.pubs {
		if s := q.shift.Load(); s != nil {
			if off := media.Rescale(s.ticks, s.scale, media.Second); near(now+off, r.decided.Load(), maxLagTime) {
				return off, s, SharedBase
			}
		}
	}
	return r.decided.Load() - now, nil, Arrival
}
