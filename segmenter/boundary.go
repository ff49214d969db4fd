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
	e := pts - l.rend.open.Start
	key := pts - p.lastKey
	target, most := l.ticks(int64(p.limit)), l.ticks(int64(p.limit+p.slack))
	if key > most && p.run.Config.LongGOP == Refuse {
		return false, p.refuse(l, key)
	}
	if 4*e >= 3*target {
		return true, nil
	}
	return 2*e >= target && e+key > most, nil
}

func (p *Publication) refuse(l *lane, gop int64) error {
	return &media.UnsupportedError{
		What: fmt.Sprintf("going %.3g s without a key frame at a segment target of %v", float64(gop)/float64(l.scale), p.limit),
		Hint: fmt.Sprintf("set the encoder's keyframe interval to %.3g s", p.limit.Seconds()),
	}
}

// settling says whether the target duration may still be chosen: nobody has seen it.
func (p *Publication) settling() bool {
	return p.run.msn == p.run.FirstMSN && p.run.Config.LongGOP == Stretch && !p.run.IsReady()
}

// most is how long a segment of the leader may last.
func (p *Publication) most() time.Duration {
	if p.settling() {
		return MaxTargetDuration + p.slack
	}
	return p.limit + p.slack
}

// holdsMedia says whether the leader's open segment has a sample.
func (p *Publication) holdsMedia(l *lane) bool {
	return len(l.cut.rows) > 0 || len(l.rend.open.Parts) > 0
}

// overflows says whether a segment has to end before the frame at dts, which is not a key frame, because the next key frame
// comes too late: where it divides the cadence evenly, or when the segment can hold no more.
func (p *Publication) overflows(l *lane, dts int64) bool {
	frame := l.cut.pace.nominal
	e := l.cut.d - l.rend.open.Start
	limit := l.ticks(int64(p.most()))
	if e+frame > limit {
		return true
	}
	if p.cadence <= limit || p.settling() {
		return p.run.Config.LongGOP == CutGOP && p.cadence == 0 && e+frame > l.ticks(int64(p.limit))+frame/2
	}
	n := (p.cadence + limit - 1) / limit
	step := p.cadence / n
	// The next point of the grid that the last key frame began.
	since := l.cut.d - p.lastKey
	near := (since + step/2) / step * step
	return near > 0 && near < p.cadence-step/2 && since >= near-frame/2 && since < near+frame && 2*e >= l.ticks(int64(p.limit))
}

// cut ends the leader's segment at a time in its ticks, and begins the next one there, in all renditions.
func (p *Publication) cut(l *lane, at, arrived int64) {
	run := p.run
	if run.msn == run.FirstMSN && !run.IsReady() {
		lasted := time.Duration(l.nanos(at - l.rend.open.Start))
		if lasted > p.limit+p.slack {
			p.limit = min(time.Duration(wholeSeconds(lasted+500*time.Millisecond-p.slack))*time.Second, MaxTargetDuration)
			run.target.Store(int64(p.limit / time.Second))
		}
	}
	run.msn++
	p.cur = boundary{msn: run.msn, time: l.nanos(at), discSeq: run.discs}
	s := l.start(p.cur, at, l.cut.d)
	for _, f := range p.lanes {
		if f != l {
			f.queue = append(f.queue, p.cur)
		}
	}
	l.complete(at, &s)
	for _, f := range p.lanes {
		if f != l {
			f.fill(arrived)
		}
	}
	p.report(false)
}

// leadAudio begins segments when audio leads: at the first frame from every multiple of the target on.
func (p *Publication) leadAudio(t int64) {
	l := p.leader
	if len(l.queue) > 0 {
		return
	}
	target := p.limit
	n := (l.nanos(t) - p.began + int64(time.Millisecond)) / int64(target)
	last := (p.cur.time - p.began + int64(time.Millisecond)) / int64(target)
	if n <= last {
		return
	}
	p.run.msn++
	p.cur = boundary{msn: p.run.msn, time: l.nanos(t), discSeq: p.run.discs}
	for _, f := range p.lanes {
		f.queue = append(f.queue, p.cur)
		if f != l {
			f.fill(p.arrived)
		}
	}
	p.report(false)
}

// report brings the stream's status up to date, once a segment.
func (p *Publication) report(disc bool) {
	l := p.leader
	p.advice[0], p.advice[1] = "", ""
	target := p.run.Config.TargetDuration
	if l.cut != nil && l.nanos(p.cadence) > int64(target+slackOverTarget) {
		p.advice[0] = fmt.Sprintf("keyframes every %.3g s, but the segment target is %.3g s: set the encoder's keyframe interval to %.3g s",
			float64(p.cadence)/float64(l.scale), target.Seconds(), target.Seconds())
	}
	if pt := p.run.Config.PartTarget; pt > 0 && l.cut != nil && l.cut.pace.nominal > 0 {
		frame := l.nanos(l.cut.pace.nominal)
		ms := int64(time.Millisecond)
		if n := (int64(pt) + 2*ms) / frame; n == 0 || n*frame*100 < int64(pt)*85 {
			fits := (max(n+1, 1)*frame + ms - 1) / ms
			p.advice[1] = fmt.Sprintf("frames of %.1f ms fill a part target of %v badly: a part target of %d ms works",
				float64(frame)/1e6, pt, fits)
		}
	}
	p.stream.report(p, time.Duration(l.nanos(p.cadence)), disc)
}
