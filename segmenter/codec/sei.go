package codec

import (
	"bytes"

	"headwater/segmenter/media"
)

const (
	nalSEI        = 6
	seiPicTiming  = 1  // payloadType (ITU-T H.264, D.1.1)
	seiRecovery   = 6  // likewise, and in ITU-T H.265, D.2.1
	maxCPB        = 32 // cpb_cnt_minus1 is 31 at most (ITU-T H.264, E.2.2)
	defaultOffset = 24 // time_offset_length where no HRD parameters state it (ITU-T H.264, E.2.2)
)

// clockTimestamps is NumClockTS of table D-1 of ITU-T H.264, by pic_struct; higher ones are reserved.
var clockTimestamps = [...]int{1, 1, 1, 2, 2, 3, 3, 2, 3}

// A PictureTiming is what a sequence parameter set says of the picture timing SEI messages that go with it. The zero
// PictureTiming is that of one under which they tell no time of day.
type PictureTiming struct {
	cpbDelay, dpbDelay int // bits of the delays; 0 when they are absent
	timeOffset         int // bits of time_offset
	units, scale       uint32
}

// ParsePictureTiming reads the timing, the HRD parameters and pic_struct_present_flag of an SPS's VUI (ITU-T H.264, E.1.1).
// Without timing or pic_struct the result is zero, and no error.
func ParsePictureTiming(sps []byte) (PictureTiming, error) {
	var p PictureTiming
	err := decodeNAL("SPS", sps, func(r reader) error { return p.read(r) })
	if err != nil {
		p = PictureTiming{}
	}
	return p, err
}

func (p *PictureTiming) read(r reader) error {
	var s sps
	if err := s.read(r); err != nil || s.scale == 0 {
		return err
	}
	r.flag() // fixed_frame_rate_flag
	q := PictureTiming{timeOffset: defaultOffset, units: s.units, scale: s.scale}
	hrd := false
	for range 2 { // of NAL units, then of VCL NAL units; where both are, their lengths are the same
		if !r.flag() {
			continue
		}
		hrd = true
		n := r.ue() + 1 // cpb_cnt_minus1
		if n > maxCPB {
			return media.Formatf("SPS", "has HRD parameters of %d buffers", n)
		}
		r.u(8) // bit_rate_scale, cpb_size_scale
		for range n {
			r.ue()   // bit_rate_value_minus1
			r.ue()   // cpb_size_value_minus1
			r.flag() // cbr_flag
		}
		r.u(5) // initial_cpb_removal_delay_length_minus1
		q.cpbDelay, q.dpbDelay, q.timeOffset = int(r.u(5))+1, int(r.u(5))+1, int(r.u(5))
	}
	if hrd {
		r.flag() // low_delay_hrd_flag
	}
	if r.flag() { // pic_struct_present_flag
		*p = q
	}
	return nil
}

// Told says whether SEI messages can tell a time of day at all.
func (p PictureTiming) Told() bool { return p.scale != 0 }

// Clock returns the time of day that a picture timing message (ITU-T H.264, D.1.3) in the SEI NAL unit gives its picture, in
// the form of media.Sample.Clock: 0 is none. It takes the first clock timestamp that is set, if that one is complete: one
// that counts on values of earlier ones tells nothing here. A timestamp outside its ranges, or an SEI NAL unit that ends early,
// is a *media.FormatError.
func (p PictureTiming) Clock(sei []byte) (clock int64, err error) {
	const where = "SEI"
	if !p.Told() || len(sei) < 2 || len(sei) > MaxConfig || sei[0]&0x1f != nalSEI {
		return 0, nil
	}
	b := bytes.TrimRight(unescape(nil, sei[1:]), "\x00")
	for len(b) > 1 { // more than rbsp_trailing_bits
		typ, payload, rest, ok := nextMessage(b)
		if !ok {
			return 0, media.Formatf(where, "ends inside a message")
		}
		if typ == seiPicTiming {
			err = decode(where, payload, func(r reader) (err error) {
				clock, err = p.clock(r)
				return err
			})
			return clock, err
		}
		b = rest
	}
	return 0, nil
}

// RecoveryPoint says whether a recovery point message (ITU-T H.264, D.1.8; H.265, D.2.8) is in an SEI NAL unit, given without its
// header. It does not allocate for one of an ordinary length.
func RecoveryPoint(messages []byte) bool {
	if len(messages) > MaxConfig {
		return false
	}
	var room [256]byte
	for b := unescape(room[:0], messages); len(b) > 1; { // more than rbsp_trailing_bits
		if typ, rest, ok := seiNumber(b); ok && typ == seiRecovery {
			return len(rest) > 0
		}
		_, _, rest, ok := nextMessage(b)
		if !ok {
			return false
		}
		b = rest
	}
	return false
}

// nextMessage takes the first message off b (ITU-T H.264, 7.3.2.3.1).
func nextMessage(b []byte) (typ int, payload, rest []byte, ok bool) {
	typ, rest, ok = seiNumber(b)
	size, rest, ok2 := seiNumber(rest)
	if !ok || !ok2 || size > len(rest) {
		return 0, nil, nil, false
	}
	return typ, rest[:size], rest[size:], true
}

// seiNumber reads a payloadType or payloadSize.
func seiNumber(b []byte) (n int, rest []byte, ok bool) {
	for i, c := range b {
		n += int(c)
		if c != 0xff {
			return n, b[i+1:], true
		}
	}
	return 0, nil, false
}

// clock reads pic_timing.
func (p PictureTiming) clock(r reader) (int64, error) {
	if p.cpbDelay > 0 {
		r.u(p.cpbDelay)
		r.u(p.dpbDelay)
	}
	structure := int(r.u(4))
	if structure >= len(clockTimestamps) {
		return 0, media.Formatf("picture timing", "has the reserved pic_struct %d", structure)
	}
	for range clockTimestamps[structure] {
		if r.flag() {
			return p.timestamp(r)
		}
	}
	return 0, nil
}

// timestamp reads one clock timestamp and computes equation D-1.
func (p PictureTiming) timestamp(r reader) (int64, error) {
	r.u(2) // ct_type
	unit := int64(p.units)
	if r.flag() { // nuit_field_based_flag
		unit *= 2
	}
	r.u(5) // counting_type
	full := r.flag()
	r.u(2) // discontinuity_flag, cnt_dropped_flag
	frames := int64(r.u(8))
	var seconds, minutes, hours int64
	if full {
		seconds, minutes, hours = int64(r.u(6)), int64(r.u(6)), int64(r.u(5))
	} else {
		for _, part := range [...]struct {
			v    *int64
			bits int
		}{{&seconds, 6}, {&minutes, 6}, {&hours, 5}} {
			if !r.flag() {
				return 0, nil // it is that of an earlier timestamp
			}
			*part.v = int64(r.u(part.bits))
		}
	}
	offset := int64(0)
	if n := p.timeOffset; n > 0 {
		offset = int64(int32(r.u(n)<<(32-n)) >> (32 - n))
	}
	// n_frames is below MaxFPS (equation D-2).
	if seconds > 59 || minutes > 59 || hours > 23 || frames*2*int64(p.units) >= int64(p.scale) {
		return 0, media.Formatf("picture timing", "has the time %d:%d:%d and %d frames", hours, minutes, seconds, frames)
	}
	t := (hours*60+minutes)*60 + seconds
	return InDay(t*media.Second + media.Rescale(frames*unit+offset, p.scale, media.Second)), nil
}

// InDay makes a media.Sample.Clock of nanoseconds since some midnight: it takes off, or adds, whole days.
func InDay(t int64) int64 {
	t %= media.Day
	if t <= 0 {
		t += media.Day
	}
	return t
}
