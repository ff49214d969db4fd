package segmenter

import (
	"fmt"
	"math"
	"math/bits"
	"time"

	"headwater/segmenter/media"
)

// What a Publication does with each sample, by kind of track.

// maxLag is how far written decode times may fall behind, in media time, before frames that outlast the part target are
// refused.
const maxLag = 5 * media.Second

// maxBack is how far a video timestamp may fall behind the one before it. What is further back for good would be presented over
// what has been: decode times cannot go back, and so it begins a new time base.
const maxBack = 100 * media.Second / 1000

// maxKeyOffset is how far the composition time of a key frame may be from that of the first one: nothing is reordered over key frames.
// It is less than what a segment may be too long by.
const maxKeyOffset = 400 * media.Second / 1000

// jump is how far a video timestamp may run ahead of the one before it.
func (p *Publication) jump(scale uint32) int64 {
	return media.Rescale(int64(max(2*time.Second, p.run.limit()/2)), media.Second, scale)
}

// video takes a sample of the video track.
func (p *Publication) video(track int, l *lane, s *media.Sample) error {
	p.heard.Store(s.Arrived)
	dts, cto := s.DTS, int64(s.CTO)
	if l.in != l.scale {
		dts, cto = media.Rescale(dts, l.in, l.scale), media.Rescale(cto, l.in, l.scale)
	}
	pts := dts + cto + l.off
	dts += l.off + l.reorder
	if s.Sync && abs(pts-dts) > l.ticks(maxKeyOffset) {
		l.rend.stats.adjusted.Add(1)
		pts = dts
	}

	if l.taken {
		if d := dts - l.latest; d > p.jump(l.scale) || d < -l.ticks(maxBack) {
			// One sample is an accident; when the next ones agree with it, time has changed.
			if l.strays++; l.strays <= maxVideoStrays {
				l.rend.stats.dropped.Add(1)
				return nil
			}
			return p.anew(track, s)
		}
		if dts <= l.latest {
			l.rend.stats.adjusted.Add(1)
		}
	}
	l.strays = 0
	if d, far := pts-dts, 10*int64(l.scale); d > far || d < -far {
		l.rend.stats.dropped.Add(1) // no encoder reorders over ten seconds
		return nil
	}
	l.latest, l.taken = dts, true
	f := frame{dts: dts, pts: pts, sync: s.Sync, arrived: s.Arrived, clock: s.Clock, data: s.Data}
	if s.Sync {
		p.noteKey(keyTime{l.nanos(pts - l.off), s.Arrived, s.Clock})
		if p.again {
			// It may lie elsewhere: what its place rested on has not held.
			p.again = false
			p.leave()
			p.keysSeen, p.doubted = 1, true
			return p.warm(track, s)
		}
		if p.change {
			if !p.run.yield(p) {
				return p.anew(track, s)
			}
			if err := p.reconfigure(s.Arrived); err != nil {
				return err
			}
		}
	}
	if p.stands() && (s.Sync || l.held.keys > 0) {
		p.run.relieve(p, s.Arrived)
	}
	if l.held.empty() && !p.undecided(l, &f) {
		return p.frame(l, &f)
	}
	if !l.held.add(&f) {
		return p.anew(track, s) // more than a second's worth, or the run does not let it lead
	}
	for !l.held.empty() {
		f := l.held.first()
		if p.undecided(l, &f) && !p.run.seize(p, s.Arrived, s.Arrived-f.arrived > maxSilence) {
			break
		}
		l.held.drop()
		if err := p.frame(l, &f); err != nil {
			return err
		}
	}
	return nil
}

// noKey is the time of a key frame that there has not been.
const noKey = math.MinInt64

// maxVideoStrays is how many samples in a row may be far off before they are believed.
const maxVideoStrays = 3

// undecided says whether f may begin a segment, or be where the next one has begun, but whoever leads has not got that far, or whoever
// feeds the rung.
func (p *Publication) undecided(l *lane, f *frame) bool {
	half, at := l.half(), f.pts
	if !f.sync { // what an encoder says of when such a frame is presented holds up nothing
		if at = f.dts; l.nanos(at+half) < p.run.nextDue.Load() {
			return false
		}
	}
	if f.sync && p.paired.Load() {
		l.pull()
		for _, b := range l.queue {
			if near(l.ticks(b.time), f.pts, half) && l.waits(b, p.arrived) {
				if !p.out {
					p.cutsAlike() // if whoever is waited for leaves now, the segment can begin with f
				}
				return true
			}
		}
	}
	if p.run.leads(p) {
		return false
	}
	if l.nanos(at+half) < p.run.decided.Load() {
		return false
	}
	l.pull()
	for _, b := range l.queue {
		if near(l.ticks(b.time), at, half) {
			return false
		}
	}
	return true
}

// half is half a frame: by so much may key frames be apart that are the same.
func (l *lane) half() int64 { return l.frameLasts() / 2 }

// frameLasts is how long a frame of video lasts, ticks, or what is taken for it while nothing shows that.
func (l *lane) frameLasts() int64 {
	if n := l.cut.pace.nominal; n > 0 {
		return n
	}
	return int64(l.scale) / 50
}

// reconfigure lets the tracks that have changed give up their renditions, while another publication leads. They come back at
// the next discontinuity, which they ask for.
func (p *Publication) reconfigure(arrived int64) error {
	p.change = false
	if err := p.tooOften(arrived); err != nil {
		return err
	}
	for i := range p.tracks {
		l, t := p.of[i], &p.tracks[i]
		if l == nil || string(l.init.Track.Codec.Config) == string(t.Codec.Config) {
			continue
		}
		if l.cut != nil {
			p.flush(l, arrived)
			l.forget() // frames of the configuration before
		} else {
			l.resync(arrived)
		}
		l.leave()
		l.setTrack(*t)
	}
	return nil
}

// flush publishes what the cutter has.
func (p *Publication) flush(l *lane, arrived int64) {
	if c := l.cut; len(c.rows) > 0 {
		c.settle(c.lastDTS + l.frameLasts())
		l.publish(c.take(arrived))
	}
}

// frame puts a video sample into a part, of the open segment or of the one that it begins.
func (p *Publication) frame(l *lane, f *frame) error {
	c, run := l.cut, p.run
	p.reached = f.dts
	if l.open && f.dts-c.d > l.ticks(maxLag) {
		return &media.UnsupportedError{
			What: fmt.Sprintf("%.2g frames a second with a part target of %v", float64(l.scale)/float64(l.frameLasts()), run.Config.PartTarget),
			Hint: "send more frames, or set a longer part target, or 0 for ordinary HLS",
		}
	}
	leads := run.leads(p)
	predicted := len(c.rows) == 0
	l.pull()
	p.stoodStill(l, f)
	if f.sync {
		// Between what it begins and what comes before it, time is divided where it is presented, whatever decode time an encoder
		// that has left frames out gives it. The frames after it make up for the difference.
		c.settle(f.pts)
	} else {
		c.settle(f.dts)
	}
	c.pace.frame(f.dts, predicted)

	if n := run.orphans.Load(); n != p.orphans {
		p.orphans = n
		p.adopt()
	}
	l.pull()
	began := p.reach(l, f)
	if !began && leads && len(l.queue) == 0 {
		var err error
		if began, err = p.decide(l, f); err != nil {
			return err
		}
	}
	switch {
	case began || !l.open:
	case f.sync && c.yields() || c.full(c.d):
		l.publish(c.take(f.arrived))
	}
	p.noteGap(l, f)
	if f.sync && leads {
		run.noteKey(keyTime{l.nanos(f.pts), f.arrived, f.clock})
	}
	if l.open {
		if err := c.add(f.dts, f.pts, f.sync, f.data); err != nil {
			return err
		}
		if c.predict() {
			l.publish(c.take(f.arrived))
		}
	} else {
		l.lost(1)
		c.lastDTS = f.dts
	}
	if leads {
		run.progress(p, p.progress(l, f.dts), f.arrived)
	}
	for _, a := range p.lanes {
		if a.grid == nil {
			continue
		}
		if _, waits := a.grid.next(); waits {
			a.follow(f.arrived)
		}
	}
	if p.awaiting && l.nanos(f.dts)-p.began > announcedWait {
		p.await(false)
	}
	return nil
}

// progress is how far the leader has come, ns: no segment will begin earlier.
func (p *Publication) progress(l *lane, dts int64) int64 {
	if c := l.cut; !c.pace.irregular {
		dts += c.pace.nominal
	}
	return l.nanos(dts)
}

// enterFresh begins b's segment with a key frame that is presented at pts, on a lane that had none.
func (p *Publication) enterFresh(l *lane, b boundary, pts int64) bool {
	l.cut.reset(max(pts, l.refloor()))
	ok := l.enter(b, l.ticks(b.time), l.cut.d)
	if ok || p.stands() {
		p.cutsAlike()
	}
	return ok
}

// cutsAlike notes that the publication has a key frame at a boundary.
func (p *Publication) cutsAlike() {
	if !p.inStep.Swap(true) {
		p.stream.placed(p)
		p.tell()
	}
}

// reach takes over the boundaries that f has reached, and says whether f begins a segment. A boundary without a key frame
// leaves a gap until one comes that has; when there are too many of the kind, the publication is kept out.
func (p *Publication) reach(l *lane, f *frame) bool {
	half, began := l.half(), false
	for len(l.queue) > 0 && f.pts >= l.ticks(l.queue[0].time)-half {
		b := l.queue[0]
		l.queue = append(l.queue[:0], l.queue[1:]...)
		at := l.ticks(b.time)
		hit := f.sync && f.pts <= at+half
		p.score(l, b, hit, f)
		switch {
		case l.open && (hit || b.loose) && !p.out:
			if len(l.cut.rows) > 0 {
				l.publish(l.cut.take(f.arrived))
			}
			began = l.enter(b, at, l.cut.d)
		case hit && !p.out:
			began = p.enterFresh(l, b, f.pts)
		default:
			began = false
			p.flush(l, f.arrived)
			l.leave()
		}
		if !l.open {
			l.cut.reset(l.cut.d)
		}
	}
	return began
}

// score notes whether the publication had a key frame at b.
func (p *Publication) score(l *lane, b boundary, hit bool, f *frame) {
	if b.loose {
		return
	}
	p.hits <<= 1
	if hit {
		p.hits |= 1
	}
	p.skew, p.lag = 0, f.arrived-b.arrived
	if p.stands() {
		p.run.offer(p, hit)
	}
	if hit {
		p.skew = l.nanos(f.pts) - b.time
		p.lean(l)
		p.adopt()
		lead := p.run.leader.Load()
		// The longest interval leads: its key frames are those that all have.
		if mine := p.interval.Load(); !p.out && lead != nil && lead != p && !p.stands() && p.hits&7 == 7 && p.keysSeen > 4 &&
			mine*20 > lead.interval.Load()*21 && mine <= p.run.longest() {
			p.run.inherit(p)
		}
	}
	switch missed := 8 - bits.OnesCount8(p.hits); {
	case !p.out && missed >= maxMissed:
		p.out, p.again = true, true
		p.inStep.Store(false)
		p.run.outcast(p, f.arrived)
	case p.out && p.hits&15 == 15:
		p.out = false
		p.hits = 0xff
	}
	p.report(false)
}

// maxMissed is how many of the latest eight boundaries may be without a key frame before a publication is kept out, until
// four in a row are not.
const maxMissed = 3

// lean moves the publication's times when its key frames keep to one side of the boundaries: two encoders' clocks differ.
func (p *Publication) lean(l *lane) {
	switch quarter := l.nanos(l.half()) / 2; {
	case p.skew > quarter:
		p.leaning = max(p.leaning, 0) + 1
	case p.skew < -quarter:
		p.leaning = min(p.leaning, 0) - 1
	default:
		p.leaning = 0
	}
	if p.leaning < 3 && p.leaning > -3 {
		return
	}
	p.leaning = 0
	for _, a := range p.lanes {
		a.off -= a.ticks(p.skew / 2)
	}
	l.latest -= l.ticks(p.skew / 2)
	p.shift.Store(&shift{l.off, l.scale, l.nanos(l.reorder)})
}

// audio takes a sample of the audio track.
func (p *Publication) audio(track int, l *lane, s *media.Sample) error {
	if l.astray {
		l.astray = false
		if x, ok := p.run.find(l.rend.ID); p.id(track) != l.rend.ID || ok && x != l.rend {
			return p.elsewhere(track, l, s)
		}
	}
	if p.change && string(l.init.Track.Codec.Config) != string(p.tracks[track].Codec.Config) {
		if p.leader != l {
			l.rend.stats.dropped.Add(1) // of a configuration that begins with the next key frame
			return nil
		}
		return p.anew(track, s)
	}
	t := s.DTS
	if l.in != l.scale {
		t = media.Rescale(t, l.in, l.scale)
	}
	g, run := l.grid, p.run
	leads := p.leader == l && run.leads(p)
	if p.leader == l {
		p.heard.Store(s.Arrived)
	}
	progress := l.ticks(run.decided.Load())
	if g.stray(t+l.off, progress, leads) {
		l.rend.stats.dropped.Add(1)
		if g.strays++; g.strays < maxStrays {
			return nil
		}
		// Time has changed. If it has for the leader, all begins anew; else this track is put beside the leader again.
		if p.leader == l {
			return p.anew(track, s)
		}
		l.resync(s.Arrived)
		l.off += progress - (t + l.off)
	} else if g.apart(t + l.off) {
		l.resync(s.Arrived) // nothing came for a while
	}
	g.strays = 0
	if !g.add(t+l.off, s.Data) {
		l.rend.stats.dropped.Add(1)
		return nil
	}
	if l.grid.adjusted > 0 {
		l.rend.stats.adjusted.Add(l.grid.adjusted)
		l.grid.adjusted = 0
	}
	l.follow(s.Arrived)
	if leads {
		run.progress(p, l.nanos(g.inEnd), s.Arrived)
	}
	if p.awaiting && p.leader == l && l.nanos(g.end)-p.began > announcedWait {
		p.await(false)
	}
	return nil
}
