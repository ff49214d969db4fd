package web

import (
	"strconv"

	"headwater/segmenter/media"
)

// A cmsd is what CMSD-Static says of a media object (CTA-5006): its type, and its duration and bit rate where it has any. All
// of it is a function of the object's bytes and times, so that it is the same whenever it is asked for and on every origin. The
// stream type is live for good: what has been recorded of it does not become another object when the stream ends. The zero cmsd
// says nothing.
type cmsd struct {
	init  bool       // an initialization section
	muxed bool       // video with audio
	kind  media.Kind // of media
	scale uint32     // ticks a second
	ticks int64      // duration
	bytes int        // of media in that time, as CMAF packs it
}

// append appends the value, a dictionary (RFC 8941 3.2).
func (c *cmsd) append(dst []byte) []byte {
	const common = ",sf=h,st=l"
	if c.init {
		return append(append(dst, "ot=i"...), common...)
	}
	ms := media.Rescale(c.ticks, c.scale, 1000)
	if ms > 0 {
		dst = append(dst, "br="...)
		dst = strconv.AppendInt(dst, (int64(c.bytes)*8+ms/2)/ms, 10) // bits a millisecond are kilobits a second
		dst = append(dst, ",d="...)
		dst = strconv.AppendInt(dst, ms, 10)
		dst = append(dst, ',')
	}
	switch {
	case c.muxed:
		dst = append(dst, "ot=av"...)
	case c.kind == media.Audio:
		dst = append(dst, "ot=a"...)
	default:
		dst = append(dst, "ot=v"...)
	}
	return append(dst, common...)
}

// String is what CMSD-Static says, "" for what is no media.
func (c *cmsd) String() string {
	if !c.init && c.kind == 0 {
		return ""
	}
	var buf [64]byte
	return string(c.append(buf[:0]))
}
