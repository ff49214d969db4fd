package segmenter

import (
	"fmt"
	"math"
	"time"

	"headwater/segmenter/media"
)

// What a Publication does with each sample, by kind of track.

// maxLag is how far written decode times may fall behind, in media time, before frames that outlast the part target are
// refused.
const maxLag = 5 * media.Second

// jump is how far a video timestamp may run ahead of or behind the one before it.
func (p *Publication) jump(scale uint32) int64 {
	return media.Rescale(int64(max(2*time.Second, p.limit/2)), media.Second, scale)
}

// video takes a sample of the video track.
func (p *Publication) video(track int, l *lane, s *media.Sample) error {
	c := l.cut
	dts, cto := s.DTS, int64(s.CTO)
	if l.in != l.scale {
		dts, cto = media.Rescale(dts, l.in, l.scale), media.Rescale(cto, l.in, l.scale)
	}
	pts := dts + cto + l.off
	dts += l.off + l.reorder

	if len(c.rows) > 0 || c.pace.n > 0 {
		if d, far := dts-c.lastDTS, p.jump(l.scale); d > far || d < -far {
			// One sample is an accident; when the next ones agree with it, time has changed.
			if l.strays++; l.strays <= maxVideoStrays {
				l.rend.stats.dropped.Add(1)
				return nil
			}
			return p.anew(track, s)
		}
		if dts <= c.lastDTS {
			l.rend.stats.adjusted.Add(1)
		}
	}
	l.strays = 0
	if d, far := pts-c.d, 10*int64(l.scale); d > far || d < -far {
		l.rend.stats.dropped.Add(1) // no encoder reorders over ten seconds
		return nil
	}
	if dts-c.d > l.ticks(maxLag) {
		return &media.UnsupportedError{
			What: fmt.Sprintf("%.2g frames a second with a part target of %v", float64(l.scale)/float64(max(c.pace.nominal, 1)), p.run.Config.PartTarget),
			Hint: "send more frames, or set a longer part target, or 0 for ordinary HLS",
		}
	}

	predicted := len(c.rows) == 0
	if most := l.ticks(int64(p.most())); dts-l.rend.open.Start > most && p.holdsMedia(l) {
		// The picture has stood still beyond the longest segment. What is there ends where it would have, and the next
		// segment begins there too, with this frame presented at its own time.
		c.settle(min(c.lastDTS+max(c.pace.nominal, 1), l.rend.open.Start+most))
		if len(c.rows) > 0 {
			l.publish(c.take(s.Arrived))
		}
		if c.d > l.rend.open.Start {
			p.cut(l, c.d, s.Arrived)
		}
	}
	c.settle(dts)
	c.pace.frame(dts, predicted)

	cut, at := false, pts
	if s.Sync {
		if p.change {
			return p.anew(track, s)
		}
		var err error
		if cut, err = p.cutAtKey(l, pts); err != nil {
			return err
		}
	} else if p.overflows(l, dts) {
		if p.run.Config.LongGOP == Refuse {
			return p.refuse(l, dts-p.lastKey)
		}
		cut, at = true, c.d
	}
	switch {
	case cut && at > l.rend.open.Start && p.holdsMedia(l):
		if len(c.rows) > 0 {
			l.publish(c.take(s.Arrived))
		}
		p.cut(l, at, s.Arrived)
	case s.Sync && c.yields() || c.full(c.d):
		l.publish(c.take(s.Arrived))
	}
	if s.Sync && pts > p.lastKey {
		p.cadence, p.lastKey = pts-p.lastKey, pts
	}
	if err := c.add(dts, pts, s.Sync, s.Data); err != nil {
		return err
	}
	if c.predict() {
		l.publish(c.take(s.Arrived))
	}
	for _, f := range p.lanes {
		if f.grid == nil || f == l {
			continue
		}
		if _, waits := f.grid.next(); waits {
			f.follow(p.progress(f), s.Arrived)
		}
	}
	if p.awaiting && l.nanos(dts)-p.began > announcedWait {
		p.await(false)
	}
	return nil
}

// maxVideoStrays is how many samples in a row may be far off before they are believed.
const maxVideoStrays = 3

// progress is how far, in ticks of f, the leader has come: no segment will begin earlier.
func (p *Publication) progress(f *lane) int64 {
	if p.leader.cut == nil {
		return math.MaxInt64
	}
	c := p.leader.cut
	t := c.lastDTS
	if !c.pace.irregular {
		t += c.pace.nominal
	}
	return media.Rescale(t, p.leader.scale, f.scale)
}

// audio takes a sample of the audio track.
func (p *Publication) audio(track int, l *lane, s *media.Sample) error {
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
	g := l.grid
	if g.stray(t+l.off, p.progress(l), p.leader == l) {
		l.rend.stats.dropped.Add(1)
		if g.strays++; g.strays < maxStrays {
			return nil
		}
		// Time has changed. If it has for the leader, all begins anew; else this track is put beside the leader again.
		if p.leader == l {
			return p.anew(track, s)
		}
		l.resync(s.Arrived)
		l.off += p.progress(l) - (t + l.off)
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
	l.follow(p.progress(l), s.Arrived)
	if p.awaiting && p.leader == l && l.nanos(g.end)-p.began > announcedWait {
		p.await(false)
	}
	return nil
}
