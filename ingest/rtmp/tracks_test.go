package rtmp

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"headwater/ingest"
	"headwater/segmenter/media"
)

// A desk is a Publisher that says what happens, in order, and asks before it lets a track begin.
type desk struct {
	events chan string
	ask    func(ctx context.Context, req ingest.Request) error // nil: always
}

func newDesk() *desk { return &desk{events: make(chan string, 1000)} }

// target is a Gate's Target.
func (d *desk) target(ctx context.Context, name string, req ingest.Request) (ingest.Writer, error) {
	if d.ask != nil {
		if err := d.ask(ctx, req); err != nil {
			return nil, err
		}
	}
	w := &deskWriter{name + ":" + req.Rendition, d.events}
	w.say("began beside %q, key %q, %s, kick %v", req.Source(), req.Key, req.Protocol, req.Kick != nil && req.Remote != "")
	if req.Language != "" || req.Label != "" {
		w.say("speaks %s, %q", req.Language, req.Label)
	}
	return w, nil
}

type deskWriter struct {
	name   string
	events chan string
}

func (w *deskWriter) say(format string, args ...any) {
	w.events <- w.name + " " + fmt.Sprintf(format, args...)
}

func (w *deskWriter) SetTracks(tracks []media.Track) error {
	var s []string
	for _, t := range tracks {
		s = append(s, t.Codec.String)
	}
	w.say("%v", s)
	return nil
}
func (w *deskWriter) WriteSample(i int, s *media.Sample) error {
	w.say("%d at %d", i, s.DTS)
	return nil
}
func (w *deskWriter) Close(reason error) error { w.say("ended: %v", reason); return nil }

// expect waits for the next events.
func (d *desk) expect(t testing.TB, want ...string) {
	t.Helper()
	var got []string
	for range want {
		select {
		case e := <-d.events:
			got = append(got, e)
		case <-time.After(30 * time.Second):
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

// Bodies, in hexadecimal, of a multitrack configuration and frames: two video tracks and two audio tracks, of IDs 0 and 1.
const (
	avcC        = "0142c00dffe100186742c00dd90141fb011000000300100000030320f142a48001000568cb83cb20"
	oneVideo    = "1700000000" + avcC
	onePicture  = "1701000000" + "00000003658888"
	twoVideo    = "9610" + "61766331" + "00000028" + avcC + "01000028" + avcC
	twoAudio    = "9510" + "6d703461" + "00000002" + "1190" + "01000002" + "1190"
	twoPictures = "9613" + "61766331" + "00000007" + "00000003658888" + "01000007" + "00000003658888"
	twoFrames   = "9511" + "6d703461" + "00000001" + "21" + "01000001" + "21"
)

func (p *peer) media(typ uint8, body string) {
	b, err := hex.DecodeString(body)
	if err != nil {
		p.t.Fatal(err)
	}
	p.send(appendMessage(nil, 4, typ, 1, b, defaultChunkSize))
}

// two publishes two tracks of each kind.
func (p *peer) two() {
	p.media(typeVideo, twoVideo)
	p.media(typeAudio, twoAudio)
	p.media(typeVideo, twoPictures)
	p.media(typeAudio, twoFrames)
}

const beganFirst, beganSecond = `live/cam: began beside "", key "k", rtmp, kick true`, `live/cam:track1 began beside "", key "k", rtmp, kick true`

var played = []string{
	beganFirst,
	"live/cam: [avc1.42c00d]", beganSecond, "live/cam:track1 [avc1.42c00d]",
	"live/cam: [avc1.42c00d mp4a.40.2]", "live/cam:track1 [avc1.42c00d mp4a.40.2]",
	"live/cam: 0 at 0", "live/cam:track1 0 at 0", "live/cam: 1 at 0", "live/cam:track1 1 at 0",
}

func newTrackServer(d *desk, g *ingest.Gate) testServer {
	s := newServer()
	g.Target = d.target
	s.Demux, s.Publisher = nil, g
	return s
}

// A connection with two tracks of each kind is two publications, which begin and end together (Enhanced RTMP v2).
func TestMultitrack(t *testing.T) {
	d := newDesk()
	s := newTrackServer(d, &ingest.Gate{Keys: []string{"k"}})
	addr, _ := serve(t, s.Server)
	p := dialAddr(t, addr).hello().connect().publish("cam?key=k")
	p.two()
	d.expect(t, played...)
	p.command(0, "deleteStream", 9, nil, 1)
	d.expect(t, "live/cam:track1 ended: <nil>", "live/cam: ended: <nil>")
	p.expect("1:onStatus 0 <nil> status NetStream.Unpublish.Success")

	// And again on the same connection; this time it is lost.
	p.command(1, "publish", 3, nil, "cam?key=k", "live")
	p.expect(startOnStream)
	p.two()
	d.expect(t, played...)
	p.nc.Close()
	d.expect(t, "live/cam:track1 ended: "+errLost.Error(), "live/cam: ended: "+errLost.Error())
	if st := s.Stats(); st.Tags.LeftOut != 0 {
		t.Errorf("%+v", st)
	}
}

// A rendition's tracks are beside that rendition.
func TestMultitrackRendition(t *testing.T) {
	d := newDesk()
	s := newTrackServer(d, &ingest.Gate{})
	addr, _ := serve(t, s.Server)
	p := dialAddr(t, addr).hello().connect().publish("cam?rendition=720p")
	p.media(typeAudio, twoAudio)
	d.expect(t, `live/cam:720p began beside "720p", key "", rtmp, kick true`, "live/cam:720p [mp4a.40.2]",
		`live/cam:720p-track1 began beside "720p", key "", rtmp, kick true`, "live/cam:720p-track1 [mp4a.40.2]")
}

// What the address says of the audio is said of the first track only.
func TestMultitrackLanguage(t *testing.T) {
	d := newDesk()
	s := newTrackServer(d, &ingest.Gate{})
	addr, _ := serve(t, s.Server)
	dialAddr(t, addr).hello().connect().publish("cam?language=de&label=Deutsch").media(typeAudio, twoAudio)
	d.expect(t, `live/cam: began beside "", key "", rtmp, kick true`, `live/cam: speaks de, "Deutsch"`, "live/cam: [mp4a.40.2]",
		`live/cam:track1 began beside "", key "", rtmp, kick true`, "live/cam:track1 [mp4a.40.2]")
}

// An encoder that reconnects takes over all of its tracks, of which the first begins first.
func TestMultitrackTakeover(t *testing.T) {
	d := newDesk()
	s := newTrackServer(d, &ingest.Gate{Keys: []string{"k"}, Takeover: true})
	addr, _ := serve(t, s.Server)
	dialAddr(t, addr).hello().connect().publish("cam?key=k").two()
	d.expect(t, played...)
	dialAddr(t, addr).hello().connect().publish("cam?key=k").two()
	kicked := ingest.ErrKicked.Error()
	d.expect(t, "live/cam:track1 ended: "+kicked, "live/cam: ended: "+kicked, beganFirst)
	var first, second []string
	for range 6 + 1 {
		switch e := <-d.events; {
		case strings.HasPrefix(e, "live/cam: "):
			first = append(first, e)
		default:
			second = append(second, e)
		}
	}
	const both = "[avc1.42c00d mp4a.40.2]"
	if want := []string{"live/cam: " + both, "live/cam: 0 at 0", "live/cam: 1 at 0"}; !slices.Equal(first, want) {
		t.Errorf("%q, want %q", first, want)
	}
	if want := []string{beganSecond, "live/cam:track1 " + both, "live/cam:track1 0 at 0", "live/cam:track1 1 at 0"}; !slices.Equal(second, want) {
		t.Errorf("%q, want %q", second, want)
	}
}

// A track whose place is taken is left out, and the others go on.
func TestMultitrackRefused(t *testing.T) {
	d := newDesk()
	g := &ingest.Gate{Keys: []string{"k"}}
	s := newTrackServer(d, g)
	addr, _ := serve(t, s.Server)
	dialAddr(t, addr).hello().connect().publish("cam?key=k&rendition=track1")
	d.expect(t, `live/cam:track1 began beside "track1", key "k", rtmp, kick true`)
	p := dialAddr(t, addr).hello().connect().publish("cam?key=k")
	p.two()
	d.expect(t, beganFirst, "live/cam: [avc1.42c00d]", "live/cam: [avc1.42c00d mp4a.40.2]", "live/cam: 0 at 0", "live/cam: 1 at 0")
	if log := s.log.String(); strings.Count(log, "track left out") != 1 || !strings.Contains(log, "stream=live/cam track=1 reason=\"somebody else") ||
		strings.Contains(log, "=k") {
		t.Error(log)
	}
	p.command(0, "deleteStream", 9, nil, 1)
	d.expect(t, "live/cam: ended: <nil>")
	if st, gate := s.Stats(), g.Stats(); st.Tags.LeftOut != 1 || st.Refused != 0 || gate.InUse != 1 || gate.Admitted != 2 {
		t.Errorf("%+v %+v", st, gate)
	}
}

// A codec that is not taken leaves its track out, and garbage in one track ends the connection.
func TestMultitrackBadTrack(t *testing.T) {
	d := newDesk()
	s := newTrackServer(d, &ingest.Gate{})
	addr, _ := serve(t, s.Server)
	p := dialAddr(t, addr).hello().connect().publish("cam")
	p.media(typeAudio, "9520"+"6d703461"+"00000002"+"1190"+"4f707573"+"01000001"+"00")
	p.media(typeAudio, twoFrames)
	d.expect(t, `live/cam: began beside "", key "", rtmp, kick true`, "live/cam: [mp4a.40.2]", "live/cam: 0 at 0")
	p.media(typeVideo, "9600"+"61766331"+"01"+"0142c0")
	p.expect("1:onStatus 0 <nil> error NetStream.Publish.Rejected")
	d.expect(t, "live/cam: ended: AVC configuration record: is 3 bytes long, the shortest is 7")
	if st := s.Stats(); st.Tags.LeftOut != 1 {
		t.Errorf("%+v", st)
	}
}

// While a track waits to be opened, the other connections of the same Poller are served.
func TestMultitrackOpensBeside(t *testing.T) {
	d := newDesk()
	others := make(chan bool)
	d.ask = func(ctx context.Context, req ingest.Request) error {
		if req.Track == "" {
			return nil
		}
		select {
		case <-others:
			return nil
		case <-time.After(30 * time.Second):
			return errors.New("nobody else is served")
		}
	}
	s := newTrackServer(d, &ingest.Gate{})
	addr, _ := serve(t, s.Server)
	other := dialAddr(t, addr).hello().connect().publish("other")
	d.expect(t, `live/other: began beside "", key "", rtmp, kick true`)
	p := dialAddr(t, addr).hello().connect().publish("cam")
	d.expect(t, `live/cam: began beside "", key "", rtmp, kick true`)
	p.media(typeAudio, "af001190")
	d.expect(t, "live/cam: [mp4a.40.2]")
	other.media(typeAudio, "af001190")
	d.expect(t, "live/other: [mp4a.40.2]")
	for range 50 { // until the Poller has both
		p.media(typeAudio, "af0121")
		d.expect(t, "live/cam: 0 at 0")
		other.media(typeAudio, "af0121")
		d.expect(t, "live/other: 0 at 0")
	}
	p.media(typeAudio, twoAudio)
	other.media(typeAudio, "af0121")
	d.expect(t, "live/other: 0 at 0")
	close(others)
	d.expect(t, `live/cam:track1 began beside "", key "", rtmp, kick true`, "live/cam:track1 [mp4a.40.2]")
	p.media(typeAudio, twoFrames)
	d.expect(t, "live/cam: 0 at 0", "live/cam:track1 0 at 0")
}

// While the log takes its time over a track that is left out, the other connections of the same Poller are served.
func TestMultitrackLogsBeside(t *testing.T) {
	d := newDesk()
	s := newTrackServer(d, &ingest.Gate{})
	slow := &slowLog{Handler: s.Log.Handler(), others: make(chan bool)}
	s.Log = slog.New(slow)
	addr, _ := serve(t, s.Server)
	other := dialAddr(t, addr).hello().connect().publish("other")
	d.expect(t, `live/other: began beside "", key "", rtmp, kick true`)
	p := dialAddr(t, addr).hello().connect().publish("cam")
	d.expect(t, `live/cam: began beside "", key "", rtmp, kick true`)
	p.media(typeAudio, "af001190")
	d.expect(t, "live/cam: [mp4a.40.2]")
	other.media(typeAudio, "af001190")
	d.expect(t, "live/other: [mp4a.40.2]")
	for range 50 { // until the Poller has both
		p.media(typeAudio, "af0121")
		d.expect(t, "live/cam: 0 at 0")
		other.media(typeAudio, "af0121")
		d.expect(t, "live/other: 0 at 0")
	}
	p.media(typeAudio, "9500"+"4f707573"+"01"+"00")
	other.media(typeAudio, "af0121")
	d.expect(t, "live/other: 0 at 0")
	close(slow.others)
	p.media(typeAudio, "af0121")
	d.expect(t, "live/cam: 0 at 0")
	if slow.late.Load() {
		t.Error("nobody else was served meanwhile")
	}
}

// A slowLog takes no line about a track before others is closed.
type slowLog struct {
	slog.Handler
	others chan bool
	late   atomic.Bool
}

func (l *slowLog) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "track left out") {
		select {
		case <-l.others:
		case <-time.After(10 * time.Second):
			l.late.Store(true)
		}
	}
	return l.Handler.Handle(ctx, r)
}

// The time that opening takes does not count as the peer's silence.
func TestMultitrackOpensSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk()
		d.ask = func(ctx context.Context, req ingest.Request) error {
			if req.Track != "" {
				time.Sleep(2 * DefaultIdleTimeout)
			}
			return nil
		}
		s := newTrackServer(d, &ingest.Gate{})
		p := dial(t, s.Server).hello().connect().publish("cam")
		p.media(typeAudio, twoAudio)
		p.media(typeAudio, twoFrames)
		d.expect(t, `live/cam: began beside "", key "", rtmp, kick true`, "live/cam: [mp4a.40.2]",
			`live/cam:track1 began beside "", key "", rtmp, kick true`, "live/cam:track1 [mp4a.40.2]", "live/cam: 0 at 0", "live/cam:track1 0 at 0")
		time.Sleep(DefaultIdleTimeout / 2)
		p.media(typeAudio, twoFrames)
		d.expect(t, "live/cam: 0 at 0", "live/cam:track1 0 at 0")
		p.hangUp()
	})
}

// A data message's timestamp is on the line of the media's and does not move it: many encoders send metadata with 0.
func TestDataTimestamp(t *testing.T) {
	s := newServer()
	p := dial(t, s.Server).hello().connect().publish("demo")
	at := func(typ uint8, ts uint32) {
		p.pieces(piece{csid: 4, time: noTimestamp, ext: ts, length: 1, typ: typ, stream: 1, data: "x"})
	}
	at(typeDataAMF0, 3_000_000_000)
	at(typeVideo, 4_294_967_290)
	at(typeDataAMF0, 4)
	at(typeVideo, 10)
	at(typeDataAMF0, 2_000_000_000)
	at(typeVideo, 50)
	p.hangUp()
	const wrap = 1 << 32
	if d := cmp.Diff([]call{{"data", 3_000_000_000, "x"}, {"video", wrap - 6, "x"}, {"data", wrap + 4, "x"}, {"video", wrap + 10, "x"},
		{"data", wrap + 2_000_000_000, "x"}, {"video", wrap + 50, "x"}}, s.rec.calls); d != "" {
		t.Error(d)
	}

	// Nor does it begin the line: a publication may begin shortly before the wrap.
	s = newServer()
	p = dial(t, s.Server).hello().connect().publish("demo")
	at(typeDataAMF0, 0)
	at(typeVideo, 4_294_967_290)
	p.hangUp()
	if d := cmp.Diff([]call{{"data", 0, "x"}, {"video", wrap - 6, "x"}}, s.rec.calls); d != "" {
		t.Error(d)
	}
}
