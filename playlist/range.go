package playlist

import (
	"net/url"
	"slices"
	"sort"
	"strconv"

	"headwater/segmenter"
)

// A Range is what of a run lies between two times: the segments from First to Last, by Media Sequence Number. Its playlists lie below
// the run's folder, <run>/<range>/<rendition>/, and name the same segments as all others.
//
// One that is Fixed is video on demand: no other segment will ever belong to it. Another grows, and loses from its beginning what the
// live playlist loses: a live playlist without parts. When it has Ended no later segment will belong to it. Which of the two a
// playlist is never changes, for its EXT-X-PLAYLIST-TYPE may not (RFC 8216bis 6.2.1).
type Range struct {
	First, Last uint64
	Fixed       bool
	Ended       bool // of one that is not Fixed
	FromStart   bool // of one that is not Fixed: players are to begin with the first segment, not at the live edge
}

// MediaRange returns the Media Playlist of r, of what w has of it, or nil when that is nothing: of a Fixed range what is retained, else
// what is listed. skip is for one that is not Fixed. It is not remembered.
func MediaRange(w *segmenter.Window, r Range, skip Skip, enc Encoding) *Rendered {
	segs := r.of(w)
	if len(segs) == 0 {
		return nil
	}
	at := rangePlaces(w.Rendition, "../../", "")
	skipped := 0
	if skip != NoSkip && !r.Fixed && !r.Ended {
		skipped = skippableOf(segs, w.TargetDuration)
	}
	dst := make([]byte, 0, headBytes+(len(segs)-skipped)*(segmentBytes+placeBytes(w.Rendition)+len(at.up)))
	version := 6 // see appendHead
	if skipped > 0 {
		version = 9
	}
	dst = appendPlainHead(dst, version, w.TargetDuration)
	if !r.Fixed {
		dst = append(dst, "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL="...)
		dst = append(strconv.AppendInt(dst, skipUntil*int64(w.TargetDuration), 10), '\n')
	}
	dst = r.appendHead(dst, w, segs, !slices.ContainsFunc(segs, dependent))
	if skipped > 0 {
		dst = append(dst, "#EXT-X-SKIP:SKIPPED-SEGMENTS="...)
		dst = append(strconv.AppendInt(dst, int64(skipped), 10), '\n')
	}
	initHash := ""
	for _, s := range segs[skipped:] {
		dst = appendEntry(dst, &at, s, w.TargetDuration, &initHash, false)
	}
	return r.rendered(dst, enc)
}

// IFramesRange is MediaRange for the I-frame playlist, without delta updates. w is of a video rendition.
func IFramesRange(w *segmenter.Window, r Range, enc Encoding) *Rendered {
	segs := r.of(w)
	if len(segs) == 0 {
		return nil
	}
	at := rangePlaces(w.Rendition, "../../", "")
	dst := make([]byte, 0, headBytes+len(segs)*(segmentBytes+rangeBytes+placeBytes(w.Rendition)+len(at.up)))
	dst = appendPlainHead(dst, 5, w.TargetDuration) // see AppendIFramesOnly
	dst = append(dst, "#EXT-X-I-FRAMES-ONLY\n"...)
	dst = r.appendHead(dst, w, segs, true)
	initHash := ""
	for _, s := range segs {
		dst = appendEntry(dst, &at, s, w.TargetDuration, &initHash, true)
	}
	return r.rendered(dst, enc)
}

// TSRange is MediaRange for MPEG-TS, without delta updates. It is nil too for a Fixed range of which something is there no longer.
func TSRange(p TSProgram, r Range, enc Encoding) *Rendered {
	segs, c := r.of(p.Main), carrierOf(p.Main)
	if r.Fixed {
		for _, s := range segs {
			if _, err := p.Segment(s.MSN); err != nil && !c.lacks(s) {
				return nil
			}
		}
	} else {
		l := p.list()
		segs = r.within(l.segments)
		r.Ended = r.Ended && len(segs) > 0 && segs[len(segs)-1].MSN == r.Last
	}
	if len(segs) == 0 {
		return nil
	}
	at := rangePlaces(p.Main.Rendition, "../../../", TSFolder+"/")
	dst := make([]byte, 0, headBytes+len(segs)*(segmentBytes+placeBytes(p.Main.Rendition)+len(at.up)))
	dst = appendPlainHead(dst, 3, p.Main.TargetDuration) // see appendTS
	dst = r.appendHead(dst, p.Main, segs, !slices.ContainsFunc(segs, dependent))
	for _, s := range segs {
		dst = appendTSEntry(dst, &at, &c, s, p.Main.TargetDuration)
	}
	return r.rendered(dst, enc)
}

// MultivariantRange returns the Multivariant Playlist of r, <run>/<range>/index.m3u8, with those of p's renditions that have
// something in it, or nil when there are none: the same pointer to everybody who asks, if that is all of them. It has no
// pathways: the whole of a range lies where it was asked for.
func MultivariantRange(p *segmenter.Presentation, r Range, enc Encoding) *Rendered {
	some := r.presents(p)
	if some == nil {
		return nil
	}
	return multivariants(some).span.get(enc, func() []byte { return appendMultivariant(nil, some, []pathway{{}}, "") })
}

// TSMultivariantRange is MultivariantRange for what MPEG-TS can carry, <run>/<range>/ts/index.m3u8.
func TSMultivariantRange(p *segmenter.Presentation, r Range, enc Encoding) *Rendered {
	some := r.presents(p)
	if some == nil || !hasTS(some) {
		return nil
	}
	return multivariants(some).tsSpan.get(enc, func() []byte { return appendTSMultivariant(nil, some, []pathway{{base: upFromTS}}, "") })
}

// presents returns p with the renditions alone that have media in r: p itself if all have, nil if none has.
func (r Range) presents(p *segmenter.Presentation) *segmenter.Presentation {
	var some []segmenter.Described
	for _, d := range p.Renditions {
		if slices.ContainsFunc(r.of(d.Rendition.Window()), func(s *segmenter.Segment) bool { return !s.Gap }) {
			some = append(some, d)
		}
	}
	switch len(some) {
	case 0:
		return nil
	case len(p.Renditions):
		return p
	}
	return &segmenter.Presentation{Run: p.Run, Renditions: some}
}

// of returns the segments of w that belong to r.
func (r Range) of(w *segmenter.Window) []*segmenter.Segment {
	if r.Fixed {
		return r.within(w.Retained())
	}
	return r.within(w.Segments)
}

func (r Range) within(all []*segmenter.Segment) []*segmenter.Segment {
	from := sort.Search(len(all), func(i int) bool { return all[i].MSN >= r.First })
	to := sort.Search(len(all), func(i int) bool { return all[i].MSN > r.Last })
	return all[from:max(from, to)]
}

// appendHead appends the tags of a playlist of r that lists segs which apply to it as a whole, after its version.
func (r Range) appendHead(dst []byte, w *segmenter.Window, segs []*segmenter.Segment, independent bool) []byte {
	switch {
	case r.Fixed:
		dst = append(dst, "#EXT-X-PLAYLIST-TYPE:VOD\n"...)
	case w.Rendition.Run.Config.Event:
		dst = append(dst, event...)
	}
	if independent {
		dst = append(dst, "#EXT-X-INDEPENDENT-SEGMENTS\n"...)
	}
	if r.FromStart && !r.Fixed {
		dst = append(dst, "#EXT-X-START:TIME-OFFSET=0\n"...)
	}
	discSeq := segs[0].DiscSeq
	if segs[0].Discontinuity {
		discSeq--
	}
	return appendCounters(dst, segs[0].MSN, discSeq)
}

// rendered ends the playlist.
func (r Range) rendered(dst []byte, enc Encoding) *Rendered {
	if r.Fixed || r.Ended {
		dst = append(dst, "#EXT-X-ENDLIST\n"...)
	}
	out := rendered(dst, Identity)
	if enc != Identity && enc < Encodings {
		out = rendered(compress(dst, enc), enc)
	}
	return &out
}

// rangePlaces are where a range's playlist finds the rendition's objects, up from its folder.
func rangePlaces(r *segmenter.Rendition, up, below string) places {
	at := placesOf(r, below)
	at.up = up + url.PathEscape(r.ID) + "/" + below
	return at
}

// dependent says whether s cannot be decoded by itself.
func dependent(s *segmenter.Segment) bool { return !s.Independent && !s.Gap }

// skippableOf is how many of segs a delta update skips: those that end before the Skip Boundary (RFC 8216bis 4.4.3.8).
func skippableOf(segs []*segmenter.Segment, target int) int {
	dist := int64(0)
	for i := len(segs) - 1; i >= 0; i-- {
		if dist >= skipUntil*int64(target)*unit {
			return i + 1
		}
		dist += segmentUnits(segs[i], target)
	}
	return 0
}
