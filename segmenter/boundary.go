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
	target, most := l.ticks(int64(p.run.limit())), l.ticks(int64(p.longest()))
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
func (p *Publication) settling() bool {
	r := p.run
	return r.last.Load() == r.FirstMSN && r.Config.LongGOP == Stretch && !r.IsReady()
}

// longest is how long a video segment may last at the target duration as it is.
func (p *Publication) longest() time.Duration {
	return p.run.limit() + time.Duration(p.run.slack.Load())
}

// most is how long a segment of the leader may last.
func (p *Publication) most() time.Duration {
	if p.settling() {
		return MaxTargetDuration + time.Duration(p.run.slack.Load())
	}
	return p.longest()
}

// holdsMedia says whether the lane's open segment has a sample.
func (l *lane) holdsMedia() bool { return len(l.cut.rows) > 0 || l.index > 0 }

// overflows says whether a segment has to end before the frame at dts, which is not a key frame, because the next key frame
// comes too late: where it divides the cadence evenly, or when the segment can hold no more.
func (p *Publication) overflows(l *lane, dts int64) bool {
	frame := l.cut.pace.nominal
	e := l.cut.d - l.start
	limit := l.ticks(int64(p.most()))
	if e+frame > limit {
		return true
	}
	if p.cadence <= limit || p.settling() {
		return p.run.Config.LongGOP == CutGOP && p.cadence == 0 && e+frame > l.ticks(int64(p.run.limit()))+frame/2
	}
	n := (p.cadence + limit - 1) / limit
	step := p.cadence / n
	// The next point of the grid that the last key frame began.
	since := l.cut.d - p.keyed(l)
	near := (since + step/2) / step * step
	return near > 0 && near < p.cadence-step/2 && since >= near-frame/2 && since < near+frame && 2*e >= l.ticks(int64(p.run.limit()))
}

// cut ends the leading lane's segment at a time in its ticks, and begins the next one there, in all renditions. It says false
// when another publication has taken the lead.
func (p *Publication) cut(l *lane, at int64, loose bool, arrived int64) bool {
	run := p.run
	if p.settling() {
		slack := time.Duration(run.slack.Load())
		if lasted := time.Duration(l.nanos(at - l.start)); lasted > p.longest() {
			run.target.Store(int64(min(time.Duration(wholeSeconds(lasted+500*time.Millisecond-slack))*time.Second, MaxTargetDuration) / time.Second))
		}
	}
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
	l := p.leader
	p.advice = [2]string{}
	if p.lower { // the advice is for whoever encodes the source
		p.stream.report(p, disc)
		p.tell()
		return
	}
	target := p.run.Config.TargetDuration
	if l.cut != nil && l.nanos(p.cadence) > int64(target+slackOverTarget) {
		p.advice[0] = fmt.Sprintf("keyframes every %.3g s, but the segment target is %.3g s: set the encoder's keyframe interval to %.3g s",
			float64(p.cadence)/float64(l.scale), target.Seconds(), target.Seconds())
	}
	if pt := p.run.Config.PartTarget; pt > 0 && l.cut != nil && l.cut.pace.nominal > 0 {
		frame := l.nanos(l.cut.pace.nominal)
		ms := int64(time.Millisecond)
		if n := (int64(pt) + 2*ms) / max(frame, 1); n == 0 || n*frame*100 < int64(pt)*85 {
			fits := (max(n+1, 1)*frame + ms - 1) / ms
			p.advice[1] = fmt.Sprintf("frames of %.1f ms fill a part target of %v badly: a part target of %d ms works",
				float64(frame)/1e6, pt, fits)
		}
	}
	p.stream.report(p, disc)
	p.tell()
}
