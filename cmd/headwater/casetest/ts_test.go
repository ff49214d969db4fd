package casetest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"headwater/playlist/playlisttest"
	"headwater/segmenter/mpegts/tstest"
)

// A tsTrack is a rendition's MPEG-TS playlist as it has been seen.
type tsTrack struct {
	text     []byte // of the latest version
	list     *playlisttest.Media
	segments []tsSegment // those that have been listed, gaps too
	doubt    bool        // whether there is one was not what the other playlist made expect
	away     bool        // there was none at the last look
}

// A tsSegment is a Media Segment as it is in MPEG-TS.
type tsSegment struct {
	playlisttest.Segment
	body []byte // nil: a gap
}

const (
	tsClock = 90000
	tsZero  = 10 * tsClock // where the run's timeline begins
	tsWrap  = 1 << 33

	tsRefusal = "MPEG-TS carries H.264 and AAC alone here" // what is said of HEVC
	tsLag     = 2                                          // segments by which the sound may be behind
)

// lookTS reads the MPEG-TS playlists of a run in which a segment has been completed, and what is new in them.
func (c *checker) lookTS(run string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tsLooks++; !c.sparse || c.tsLooks%32 == 0 {
		c.transport(run, false)
	}
}

// transport reads the MPEG-TS playlists of a run as they are now; last says that nothing more will come.
func (c *checker) transport(run string, last bool) {
	var named []string // that the Multivariant Playlist must have
	for _, x := range c.tracks {
		if x.run != run || x.list == nil {
			continue
		}
		if text := c.tsText(x); text != nil {
			named = append(named, x.run+"/"+x.id+"/ts/index.m3u8")
			c.tsPlaylist(x, text, last)
		}
	}
	if !last || len(named) == 0 {
		return
	}
	text := c.get(c.base + "/" + c.stream + "/ts/index.m3u8")
	for _, p := range append(playlisttest.Problems(text), playlisttest.ForeignProblems(text)...) {
		c.bad("multivariant, MPEG-TS: %s", p)
	}
	for _, x := range c.tracks {
		uri := run + "/" + x.id + "/ts/index.m3u8"
		if got, want := bytes.Contains(text, []byte("\n../"+uri+"\n")), slices.Contains(named, uri); x.run == run && got != want && !x.vacant() {
			c.bad("the multivariant playlist has %s: %v, there is one: %v", uri, got, want)
		}
	}
}

// sound returns the audio that a rendition of the picture is muxed with; nil: none.
func (c *checker) sound(x *track) *track {
	for _, y := range c.tracks {
		if y.run == x.run && y.audio && !x.audio {
			return y
		}
	}
	return nil
}

// hevc says whether the newest that is listed is HEVC.
func (c *checker) hevc(x *track) bool {
	s := x.list.Open
	if s == nil {
		s = &x.list.Segments[len(x.list.Segments)-1]
	}
	in := c.header(x, s.Map)
	return in != nil && in.hevc
}

// tsText returns x's playlist, and nil where there is none.
func (c *checker) tsText(x *track) []byte {
	resp, err := c.client.Get(x.dir + "ts/index.m3u8")
	if err != nil {
		c.bad("%v", err)
		return nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.bad("%v", err)
		return nil
	}
	refused := resp.StatusCode == http.StatusNotFound && bytes.Contains(text, []byte(tsRefusal))
	// The origin knows what comes next before anything of it is listed.
	doubt := x.ts.doubt
	if x.ts.doubt = refused != c.hevc(x); doubt && x.ts.doubt {
		c.bad("%s: MPEG-TS refused: %v, HEVC: %v", x.id, refused, !refused)
	}
	switch a := c.sound(x); {
	case refused:
		if !x.ts.away && !c.sparse && x.ts.list != nil { // of what it was before everything is still there
			for _, s := range x.ts.list.Segments {
				if !s.Gap {
					c.get(x.dir + "ts/" + s.URI)
				}
			}
		}
		x.ts.away = true
		return nil
	case resp.StatusCode == http.StatusOK:
		return text
	case resp.StatusCode != http.StatusNotFound || a == nil || a.list.End || a.latest() >= x.list.MSN:
		c.bad("%s: MPEG-TS: %s: %s", x.id, resp.Status, text)
	}
	return nil
}

// latest is the number of the last complete segment.
func (x *track) latest() uint64 { return x.segments[len(x.segments)-1].MSN }

// tsPlaylist compares x's MPEG-TS playlist with the version before it and with the other playlist, and reads what is new in it.
func (c *checker) tsPlaylist(x *track, text []byte, last bool) {
	name := fmt.Sprintf("%s in MPEG-TS after %d looks", x.id, c.tsLooks)
	for _, p := range append(playlisttest.Problems(text), playlisttest.ForeignProblems(text)...) {
		c.bad("%s: %s", name, p)
	}
	list := playlisttest.Parse(text)
	if len(list.Segments) == 0 {
		return
	}
	if before := x.ts.list; before != nil {
		for _, p := range playlisttest.SuccessionProblems(x.ts.text, text) {
			c.bad("%s: %s", name, p)
		}
		for _, s := range before.Segments { // what has just left is still there (RFC 8216bis 6.2.2)
			if s.MSN < list.MSN && !s.Gap && !c.sparse && !x.ts.away {
				c.get(x.dir + "ts/" + s.URI)
			}
		}
	}
	x.ts.away = false
	x.ts.text, x.ts.list = text, list

	a, first, end := c.sound(x), list.Segments[0].MSN, list.Segments[len(list.Segments)-1].MSN
	if list.Target != x.list.Target {
		c.bad("%s: target duration %d, not %d", name, list.Target, x.list.Target)
	}
	if first != x.list.MSN && (a == nil || first < x.list.MSN || first != a.segments[0].MSN || list.Segments[0].Discontinuity) {
		c.bad("%s: begins with segment %d, not %d", name, first, x.list.MSN)
	}
	want := x.latest()
	if a != nil && !x.list.End {
		want = min(want, a.latest())
	}
	if end > x.latest() || last && end != want || end+tsLag < x.latest() {
		c.bad("%s: ends with segment %d; the picture with %d, picture and sound with %d", name, end, x.latest(), want)
	}
	if list.End != (x.list.End && end == x.latest()) {
		c.bad("%s: end %v", name, list.End)
	}
	for _, s := range list.Segments {
		c.tsSegment(x, s, name)
	}
}

// tsSegment compares what is listed of a segment with what the other playlist says, and reads it if it is new. HEVC is a gap.
func (c *checker) tsSegment(x *track, s playlisttest.Segment, name string) {
	o := x.list.Find(s.MSN)
	if o == nil || o == x.list.Open {
		c.bad("%s: segment %d is not listed elsewhere", name, s.MSN)
		return
	}
	in := c.header(x, o.Map)
	gap := o.Gap || in != nil && in.hevc
	if s.Duration != o.Duration || s.PDT != o.PDT || s.Discontinuity != o.Discontinuity || s.DiscSeq != o.DiscSeq || s.Gap != gap {
		c.bad("%s: segment %+v, elsewhere %+v, to be a gap %v", name, s, *o, gap)
	}
	if n := len(x.ts.segments); n > 0 && s.MSN <= x.ts.segments[n-1].MSN {
		return
	}
	t := tsSegment{Segment: s}
	if !gap {
		t.body = c.get(x.dir + "ts/" + s.URI)
	}
	x.ts.segments = append(x.ts.segments, t)
}

// transported checks all segments of x that have been read: those between two discontinuities or gaps as one stream.
func (c *checker) transported(x *track) {
	var bodies [][]byte
	var msn uint64 // of the first
	flush := func() {
		if len(bodies) > 0 {
			c.multiplex(x, msn, bodies)
		}
		bodies = nil
	}
	for _, s := range x.ts.segments {
		if s.Discontinuity || s.MSN != msn+uint64(len(bodies)) {
			flush()
		}
		if s.body == nil {
			flush()
			continue
		}
		if len(bodies) == 0 {
			msn = s.MSN
		}
		bodies = append(bodies, s.body)
		if !x.audio && x.find(s.MSN).short { // nothing in the segment tells when the next picture is decoded, so no PCR leads there
			flush()
		}
	}
	flush()
}

// multiplex checks segments that follow each other, from one of number msn, and compares each frame with that in the other format.
func (c *checker) multiplex(x *track, msn uint64, bodies [][]byte) {
	rep, err := tstest.Check(bodies)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			if strings.Contains(line, "first PES packet has no random_access_indicator") {
				continue // so it has to be where the segment does not begin with a sync sample: see pictures
			}
			c.bad("%s in MPEG-TS from segment %d: %s", x.id, msn, strings.TrimSpace(line))
		}
	}
	if len(rep.PMT) != len(bodies) {
		c.bad("%s in MPEG-TS from segment %d: %d program maps in %d segments", x.id, msn, len(rep.PMT), len(bodies))
		return
	}
	if n := len(rep.PCR); n > 0 && rep.PCR[n-1].Value >= tsWrap {
		c.wraps++
	}
	a := c.sound(x)
	if x.audio {
		a = x
	}
	pes, delay := rep.PES, int64(0)
	for i, m := range rep.PMT {
		name := fmt.Sprintf("%s in MPEG-TS, segment %d", x.id, msn+uint64(i))
		n := 0
		for n < len(pes) && pes[n].Segment == i {
			n++
		}
		own := pes[:n]
		pes = pes[n:]
		picture, sound := &segment{}, &segment{}
		if !x.audio {
			picture = x.find(msn + uint64(i))
		}
		if a != nil {
			sound = a.find(msn + uint64(i))
		}
		if !slices.Equal(m.Streams, rep.PMT[0].Streams) {
			c.bad("%s: streams %v, before %v", name, m.Streams, rep.PMT[0].Streams)
		}
		declared := slices.ContainsFunc(m.Streams, func(s tstest.Stream) bool { return s.Type == 0x0f })
		if len(sound.frames) > 0 && !declared || declared && a == nil {
			c.bad("%s: streams %v, %d audio frames", name, m.Streams, len(sound.frames))
		}
		d := c.pictures(name, own, picture)
		if i > 0 && !x.audio && d != delay {
			c.bad("%s: pictures are decoded %d ticks ahead, in the segment before %d", name, d, delay)
		}
		delay = d
		c.sounds(name, own, sound)
	}
}

// find returns a segment; what has none of that number is one without frames.
func (x *track) find(msn uint64) *segment {
	i := slices.IndexFunc(x.segments, func(g *segment) bool { return g.MSN == msn })
	if i < 0 {
		return &segment{}
	}
	return x.segments[i]
}

// at is a time of the track at 90 kHz, as it is in MPEG-TS before it wraps.
func (g *segment) at(t int64) int64 {
	scale := int64(g.scale)
	return (t*tsClock+scale/2)/scale + tsZero
}

// off is the distance between two times that may have wrapped.
func off(t, want int64) int64 {
	d := (t - want) % tsWrap
	switch {
	case d > tsWrap/2:
		d -= tsWrap
	case d < -tsWrap/2:
		d += tsWrap
	}
	return d
}

// pictures compares the access units of a segment with the frames of the same one in the other format, and returns by how much they
// are decoded before those, ticks.
func (c *checker) pictures(name string, pes []tstest.PES, g *segment) (ahead int64) {
	n := 0
	for i, p := range pes {
		if p.Type != 0x1b {
			continue
		}
		st, ok := readStamp(p.Data)
		if n == len(g.frames) || !ok || st.id != g.frames[n].id {
			c.bad("%s: picture %d of %d is frame %d, stamped %v", name, n, len(g.frames), st.id, ok)
			return ahead
		}
		f := g.frames[n]
		if d := off(p.PTS, g.at(f.pts)); d != 0 {
			c.bad("%s: picture %d is presented %d ticks late", name, n, d)
		}
		d := off(g.at(f.dts), p.DTS)
		if n > 0 && d != ahead {
			c.bad("%s: picture %d is decoded %d ticks ahead, the one before %d", name, n, d, ahead)
		}
		ahead = d
		if p.RandomAccess != f.sync || i == 0 != (n == 0) {
			c.bad("%s: picture %d is PES packet %d, random access %v, sync sample %v", name, n, i, p.RandomAccess, f.sync)
		}
		n++
	}
	if n != len(g.frames) {
		c.bad("%s: %d pictures of %d", name, n, len(g.frames))
	}
	return ahead
}

// sounds does the same for audio. Only the first frame of a PES packet has a time; the others follow as they last.
func (c *checker) sounds(name string, pes []tstest.PES, g *segment) {
	n := 0
	for _, p := range pes {
		if p.Type != 0x0f {
			continue
		}
		k := int64(0)
		for b := p.Data; len(b) >= 7; k++ {
			size := min(int(b[3]&3)<<11|int(b[4])<<3|int(b[5])>>5, len(b)) // aac_frame_length (ISO/IEC 14496-3, 1.A.2.2.2)
			st, ok := readStamp(b[:size])
			if n == len(g.frames) || !ok || st.id != g.frames[n].id {
				c.bad("%s: audio frame %d of %d is frame %d, stamped %v", name, n, len(g.frames), st.id, ok)
				return
			}
			t := p.PTS + (k*1024*tsClock+int64(p.Rate)/2)/int64(p.Rate)
			if d := off(t, g.at(g.frames[n].pts)); d > 2*min(k, 1) || d < -2*min(k, 1) { // both are rounded, the first to the same
				c.bad("%s: audio frame %d, number %d of its PES packet, is presented %d ticks late", name, n, k, d)
			}
			n++
			b = b[max(size, 7):]
		}
	}
	if n != len(g.frames) {
		c.bad("%s: %d audio frames of %d", name, n, len(g.frames))
	}
}
