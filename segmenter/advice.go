package segmenter

import (
	"fmt"
	"strconv"
	"time"

	"headwater/segmenter/media"
)

// Advice is what whoever set an encoder up should change, in plain words.
type Advice struct {
	Text  string
	About string // Text without what has been measured, which may go on changing
}

// How often it is told anew for how long no key frame has come, in media time, and how long it is told of afterwards, in arrival
// time: so that whoever looks now and then learns of it, however long the window.
const (
	tellEvery = 1 * media.Second
	toldFor   = 60 * media.Second
)

// fits is how far key frames may be apart for segments that keep to the configured target duration, ns.
func (c *Config) fits() int64 { return int64(c.TargetDuration + slackOverTarget) }

// noteGap takes note of where the key frames are: f is the next frame of the publication's leading lane.
func (p *Publication) noteGap(l *lane, f *frame) {
	fits := l.ticks(p.run.Config.fits())
	switch {
	case f.sync:
		p.untold = f.pts + fits
	case p.lastKey != noKey && f.dts > p.untold:
		p.untold = f.dts + l.ticks(tellEvery)
		p.report(false)
	}
	if !f.sync || f.pts <= p.lastKey {
		return
	}
	last := p.lastKey
	p.lastKey = f.pts
	if last == noKey {
		return
	}
	before := p.cadence
	p.cadence = f.pts - last
	p.sparse = min(before, p.cadence) > fits
	if p.cadence > fits {
		p.gap, p.gapEnd = l.nanos(p.cadence), f.arrived
		p.report(false)
	}
}

// keyless is for how long no key frame has come, ns, if that is longer than fits and not what sparse ones let expect; else 0.
func (p *Publication) keyless() int64 {
	l := p.leader
	if l.cut == nil || p.lastKey == noKey {
		return 0
	}
	since := p.reached - p.lastKey
	if l.nanos(since) <= p.run.Config.fits() || p.sparse && since <= 2*p.cadence {
		return 0
	}
	return l.nanos(since)
}

// keyInterval is how far key frames are apart, ns: the last two, or the last one and now if none comes. 0 is unknown.
func (p *Publication) keyInterval() int64 { return max(p.leader.nanos(p.cadence), p.keyless()) }

// adviseKeys says what is wrong with the key frames: that they are too far apart, or that none comes or came until shortly. The
// zero Advice is nothing.
func (p *Publication) adviseKeys() (none Advice) {
	c, gap, since := &p.run.Config, int64(0), p.keyless()
	if p.arrived-p.gapEnd < toldFor {
		gap = p.gap
	}
	switch {
	case p.leader.cut == nil:
	case p.sparse && since == 0:
		return p.advise("keyframes every", p.leader.nanos(p.cadence), c)
	case max(gap, since) > 0:
		return p.advise("no keyframe for", max(gap, soFar(since)), c)
	}
	return none
}

// advise puts a figure, ns, and what to set into words.
func (p *Publication) advise(what string, figure int64, c *Config) Advice {
	target := seconds(int64(c.TargetDuration))
	about := fmt.Sprintf(", but the segment target is %s s%s", target, p.adviseInterval(target))
	return Advice{fmt.Sprintf("%s %s s%s", what, seconds(figure), about), what + about}
}

// adviseInterval says what to set key frames to.
func (p *Publication) adviseInterval(target string) string {
	if p.recovery == 0 || p.arrived-p.recovery > toldFor {
		return fmt.Sprintf(": set the encoder's keyframe interval to %s s", target)
	}
	which := "recovery points"
	for i := range p.tracks {
		if p.tracks[i].Codec.Type == "hvc1" {
			which = "CRA pictures"
		}
	}
	return fmt.Sprintf(", and %s (open GOPs) begin no segment: set the encoder to closed GOPs, in which each keyframe is an IDR picture, and its keyframe interval to %s s", which, target)
}

// adviseWaiting says that the publication has no place because no key frame comes: what comes, came last at arrived.
func (p *Publication) adviseWaiting(arrived int64) {
	if p.lower || arrived < p.tellNext {
		return
	}
	c := p.stream.origin.config(p.stream.Name).withDefaults()
	none := arrived - max(p.warmed, p.keyHeard.Load())
	if none <= c.fits() {
		return
	}
	p.tellNext = arrived + tellEvery
	p.advice = [2]Advice{p.advise("no keyframe for", soFar(none), &c)}
	p.tell()
}

// adviseParts says whether frames fill parts badly. The zero Advice is no.
func (p *Publication) adviseParts() (none Advice) {
	l, pt := p.leader, p.run.Config.PartTarget
	if pt <= 0 || l.cut == nil || l.cut.pace.nominal <= 0 {
		return none
	}
	frame := l.nanos(l.cut.pace.nominal)
	ms := int64(time.Millisecond)
	n := (int64(pt) + 2*ms) / max(frame, 1)
	if n > 0 && n*frame*100 >= int64(pt)*85 {
		return none
	}
	about := fmt.Sprintf("fill a part target of %v badly: a part target of %d ms works", pt, (max(n+1, 1)*frame+ms-1)/ms)
	return Advice{fmt.Sprintf("frames of %.1f ms %s", float64(frame)/1e6, about), about}
}

// soFar rounds a time that goes on down, ns, so that what is said of it is not another thing each time.
func soFar(ns int64) int64 {
	step := media.Second / 10
	switch {
	case ns >= 60*media.Second:
		step = 60 * media.Second
	case ns >= 10*media.Second:
		step = 5 * media.Second
	}
	return ns / int64(step) * int64(step)
}

// seconds writes a time, ns, in seconds, without needless zeros.
func seconds(ns int64) string {
	return strconv.FormatFloat(time.Duration(ns).Round(10*time.Millisecond).Seconds(), 'f', -1, 64)
}
