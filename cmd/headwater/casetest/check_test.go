package casetest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"headwater/playlist/playlisttest"
)

// A checker is a player that trusts nobody. It reads what the origin serves over HTTP, with the playlist parser of playlisttest,
// the boxes of mp4ff and the transport streams of tstest, shares nothing with what writes them, and keeps a list of what is wrong.
type checker struct {
	client *http.Client
	base   string
	stream string // "live/a"
	holes  bool   // sound may be missing inside a segment
	slews  bool   // dates may follow the wall clock
	sparse bool   // do without parts
	lossy  bool   // of several encoders one may be lost in the middle of a segment, which the others go on to fill
	pair   bool   // two encoders feed the rendition: what one has sent may come out after what the other has sent later
	rough  bool   // frames are missing and come at any time: parts may be short, and a picture may stand still

	mu       sync.Mutex
	tracks   []*track // by run, in the order in which they were seen
	bodies   map[string][sha256.Size]byte
	inits    map[string]*header
	problems []string
	versions int // of playlists that have been read
	tsLooks  int // at those of MPEG-TS
	wraps    int // of their clock
}

// A track is a rendition as it has been seen.
type track struct {
	run, id  string
	dir      string // URL, with a slash at its end
	audio    bool
	text     []byte // of the latest playlist
	list     *playlisttest.Media
	segments []*segment // complete ones, without holes
	parts    map[string]*partOf
	ts       tsTrack
	end      int64  // where the media ends that has been seen, ticks
	begun    bool   // end is meaningful
	last     uint64 // id of the last frame
	got      map[uint64]bool
	short    int     // segments that end before the time that is listed, because the encoder was lost
	sum      float64 // of EXTINF less media since the last discontinuity or gap, s
}

// A segment is a Media Segment as it has been read.
type segment struct {
	playlisttest.Segment
	dur    float64
	pdt    time.Time
	scale  float64 // ticks a second
	frames []frame // in decode order
	short  bool    // the encoder was lost before its end
}

// A partOf is a Partial Segment as it has been read.
type partOf struct {
	body   []byte
	frames []frame
}

func newChecker(base, stream string) *checker {
	return &checker{base: base, stream: stream, client: &http.Client{Transport: &http.Transport{}, Timeout: patience},
		bodies: map[string][sha256.Size]byte{}, inits: map[string]*header{}}
}

const maxProblems = 12

func (c *checker) bad(format string, args ...any) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, fmt.Sprintf(format, args...))
	}
}

// get fetches a URL. What is no playlist has the same bytes for ever.
func (c *checker) get(url string) []byte {
	resp, err := c.client.Get(url)
	if err != nil {
		c.bad("%v", err)
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.bad("%s: %s %v", strings.TrimPrefix(url, c.base), resp.Status, err)
		return nil
	}
	if !strings.HasSuffix(url, ".m3u8") {
		sum := sha256.Sum256(body)
		if was, ok := c.bodies[url]; ok && was != sum {
			c.bad("%s has other bytes than it had", strings.TrimPrefix(url, c.base))
		}
		c.bodies[url] = sum
	}
	return body
}

// find returns the track of a rendition.
func (c *checker) find(run, id string) *track {
	for _, x := range c.tracks {
		if x.run == run && x.id == id {
			return x
		}
	}
	x := &track{run: run, id: id, dir: c.base + "/" + c.stream + "/" + run + "/" + id + "/", parts: map[string]*partOf{}, got: map[uint64]bool{}}
	c.tracks = append(c.tracks, x)
	return x
}

// look reads a playlist that has changed, and what is new in it; whole says that a segment has been completed.
func (c *checker) look(run, id string, whole bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.find(run, id)
	text := c.get(x.dir + "index.m3u8")
	if text == nil {
		return
	}
	c.versions++
	name := fmt.Sprintf("%s version %d", id, c.versions)
	for _, p := range playlisttest.Problems(text) {
		sound := id == "audio" && c.holes
		if strings.Contains(p, "its parts") && (c.rough || sound) || strings.Contains(p, "less than 85") && c.rough ||
			strings.Contains(p, "without EXT-X-PRELOAD-HINT") && (sound || c.lossy) || strings.Contains(p, "its parts") && c.lossy {
			continue
		}
		c.bad("%s: %s", name, p)
	}
	list := playlisttest.Parse(text)
	if x.text != nil {
		if bytes.Equal(text, x.text) {
			return
		}
		for _, p := range playlisttest.SuccessionProblems(x.text, text) {
			if c.rough && strings.Contains(p, "changed: [], [") {
				continue // parts that had been removed are listed again when a segment lasts less than its parts (see rough)
			}
			c.bad("%s: %s", name, p)
		}
		c.counters(x, list, name)
		for _, s := range x.list.Segments { // what has just left is still there (RFC 8216bis 6.2.2)
			if s.MSN < list.MSN && !s.Gap {
				c.get(x.dir + s.URI)
			}
		}
	}
	x.text, x.list = text, list
	if whole && (!c.sparse || len(x.segments)%16 == 0) {
		for _, p := range playlisttest.ForeignProblems(text) {
			c.bad("%s: %s", name, p)
		}
		c.multivariant(x)
	}
	for i := range list.Segments {
		s := &list.Segments[i]
		c.readParts(x, s)
		if n := len(x.segments); n == 0 || s.MSN > x.segments[n-1].MSN {
			c.complete(x, s)
		}
	}
	if list.Open != nil {
		c.readParts(x, list.Open)
	}
}

// counters checks by the text alone, not by the parser, that the two counters rise by what has left the playlist (RFC 8216bis
// 4.4.3.2 and 4.4.3.3).
func (c *checker) counters(x *track, list *playlisttest.Media, name string) {
	before := lines(x.text)
	removed, tags := list.MSN-x.list.MSN, uint64(0)
	for _, l := range before {
		if removed == 0 {
			break
		}
		if l == "#EXT-X-DISCONTINUITY" {
			tags++
		} else if l[0] != '#' {
			removed--
		}
	}
	if want := x.list.DiscSeq + tags; list.DiscSeq != want {
		c.bad("%s: discontinuity sequence %d, %d tags have left that was %d", name, list.DiscSeq, tags, x.list.DiscSeq)
	}
}

func lines(text []byte) []string { return strings.Split(strings.TrimSpace(string(text)), "\n") }

// multivariant checks that the Multivariant Playlist leads to x, if x is of the newest run.
func (c *checker) multivariant(x *track) {
	if x.run != c.tracks[len(c.tracks)-1].run {
		return
	}
	text := c.get(c.base + "/" + c.stream + "/index.m3u8")
	for _, p := range append(playlisttest.Problems(text), playlisttest.ForeignProblems(text)...) {
		c.bad("multivariant: %s", p)
	}
	if !bytes.Contains(text, []byte(x.run+"/"+x.id+"/index.m3u8")) && !x.vacant() {
		c.bad("the multivariant playlist does not have %s/%s:\n%s", x.run, x.id, text)
	}
}

// vacant says whether the latest playlist has only gaps.
func (x *track) vacant() bool {
	return x.list == nil || !slices.ContainsFunc(x.list.Segments, func(s playlisttest.Segment) bool { return !s.Gap })
}

// readParts reads the parts of s that have not been read, and checks what is said of them.
func (c *checker) readParts(x *track, s *playlisttest.Segment) {
	for i, p := range s.Parts {
		if x.parts[p.URI] != nil || c.sparse {
			continue
		}
		body := c.get(x.dir + p.URI)
		in := c.header(x, s.Map)
		if body == nil || in == nil {
			continue
		}
		frames, err := readFrames(body)
		if err != nil || len(frames) == 0 {
			c.bad("%s: %v, %d frames", p.URI, err, len(frames))
			continue
		}
		x.parts[p.URI] = &partOf{body, frames}
		if got, want := "p"+strconv.FormatInt(frames[0].dts, 10)+".m4s", p.URI; got != want {
			c.bad("%s begins at %s", want, got)
		}
		last := frames[len(frames)-1]
		if d, listed := float64(last.dts+last.dur-frames[0].dts)/in.scale, seconds(p.Duration); math.Abs(d-listed) > 2e-5 {
			c.bad("part %d.%d is listed with %v s and lasts %v", s.MSN, i, listed, d)
		}
		if sync := slices.ContainsFunc(frames, func(f frame) bool { return f.sync }); sync != p.Independent {
			c.bad("part %d.%d: independent %v, a sync sample %v", s.MSN, i, p.Independent, sync)
		}
	}
}

func (c *checker) header(x *track, uri string) *header {
	if uri == "" {
		c.bad("%s: no EXT-X-MAP", x.id)
		return nil
	}
	url := x.dir + uri
	if in, ok := c.inits[url]; ok {
		return in
	}
	in, err := readHeader(c.get(url))
	if err != nil {
		c.bad("%s: %v", uri, err)
	}
	c.inits[url] = in
	return in
}

func seconds(s string) float64 {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return math.NaN()
	}
	return f
}

// complete reads a segment that has been completed, and compares it with its playlist and with the one before it.
func (c *checker) complete(x *track, s *playlisttest.Segment) {
	g := &segment{Segment: *s, dur: seconds(s.Duration)}
	g.Parts = nil
	g.pdt, _ = time.Parse("2006-01-02T15:04:05.000Z", s.PDT)
	var before *segment
	if n := len(x.segments); n > 0 {
		if before = x.segments[n-1]; before.MSN+1 != s.MSN {
			c.bad("%s: segment %d follows %d", x.id, s.MSN, before.MSN)
		}
	}
	x.segments = append(x.segments, g)
	in := c.header(x, s.Map)
	if in == nil {
		return
	}
	g.scale, x.audio = in.scale, in.audio
	if s.Gap {
		return
	}
	body := c.get(x.dir + s.URI)
	if body == nil {
		return
	}
	var err error
	if g.frames, err = readFrames(body); err != nil || len(g.frames) == 0 {
		c.bad("%s: %v, %d frames", s.URI, err, len(g.frames))
		return
	}
	if len(s.Parts) > 0 && !c.sparse { // a segment is its parts (RFC 8216bis 3.2)
		var sum []byte
		for _, p := range s.Parts {
			if q := x.parts[p.URI]; q != nil {
				sum = append(sum, q.body...)
			}
			delete(x.parts, p.URI) // its hash is kept
			x.parts[p.URI] = &partOf{}
		}
		if !bytes.Equal(sum, body) {
			c.bad("%s segment %d is not its parts", x.id, s.MSN)
		}
	}
	c.media(x, g, before)
}

// maxReorder is how much earlier than another one a frame may be presented that is decoded later, s: three at 15 frames a second, and a
// little more.
const maxReorder = 0.25

// media checks a segment's samples: against one another, against the segment before, and against what is listed.
func (c *checker) media(x *track, g, before *segment) {
	name := fmt.Sprintf("%s segment %d", x.id, g.MSN)
	first := g.frames[0]
	goes := before != nil && !before.Gap && !before.short && !g.Discontinuity && len(before.frames) > 0 // on where the one before it ends
	end := first.dts
	switch {
	case x.begun && first.dts < x.end:
		c.bad("%s: decode time steps back by %d ticks", name, x.end-first.dts)
	case goes && first.dts != x.end && !(c.holes && x.audio):
		c.bad("%s: a hole of %d ticks", name, first.dts-x.end)
	}
	var longest int64
	for i, f := range g.frames {
		if f.dts != end {
			c.bad("%s: frame %d decodes at %d, the one before ends at %d", name, i, f.dts, end)
		}
		if f.dur <= 0 {
			c.bad("%s: frame %d lasts %d ticks", name, i, f.dur)
		}
		end = f.dts + f.dur
		longest = max(longest, f.dur)
		if f.id <= x.last && !c.pair {
			c.bad("%s: frame %d came in before %d, which is out before it", name, f.id, x.last)
		}
		x.last = f.id
		x.got[f.id] = true
	}
	x.end, x.begun = end, true
	if !x.audio && !first.sync && !slices.ContainsFunc(g.frames, func(f frame) bool { return f.sync }) && x.list.Independent {
		c.bad("%s has no sync sample", name)
	}

	// Whatever an encoder does, what a segment shows is within it, but for frames that are presented before others that are decoded earlier.
	order := func(a, b frame) int { return cmp.Compare(a.pts, b.pts) }
	if span := float64(slices.MaxFunc(g.frames, order).pts-slices.MinFunc(g.frames, order).pts) / g.scale; span > g.dur+maxReorder {
		c.bad("%s: EXTINF %v, it shows %v s", name, g.dur, span)
	}

	// EXTINF: of audio what its frames last, exactly; of video what is between two presentation times, which is the same, but for
	// how evenly decode times are written.
	lasts := float64(end-first.dts) / g.scale
	if !goes {
		x.sum = 0
	}
	most := float64(longest)/g.scale + 0.0015
	if x.audio && !c.lossy { // sound that another encoder goes on with begins within a frame
		most = 3e-5
	}
	if g.short = c.lossy && g.dur-lasts > most; g.short {
		x.short++
		return
	}
	x.sum += g.dur - lasts
	if d := g.dur - lasts; goes && math.Abs(d) > most && !c.rough && !(c.holes && x.audio) {
		c.bad("%s: EXTINF %v, media %v s", name, g.dur, lasts)
	} else if x.sum = b2f(!c.rough && !(c.holes && x.audio)) * x.sum; goes && math.Abs(x.sum) > most+1e-4 {
		c.bad("%s: EXTINF is off by %v s since the last discontinuity", name, x.sum)
	}
	if !goes || x.audio && c.holes || c.rough {
		return
	}
	// Dates and presentation times go together.
	shown := float64(g.start()-before.start()) / g.scale
	most = 0.001
	if x.audio && c.lossy {
		most += float64(longest) / g.scale
	}
	if !first.sync || !before.frames[0].sync { // pictures that are decoded in the next segment may be presented in this one
		most += float64(longest) / g.scale
	}
	if d := g.pdt.Sub(before.pdt).Seconds() - shown; math.Abs(d) > most+0.0015+b2f(c.slews)*0.05 {
		c.bad("%s: its date is %v s after the one before, its media %v s", name, g.pdt.Sub(before.pdt).Seconds(), shown)
	}
	if d := before.dur - shown; math.Abs(d) > most {
		c.bad("%s: EXTINF %v of the one before, whose presentation lasts %v s", name, before.dur, shown)
	}
}

// start is when a segment's first sample is presented.
func (g *segment) start() int64 {
	t := int64(math.MaxInt64)
	for _, f := range g.frames {
		t = min(t, f.pts)
	}
	return t
}

// finish reads everything that is still listed once more, and compares the renditions of each run, and what there was in MPEG-TS.
func (c *checker) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tracks) > 0 {
		c.transport(c.tracks[len(c.tracks)-1].run, true)
	}
	for _, x := range c.tracks {
		c.transported(x)
		if x.run != c.tracks[len(c.tracks)-1].run {
			continue
		}
		if text := c.get(x.dir + "index.m3u8"); text != nil {
			x.text, x.list = text, playlisttest.Parse(text)
		}
		for _, s := range x.list.Segments {
			if !s.Gap {
				c.get(x.dir + s.URI)
				c.get(x.dir + s.Map)
			}
			for _, p := range s.Parts {
				c.get(x.dir + p.URI)
			}
		}
		if x.list.Open != nil {
			for _, p := range x.list.Open.Parts {
				c.get(x.dir + p.URI)
			}
		}
		for _, y := range c.tracks {
			switch {
			case y.run != x.run || y == x || y.audio:
			case x.audio:
				c.align(y, x)
			case y.id < x.id:
				c.alike(y, x)
			}
		}
	}
}

// align compares audio with video: the same number covers the same time, and has the same discontinuities (RFC 8216bis 6.2.4).
func (c *checker) align(v, a *track) {
	video := map[uint64]*segment{}
	for _, g := range v.segments {
		video[g.MSN] = g
	}
	for i, g := range a.segments {
		w := video[g.MSN]
		if w == nil {
			if i > 0 && i < len(a.segments)-1 {
				c.bad("segment %d is in the audio and not in the video", g.MSN)
			}
			continue
		}
		if g.Discontinuity != w.Discontinuity || g.DiscSeq != w.DiscSeq {
			c.bad("segment %d: discontinuity %v, number %d in the audio, %v, %d in the video", g.MSN, g.Discontinuity, g.DiscSeq, w.Discontinuity, w.DiscSeq)
		}
		if g.Gap || w.Gap {
			continue
		}
		frame := 0.0015
		if len(g.frames) > 0 {
			longest := g.frames[0].dur // the frame at the boundary may be one that makes up for a drift
			if i > 0 && len(a.segments[i-1].frames) > 0 {
				before := a.segments[i-1].frames
				longest = max(longest, before[len(before)-1].dur)
			}
			frame += float64(longest)/g.scale + b2f(c.rough)*0.11 // sound goes on as far as the next key frame was expected
		}
		first := i == 0 || g.Discontinuity || i > 0 && a.segments[i-1].Gap
		if d := g.pdt.Sub(w.pdt).Seconds(); (d < -frame || d > frame) && !first {
			c.bad("segment %d begins %v s later in the audio", g.MSN, d)
		}
	}
}

// alike compares two renditions of the picture: the same number covers the same time to the tick, with the same date, duration and
// discontinuities (RFC 8216bis 6.2.4), and what is presented then was captured then.
func (c *checker) alike(v, w *track) {
	other := map[uint64]*segment{}
	for _, g := range v.segments {
		other[g.MSN] = g
	}
	for i, g := range w.segments {
		h := other[g.MSN]
		if h == nil {
			if i < len(w.segments)-1 && g.MSN > v.segments[0].MSN {
				c.bad("segment %d is in %s and not in %s", g.MSN, w.id, v.id)
			}
			continue
		}
		if g.Discontinuity != h.Discontinuity || g.DiscSeq != h.DiscSeq || g.PDT != h.PDT || g.Duration != h.Duration {
			c.bad("segment %d: discontinuity %v, number %d, %s, %s s in %s; %v, %d, %s, %s in %s", g.MSN,
				g.Discontinuity, g.DiscSeq, g.PDT, g.Duration, w.id, h.Discontinuity, h.DiscSeq, h.PDT, h.Duration, v.id)
		}
		if len(g.frames) == 0 || len(h.frames) == 0 {
			continue
		}
		if d := g.shows() - h.shows(); math.Abs(d) > 0.017 {
			c.bad("segment %d shows pictures in %s that are %.3f s off those in %s", g.MSN, w.id, d, v.id)
		}
	}
}

// shows is the distance between when a segment's first picture was captured and when it is presented, s.
func (g *segment) shows() float64 {
	f := g.frames[0]
	return float64(f.display-start)/1e9 - float64(f.pts)/g.scale
}
