package segmenter

import (
	"fmt"
	"time"

	"headwater/segmenter/media"
)

// Where segments begin and end: the decisions of a Publication, which its leader makes for all renditions.

// slackOverTarget is by how much a video segment may exceed the target duration so that it, and the audio segment beside it,
// which may be a frame longer, still round to it (RFC 8216bis 4.4.3.1). Audio frames of up to 46 ms leave so much.
const slackOverTarget = 450 * time.Millisecond

// cutAtKey says whether the key frame presented at pts begins a segment. It ends one that has lasted three quarters of the
// target, or half of it if the next key frame would come too late.
func (p *Publication) cutAtKey(l *lane, pts int64) (bool, error) {
	e := pts - l.start
	key := pts - p.keyed(l)
	target, most := l.ticks(int64(p.run.limit())), l.ticks(p.run.longest())
	if key > most && p.run.Config.LongGOP == Refuse {
		return false, p.refuse(l, key)
	}
	if 4*e >= 3*target {
		return true, nil
	}
	return 2*e >= target && e+key > most, nil
}

// keyed is when the last key frame was.
func (p *Publication) keyed(l *lane) int64 {
	if p.lastKey == noKey {
		return l.start
	}
	return p.lastKey
}

func (p *Publication) refuse(l *lane, gop int64) error {
	return &media.UnsupportedError{
		What: fmt.Sprintf("going %.3g s without a key frame at a segment target of %v", float64(gop)/float64(l.scale), p.run.limit()),
		Hint: fmt.Sprintf("set the encoder's keyframe interval to %.3g s", p.run.limit().Seconds()),
	}
}

// settling says whether the target duration may still be chosen: nobody has seen it.
func (r *Run) settling() bool {
	return r.last.Load() == r.FirstMSN && r.Config.LongGOP == Stretch && !r.IsReady()
}

// stretch makes the target duration, which may still be chosen, such that a first segment that lasted so long is within it.
func (r *Run) stretch(lasted time.Duration) {
	slack := time.Duration(r.slack.Load())
	if lasted > r.limit()+slack {
		r.target.Store(int64(min(time.Duration(wholeSeconds(lasted+500*time.Millisecond-slack))*time.Second, MaxTargetDuration) / time.Second))
	}
}

// longest is how long a video segment may last at the target duration as it is, ns.
func (r *Run) longest() int64 { return int64(r.limit()) + r.slack.Load() }

// most is how long the segment that is open may last, ns.
func (r *Run) most() int64 {
	if r.settling() {
		return int64(MaxTargetDuration) + r.slack.Load()
	}
	return r.longest()
}

// holdsMedia says whether the lane's open segment has a sample.
func (l *lane) holdsMedia() bool { return len(l.cut.rows) > 0 || l.index > 0 }

// overflows says whether a segment has to end at a time before the frame that comes, which is not a key frame, because the next key
// frame comes too late: where it divides the cadence evenly, or when the segment can hold no more.
func (p *Publication) overflows(l *lane, at int64) bool {
	frame := l.cut.pace.nominal
	e := at - l.start
	limit := l.ticks(p.run.most())
	if e+frame > limit {
		return true
	}
	if p.cadence <= limit || p.run.settling() {
		return p.run.Config.LongGOP == CutGOP && p.cadence == 0 && e+frame > l.ticks(int64(p.run.limit()))+frame/2
	}
	n := (p.cadence + limit - 1) / limit
	step := p.cadence / n
	// The next point of the grid that the last key frame began.
	since := at - p.keyed(l)
	near := (since + step/2) / step * step
	return near > 0 && near < p.cadence-step/2 && since >= near-frame/2 && since < near+frame && 2*e >= l.ticks(int64(p.run.limit()))
}

// stoodStill ends the leading lane's segment if f comes so long after it began that it cannot hold what is before f: where it would have
// ended otherwise, as others may have gone on to there, but not so early that the next one could not last until the frame after f. f is
// presented at its own time.
func (p *Publication) stoodStill(l *lane, f *frame) {
	c, run := l.cut, p.run
	for run.leads(p) && l.open && len(l.queue) == 0 {
		most := l.ticks(run.most())
		if f.dts-l.start <= most {
			return
		}
		frame := l.frameLasts()
		at := min(max(c.lastDTS+frame, l.ticks(max(run.nextDue.Load(), run.decided.Load())), f.dts-most+2*frame), l.start+most)
		c.settle(at)
		if len(c.rows) > 0 {
			l.publish(c.take(f.arrived))
		}
		if at = max(at, c.d); at <= l.start || !p.cut(l, at, true, f.arrived) {
			return
		}
	}
}

// decide begins a segment with f, or where f would begin, if that is due: the leader's part.
func (p *Publication) decide(l *lane, f *frame) (began bool, err error) {
	if f.sync && l.nanos(f.pts+l.half()) < p.leadFrom.Load() {
		return false, nil // whoever led before has decided otherwise
	}
	if !l.open {
		return p.decideFresh(l, f), nil
	}
	c := l.cut
	cut, at := false, f.pts
	if f.sync {
		if cut, err = p.cutAtKey(l, f.pts); err != nil {
			return false, err
		}
	} else if at = max(c.d, f.dts); p.overflows(l, at) { // written decode times may be behind
		if p.run.Config.LongGOP == Refuse {
			return false, p.refuse(l, f.dts-p.keyed(l))
		}
		cut = true
	}
	if !cut || at <= l.start || !l.holdsMedia() {
		return false, nil
	}
	if len(c.rows) > 0 {
		l.publish(c.take(f.arrived))
	}
	return p.cut(l, at, !f.sync, f.arrived), nil
}

// decideFresh is decide for who has the lead, but not yet a segment.
func (p *Publication) decideFresh(l *lane, f *frame) (began bool) {
	run := p.run
	latest, most, torn := run.latest()
	if f.sync && l.nanos(f.pts) > most {
		// Whoever led before has said nothing for so long that the segment that is open ends without anything after it.
		run.announce(p, boundary{time: most, loose: true, arrived: f.arrived})
		latest, most, torn = most, most+run.longest(), true
	}
	if lasts := l.nanos(f.pts) - latest; !f.sync || lasts < int64(run.limit())/2 && (!torn || lasts < minTorn) {
		// Nobody else may begin one: the others' must not get too long meanwhile.
		t := l.nanos(f.dts)
		if t+l.nanos(2*l.half()) > most {
			run.announce(p, boundary{time: min(t, most), loose: true, arrived: f.arrived})
		}
		return false
	}
	b, ok := run.announce(p, boundary{time: l.nanos(f.pts), arrived: f.arrived})
	if !ok {
		return false
	}
	l.pulled = b.msn
	return p.enterFresh(l, b, f.pts)
}

// cut ends the leading lane's segment at a time in its ticks, and begins the next one there, in all renditions. It says false
// when another publication has taken the lead.
func (p *Publication) cut(l *lane, at int64, loose bool, arrived int64) bool {
	run := p.run
	b, ok := run.announce(p, boundary{time: l.nanos(at), loose: loose, arrived: arrived})
	if !ok {
		return false
	}
	l.pulled = b.msn
	l.enter(b, at, l.cut.d)
	p.adopt()
	p.report(b.disc)
	return true
}

// leadAudio begins segments when audio leads: at the first frame from every multiple of the target on.
func (p *Publication) leadAudio(t int64) {
	l := p.leader
	l.pull()
	if len(l.queue) > 0 || !p.run.leads(p) {
		return
	}
	n := p.slot(l.nanos(t))
	if n <= p.slots {
		return
	}
	p.slots = n
	b, ok := p.run.announce(p, boundary{time: l.nanos(t), loose: true, arrived: p.arrived})
	if !ok {
		return
	}
	p.report(b.disc)
}

// slot counts multiples of the target since the publication began.
func (p *Publication) slot(t int64) int64 {
	return (t - p.began + int64(time.Millisecond)) / int64(p.run.limit())
}

// report brings the stream's status up to date, once a segment.
func (p *Publication) report(disc bool) {
	p.advice = [2]Advice{}
	if !p.lower { // the advice is for whoever encodes the source
		p.advice = [2]Advice{p.adviseKeys(), p.adviseParts()}
	}
	p.stream.report(p, disc)
	p.tell()
}
