package transcode

import "sync/atomic"

// slots is how many frames' times are remembered: one a millisecond, for longer than a frame can be under way.
const slots = 1 << 14

// exactTimes give a frame that comes out of the child the presentation time that it went in with. FLV's milliseconds
// are too coarse for sources that have better; and a ladder is aligned by equal times.
type exactTimes [slots]atomic.Int64

// put remembers that the frame of that millisecond is presented at pts, in ticks of videoTimescale; lost says that some
// before it did not go in.
func (x *exactTimes) put(ms, pts int64, lost bool) {
	v := pts << 1
	if lost {
		v |= 1
	}
	x[uint64(ms)%slots].Store(v)
}

// get returns how far the frame of that millisecond lies from it, and whether some were lost before it. at is the
// millisecond on the source's clock, in ticks.
func (x *exactTimes) get(ms, at int64) (shift int64, lost bool) {
	const tick = videoTimescale / 1000
	v := x[uint64(ms)%slots].Load()
	if shift = v>>1 - at; shift <= -tick || shift >= tick {
		return 0, false // another frame's
	}
	return shift, v&1 != 0
}
