package playlist

import (
	"strconv"
	"time"

	"headwater/segmenter"
	"headwater/segmenter/media"
)

// unit is the resolution of the durations in a playlist: one is 10 µs, five decimals. Durations are differences of
// rounded times, not rounded differences, so the sum over any number of segments is off by at most one unit, far less
// than the frame that Apple's authoring specification allows; and a segment's text never depends on what is listed with it.
const unit = 100_000

// Factors of the target duration.
const (
	partsWithin = 3 // EXT-X-PART is removed further than this from the end of the playlist (RFC 8216bis 6.2.2)
	skipUntil   = 6 // the least Skip Boundary there may be (RFC 8216bis 4.4.3.8)
)

// holdBack is the least factor of the part target in PART-HOLD-BACK: the draft asks for twice, Apple's players for three times.
const holdBack = 3

// Sizes from which the capacity of a playlist is guessed, with a little to spare.
const (
	headBytes    = 420
	segmentBytes = 100
	changeBytes  = 80 // DISCONTINUITY and MAP
	partBytes    = 74
	reportBytes  = 84
)

func mediaSize(w *segmenter.Window, skip Skip) int {
	n := headBytes + partBytes*len(w.Open.Parts) + reportBytes*len(w.Siblings)
	more := placeBytes(w.Rendition)
	l := lay(w)
	from := 0
	if skip != NoSkip {
		from = l.skipped
	}
	for i, s := range w.Segments[from:] {
		n += segmentBytes + more
		if s.Discontinuity {
			n += changeBytes + more
		}
		if from+i >= l.parts {
			n += partBytes * len(s.Parts)
		}
	}
	return n
}

// A layout says what is left out of a playlist because of its distance from the end.
type layout struct {
	skipped     int  // segments that a delta update skips
	parts       int  // index of the first segment whose parts are listed
	independent bool // no segment is listed that begins with anything but a sync sample
}

// partsSlack is by how much sooner parts are removed. The parts of the open segment may sum to a little more than the segment
// then lasts, for timestamps are rounded: at exactly so many target durations from the end, what had been removed would come back,
// which is not among the edits that a playlist may see (RFC 8216bis 6.2.1).
const partsSlack = unit / 100

// lay measures distances as a client does: by the durations that are listed, from the end of the last of them.
func lay(w *segmenter.Window) layout {
	td := int64(w.TargetDuration) * unit
	l := layout{parts: len(w.Segments), independent: w.Mixed == 0}
	var dist int64 // from the end of the playlist back to the end of segment i
	if parts := openParts(w); len(parts) > 0 {
		ts := w.Open.Init.Track.Timescale
		last := parts[len(parts)-1]
		dist = media.Rescale(last.Time+last.Duration, ts, unit) - media.Rescale(parts[0].Time, ts, unit)
		l.independent = l.independent && parts[0].Independent
	}
	hasParts := w.Rendition.PartTarget() > 0
	for i := len(w.Segments) - 1; i >= 0; i-- { // no further than the Skip Boundary: the list may be long
		if hasParts && dist < partsWithin*td-partsSlack {
			l.parts = i
		}
		if dist >= skipUntil*td {
			l.skipped = i + 1
			break
		}
		dist += segmentUnits(w.Segments[i], w.TargetDuration)
	}
	if w.Ended {
		l.skipped = 0 // delivery directives mean nothing any more (RFC 8216bis 6.2.5)
	}
	return l
}

// skippable is how many segments a delta update of w skips.
func skippable(w *segmenter.Window) int { return lay(w).skipped }

func openParts(w *segmenter.Window) []*segmenter.Part {
	if w.Ended {
		return nil
	}
	return w.Open.Parts
}

// AppendMedia appends the Media Playlist of w to dst: a Playlist Delta Update if skip asks for one and there is something
// to skip.
func AppendMedia(dst []byte, w *segmenter.Window, skip Skip) []byte {
	return appendMedia(dst, w, skip, nil)
}

// appendMedia takes what it can from the blocks of w's rendition, if there are any.
func appendMedia(dst []byte, w *segmenter.Window, skip Skip, older *blocks) []byte {
	l := lay(w)
	skipped := 0
	if skip != NoSkip {
		skipped = l.skipped
	}
	dst = appendHead(dst, w, l, skipped)
	at := placesOf(w.Rendition, "")

	var initHash string // the EXT-X-MAP in force; a delta update repeats it, and so needs nothing of an older playlist
	i := skipped
	for i < l.parts {
		var n int
		if dst, n = older.append(dst, w, &at, i, l.parts, &initHash); n == 0 {
			dst, n = appendEntry(dst, &at, w.Segments[i], w.TargetDuration, &initHash, false), 1
		}
		i += n
	}
	for _, s := range w.Segments[i:] {
		dst = appendStart(dst, &at, s.Discontinuity, s.Init, &initHash, s.Time)
		dst = appendParts(dst, w, s.Init, s.Parts)
		if s.Gap {
			dst = append(dst, "#EXT-X-GAP\n"...)
		}
		dst = appendDuration(dst, s, w.TargetDuration)
		n := len(dst)
		dst = append(at.place(appendSegmentName(dst, s.MSN), n), '\n')
	}

	// The tags of a segment come before its first part (RFC 8216bis 4.4.4.9), and not before there is one: a hint is not a
	// part, and tags that nothing follows would apply to nothing.
	if parts := openParts(w); len(parts) > 0 {
		o := &w.Open
		dst = appendStart(dst, &at, o.Discontinuity, o.Init, &initHash, o.Time)
		dst = appendParts(dst, w, o.Init, parts)
	}
	if w.NextPart >= 0 && !w.Ended {
		dst = append(dst, `#EXT-X-PRELOAD-HINT:TYPE=PART,URI="`...)
		dst = appendPartName(dst, w.NextPart)
		dst = append(dst, "\"\n"...)
	}
	for i := range w.Siblings {
		dst = appendReport(dst, &w.Siblings[i])
	}
	if w.Ended {
		dst = append(dst, "#EXT-X-ENDLIST\n"...)
	}
	return dst
}

// appendHead appends the tags that apply to the playlist as a whole, up to EXT-X-SKIP.
//
// A run without parts offers EXT-X-SERVER-CONTROL all the same: blocking reload and delta updates do not depend on parts
// (RFC 8216bis 6.2.5), save a player half a target duration on average and an edge the reloads that bring nothing, and
// whoever does not know them polls as ever. Only PART-HOLD-BACK and EXT-X-PART-INF belong to parts.
func appendHead(dst []byte, w *segmenter.Window, l layout, skipped int) []byte {
	// Floating-point durations need version 3, EXT-X-MAP without EXT-X-I-FRAMES-ONLY needs 6, EXT-X-SKIP 9; no
	// low-latency tag needs any (RFC 8216bis 8).
	if skipped > 0 {
		dst = append(dst, "#EXTM3U\n#EXT-X-VERSION:9\n"...)
	} else {
		dst = append(dst, "#EXTM3U\n#EXT-X-VERSION:6\n"...)
	}
	dst = append(dst, "#EXT-X-TARGETDURATION:"...)
	dst = strconv.AppendInt(dst, int64(w.TargetDuration), 10)
	if w.Rendition.Run.Config.Event {
		dst = append(append(dst, '\n'), event[:len(event)-1]...)
	}
	dst = append(dst, "\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES"...)
	target := w.Rendition.PartTarget()
	if target > 0 {
		dst = append(dst, ",PART-HOLD-BACK="...)
		dst = appendNanos(dst, max(holdBack*target, int64(w.Rendition.Run.HoldBack())))
	}
	dst = append(dst, ",CAN-SKIP-UNTIL="...)
	dst = strconv.AppendInt(dst, skipUntil*int64(w.TargetDuration), 10)
	if target > 0 {
		dst = append(dst, "\n#EXT-X-PART-INF:PART-TARGET="...)
		dst = appendNanos(dst, target)
	}
	if l.independent {
		dst = append(dst, "\n#EXT-X-INDEPENDENT-SEGMENTS"...)
	}
	first := w.Open.MSN
	if len(w.Segments) > 0 {
		first = w.Segments[0].MSN
	}
	dst = appendCounters(append(dst, '\n'), first, w.DiscSeq)
	if skipped > 0 {
		dst = append(dst, "#EXT-X-SKIP:SKIPPED-SEGMENTS="...)
		dst = append(strconv.AppendInt(dst, int64(skipped), 10), '\n')
	}
	return dst
}

// appendStart appends what comes before a segment, and before its first part.
func appendStart(dst []byte, at *places, discontinuity bool, in *segmenter.Init, inForce *string, date int64) []byte {
	if discontinuity {
		dst = append(dst, "#EXT-X-DISCONTINUITY\n"...)
	}
	if in.Hash != *inForce {
		*inForce = in.Hash
		dst = append(dst, `#EXT-X-MAP:URI="`...)
		n := len(dst)
		dst = append(dst, 'i')
		dst = append(dst, in.Hash...)
		dst = at.place(append(dst, initSuffix...), n)
		dst = append(dst, "\"\n"...)
	}
	dst = append(dst, "#EXT-X-PROGRAM-DATE-TIME:"...)
	const half = int64(time.Millisecond / 2) // AppendFormat would cut the time off
	dst = time.Unix(0, date+half).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	return append(dst, '\n')
}

func appendParts(dst []byte, w *segmenter.Window, in *segmenter.Init, parts []*segmenter.Part) []byte {
	target := w.Rendition.PartTarget()
	ts := in.Track.Timescale
	for _, p := range parts {
		u := media.Rescale(p.Time+p.Duration, ts, unit) - media.Rescale(p.Time, ts, unit)
		// A part no longer than the target must not read as one that is (RFC 8216bis 4.4.4.9).
		if most := media.Rescale(target, media.Second, unit); u >= most && media.Rescale(p.Duration, ts, media.Second) <= target {
			u = min(u, target/(media.Second/unit))
		}
		dst = append(dst, "#EXT-X-PART:DURATION="...)
		dst = appendUnits(dst, u)
		if p.Independent {
			dst = append(dst, ",INDEPENDENT=YES"...)
		}
		dst = append(dst, `,URI="`...)
		dst = appendPartName(dst, p.Time)
		dst = append(dst, "\"\n"...)
	}
	return dst
}

// appendReport appends the Rendition Report of a sibling. The edge is the one it had when the Window was made, so that
// everybody who asks for this version of the playlist gets the same bytes. LAST-PART is written whenever there are parts.
func appendReport(dst []byte, e *segmenter.Edge) []byte {
	dst = append(dst, `#EXT-X-RENDITION-REPORT:URI="../`...)
	dst = append(dst, e.Rendition.ID...)
	dst = append(dst, "/"+Index+`",LAST-MSN=`...)
	dst = strconv.AppendUint(dst, e.MSN, 10)
	if e.Part >= 0 {
		dst = append(dst, ",LAST-PART="...)
		dst = strconv.AppendInt(dst, int64(e.Part), 10)
	}
	return append(dst, '\n')
}

// segmentUnits is a segment's duration as listed. One that rounds to no more than the target duration is not listed as
// though it rounded to more (RFC 8216bis 4.4.3.1).
func segmentUnits(s *segmenter.Segment, target int) int64 {
	ts := s.Init.Track.Timescale
	u := media.Rescale(s.Start+s.Duration, ts, unit) - media.Rescale(s.Start, ts, unit)
	if most := int64(target)*unit + unit/2; u >= most && 2*s.Duration < (2*int64(target)+1)*int64(ts) {
		u = most - 1
	}
	return u
}

// appendUnits appends a duration in seconds with five decimals.
func appendUnits(dst []byte, u int64) []byte {
	dst = strconv.AppendInt(dst, u/unit, 10)
	f := u % unit
	return append(dst, '.', byte('0'+f/10000), byte('0'+f/1000%10), byte('0'+f/100%10), byte('0'+f/10%10), byte('0'+f%10))
}

// appendNanos appends ns as seconds, with as many decimals as it has and at least one.
func appendNanos(dst []byte, ns int64) []byte {
	dst = strconv.AppendInt(dst, ns/media.Second, 10)
	dst = append(dst, '.')
	f := ns % media.Second
	for d := int64(media.Second / 10); ; d /= 10 {
		dst = append(dst, byte('0'+f/d%10))
		if f%d == 0 {
			return dst
		}
	}
}
