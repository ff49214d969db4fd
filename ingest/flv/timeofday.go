package flv

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	"headwater/ingest/amf0"
	"headwater/segmenter/codec"
	"headwater/segmenter/media"
)

// maxTimeAge is how far from an onFI message a picture may be to take its time of day from it, nanoseconds. Encoders send one each
// second or each key frame.
const maxTimeAge = 10 * media.Second

// A timeOfDay is what an onFI message said last.
type timeOfDay struct {
	at    int64 // the message's timestamp, ns
	clock int64 // as media.Sample.Clock; 0 is none
}

// clock finds the time of day of a key frame that is presented at pts ns: in its own SEI, or from the last onFI message.
func (d *Demuxer) clock(v *videoTrack, au []byte, pts int64) int64 {
	if v.timing.Told() {
		for len(au) > 4 {
			end := 4 + int(binary.BigEndian.Uint32(au)) // has been checked
			nal := au[4:end]
			au = au[end:]
			if kind := v.kind(nal); kind != nalSEI {
				if kind >= nalSlice {
					break // SEI comes before (ITU-T H.264, 7.4.1.2.3)
				}
				continue
			}
			t, err := v.timing.Clock(nal)
			if err != nil {
				d.count().badTime.Add(1)
			}
			if t != 0 {
				return t
			}
		}
	}
	age := pts - d.timeDay.at
	if d.timeDay.clock == 0 || age > maxTimeAge || age < -maxTimeAge {
		return 0
	}
	return codec.InDay(d.timeDay.clock + age)
}

// onFI takes the value of an onFI message, by which Flash Media Live Encoder and hardware encoders tell the time of a point in
// the stream: "st", the time of their system, and "tc", that of a time code. What cannot be read is counted.
func (d *Demuxer) onFI(ts int64, value any) {
	o, _ := value.(amf0.Object)
	var clock int64
	st, tc := o.String("st"), o.String("tc")
	if st != "" {
		clock = parseTime(st)
	} else if rate := d.frameRate(); tc != "" {
		if rate == 0 {
			return // it counts frames of no known length
		}
		clock = parseTimeCode(tc, rate)
	}
	if clock == 0 {
		d.count().badTime.Add(1)
		return
	}
	d.timeDay = timeOfDay{at: ts * 1e6, clock: clock}
}

// frameRate is that of the first track's video, 0 when it is not known.
func (d *Demuxer) frameRate() float64 {
	g := d.first()
	if !g.video.announced {
		return 0
	}
	return g.tracks[g.video.index].FrameRate.Float()
}

// parseTime reads "hh:mm:ss", with or without a fraction, as a media.Sample.Clock; 0 is what cannot be read.
func parseTime(s string) int64 {
	hms, fraction, has := strings.Cut(s, ".")
	t, ok := parseNumbers(hms, 24, 60, 60)
	if !ok || has && (len(fraction) == 0 || len(fraction) > 9) {
		return 0
	}
	nano := 0
	if has {
		n, ok := digits(fraction + "000000000"[len(fraction):])
		if !ok {
			return 0
		}
		nano = n
	}
	return codec.InDay(int64((t[0]*60+t[1])*60+t[2])*media.Second + int64(nano))
}

// parseTimeCode reads "hh:mm:ss:ff", or "hh:mm:ss;ff" of a counting that drops numbers, at that many frames a second.
func parseTimeCode(s string, rate float64) int64 {
	t, ok := parseNumbers(strings.Replace(s, ";", ":", 1), 24, 60, 60, int(math.Ceil(rate)))
	if !ok {
		return 0
	}
	return codec.InDay(int64((t[0]*60+t[1])*60+t[2])*media.Second + int64(math.Round(float64(t[3])*media.Second/rate)))
}

// parseNumbers reads numbers with colons between them, each below its limit.
func parseNumbers(s string, limits ...int) (t [4]int, ok bool) {
	for i, limit := range limits {
		field, rest, more := strings.Cut(s, ":")
		n, ok := digits(field)
		if !ok || n >= limit || more != (i < len(limits)-1) {
			return t, false
		}
		t[i], s = n, rest
	}
	return t, true
}

// digits reads a number of nine digits at most, and nothing but digits.
func digits(s string) (int, bool) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	if len(s) > 9 {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil
}
