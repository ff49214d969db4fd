//go:build e2e

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"

	"headwater/playlist/playlisttest"
)

// A source is live: at any moment it shows the number of frames since it began, as a row of blocks, each a bit. Blocks are
// 16 pixels wide in the smallest rung and survive any encoder.
type source struct{ began time.Time }

const (
	sourceRate = 25 // frames a second
	sourceGOP  = 50 // frames: key frames are where the number is a multiple of it
	sourceBits = 12
)

// now is the number that the source shows.
func (s source) now() int { return int(time.Since(s.began).Seconds() * sourceRate) }

// frames are pictures of the source from a number on, of 2 by 1 pixels for each bit: an encoder makes them larger.
func frames(from int) encoding {
	return encoding{"-re", "-f", "lavfi", "-i", fmt.Sprintf(`color=c=gray:s=%dx2:r=%d,format=gray,geq=lum='255*mod(floor((N+%d)/pow(2\,X))\,2)'`,
		sourceBits, sourceRate, from)}
}

// A rungEncoder is the settings of one rung's encoder.
type rungEncoder struct {
	rung, size string
	bf         int
	rate       string // of the video, "150k"
}

var rungEncoders = []rungEncoder{{"1080p", "320x180", 3, "400k"}, {"720p", "256x144", 0, "200k"}, {"480p", "192x108", 2, "100k"}}

// codecs are its arguments. Its pictures' first number is from.
func (e rungEncoder) codecs(from int) encoding {
	return encoding{"-map", "0:v", "-map", "1:a", "-vf", "scale=" + strings.Replace(e.size, "x", ":", 1) + ":flags=neighbor,setsar=1,format=yuv420p",
		"-c:v", "libx264", "-preset", "ultrafast", "-b:v", e.rate, "-bf", strconv.Itoa(e.bf), "-sc_threshold", "0",
		"-g", strconv.Itoa(sourceGOP), "-force_key_frames", fmt.Sprintf("expr:not(mod(n+%d,%d))", from, sourceGOP),
		"-c:a", "aac", "-b:a", "64k", "-ac", "2"}
}

// rungStart is how long an encoder may take to connect, and rungLate how much longer, as its pictures are late by that for good.
const (
	rungStart = 2 * time.Second
	rungLate  = 150 * time.Millisecond
)

// publishRung lets a process of its own publish one rung of the source, whose timestamps begin at 0.
func (r *running) publishRung(t *testing.T, s source, e rungEncoder) *peer {
	t.Helper()
	return r.publishSource(t, s, 1, "/live/cam_"+e.rung, func(from int) encoding {
		return join(frames(from), sound("48000"), e.codecs(from))
	}).peer
}

// A push is a process that publishes a source, and what is seen of it on its way to the origin.
type push struct {
	*peer

	mu     sync.Mutex // protects what follows
	heard  time.Time  // when the latest bytes came; zero when none do
	pauses int
}

// A pause of a push is one after which the origin may already have taken it for silent, which it does after a second.
const pause = 700 * time.Millisecond

// paused is how often the push has paused.
func (p *push) paused() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.heard.IsZero() && time.Since(p.heard) >= pause {
		return p.pauses + 1
	}
	return p.pauses
}

// hear notes that bytes have come, or that the last have.
func (p *push) hear(last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.heard.IsZero() && now.Sub(p.heard) >= pause {
		p.pauses++
	}
	if p.heard = now; last {
		p.heard = time.Time{}
	}
}

// A heardReader tells a push of what is read.
type heardReader struct {
	io.Reader
	push *push
}

func (h heardReader) Read(b []byte) (int, error) {
	n, err := h.Reader.Read(b)
	h.push.hear(err != nil)
	return n, err
}

// publishSource lets a process of its own publish the source under a path, from a number on that is a multiple of every. ffmpeg
// begins to read when the server has answered, and the server is out of reach until the source shows what ffmpeg begins with:
// however long the process takes to be there, its pictures are not late by that. One that is not there by then is started anew,
// and has longer.
func (r *running) publishSource(t *testing.T, s source, every int, path string, publish func(from int) encoding) *push {
	t.Helper()
	for start := rungStart; start < startPatience; start *= 2 {
		from := s.now() + int(start.Seconds()*sourceRate) + every - 1
		from -= from % every
		begins := s.began.Add(time.Duration(from) * time.Second / sourceRate)
		gate, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		args := join(encoding{"-nostdin", "-hide_banner", "-loglevel", "repeat+warning"}, publish(from), encoding{"-f", "flv", "rtmp://" + gate.Addr().String() + path})
		p := &push{peer: startPeer(t, nil, "ffmpeg", args...)}
		gate.SetDeadline(begins.Add(rungLate))
		encoder, err := gate.Accept()
		gate.Close()
		if err != nil {
			t.Logf("ffmpeg has not connected within %v: %v", start, err)
			p.kill()
			continue
		}
		go func() {
			defer encoder.Close()
			time.Sleep(time.Until(begins))
			p.connect(t, encoder, r.RTMP)
		}()
		return p
	}
	t.Fatal("no ffmpeg has connected in time")
	return nil
}

// connect lets an encoder and the server at an address talk until one of them has enough.
func (p *push) connect(t *testing.T, encoder net.Conn, addr string) {
	server, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer server.Close()
	ended := make(chan struct{}, 2)
	for to, from := range map[io.Writer]io.Reader{server: heardReader{encoder, p}, encoder: server} {
		go func() {
			io.Copy(to, from)
			ended <- struct{}{}
		}()
	}
	<-ended
}

// renditions returns the URLs of a stream's media playlists by rendition.
func (r *running) renditions(t *testing.T, name string) map[string]string {
	t.Helper()
	index := r.URL("/" + name + "/index.m3u8")
	code, body := get(t, index)
	if code != 200 {
		return nil
	}
	base, err := url.Parse(index)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, line := range strings.Split(body, "\n") {
		uri := line
		if strings.HasPrefix(line, "#EXT-X-I-FRAME") || line == "" {
			continue
		} else if i := strings.Index(line, `URI="`); i >= 0 {
			uri, _, _ = strings.Cut(line[i+len(`URI="`):], `"`)
		} else if strings.HasPrefix(line, "#") {
			continue
		}
		at, err := base.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		part := strings.Split(at.Path, "/")
		out[part[len(part)-2]] = at.String()
	}
	return out
}

// A shownFrame is what is seen of the source at a presentation time, s.
type shownFrame struct {
	at     float64
	number int
}

// readNumbers lets ffmpeg decode segments of a rendition that have one Media Initialization Section, and reads the numbers in
// their pictures, by Media Sequence Number. The presentation times are those that the boxes give (ISO/IEC 14496-12 8.8.8):
// ffmpeg moves them by the lowest composition offset.
func readNumbers(t *testing.T, playlist string, segments []playlisttest.Segment) map[uint64][]shownFrame {
	t.Helper()
	base, err := url.Parse(playlist)
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(uri string) []byte {
		at, err := base.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		code, body := get(t, at.String())
		if code != 200 {
			t.Fatalf("%s: status %d", at, code)
		}
		return []byte(body)
	}
	var in, out, log bytes.Buffer
	var total int
	header := fetch(segments[0].Map)
	in.Write(header)
	frames := map[uint64][]shownFrame{}
	for _, s := range segments {
		if s.Map != segments[0].Map {
			t.Fatalf("%s: the Media Initialization Section changes at segment %d", playlist, s.MSN)
		}
		b := fetch(s.URI)
		in.Write(b)
		frames[s.MSN] = presentationTimes(t, append(slices.Clip(header), b...))
		total += len(frames[s.MSN])
	}
	ctx, cancel := context.WithTimeout(t.Context(), peerPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ffmpeg", "-hide_banner", "-loglevel", "repeat+warning", "-i", "pipe:0", "-vsync", "passthrough",
		"-vf", fmt.Sprintf("scale=%d:1:flags=area,format=gray", sourceBits), "-f", "rawvideo", "pipe:1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("ffmpeg cannot decode %s: %v\n%s", playlist, err, tail(log.String(), 4000))
	}
	if out.Len() != total*sourceBits {
		t.Fatalf("%s: %d bytes of pictures for %d samples\n%s", playlist, out.Len(), total, tail(log.String(), 4000))
	}
	for _, s := range segments {
		for i := range frames[s.MSN] {
			for bit, level := range out.Next(sourceBits) {
				if level >= 128 {
					frames[s.MSN][i].number |= 1 << bit
				}
			}
		}
	}
	return frames
}

// presentationTimes returns those of the samples of a segment after its Media Initialization Section, in ascending order, which
// is that in which a decoder puts pictures out.
func presentationTimes(t *testing.T, b []byte) []shownFrame {
	t.Helper()
	f, err := mp4.DecodeFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var frames []shownFrame
	for _, s := range f.Segments {
		for _, fragment := range s.Fragments {
			samples, err := fragment.GetFullSamples(f.Init.Moov.Mvex.Trex)
			if err != nil {
				t.Fatal(err)
			}
			for i := range samples {
				at := int64(samples[i].DecodeTime) + int64(samples[i].CompositionTimeOffset)
				frames = append(frames, shownFrame{at: float64(at) / float64(f.Init.Moov.Trak.Mdia.Mdhd.Timescale)})
			}
		}
	}
	slices.SortFunc(frames, func(a, b shownFrame) int { return cmp.Compare(a.at, b.at) })
	return frames
}

// videoOf is the video rendition of a rung.
func videoOf(rung string) string {
	if rung == "" {
		return "video"
	}
	return "video_" + rung
}

// checkLadder checks that segments of one number cover the same media time in all video renditions of a ladder and show the
// same pictures. It returns how many segments all of them have.
func (r *running) checkLadder(t *testing.T, name string, rungs ...string) int {
	t.Helper()
	return r.checkLadderBut(t, name, 0, 0, rungs...)
}

// checkLadderBut does the same, where segment cut and the next may lack pictures: encoders were lost in it. Elsewhere each rung may
// lack so many.
func (r *running) checkLadderBut(t *testing.T, name string, cut uint64, lack int, rungs ...string) int {
	t.Helper()
	urls := r.renditions(t, name)
	segments := map[uint64][]playlisttest.Segment{} // by rung
	targets := map[int]bool{}
	short := map[string]uint64{} // of a rung, the segment in which its encoder was lost
	for i, rung := range rungs {
		if urls[videoOf(rung)] == "" {
			t.Fatalf("there is no rendition %s: %v", videoOf(rung), urls)
		}
		_, body := get(t, urls[videoOf(rung)])
		p := playlisttest.Parse([]byte(body))
		targets[p.Target] = true
		for n, s := range p.Segments {
			if of := segments[s.MSN]; len(of) == i { // the playlists were fetched one after the other
				segments[s.MSN] = append(of, s)
			}
			if s.Gap && n > 0 && !p.Segments[n-1].Gap {
				short[rung] = s.MSN - 1
			}
		}
	}
	if len(targets) != 1 {
		t.Errorf("target durations: %v", targets)
	}
	var common []uint64
	for _, msn := range slices.Sorted(maps.Keys(segments)) {
		of := segments[msn]
		if len(of) < len(rungs) {
			continue
		}
		for i, s := range of {
			if s.Duration != of[0].Duration || s.PDT != of[0].PDT || s.DiscSeq != of[0].DiscSeq || s.Discontinuity != of[0].Discontinuity {
				t.Errorf("segment %d: %s has EXTINF %s, date %s, discontinuity %d %v, and %s has %s, %s, %d %v", msn,
					rungs[0], of[0].Duration, of[0].PDT, of[0].DiscSeq, of[0].Discontinuity, rungs[i], s.Duration, s.PDT, s.DiscSeq, s.Discontinuity)
			}
		}
		if !slices.ContainsFunc(of, isGap) {
			common = append(common, msn)
		}
	}
	if len(common) == 0 {
		return 0
	}
	shows := map[int]int{} // numbers, by when they are presented, in frames
	for i, rung := range rungs {
		var all []playlisttest.Segment
		for _, msn := range common {
			all = append(all, segments[msn][i])
		}
		lacks := 0
		for msn, seen := range readNumbers(t, urls[videoOf(rung)], all) {
			if len(seen) != sourceGOP && short[rung] != msn && (cut == 0 || msn != cut && msn != cut+1) {
				if lacks += sourceGOP - len(seen); lacks > lack || len(seen) > sourceGOP {
					t.Errorf("segment %d: %s has %d frames", msn, rung, len(seen))
				}
			}
			for _, f := range seen {
				n := int(math.Round(f.at * sourceRate))
				// RTMP's milliseconds are rounded by each encoder.
				if math.Abs(f.at-float64(n)/sourceRate) > 0.0025 {
					t.Errorf("segment %d: %s shows %d at %.4f s, which is no time of a frame", msn, rung, f.number, f.at)
				}
				if number, ok := shows[n]; ok && number != f.number {
					t.Fatalf("segment %d: at %.3f s %s shows %d, and others %d", msn, f.at, rung, f.number, number)
				}
				shows[n] = f.number
			}
		}
	}
	return len(common)
}

func isGap(s playlisttest.Segment) bool { return s.Gap }

// A ladderInput is what the page is told of a publication.
type ladderInput struct {
	Rendition, Role, State, Alignment, Reason string
	Skew, Lag                                 float64 // s
	Switched                                  struct{ Reason string }
}

func (r *running) inputs(t *testing.T, name string) []ladderInput {
	t.Helper()
	code, body := get(t, r.URL("/api/streams/"+name))
	if code != 200 {
		return nil
	}
	var info struct{ Inputs []ladderInput }
	if err := json.Unmarshal([]byte(body), &info); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return info.Inputs
}

// awaitSegments returns when every one of those rungs has that many segments with media.
func (r *running) awaitSegments(t *testing.T, name string, n int, rungs ...string) {
	t.Helper()
	eventually(t, startPatience, fmt.Sprintf("%s has %d segments of %v", name, n, rungs), func() bool {
		urls := r.renditions(t, name)
		for _, rung := range rungs {
			if urls[videoOf(rung)] == "" {
				return false
			}
			_, body := get(t, urls[videoOf(rung)])
			have := 0
			for _, s := range playlisttest.Parse([]byte(body)).Segments {
				if !s.Gap {
					have++
				}
			}
			if have < n {
				return false
			}
		}
		return true
	})
}
