package web

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"headwater/playlist"
	"headwater/segmenter"
	"headwater/segmenter/media"
)

// Viewers may start over, catch up, cut a clip, or watch a recording: playlists over what there is of a run from one time to another,
// that name the same segments as all others. They lie below the run under the times, so that a cache keeps one copy for everybody:
// /<app>/<name>/<run>/<start>-<end>/index.m3u8 for what is whole, and <start>_<end> for what grows: which of the two a playlist is
// does not change under its address (RFC 8216bis 6.2.1). ?start= and ?end= at the stream's multivariant playlist lead there.

// A span is from one time to another, Unix ns, the other not included; 0 is the beginning or the end of what there is.
type span struct {
	start, end int64
	grows      bool // its playlists are live ones; else they are video on demand, and there when all of it is
}

// maxSpanDigits is how long a time is in milliseconds, and lastTime the latest there is, in the year 2255: in nanoseconds both have to
// fit into 63 bits.
const (
	maxSpanDigits = 13
	lastTime      = 9_000_000_000 * media.Second
)

// Between the times of a span that is whole, and of one that grows.
const (
	wholeSpan   = "-"
	growingSpan = "_"
)

// parseSpan reads a path element, "<start>-<end>" or "<start>_<end>" in Unix milliseconds, either of which may be missing, in the one
// form in which it is written.
func parseSpan(s string) (p span, ok bool) {
	from, to, ok := strings.Cut(s, wholeSpan)
	if !ok {
		if from, to, ok = strings.Cut(s, growingSpan); !ok {
			return p, false
		}
		p.grows = true
	}
	for _, x := range [...]struct {
		text string
		ns   *int64
	}{{from, &p.start}, {to, &p.end}} {
		if x.text == "" {
			continue
		}
		if len(x.text) > maxSpanDigits || x.text[0] == '0' {
			return p, false
		}
		for _, c := range []byte(x.text) {
			if c < '0' || c > '9' {
				return p, false
			}
			*x.ns = *x.ns*10 + int64(c-'0')
		}
		if *x.ns > lastTime/int64(time.Millisecond) {
			return p, false
		}
		*x.ns *= int64(time.Millisecond)
	}
	return p, p.end == 0 || p.start < p.end
}

// String is the path element of s, whose times are whole milliseconds.
func (s span) String() string {
	var b []byte
	if s.start > 0 {
		b = strconv.AppendInt(b, s.start/int64(time.Millisecond), 10)
	}
	if s.grows {
		b = append(b, growingSpan...)
	} else {
		b = append(b, wholeSpan...)
	}
	if s.end > 0 {
		b = strconv.AppendInt(b, s.end/int64(time.Millisecond), 10)
	}
	return string(b)
}

var (
	errTime = errors.New("start and end are times like 2026-01-31T20:15:00Z or 1769890500 (Unix seconds), or back from now like -30m; " +
		"start comes before end, and one of them may be left out")
	errNoTime = errors.New("there is nothing of that time")
)

// maxBack is how far back from now a time may be told.
const maxBack = 10 * 365 * 24 * time.Hour

// parseTime reads a time of a query, Unix ns. relative says that it depends on now.
func parseTime(text string, now time.Time) (ns int64, relative bool, err error) {
	if strings.HasPrefix(text, "-") {
		d, err := time.ParseDuration(text)
		if err != nil || d >= 0 || d < -maxBack {
			return 0, true, errTime
		}
		return now.Add(d).UnixNano(), true, nil
	}
	// Whoever writes a time with its zone into a query may not know that a plus sign is a space there.
	if t, err := time.Parse(time.RFC3339, strings.Replace(text, " ", "+", 1)); err == nil {
		ns = t.UnixNano()
		if t.Year() < 1971 || t.Year() > 2200 {
			return 0, false, errTime
		}
		return ns, false, nil
	}
	seconds, fraction, _ := strings.Cut(text, ".")
	if len(seconds) == 0 || len(seconds) > maxSpanDigits-3 || len(fraction) > 9 {
		return 0, false, errTime
	}
	n, err := strconv.ParseUint(seconds, 10, 63)
	if err != nil || n == 0 || n >= uint64(lastTime/media.Second) {
		return 0, false, errTime
	}
	f := uint64(0)
	if fraction != "" {
		if f, err = strconv.ParseUint((fraction + "000000000")[:9], 10, 63); err != nil {
			return 0, false, errTime
		}
	}
	return int64(n)*media.Second + int64(f), false, nil
}

// asksForSpan says whether a query may ask for one.
func asksForSpan(query string) bool {
	return strings.Contains(query, "start=") || strings.Contains(query, "end=")
}

// parseQuery reads ?start= and ?end=. asked says that one of them is there.
func parseQuery(query string, now time.Time) (s span, asked, relative bool, err error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return s, false, false, nil // not ours: a query without meaning has none when it is malformed either
	}
	for _, x := range [...]struct {
		name string
		ns   *int64
	}{{"start", &s.start}, {"end", &s.end}} {
		v := values[x.name]
		if len(v) == 0 {
			continue
		}
		asked = true
		if len(v) > 1 {
			return s, true, false, errTime
		}
		var rel bool
		if *x.ns, rel, err = parseTime(v[0], now); err != nil {
			return s, true, false, err
		}
		relative = relative || rel
	}
	if s.end > 0 && s.start >= s.end {
		err = errTime
	}
	return s, asked, relative, err
}

// servesSpanOf answers a request for a stream's multivariant playlist that asks for a span, and says false if it does not.
func (s *Server) servesSpanOf(w *response, r *http.Request, m *mediaPath) bool {
	want, asked, relative, err := parseQuery(r.URL.RawQuery, time.Now())
	switch {
	case err != nil:
		s.fail(w, r, err)
	case asked:
		s.redirect(w, r, m, want, relative)
	}
	return asked
}

// redirect answers a request for a span of a stream with where it lies. The times become those at which segments begin
// and end, so that everybody who starts over within the same segment is led to the same place.
func (s *Server) redirect(w *response, r *http.Request, m *mediaPath, want span, relative bool) {
	at := want.start
	if at == 0 {
		at = want.end - 1
	}
	run, ok := s.Origin.RunAt(m.stream, at)
	if !ok {
		s.fail(w, r, errNoTime)
		return
	}
	first, last, whole := run.Range(want.start, want.end)
	main := run.Main()
	if main == nil || first > last {
		s.fail(w, r, errNoTime)
		return
	}
	if seg, ok := main.Segment(first); ok && want.start > 0 {
		const ms = int64(time.Millisecond)
		want.start = (seg.Time + ms - 1) / ms * ms
	}
	if seg, ok := main.Segment(last); ok && want.end > 0 && whole {
		want.end = ends(seg)
	}
	want.end -= want.end % int64(time.Millisecond)
	want.grows = !whole
	to := run.ID + "/" + want.String() + "/" + playlist.Index
	if m.ts {
		to = "../" + run.ID + "/" + want.String() + "/" + playlist.TSFolder + "/" + playlist.Index
	}
	w.add("Location", to)
	age := max(run.TargetDuration()/2, 1)
	if relative {
		age = ageLive
	}
	w.add("Cache-Control", maxAge(age))
	w.add("Content-Length", "0")
	w.writeFields(http.StatusFound)
}

// serveSpan answers with a playlist of a span of a run.
func (s *Server) serveSpan(w *response, r *http.Request, run *segmenter.Run, m *mediaPath) {
	enc, ok := negotiate(r.Header["Accept-Encoding"])
	if !ok {
		s.fail(w, r, errCoding)
		return
	}
	if !run.IsReady() {
		s.fail(w, r, segmenter.ErrNotReady)
		return
	}
	rend, ok := run.Rendition(m.rendition)
	if m.rendition != "" && (!ok || m.iframes && rend.Kind != media.Video) {
		s.fail(w, r, errUnknown)
		return
	}
	td := run.TargetDuration()
	of, err := m.span.of(run)
	if err != nil {
		s.failIn(w, r, err, td)
		return
	}
	o := object{cache: m.span.age(run, of)}
	if m.rendition == "" {
		text := playlist.MultivariantRange
		if m.ts {
			text = playlist.TSMultivariantRange
		}
		p := text(run.Presentation(), of, enc)
		if p == nil {
			s.failIn(w, r, segmenter.ErrNotFound, td)
			return
		}
		o.setPlaylist(p)
		w.reply(&o)
		return
	}
	d := directives{part: -1}
	if m.span.grows && !m.iframes && !m.ts {
		if d, ok = parseDirectives(r.URL.RawQuery); !ok && !of.Ended {
			s.fail(w, r, errDirective)
			return
		}
	}
	win, of, err := s.awaitSpan(w, r, rend, &m.span, of, &d)
	if err != nil {
		s.failIn(w, r, err, td)
		return
	}
	if d.blocking && !of.Ended && win.LastMSN() == d.msn {
		o.cache = maxAge(6 * td) // see playlistCache
	}
	key := spanKey{stream: m.stream, run: run.ID, rendition: rend.ID, of: of, skip: d.skip != playlist.NoSkip, encoding: enc}
	text := func() *playlist.Rendered { return playlist.MediaRange(win, of, d.skip, enc) }
	switch {
	case m.ts:
		program, ok := playlist.NewTSProgram(rend)
		if !ok {
			s.fail(w, r, errNoTS)
			return
		}
		if listed, _ := program.Listed(); !of.Fixed && (len(listed) == 0 || listed[len(listed)-1].MSN < of.Last) {
			of.Last, of.Ended = of.Last-1, false // its sound is not there yet
		}
		key.of, key.form = of, spanTS
		text = func() *playlist.Rendered { return playlist.TSRange(program, of, enc) }
	case m.iframes:
		key.form = spanIFrames
		text = func() *playlist.Rendered { return playlist.IFramesRange(win, of, enc) }
	}
	p := s.spans.get(key, text)
	if p == nil {
		s.failIn(w, r, errGone, td)
		return
	}
	if seg, ok := win.Segment(of.Last); ok {
		o.modified = completed(seg) / media.Second
	}
	o.live = !of.Fixed && !of.Ended
	o.setPlaylist(p)
	w.reply(&o)
}

// of returns what of a run belongs to the span now. The error says that it is nothing: yet, or any more.
func (s *span) of(run *segmenter.Run) (playlist.Range, error) {
	first, last, whole := run.Range(s.start, s.end)
	of := playlist.Range{First: first, Last: last, Fixed: !s.grows, Ended: s.grows && whole, FromStart: s.grows && s.start > 0}
	main := run.Main()
	if main == nil || !s.grows && !whole {
		return of, segmenter.ErrNotFound
	}
	if s.grows {
		// What has left the live playlist is not to be listed for longer than that says (RFC 8216bis 6.2.2).
		if len(main.Segments) == 0 {
			return of, segmenter.ErrNotFound
		}
		of.First = max(of.First, main.Segments[0].MSN)
	} else if oldest := main.Retained()[0]; s.start > 0 && s.start < oldest.Time && oldest.MSN > run.FirstMSN {
		return of, errGone // two answers would differ in what they begin with
	}
	switch {
	case of.First <= of.Last:
		return of, nil
	case whole && s.end > 0 && s.end <= main.Retained()[0].Time:
		return of, errGone
	}
	return of, segmenter.ErrNotFound
}

// awaitSpan returns the Window of a rendition that answers a request for a span of it, and what of that belongs to the span. of is what
// did when the request came.
func (s *Server) awaitSpan(w *response, r *http.Request, rend *segmenter.Rendition, span *span, of playlist.Range, d *directives) (*segmenter.Window, playlist.Range, error) {
	win := rend.Window()
	growing := span.grows && !of.Ended
	if growing && !d.blocking {
		of.Last = span.last(win)
		if of.First > of.Last {
			return win, of, segmenter.ErrNotFound
		}
		return win, of, nil
	}
	await := directives{msn: of.Last, part: -1} // it may lag behind the one that the times were looked up in
	if growing {
		await.msn = d.msn
	}
	if !win.Ended && win.LastMSN() < await.msn {
		var err error
		if win, err = s.awaitWindow(w, r, rend, &await); err != nil {
			return win, of, err
		}
	}
	if !growing {
		return win, of, nil
	}
	of, err := span.of(rend.Run)
	if err == nil && !of.Ended {
		of.Last = span.last(win)
	}
	return win, of, err
}

// last is the number of the newest segment of w that belongs to a span that has not ended.
func (s *span) last(w *segmenter.Window) uint64 {
	last := w.LastMSN()
	for s.end > 0 {
		seg, ok := w.Segment(last)
		if !ok || seg.Time < s.end {
			break
		}
		last-- // w is ahead of the one that times are looked up in
	}
	return last
}

// age is for how long the playlist of a span may be kept: not for longer than what it lists is there.
func (s *span) age(run *segmenter.Run, of playlist.Range) string {
	least := max(run.TargetDuration()/2, 1)
	main := run.Main()
	segs := main.Retained()
	edge := ends(segs[len(segs)-1])
	var left int64
	if run.Ended() {
		remains := cmp.Or(run.Config.Record, run.Remains())
		left = edge + int64(remains) - time.Now().UnixNano()
	} else if seg, ok := main.Segment(of.First); ok && !s.grows && s.start > 0 {
		// It is listed for that long, and there for as long again (RFC 8216bis 6.2.2).
		left = int64(run.Config.WindowMin) - (edge - seg.Time)
	}
	return maxAge(min(max(int(left/media.Second), least), ageEnded))
}
