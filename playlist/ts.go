package playlist

import (
	"errors"
	"slices"

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

// NewTSProgram returns the program named after r as it is now. It says false when MPEG-TS cannot carry r. r has a Window.
func NewTSProgram(r *segmenter.Rendition) (TSProgram, bool) {
	// The audio's Window is read after the video's, which it follows: so it hardly ever is behind.
	p := TSProgram{Main: r.Window()}
	if !carriable(p.Main) {
		return p, false
	}
	if r.Kind == media.Video {
		for _, a := range r.Run.Renditions() {
			if w := a.Window(); a.Kind == media.Audio && carriable(w) {
				p.Audio = w
				break
			}
		}
	}
	return p, true
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
	switch {
	case !ok && len(p.Main.Segments) > 0 && msn <= p.Main.LastMSN(), ok && s.Gap:
		return TSSource{}, ErrGone
	case !ok:
		return TSSource{}, segmenter.ErrNotFound
	}
	a, state := p.audio(msn)
	switch {
	case state == audioPending:
		return TSSource{}, segmenter.ErrNotFound
	case state == audioNone && p.Audio != nil && msn < p.Main.Segments[0].MSN:
		// No longer listed, it may have had audio that has been dropped: every rendition keeps what it has for longer than it
		// is listed, but not all for exactly as long.
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

func (l tsList) size() int {
	n := headBytes
	for _, s := range l.segments {
		n += segmentBytes
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
	from, to, before := 0, 0, true
	for ; to < len(all); to++ {
		_, state := p.audio(all[to].MSN)
		if state == audioPending {
			break
		}
		if before && p.Audio != nil && state != audioNone {
			if before = false; !all[to].Discontinuity {
				from = to
			}
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

func appendTS(dst []byte, w *segmenter.Window, l tsList) []byte {
	dst = appendPlainHead(dst, 3, w.TargetDuration) // for durations that are not whole (RFC 8216bis 8)
	if !slices.ContainsFunc(l.segments, func(s *segmenter.Segment) bool { return !s.Independent && !s.Gap }) {
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
	for _, s := range l.segments {
		noMap := s.Init.Hash
		dst = appendStart(dst, s.Discontinuity, s.Init, &noMap, s.Time)
		if s.Gap {
			dst = append(dst, "#EXT-X-GAP\n"...)
		}
		dst = appendDuration(dst, s, w.TargetDuration)
		dst = appendTSSegmentName(dst, s.MSN)
		dst = append(dst, '\n')
	}
	if l.ended {
		dst = append(dst, "#EXT-X-ENDLIST\n"...)
	}
	return dst
}
