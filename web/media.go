package web

import (
	"net/http"
	"strings"

	"github.com/gorilla/mux"

	"headwater/playlist"
	"headwater/segmenter"
	"headwater/segmenter/media"
)

// isMedia matches whatever is named like a playlist or like media, outside of the folders that are not streams'.
func isMedia(r *http.Request, _ *mux.RouteMatch) bool {
	p := r.URL.Path
	if strings.HasPrefix(p, PagePrefix) || strings.HasPrefix(p, apiPrefix) {
		return false
	}
	return strings.HasSuffix(p, ".m3u8") || strings.HasSuffix(p, ".m4s") || strings.HasSuffix(p, ".mp4") || strings.HasSuffix(p, ".ts")
}

// A mediaPath is the path of a media request, taken apart: /<app>/<name>/index.m3u8, or /<app>/<name>/<run>/<rendition>/
// and a playlist's or an object's name; the last element may lie in the folder of what is in MPEG-TS. Of a span of the run there are
// playlists in /<app>/<name>/<run>/<span>/ instead, a multivariant one among them. Its strings share the path's memory.
type mediaPath struct {
	stream    string // "<app>/<name>"
	run       string // "" in a multivariant playlist's path
	spans     bool   // it is in the folder of a span
	span      span
	rendition string        // "" in a multivariant playlist's path
	name      playlist.Name // of Kind 0 in a playlist's path
	iframes   bool          // it is the I-frame playlist
	ts        bool          // in playlist.TSFolder
}

// parsePath takes a canonical path apart.
func parsePath(p string) (m mediaPath, ok bool) {
	if p == "" || p[0] != '/' {
		return m, false
	}
	p = p[1:]
	app := strings.IndexByte(p, '/')
	if app <= 0 {
		return m, false
	}
	n := strings.IndexByte(p[app+1:], '/')
	if n <= 0 {
		return m, false
	}
	m.stream, p = p[:app+1+n], p[app+2+n:]
	switch p {
	case playlist.Index:
		return m, true
	case playlist.TSFolder + "/" + playlist.Index:
		m.ts = true
		return m, true
	}
	if m.run, p, ok = strings.Cut(p, "/"); !ok || m.run == "" {
		return m, false
	}
	if m.rendition, p, ok = strings.Cut(p, "/"); !ok || m.rendition == "" {
		return m, false
	}
	if m.span, m.spans = parseSpan(m.rendition); m.spans {
		m.rendition = ""
		switch p {
		case playlist.TSFolder + "/" + playlist.Index:
			m.ts = true
			return m, true
		case playlist.Index:
			return m, true
		}
		m.rendition, p, ok = strings.Cut(p, "/")
		m.iframes, m.ts = p == playlist.IFrames, p == playlist.TSFolder+"/"+playlist.Index
		return m, ok && m.rendition != "" && (m.iframes || m.ts || p == playlist.Index)
	}
	if p == playlist.IFrames {
		m.iframes = true
		return m, true
	}
	if rest, in := strings.CutPrefix(p, playlist.TSFolder+"/"); in {
		m.ts, p = true, rest
	}
	if p == playlist.Index {
		return m, true
	}
	m.name, ok = playlist.ParseName(p)
	return m, ok && (m.name.Kind == playlist.TSSegment) == m.ts
}

func (s *Server) serveMedia(rw http.ResponseWriter, r *http.Request) {
	w := rw.(*response)
	m, ok := parsePath(r.URL.Path)
	if !ok {
		s.fail(w, r, errUnknown)
		return
	}
	w.class = m.class()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.fail(w, r, errMethod)
		return
	}
	st, live := s.Origin.Stream(m.stream)
	w.stream = st
	if m.run == "" {
		switch {
		case asksForSpan(r.URL.RawQuery) && s.servesSpanOf(w, r, &m):
		case !live:
			s.fail(w, r, errUnknown)
		default:
			s.serveMultivariant(w, r, st, m.ts)
		}
		return
	}
	run, ok := s.Origin.Run(m.stream, m.run)
	if !ok {
		s.fail(w, r, errUnknown)
		return
	}
	switch {
	case m.spans:
		s.serveSpan(w, r, run, &m)
		return
	case m.name.Kind != 0:
	case m.iframes || m.ts:
		s.servePlainPlaylist(w, r, run, &m)
		return
	default:
		s.serveMediaPlaylist(w, r, run, m.rendition)
		return
	}
	rend, ok := run.Rendition(m.rendition)
	if !ok {
		s.fail(w, r, errUnknown)
		return
	}
	o := object{
		contentType: mediaType(rend.Kind),
		cache:       cacheForever,
		ranges:      true,
	}
	var err error
	switch m.name.Kind {
	case playlist.Segment:
		err = o.setSegment(rend, m.name.N)
	case playlist.Part:
		err = s.setPart(&o, w, r, rend, int64(m.name.N))
	case playlist.Init:
		err = o.setInit(rend, m.name.Hash)
	case playlist.TSSegment:
		err = s.setTSSegment(&o, rend, m.name.N)
	}
	if err != nil {
		s.failIn(w, r, err, run.TargetDuration())
		return
	}
	o.target = run.TargetDuration()
	w.reply(&o)
}

func (m *mediaPath) class() Class {
	switch {
	case m.rendition == "":
		return ClassMultivariant
	case m.name.Kind == playlist.Segment:
		return ClassSegment
	case m.name.Kind == playlist.Part:
		return ClassPart
	case m.name.Kind == playlist.Init:
		return ClassInit
	case m.name.Kind == playlist.TSSegment:
		return ClassTS
	case m.iframes:
		return ClassIFrames
	}
	return ClassPlaylist
}

// setSegment: a segment is there when it is complete, for as long as it is retained. One that is a gap never is.
func (o *object) setSegment(rend *segmenter.Rendition, msn uint64) error {
	win := rend.Window()
	seg, ok := win.Segment(msn)
	switch {
	case !ok && msn <= win.LastMSN() && len(win.Segments) > 0, ok && seg.Gap:
		return errGone
	case !ok:
		return segmenter.ErrNotFound
	}
	o.segment, o.size = seg, seg.Size()
	o.cmsd = cmsd{kind: rend.Kind, scale: seg.Init.Track.Timescale, ticks: seg.Duration, bytes: o.size}
	var err error
	if o.tag, err = seg.Hash(); err != nil {
		return err
	}
	o.modified = ends(seg) / media.Second
	return nil
}

func (s *Server) setPart(o *object, w *response, r *http.Request, rend *segmenter.Rendition, t int64) error {
	p, err := s.awaitPart(w, r, rend, t)
	if err != nil {
		if win := rend.Window(); err == segmenter.ErrNotFound && len(win.Segments) > 0 && t < win.Segments[0].Start {
			return errGone // earlier than what is listed: it was there, if it ever existed
		}
		return err
	}
	o.part, o.size = p, p.Size()
	o.cmsd = cmsd{kind: rend.Kind, scale: rend.Window().Timescale(), ticks: p.Duration, bytes: o.size}
	if o.tag, err = p.Hash(); err != nil {
		return err
	}
	o.modified = p.Arrived / media.Second
	return nil
}

func (o *object) setInit(rend *segmenter.Rendition, hash string) error {
	in, ok := rend.Window().InitByHash(hash)
	if !ok {
		return segmenter.ErrNotFound
	}
	o.bytes, o.size, o.tag = in.Bytes, len(in.Bytes), in.Hash
	o.cmsd.init = true
	return nil
}

func (s *Server) serveMultivariant(w *response, r *http.Request, st *segmenter.Stream, ts bool) {
	enc, ok := negotiate(r.Header["Accept-Encoding"])
	if !ok {
		s.fail(w, r, errCoding)
		return
	}
	run, err := s.readyRun(w, r, st)
	if err == nil {
		err = fed(run)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	o := object{cache: cacheMaster}
	text := playlist.Multivariant
	if ts {
		text = playlist.TSMultivariant
	}
	p := text(run.Presentation(), enc)
	if p == nil {
		s.fail(w, r, errNoTS)
		return
	}
	o.setPlaylist(p)
	w.reply(&o)
}

// playable returns the rendition of that ID, of a run that can be played, and the coding in which its playlist is to be sent. If
// there is none it has answered with the error. The target duration may change until the run is ready, and nobody may see it
// before.
func (s *Server) playable(w *response, r *http.Request, run *segmenter.Run, id string) (*segmenter.Rendition, playlist.Encoding, bool) {
	enc, ok := negotiate(r.Header["Accept-Encoding"])
	if !ok {
		s.fail(w, r, errCoding)
		return nil, enc, false
	}
	err := s.awaitReady(w, r, run)
	if err == nil {
		err = fed(run)
	}
	if err != nil {
		s.fail(w, r, err)
		return nil, enc, false
	}
	rend, ok := run.Rendition(id)
	if !ok {
		s.fail(w, r, errUnknown)
	}
	return rend, enc, ok
}

// serveMediaPlaylist answers with the Window that the delivery directives ask for (RFC 8216bis 6.2.5).
func (s *Server) serveMediaPlaylist(w *response, r *http.Request, run *segmenter.Run, id string) {
	d, ok := parseDirectives(r.URL.RawQuery)
	// A playlist that has ended is not asked for anything: its directives are ignored, malformed ones too.
	if !ok && !run.Ended() {
		s.fail(w, r, errDirective)
		return
	}
	rend, enc, ok := s.playable(w, r, run, id)
	if !ok {
		return
	}
	td := run.TargetDuration()
	if rend.PartTarget() <= 0 {
		d.part = -1 // there are no parts to wait for
	}
	win := rend.Window()
	if d.blocking && !win.Ended {
		var err error
		if win, err = s.awaitWindow(w, r, rend, &d); err == nil {
			err = fed(run) // what it has waited for may be a gap
		}
		if err != nil {
			s.failIn(w, r, err, td)
			return
		}
	}
	if len(win.Segments) == 0 { // a rendition that has joined a run which was ready
		s.fail(w, r, segmenter.ErrNotReady)
		return
	}
	o := object{cache: playlistCache(win, &d), modified: updated(win) / media.Second, live: !win.Ended}
	o.setPlaylist(playlist.Media(win, d.skip, enc))
	w.reply(&o)
}

// playlistCache is how long the answer with that Window may be kept. Everybody who asks for what is next gets the same
// answer, so it is kept for longer than anybody asks for it; the answer to whoever comes later differs, and is not.
func playlistCache(w *segmenter.Window, d *directives) string {
	td := w.TargetDuration
	switch {
	case w.Ended:
		return cacheEnded
	case d.blocking && firstWith(w, d.msn, d.part):
		return maxAge(6 * td)
	case w.Rendition.PartTarget() <= 0:
		return maxAge(max(td/2, 1))
	}
	return maxAge(ageLive)
}

// firstWith says whether w is the first Window to hold what a blocking request names.
func firstWith(w *segmenter.Window, msn uint64, part int) bool {
	if part < 0 {
		return w.LastMSN() == msn && len(w.Open.Parts) == 0
	}
	n := len(w.Open.Parts)
	if n == 0 {
		return false
	}
	if w.Open.MSN == msn {
		return n == part+1
	}
	// A part past the end of a segment stands for the first part of the next one.
	return n == 1 && w.LastMSN() == msn && part >= len(w.Segments[len(w.Segments)-1].Parts)
}

// updated is when what w shows was last changed, Unix ns: the arrival of the newest part, or the end of a newest segment
// without one.
func updated(w *segmenter.Window) int64 {
	if n := len(w.Open.Parts); n > 0 {
		return w.Open.Parts[n-1].Arrived
	}
	return completed(w.Segments[len(w.Segments)-1])
}

// completed is when seg was, Unix ns.
func completed(seg *segmenter.Segment) int64 {
	if at := seg.Arrived(); at != 0 {
		return at
	}
	return ends(seg)
}

// ends is the program date and time of seg's end, Unix ns.
func ends(seg *segmenter.Segment) int64 {
	return seg.Time + media.Rescale(seg.Duration, seg.Init.Track.Timescale, media.Second)
}
