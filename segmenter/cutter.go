package segmenter

import (
	"headwater/segmenter/media"
)

// Bounds on one part, so that a publication whose timestamps do not advance cannot fill memory.
const (
	maxPartSamples = 8192
	maxPartBytes   = 64 << 20
)

// A cutter turns the samples of a video track into parts: pure, without a clock. Times are ticks on the run's timeline.
//
// Decode times are written without holes: each sample begins where the one before it ends, at d, and what that differs from
// its own decode time goes into its composition offset, so that presentation never moves. The last sample of a part that
// is full is given its nominal duration at once instead of waiting for the next frame to show it; the next sample makes up
// for the difference. No written duration takes a part beyond the part target: a frame that stands still for longer hands
// the rest on to the samples that follow.
type cutter struct {
	partMax int64 // ticks a part may last; 0: a segment is one part
	slack   int64 // ticks by which timestamps are known to be rounded: a part may be filled although it is over by that
	pace    pace

	d         int64 // where the next sample begins
	partStart int64
	last      int64 // where the last row begins, while its duration is not known yet
	lastDTS   int64 // that sample's own decode time
	pending   bool  // the last row's duration is not known yet

	rows    []media.SampleInfo
	payload []byte
	keyed   bool // a key frame is among the rows
}

// reset starts anew at t.
func (c *cutter) reset(t int64) {
	c.d, c.partStart, c.pending, c.keyed = t, t, false, false
	c.rows, c.payload = c.rows[:0], c.payload[:0]
	c.pace.restart()
}

// settle gives the last row its duration, now that the next sample is known to decode at dts.
func (c *cutter) settle(dts int64) {
	if !c.pending {
		return
	}
	dur := max(dts-c.last, 1)
	if c.partMax > 0 {
		dur = max(min(dur, c.partMax-(c.last-c.partStart)), 1)
	}
	dur = min(dur, 1<<31)
	c.rows[len(c.rows)-1].Duration = uint32(dur)
	c.d = c.last + dur
	c.pending = false
}

// full says whether no further sample of nominal duration, or of any while that is unknown, fits into the part, if it ends at end.
func (c *cutter) full(end int64) bool {
	if c.partMax <= 0 || len(c.rows) == 0 {
		return false
	}
	lasts := end - c.partStart
	if c.pace.nominal == 0 {
		return lasts >= c.partMax
	}
	return lasts+c.pace.nominal > c.partMax+c.slack
}

// yields says whether the open part may end before a key frame that begins no segment, so that the key frame comes first in
// its part: it does unless the part would be too short (RFC 8216bis 4.4.4.9: at least 85 % of the part target).
func (c *cutter) yields() bool {
	return !c.keyed && len(c.rows) > 0 && c.partMax > 0 && (c.d-c.partStart)*100 >= c.partMax*85
}

// add appends a sample that decodes at dts and is presented at pts. settle(dts) has been called.
func (c *cutter) add(dts, pts int64, sync bool, data []byte) error {
	if len(c.rows) >= maxPartSamples || len(c.payload)+len(data) > maxPartBytes {
		return media.Formatf("video", "%d frames and %d bytes without getting further in time", len(c.rows), len(c.payload))
	}
	if len(c.rows) == 0 {
		c.partStart = c.d
		c.payload = reuse(c.payload)
	}
	c.keyed = c.keyed || sync
	cto := pts - c.d
	if sync && cto < 0 && -cto <= c.slack/2 {
		cto = 0 // the frame before it has been given as long as frames last, and times that were rounded are off by no more
	}
	c.rows = append(c.rows, media.SampleInfo{Size: uint32(len(data)), CTO: int32(cto), Sync: sync})
	c.payload = append(c.payload, data...)
	c.last, c.lastDTS, c.pending = c.d, dts, true
	return nil
}

// predict closes the last row with its nominal duration if that fills the part, and says so.
func (c *cutter) predict() bool {
	if !c.pending || c.pace.n < 2 || c.pace.irregular { // one frame shows no pace
		return false
	}
	end := c.lastDTS + c.pace.nominal
	if !c.full(end) {
		return false
	}
	c.settle(end)
	return true
}

// take returns what has been collected as a part, with its payload, which is good until the next call of add, and begins the
// next one. Every row has its duration.
func (c *cutter) take(arrived int64) (*Part, []byte) {
	p := &Part{
		Time: c.partStart, Duration: c.d - c.partStart, Independent: c.keyed, Arrived: arrived,
		Samples: append(make([]media.SampleInfo, 0, len(c.rows)), c.rows...),
	}
	payload := c.payload
	c.rows = c.rows[:0]
	c.partStart, c.keyed = c.d, false
	return p, payload
}

// maxSpare is how large a buffer may be that is kept although the last part needed a quarter of it.
const maxSpare = 1 << 20

// reuse returns the room of a payload that has been published, unless that is out of proportion.
func reuse(payload []byte) []byte {
	if cap(payload) > maxSpare && len(payload) < cap(payload)/4 {
		return nil
	}
	return payload[:0]
}

// A pace watches how regularly frames come, and knows how long one lasts.
type pace struct {
	fixed     int64 // ticks of a frame as the parameter sets state it, 0 when they do not: a hint
	nominal   int64 // ticks of a frame; 0 is unknown
	irregular bool  // frames do not come when they are expected: wait for them

	hist  [64]int64 // decode times of the latest frames
	n     int
	wrong int // predictions in a row that were off by more than half a frame
	right int // frames in a row that came when they were expected
}

// After this many wrong predictions in a row the next frame is waited for, and after this many frames in time it is not.
const (
	maxWrong = 3
	minRight = 60
	// minMeasured is how many frames' durations are measured before they are believed rather than the parameter sets.
	minMeasured = 8
)

func (p *pace) restart() { p.n = 0 }

// frame notes a frame that decodes at dts.
func (p *pace) frame(dts int64, predicted bool) {
	if last := dts - p.hist[(p.n+len(p.hist)-1)%len(p.hist)]; p.n > 0 && last*2 < p.fixed {
		p.fixed, p.nominal = 0, max(last, 1) // the parameter sets are wrong
	}
	if p.n > 0 && p.nominal > 0 {
		err := dts - p.hist[(p.n-1)%len(p.hist)] - p.nominal
		if err > p.nominal/2 || err < -p.nominal/2 {
			p.right = 0
			if predicted {
				if p.wrong++; p.wrong >= maxWrong {
					p.irregular = true
				}
			}
		} else {
			if predicted {
				p.wrong = 0
			}
			if p.right++; p.right >= minRight {
				p.irregular, p.wrong = false, 0
			}
		}
	}
	p.hist[p.n%len(p.hist)] = dts
	p.n++
	k := min(p.n, len(p.hist)) - 1
	if k > 0 {
		p.nominal = max((dts-p.hist[(p.n-1-k)%len(p.hist)]+int64(k)/2)/int64(k), 1)
	}
	// What the parameter sets state is exact, but may be the highest rate rather than the real one.
	if p.fixed > 0 && (k < minMeasured || max(p.nominal, p.fixed)*50 <= min(p.nominal, p.fixed)*51) {
		p.nominal = p.fixed
	}
}

// A grid turns the samples of an audio track into parts. Every frame lasts what the codec says, so output times lie on a
// grid of frames; what the timestamps say only moves the grid, slowly, when it has drifted. Frames wait until the leader,
// the video, has come as far as they, because until then a segment may yet end before them.
type grid struct {
	scale   uint32 // ticks a second
	frame   int64  // ticks of one frame
	partMax int64

	synced  bool  // end follows from a sample, not from nothing
	end     int64 // where the next sample begins
	since   int64 // where the drift began to exceed a frame; meaningful with drifted
	drifted bool
	fixing  bool
	strays  int // samples in a row that are far off

	start    int64 // where rows[0] begins
	rows     []media.SampleInfo
	payload  []byte
	taken    []byte // where the payload of the last part lies, to be used again
	in       int    // rows[:in] are in the open part
	inBytes  int
	inEnd    int64 // where rows[in] begins
	adjusted uint64
}

// How far the timestamps may run from the grid before it moves (ticks are seconds times scale), and from where on a sample
// is not believed at all.
const (
	gridSlowSeconds  = 1.0
	gridFastSeconds  = 0.1
	gridStraySeconds = 2.0
	maxStrays        = 48
	maxWaiting       = 1024 // rows that wait for the leader
)

func (g *grid) reset() {
	g.synced, g.drifted, g.fixing, g.strays = false, false, false, 0
	g.rows, g.payload = g.rows[:0], g.payload[:0]
	g.in, g.inBytes = 0, 0
}

// far says whether two times are further apart than timestamps of one source may be.
func (g *grid) far(a, b int64) bool {
	d, most := a-b, int64(gridStraySeconds*float64(g.scale))
	return d > most || d < -most
}

// apart says whether t does not continue what is there.
func (g *grid) apart(t int64) bool { return g.synced && g.far(t, g.end) }

// stray says whether a frame at t belongs to neither the grid nor, for a track that follows, the time where the leader is.
func (g *grid) stray(t, progress int64, leads bool) bool {
	if g.synced && !g.far(t, g.end) {
		return false
	}
	if leads {
		return g.synced
	}
	return g.far(t, progress) || g.synced && t < g.end
}

// add appends a frame whose timestamp says t, which is not apart. It says false if there is no room.
func (g *grid) add(t int64, data []byte) bool {
	if len(g.rows)-g.in >= maxWaiting || len(g.payload)+len(data) > maxPartBytes {
		return false
	}
	if !g.synced {
		g.end, g.start, g.inEnd, g.synced = t, t, t, true
	}
	drift := t - g.end
	dur := g.frame + g.correction(t, drift)
	if len(g.rows) == 0 {
		g.start, g.inEnd = g.end, g.end
	}
	g.rows = append(g.rows, media.SampleInfo{Duration: uint32(dur), Size: uint32(len(data)), Sync: true})
	g.payload = append(g.payload, data...)
	g.end += dur
	return true
}

// correction is by how much the frame at t lasts longer or shorter to bring the grid back to the timestamps: nothing unless
// the drift has exceeded a frame for a second, or is over a tenth of a second.
func (g *grid) correction(t, drift int64) int64 {
	abs := max(drift, -drift)
	switch {
	case abs <= g.frame/2:
		g.drifted, g.fixing = false, false
	case abs > g.frame && !g.drifted:
		g.drifted, g.since = true, t
	case abs <= g.frame && !g.fixing:
		g.drifted = false
	}
	if g.drifted && (float64(t-g.since) >= gridSlowSeconds*float64(g.scale) || float64(abs) > gridFastSeconds*float64(g.scale)) {
		g.fixing = true
	}
	if !g.fixing {
		return 0
	}
	g.adjusted++
	return max(min(drift, g.frame), -g.frame/2)
}

// next returns where the first frame that is in no part yet begins.
func (g *grid) next() (int64, bool) { return g.inEnd, g.in < len(g.rows) }

// fits says whether the next frame can go into the open part.
func (g *grid) fits() bool {
	return g.partMax <= 0 || g.in == 0 || g.inEnd-g.start+int64(g.rows[g.in].Duration) <= g.partMax
}

// admit puts the next frame into the open part, and says whether that is full now.
func (g *grid) admit() bool {
	r := &g.rows[g.in]
	g.in++
	g.inBytes += int(r.Size)
	g.inEnd += int64(r.Duration)
	return g.partMax > 0 && g.inEnd-g.start+g.frame > g.partMax
}

// move lets the next frame begin so much later, and all that follow. The open part is empty.
func (g *grid) move(d int64) {
	g.start += d
	g.inEnd += d
	g.end += d
}

// skip forgets the next frame. The open part is empty.
func (g *grid) skip() {
	r := g.rows[0]
	g.rows = append(g.rows[:0], g.rows[1:]...)
	g.payload = append(g.payload[:0], g.payload[r.Size:]...)
	g.start += int64(r.Duration)
	g.inEnd = g.start
}

// take returns the frames of the open part, with their payload, which is good until the next call of add, and begins the next
// one.
func (g *grid) take(arrived int64) (*Part, []byte) {
	p := &Part{
		Time: g.start, Duration: g.inEnd - g.start, Independent: true, Arrived: arrived,
		Samples: append(make([]media.SampleInfo, 0, g.in), g.rows[:g.in]...),
	}
	// What is taken swaps places with what was taken last.
	payload := g.payload[:g.inBytes]
	g.payload, g.taken = append(reuse(g.taken), g.payload[g.inBytes:]...), g.payload
	g.rows = append(g.rows[:0], g.rows[g.in:]...)
	g.start, g.in, g.inBytes = g.inEnd, 0, 0
	return p, payload
}
