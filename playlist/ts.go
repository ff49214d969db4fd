package playlist

import (
	"errors"
	"slices"
	"sort"

	"headwater/segmenter"
	"headwater/segmenter/media"
	"headwater/segmenter/mpegts"
)

// ErrGone says of a segment that it was there, or never held media.
var ErrGone = errors.New("no longer here")

// A TSProgram is what an MPEG-TS rendition carries, at one instant: a video rendition muxed with the run's first AAC
// rendition, if it has one, or an audio rendition alone. Segment N of it is segment N of either. What is said of it depends on
// the two Windows alone.
type TSProgram struct {
	Main  *segmenter.Window // of the rendition that gives it its name
	Audio *segmenter.Window // of what a video rendition is muxed with; nil: nothing
}

// A TSSource is what one MPEG-TS segment is made of.
type TSSource struct {
	Main  *segmenter.Segment // never a gap
	Audio *segmenter.Segment // nil: there is none
	// AudioInit describes the audio that the program has, though perhaps none in this segment; nil when it has none.
	AudioInit *segmenter.Init
}

// NewTSProgram returns the program named after r as it is now. It says false when MPEG-TS cannot carry what r is now; segments from
// when it could are still there. r has a Window.
func NewTSProgram(r *segmenter.Rendition) (TSProgram, bool) {
	// The audio's Window is read after the video's, which it follows: so it hardly ever is behind.
	p := TSProgram{Main: r.Window()}
	if r.Kind == media.Video {
		for _, a := range r.Run.Renditions() {
			if w := a.Window(); a.Kind == media.Audio && carriable(w) {
				p.Audio = w
				break
			}
		}
	}
	return p, carriable(p.Main)
}

// carries says whether the muxer takes t: it is given a sample without content.
func carries(t *media.Track) bool {
	if want := map[media.Kind]string{media.Video: "avc1", media.Audio: "mp4a"}[t.Kind]; t.Codec.Type != want {
		return false
	}
	s := &mpegts.Source{Track: t, Chunks: []mpegts.Chunk{{
		Samples: []media.SampleInfo{{Duration: 1, Size: 4, Sync: true}},
		Data:    []byte{0, 0, 0, 0}, // NAL units of length 0, whatever the length's size
	}}}
	var err error
	if t.Kind == media.Video {
		_, err = mpegts.AppendSegment(nil, 0, s, nil)
	} else {
		_, err = mpegts.AppendSegment(nil, 0, nil, s)
	}
	return err == nil
}

// A carrier says which segments of a rendition MPEG-TS cannot carry. It remembers the latest description, which most share.
type carrier struct {
	hash    string
	carries bool
}

func carrierOf(w *segmenter.Window) carrier {
	return carrier{hash: w.Init().Hash, carries: carriable(w)}
}

// lacks says whether there is nothing of s in MPEG-TS: it is a gap, or in a codec that has no place there.
func (c *carrier) lacks(s *segmenter.Segment) bool {
	if s.Gap {
		return true
	}
	if s.Init.Hash != c.hash {
		c.hash, c.carries = s.Init.Hash, carries(&s.Init.Track)
	}
	return !c.carries
}

// audioState says how it is with a program's audio in a segment.
type audioState uint8

const (
	audioThere   audioState = iota
	audioNone               // the program has none there: there is no audio rendition, or was none yet
	audioMissing            // there will never be any, in spite of what the program says
	audioPending            // not complete yet
)

func (p TSProgram) audio(msn uint64) (*segmenter.Segment, audioState) {
	a := p.Audio
	if a == nil {
		return nil, audioNone
	}
	if s, ok := a.Segment(msn); ok {
		if s.Gap {
			return nil, audioMissing
		}
		return s, audioThere
	}
	switch begun := len(a.Segments) > 0; {
	case begun && msn <= a.LastMSN(), !begun && msn < a.Open.MSN:
		return nil, audioNone
	case a.Ended:
		return nil, audioMissing
	}
	return nil, audioPending
}

// Segment returns what the segment of that number is made of, listed or not. The error is segmenter.ErrNotFound for one that is
// not complete yet, and ErrGone.
func (p TSProgram) Segment(msn uint64) (TSSource, error) {
	s, ok := p.Main.Segment(msn)
	c := carrierOf(p.Main)
	switch {
	case !ok && len(p.Main.Segments) > 0 && msn <= p.Main.LastMSN(), ok && c.lacks(s):
		return TSSource{}, ErrGone
	case !ok:
		return TSSource{}, segmenter.ErrNotFound
	}
	a, state := p.audio(msn)
	switch {
	case state == audioPending:
		return TSSource{}, segmenter.ErrNotFound
	case state == audioNone && p.Audio != nil && msn < p.Main.Segments[0].MSN && msn >= p.Audio.Began:
		// No longer listed, it may have had audio that has been dropped: every rendition keeps what it has for longer than it
		// is listed, but not all for exactly as long. What is from before there was any stays (RFC 8216bis 6.2.2).
		return TSSource{}, ErrGone
	}
	src := TSSource{Main: s, Audio: a}
	switch state {
	case audioThere:
		src.AudioInit = a.Init
	case audioMissing:
		if gap, ok := p.Audio.Segment(msn); ok {
			src.AudioInit = gap.Init
		} else {
			src.AudioInit = p.Audio.Init()
		}
	}
	return src, nil
}

// A tsList is what an MPEG-TS playlist lists: a range of its Window's segments.
type tsList struct {
	segments []*segmenter.Segment
	ended    bool
}

func (l tsList) same(m tsList) bool {
	return l.ended == m.ended && len(l.segments) == len(m.segments) && (len(l.segments) == 0 || l.segments[0] == m.segments[0])
}

func (l tsList) size(more int) int {
	n := headBytes
	for _, s := range l.segments {
		n += segmentBytes + more
		if s.Discontinuity {
			n += changeBytes
		}
	}
	return n
}

// list leaves out what has no audio yet but will have. Of the segments from before there was audio it keeps those that a
// discontinuity divides from the others: the program changes there (RFC 8216bis 4.4.4.3). What is not so divided was
// never in a playlist: audio joins a run that may have been seen only there.
func (p TSProgram) list() tsList {
	all := p.Main.Segments
	from, to := 0, len(all)
	if p.Audio != nil {
		// First come those that have none, then those that have or miss some, then those that wait: the list may be long.
		to = sort.Search(len(all), func(i int) bool { _, s := p.audio(all[i].MSN); return s == audioPending })
		with := sort.Search(to, func(i int) bool { _, s := p.audio(all[i].MSN); return s != audioNone })
		if with < to && !all[with].Discontinuity {
			from = with
		}
	}
	return tsList{segments: all[from:to], ended: p.Main.Ended && to == len(all)}
}

// Listed returns the segments that the program's playlist lists, and whether it ends with them.
func (p TSProgram) Listed() (segments []*segmenter.Segment, ended bool) {
	l := p.list()
	return l.segments, l.ended
}

// AppendTS appends the Media Playlist of p to dst: what any player of HLS reads, with nothing of low latency.
func AppendTS(dst []byte, p TSProgram) []byte { return appendTS(dst, p.Main, p.list()) }

// appendTSEntry appends a segment as it is in MPEG-TS. What that cannot carry is a gap there: it is not to be loaded (RFC 8216bis
// 4.4.4.7).
func appendTSEntry(dst []byte, at *places, c *carrier, s *segmenter.Segment, target int) []byte {
	noMap := s.Init.Hash
	dst = appendStart(dst, at, s.Discontinuity, s.Init, &noMap, s.Time)
	if c.lacks(s) {
		dst = append(dst, "#EXT-X-GAP\n"...)
	}
	dst = appendDuration(dst, s, target)
	n := len(dst)
	return append(at.place(appendTSSegmentName(dst, s.MSN), n), '\n')
}

func appendTS(dst []byte, w *segmenter.Window, l tsList) []byte {
	dst = appendPlainHead(dst, 3, w.TargetDuration) // for durations that are not whole (RFC 8216bis 8)
	if w.Rendition.Run.Config.Event {
		dst = append(dst, event...)
	}
	if w.Mixed == 0 || !slices.ContainsFunc(l.segments, dependent) {
		dst = append(dst, "#EXT-X-INDEPENDENT-SEGMENTS\n"...)
	}
	msn, discSeq := w.Open.MSN, w.DiscSeq
	if len(l.segments) > 0 {
		msn, discSeq = l.segments[0].MSN, l.segments[0].DiscSeq
		if l.segments[0].Discontinuity {
			discSeq--
		}
	}
	dst = appendCounters(dst, msn, discSeq)
	at, c := placesOf(w.Rendition, TSFolder+"/"), carrierOf(w)
	for _, s := range l.segments {
		dst = appendTSEntry(dst, &at, &c, s, w.TargetDuration)
	}
	if l.ended {
		dst = append(dst, "#EXT-X-ENDLIST\n"...)
	}
	return dst
}
