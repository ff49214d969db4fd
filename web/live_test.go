package web

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"headwater/segmenter"
	"headwater/segmenter/media"
	"headwater/web/conns"
	"headwater/web/http1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// avcC of 1280x720 High, and an AudioSpecificConfig of 48 kHz stereo AAC-LC.
var (
	testAVCC = []byte{1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 22,
		0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0,
		1, 0, 6, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0}
	testASC = []byte{0x11, 0x90}
)

const (
	testFPS   = 30
	testGOP   = 60 // frames: two seconds
	testFrame = 800
)

// An encoder publishes one stream: 30 frames a second with a key frame every two, and 48 kHz audio.
type encoder struct {
	t       testing.TB
	origin  *segmenter.Origin
	pub     *segmenter.Publication
	stream  *segmenter.Stream
	wall    int64 // Unix ns at time 0
	frames  int
	sounds  int
	frame   []byte // a length and one NAL unit
	shuffle bool   // frames are decoded in another order than they are presented in: I P B B
}

func publish(t testing.TB, o *segmenter.Origin, name string) *encoder {
	t.Helper()
	return publishAt(t, o, name, time.Now())
}

func publishAt(t testing.TB, o *segmenter.Origin, name string, now time.Time) *encoder {
	t.Helper()
	pub, err := o.Open(name, "", now)
	if err != nil {
		t.Fatal(err)
	}
	st, ok := o.Stream(name)
	if !ok {
		t.Fatal("not registered")
	}
	e := &encoder{t: t, origin: o, pub: pub, stream: st, wall: now.UnixNano(), frame: bytes.Repeat([]byte{0x11}, testFrame)}
	binary.BigEndian.PutUint32(e.frame, testFrame-4)
	err = pub.SetTracks([]media.Track{
		{ID: 1, Kind: media.Video, Codec: media.Codec{Type: "avc1", String: "avc1.64001f", Config: testAVCC}, Timescale: 90000, Width: 1280, Height: 720},
		{ID: 2, Kind: media.Audio, Codec: media.Codec{Type: "mp4a", String: "mp4a.40.2", Config: testASC}, Timescale: 48000,
			SampleRate: 48000, Channels: 2, FrameSamples: 1024},
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// run feeds media until so many frames of video have been sent.
func (e *encoder) run(frames int) *encoder {
	e.t.Helper()
	for e.frames < frames {
		at := float64(e.frames) / testFPS
		for float64(e.sounds)*1024/48000 <= at {
			s := media.Sample{DTS: int64(e.sounds) * 1024, Sync: true, Arrived: e.arrived(at), Data: e.frame[:min(300, len(e.frame))]}
			if err := e.pub.WriteSample(1, &s); err != nil {
				e.t.Fatal(err)
			}
			e.sounds++
		}
		s := media.Sample{DTS: ticks(e.frames), Sync: e.frames%testGOP == 0, Arrived: e.arrived(at), Data: e.frame}
		if e.frame[4] = 0x41; s.Sync {
			e.frame[4] = 0x65
		}
		if e.shuffle {
			s.CTO = int32(ticks(e.shown()+1) - s.DTS)
		}
		if err := e.pub.WriteSample(0, &s); err != nil {
			e.t.Fatal(err)
		}
		e.frames++
	}
	return e
}

// ticks is when a frame is decoded: RTMP has milliseconds.
func ticks(frame int) int64 { return int64(math.Round(float64(frame)/testFPS*1000)) * 90 }

// shown is the place of the next frame in the order of presentation.
func (e *encoder) shown() int {
	switch k := e.frames % testGOP; {
	case k == 0 || k > (testGOP-1)/3*3:
		return e.frames
	case k%3 == 1:
		return e.frames + 2
	}
	return e.frames - 1
}

func (e *encoder) arrived(at float64) int64 { return e.wall + int64(at*1e9) }

// part feeds until the video rendition has one more part.
func (e *encoder) part() {
	e.t.Helper()
	before := e.video().Stats().Parts
	for e.video().Stats().Parts == before {
		e.run(e.frames + 1)
	}
}

// segment feeds until the video rendition has one more segment.
func (e *encoder) segment() {
	e.t.Helper()
	before := e.video().Window().LastMSN()
	for e.video().Window().LastMSN() == before {
		e.run(e.frames + 1)
	}
}

func (e *encoder) video() *segmenter.Rendition { return e.rendition("video") }
func (e *encoder) audio() *segmenter.Rendition { return e.rendition("audio") }

func (e *encoder) rendition(id string) *segmenter.Rendition {
	e.t.Helper()
	r, ok := e.stream.Run().Rendition(id)
	if !ok {
		e.t.Fatalf("no rendition %s", id)
	}
	return r
}

// dir is the URL path of a rendition, with a slash at its end.
func (e *encoder) dir(id string) string {
	return "/" + e.stream.Name + "/" + e.stream.Run().ID + "/" + id + "/"
}

// end ends the run as a publisher that leaves for good does.
func (e *encoder) end() {
	e.t.Helper()
	if err := e.pub.Close(nil); err != nil {
		e.t.Fatal(err)
	}
	now := time.Now()
	e.origin.Tick(now)
	e.origin.Tick(now.Add(time.Hour))
	if !e.stream.Run().Ended() {
		e.t.Fatal("the run has not ended")
	}
}

// newLive returns a server and a stream live/demo with eight seconds of media and a little more.
func newLive(t testing.TB) (*Server, *encoder) {
	t.Helper()
	s := &Server{Origin: &segmenter.Origin{}}
	return s, publish(t, s.Origin, "live/demo").run(4*testGOP + 25)
}

// listen serves the media port on loopback and returns its URL.
func listen(t testing.TB, s *Server) (url string, srv *http1.Server) {
	t.Helper()
	return listenWith(t, s, func(*http.Server) {})
}

// listenWith is listen with other settings of net/http.
func listenWith(t testing.TB, s *Server, change func(*http.Server)) (string, *http1.Server) {
	t.Helper()
	srv := s.PlainServer(s.Handler())
	change(srv.HTTP)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := &conns.Port{Limit: &conns.Limit{Max: 100_000}}
	port.Limit.Watch(srv.HTTP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.Serve(port.Listen(ln, true, nil))
	}()
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		srv.Close()
		<-done
		eventually(t, "connections are closed", func() bool { return port.Stats().Open == 0 })
	})
	return "http://" + ln.Addr().String(), srv
}

// A reply is a response read to its end.
type reply struct {
	*http.Response
	body string
}

func (r *reply) header(k string) string { return r.Header.Get(k) }

// ask sends one request; headers are "Name: value".
func ask(t testing.TB, method, url string, headers ...string) *reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "identity")
	setHeaders(req.Header, headers)
	resp, err := http.DefaultTransport.RoundTrip(req) // which does not follow redirects
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &reply{resp, string(body)}
}

func setHeaders(h http.Header, headers []string) {
	for _, kv := range headers {
		k, v, _ := strings.Cut(kv, ": ")
		h.Del(k)
		if v != "" {
			h.Add(k, v)
		}
	}
}

// call sends one request to a handler, for tests in a bubble, where there is no network.
func call(ctx context.Context, h http.Handler, method, target string, headers ...string) *reply {
	r := httptest.NewRequestWithContext(ctx, method, target, nil)
	setHeaders(r.Header, headers)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	resp := w.Result()
	return &reply{resp, w.Body.String()}
}
