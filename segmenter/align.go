package segmenter

import "headwater/segmenter/media"

// How a publication that joins others is laid onto their timeline.

// A keyTime is a key frame: when it is presented, on whatever timeline, when it arrived, Unix ns, and what the stream says that
// the time is (media.Sample.Clock).
type keyTime struct{ time, arrived, clock int64 }

// Evidence is what tells that two publications carry the same picture at the same time.
type Evidence string

// The kinds of evidence, the strongest first.
const (
	// Leads: there is nothing to compare with.
	Leads Evidence = "leads"
	// SharedBase: its timestamps are those of another publication of the stream.
	SharedBase Evidence = "timestamps"
	// Embedded: its key frames carry the time of day that the leader's carry.
	Embedded Evidence = "time in the stream"
	// Assumed: its key frames come in the rhythm of the leader's, and arrive beside them. That is right when encoders place key
	// frames by the content, and nothing shows that they do.
	Assumed Evidence = "assumed from key frames"
	// Arrival: it has no key frames, and is laid where it arrives.
	Arrival Evidence = "assumed from arrival"
)

// What may be believed: by how much publications of one source may lag one another.
const (
	maxLagTime  = 500_000_000    // ns, on a shared base, or half the time between key frames if that is longer
	lagOfKeys   = 0.4            // of the time between key frames, without one
	fromZero    = 10_000_000_000 // ns; before this time a publication has only just begun to count
	minAgreeing = 2              // key frames that have to agree without a shared base
	maxLagClock = 5_000_000_000  // ns, where the stream says what the time is: clocks that were never set may agree by chance
)

// align returns what has to be added to a publication's times, ns, so that its key frames own, the latest last, are those of
// the leader. first says that own[0] is the publication's very first, which comes wherever the encoder was begun and so proves
// nothing when it is not the leader's; doubted, that it has been placed before and did not belong there: then three quarters
// have to agree, and more than two. shared are
// the offsets of the publications that are on the timeline; half is the tolerance, half a frame.
func align(own, lead []keyTime, first, doubted bool, shared []int64, half int64) (offset int64, by Evidence, ok bool) {
	if len(own) == 0 || len(lead) == 0 {
		return 0, "", false
	}
	cadence := interval(lead)
	lag := int64(maxLagTime)
	lag = max(lag, cadence/2)
	for _, off := range shared {
		n, of := 0, 0
		for i, k := range own {
			if k.time+off > lead[len(lead)-1].time+half {
				continue // the leader has not come so far
			}
			if first && i == 0 && (len(own) > 1 || k.time < fromZero) {
				continue // every encoder begins with a key frame, and most at time 0
			}
			of++
			for _, l := range lead {
				if near(k.time+off, l.time, half) && near(k.arrived, l.arrived, lag) {
					n++
					break
				}
			}
		}
		if n > 0 && 2*n >= of && (!doubted || n > minAgreeing && 4*n > 3*of) {
			return off, SharedBase, true
		}
	}
	if offset, ok := alignClocks(own, lead, first, doubted, half); ok {
		return offset, Embedded, true
	}
	agreeing, least := 0, int64(0)
	for _, k := range own {
		for _, l := range lead {
			off, late := l.time-k.time, abs(k.arrived-l.arrived)
			if float64(late) > lagOfKeys*float64(cadence) {
				continue
			}
			n := 0
			for _, q := range own {
				if among(q.time+off, lead, half) {
					n++
				}
			}
			if n > agreeing || n == agreeing && late < least {
				offset, agreeing, least = off, n, late
			}
		}
	}
	of := expected(own, offset, lead, half, first)
	return offset, Assumed, agreeing >= minAgreeing && 2*agreeing > of && (!doubted || agreeing > minAgreeing && 4*agreeing > 3*of)
}

// alignClocks returns what has to be added to a publication's times so that key frames are together that carry the same time
// of day. It takes one, but not against as many that have a time of day and are elsewhere; and not the beginnings of both, where
// clocks agree that count from where the encoder was begun.
func alignClocks(own, lead []keyTime, first, doubted bool, half int64) (offset int64, ok bool) {
	for i := len(own) - 1; i >= 0; i-- {
		for _, l := range lead {
			k := own[i]
			if !sameClock(k.clock, l.clock, half) || !near(k.arrived, l.arrived, maxLagClock) {
				continue
			}
			off, n, of := l.time-k.time, 0, 0
			if first && len(lead) < maxKeys && near(own[0].time+off, lead[0].time, half) {
				continue
			}
			for _, q := range own {
				for _, m := range lead {
					together, same := near(q.time+off, m.time, half), sameClock(q.clock, m.clock, half)
					if q.clock != 0 && m.clock != 0 && (together || same) {
						of++
						if together && same {
							n++
						}
					}
				}
			}
			if 2*n > of && (!doubted || n > minAgreeing) {
				return off, true
			}
		}
	}
	return 0, false
}

// sameClock says whether two times of day are the same, to within so much.
func sameClock(a, b, within int64) bool {
	d := abs(a - b)
	return a != 0 && b != 0 && min(d, media.Day-d) <= within
}

// expected counts the key frames of own that may be expected among lead's: from the first of those to the last.
func expected(own []keyTime, offset int64, lead []keyTime, half int64, first bool) (n int) {
	for i, k := range own {
		if t := k.time + offset; t >= lead[0].time-half && t <= lead[len(lead)-1].time+half && (i > 0 || !first) {
			n++
		}
	}
	return n
}

// interval is the mean time between key frames; 0 is unknown.
func interval(keys []keyTime) int64 {
	if n := len(keys); n > 1 {
		return (keys[n-1].time - keys[0].time) / int64(n-1)
	}
	return 0
}

func among(t int64, keys []keyTime, half int64) bool {
	for _, k := range keys {
		if near(t, k.time, half) {
			return true
		}
	}
	return false
}

func near(a, b, within int64) bool { return abs(a-b) <= within }

func abs(v int64) int64 { return max(v, -v) }
