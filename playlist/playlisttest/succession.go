package playlisttest

import (
	"fmt"
	"reflect"
	"testing"
)

// SuccessionProblems says how newer could not be a later version of older. Both are Media Playlists of one URL; newer may
// be a delta update, which is then applied to older. A server may append, remove the oldest segments and parts, raise the
// two counters and add EXT-X-ENDLIST, and nothing else (RFC 8216bis 6.2.1).
func SuccessionProblems(older, newer []byte) []string {
	a, b := Parse(older), Parse(newer)
	if b.Skipped > 0 {
		var err error
		if b, err = Merge(a, b); err != nil {
			return []string{err.Error()}
		}
	}
	var out []string
	bad := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if a.Target != b.Target || a.PartTarget != b.PartTarget || !reflect.DeepEqual(a.Control, b.Control) {
		bad("target duration, part target or server control changed: %d, %v, %v; %d, %v, %v", a.Target, a.PartTarget, a.Control, b.Target, b.PartTarget, b.Control)
	}
	if a.Type != b.Type || !reflect.DeepEqual(a.Start, b.Start) {
		bad("type or start changed: %s, %v; %s, %v", a.Type, a.Start, b.Type, b.Start)
	}
	if a.Type == "EVENT" && b.MSN != a.MSN || a.Type == "VOD" && (b.MSN != a.MSN || b.end() != a.end()) {
		bad("of type %s, it was segments %d to %d and is %d to %d", a.Type, a.MSN, a.end(), b.MSN, b.end())
	}
	if b.MSN < a.MSN || b.DiscSeq < a.DiscSeq {
		bad("a counter fell: media sequence %d to %d, discontinuity sequence %d to %d", a.MSN, b.MSN, a.DiscSeq, b.DiscSeq)
	}
	if b.end() < a.end() {
		bad("the playlist ends with segment %d, it ended with %d", b.end(), a.end())
	}
	if a.End && (!b.End || b.end() != a.end()) {
		bad("something follows EXT-X-ENDLIST")
	}
	for i := range a.Segments {
		if o := &a.Segments[i]; o.MSN >= b.MSN {
			if n := b.Find(o.MSN); n == nil || n == b.Open {
				bad("segment %d is gone", o.MSN)
			} else {
				out = append(out, segmentChanges(o, n)...)
			}
		}
	}
	if o := a.Open; o != nil && o.MSN >= b.MSN {
		switch n := b.Find(o.MSN); {
		case n == nil:
			bad("the open segment %d is gone", o.MSN)
		case n == b.Open:
			if len(n.Parts) < len(o.Parts) {
				bad("segment %d has lost parts", o.MSN)
			}
			out = append(out, segmentChanges(o, n)...)
		default:
			closed := *n // its URI and duration are new
			closed.URI, closed.Duration = "", ""
			out = append(out, segmentChanges(o, &closed)...)
		}
	}
	if p, s := firstNewPart(a, b); a.Hint != "" && p != nil && p.URI != a.Hint && !s.Discontinuity {
		bad("%s was hinted, %s came", a.Hint, p.URI)
	}
	return out
}

// CheckSuccession fails t if newer could not be a later version of older. See SuccessionProblems.
func CheckSuccession(t testing.TB, older, newer []byte) {
	t.Helper()
	if p := SuccessionProblems(older, newer); len(p) > 0 {
		t.Errorf("%q\nolder:\n%s\nnewer:\n%s", p, older, newer)
	}
}

// segmentChanges says what of o has changed in n. Parts may have been added to an open segment, and be gone from a
// complete one.
func segmentChanges(o, n *Segment) []string {
	x, y := *o, *n
	x.Parts, y.Parts = nil, nil
	if !reflect.DeepEqual(x, y) {
		return []string{fmt.Sprintf("segment %d changed: %+v, %+v", o.MSN, x, y)}
	}
	if len(n.Parts) > 0 {
		if len(n.Parts) < len(o.Parts) || len(o.Parts) == 0 && o.URI != "" || !reflect.DeepEqual(n.Parts[:len(o.Parts)], append([]Part{}, o.Parts...)) {
			return []string{fmt.Sprintf("parts of segment %d changed: %v, %v", o.MSN, o.Parts, n.Parts)}
		}
		if o.URI != "" && len(n.Parts) != len(o.Parts) {
			return []string{fmt.Sprintf("the complete segment %d got parts", o.MSN)}
		}
	}
	return nil
}

// end is the number of the last complete segment.
func (m *Media) end() uint64 { return m.MSN + uint64(m.Skipped+len(m.Segments)) - 1 }

// firstNewPart returns the first part of b that comes after all that a lists, and its segment.
func firstNewPart(a, b *Media) (*Part, *Segment) {
	last, known := a.end(), 0
	if a.Open != nil {
		last, known = a.Open.MSN, len(a.Open.Parts)
	}
	segments := b.Segments
	if b.Open != nil {
		segments = append(append([]Segment{}, b.Segments...), *b.Open)
	}
	for i := range segments {
		s := &segments[i]
		from := 0
		switch {
		case s.MSN < last || s.MSN == last && a.Open == nil:
			continue
		case s.MSN == last:
			from = known
		}
		if s.Gap {
			return nil, nil // the hinted part was abandoned: its media never came
		}
		if from < len(s.Parts) {
			return &s.Parts[from], s
		}
		if len(s.Parts) == 0 {
			return nil, nil // its parts are no longer listed
		}
	}
	return nil, nil
}

// Merge applies a delta update to an older version of the same playlist, as a client does (RFC 8216bis 6.3.7).
func Merge(older, delta *Media) (*Media, error) {
	out := *delta
	out.Skipped, out.Segments = 0, nil
	for i := range delta.Skipped {
		msn := delta.MSN + uint64(i)
		s := older.Find(msn)
		if s == nil || s == older.Open {
			return nil, fmt.Errorf("the skipped segment %d is not in the older playlist", msn)
		}
		kept := *s
		kept.Parts = nil // parts further than three target durations from the end are no longer listed
		out.Segments = append(out.Segments, kept)
	}
	out.Segments = append(out.Segments, delta.Segments...)
	// The discontinuity counter of a delta update begins at the playlist's first segment and does not see the tags that
	// were skipped.
	var before uint64
	for _, s := range out.Segments[:delta.Skipped] {
		if s.Discontinuity {
			before++
		}
	}
	for i := delta.Skipped; i < len(out.Segments); i++ {
		out.Segments[i].DiscSeq += before
	}
	if delta.Open != nil {
		o := *delta.Open
		o.DiscSeq += before
		out.Open = &o
	}
	return &out, nil
}
