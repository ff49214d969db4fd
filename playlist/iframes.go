package playlist

import (
	"strconv"

	"headwater/segmenter"
)

// An I-frame playlist (RFC 8216bis 4.4.3.6) lists one I-frame of every segment: the one that the segment begins with. So it has
// exactly as many entries as the rendition's Media Playlist, which come and go with the segments: an entry's Media Sequence
// Number is its segment's, never another's, its duration, the time to the next entry, is the segment's, which does not
// change when the next is listed, and no entry exceeds the target duration. A segment that begins with another frame,
// where key frames are too far apart, is an entry with EXT-X-GAP, as one without media is.

// rangeBytes is what an EXT-X-BYTERANGE line takes.
const rangeBytes = 30

func iframesSize(w *segmenter.Window) int {
	more := placeBytes(w.Rendition)
	n := headBytes + len(w.Segments)*(segmentBytes+rangeBytes+more)
	for _, s := range w.Segments {
		if s.Discontinuity {
			n += changeBytes + more
		}
	}
	return n
}

// AppendIFramesOnly appends the I-frame playlist of w, which is of a video rendition, to dst.
func AppendIFramesOnly(dst []byte, w *segmenter.Window) []byte {
	// EXT-X-MAP in a playlist of I-frames needs version 5, ranges and EXT-X-I-FRAMES-ONLY 4 (RFC 8216bis 8).
	dst = appendPlainHead(dst, 5, w.TargetDuration)
	if w.Rendition.Run.Config.Event {
		dst = append(dst, event...)
	}
	dst = append(dst, "#EXT-X-I-FRAMES-ONLY\n#EXT-X-INDEPENDENT-SEGMENTS\n"...)
	first := w.Open.MSN
	if len(w.Segments) > 0 {
		first = w.Segments[0].MSN
	}
	dst = appendCounters(dst, first, w.DiscSeq)
	initHash, at := "", placesOf(w.Rendition, "")
	for _, s := range w.Segments {
		dst = appendEntry(dst, &at, s, w.TargetDuration, &initHash, true)
	}
	if w.Ended {
		dst = append(dst, "#EXT-X-ENDLIST\n"...)
	}
	return dst
}

// appendEntry appends a segment, or its first I-frame, without parts.
func appendEntry(dst []byte, at *places, s *segmenter.Segment, target int, initHash *string, iframe bool) []byte {
	dst = appendStart(dst, at, s.Discontinuity, s.Init, initHash, s.Time)
	n := 0
	if iframe {
		n = s.IFrameSize()
	}
	if s.Gap || iframe && n == 0 {
		dst = append(dst, "#EXT-X-GAP\n"...)
	}
	dst = appendDuration(dst, s, target)
	if n > 0 {
		dst = append(dst, "#EXT-X-BYTERANGE:"...)
		dst = strconv.AppendInt(dst, int64(n), 10)
		dst = append(dst, "@0\n"...)
	}
	k := len(dst)
	return append(at.place(appendSegmentName(dst, s.MSN), k), '\n')
}

// event says that nothing leaves the playlist while the run lasts (RFC 8216bis 4.4.3.5). It is in all playlists of the run or in none
// (6.2.4).
const event = "#EXT-X-PLAYLIST-TYPE:EVENT\n"

// appendPlainHead appends the first tags of a playlist without low latency. It offers no EXT-X-SERVER-CONTROL: whoever plays
// it knows none.
func appendPlainHead(dst []byte, version, target int) []byte {
	dst = append(dst, "#EXTM3U\n#EXT-X-VERSION:"...)
	dst = strconv.AppendInt(dst, int64(version), 10)
	dst = append(dst, "\n#EXT-X-TARGETDURATION:"...)
	dst = strconv.AppendInt(dst, int64(target), 10)
	return append(dst, '\n')
}

func appendCounters(dst []byte, msn, discSeq uint64) []byte {
	dst = append(dst, "#EXT-X-MEDIA-SEQUENCE:"...)
	dst = strconv.AppendUint(dst, msn, 10)
	dst = append(dst, "\n#EXT-X-DISCONTINUITY-SEQUENCE:"...)
	dst = strconv.AppendUint(dst, discSeq, 10)
	return append(dst, '\n')
}

func appendDuration(dst []byte, s *segmenter.Segment, target int) []byte {
	dst = append(dst, "#EXTINF:"...)
	dst = appendUnits(dst, segmentUnits(s, target))
	return append(dst, ",\n"...)
}

// iframeRates returns what the I-frames of d take: the peak, over any entries of the playlist in a row that last 0.5 to 1.5
// target durations (RFC 8216bis 4.4.6.2), and the average. Where the variant is declared to take more than has been measured,
// because it may well become more, so are they, in the same measure; and where there is none yet, they cannot take more than
// the variant.
func iframeRates(d *segmenter.Described) (peak, average int) {
	wholePeak, wholeAverage := rates(d, unknownVideoRate)
	if d.IFramePeak == 0 {
		return wholePeak, wholeAverage
	}
	p, a := float64(d.IFramePeak), float64(d.IFrameAverage)
	if d.Peak > 0 {
		p *= float64(wholePeak) / float64(d.Peak)
	}
	if d.Average > 0 {
		a *= float64(wholeAverage) / float64(d.Average)
	}
	peak = max(min(int(p), wholePeak), 1)
	return peak, max(min(int(a), peak), 1)
}

// stableIFrames is the stable identifier of d's I-frame playlist: no rendition's, whose IDs are path elements.
func stableIFrames(d *segmenter.Described) string { return stable(d.Rendition.ID) + "/iframes" }
