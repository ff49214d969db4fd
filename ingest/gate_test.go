package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"headwater/segmenter/media"
)

func TestCheckName(t *testing.T) {
	for _, c := range []struct{ name, want string }{
		{"live/demo", ""},
		{"live/demo_720p", ""},
		{"a/b", ""},
		{"Live-1.x/~Demo.", ""},
		{"live/" + strings.Repeat("a", MaxName-5), ""},
		{"live/" + strings.Repeat("a", MaxName-4), "201 bytes"},
		{"live/" + strings.Repeat("a", 10<<10), "10245 bytes"},
		{"", "it is empty"},
		{"live", "1 parts"},
		{"live/a/b", "3 parts"},
		{"/live", "part of it is empty"},
		{"live/", "part of it is empty"},
		{"live//a", "part of it is empty"},
		{"/", "part of it is empty"},
		{"live/..", "begins with a dot"},
		{"../live", "begins with a dot"},
		{"live/.hidden", "begins with a dot"},
		{"live/%2e%2e", "percent"},
		{"live/a%00", "percent"},
		{"live/a\x00", "control character 0x00"},
		{"live/a\nb", "control character 0x0a"},
		{"live/a\x7f", "control character 0x7f"},
		{"live/a b", `' '`},
		{"live/a?key=b", `'?'`},
		{"live/a\\b", `'\\'`},
		{"live/mp4:a", `':'`},
		{"live/\u00fc", "outside ASCII"},
		{"live/<script>", `'<'`},
	} {
		err := CheckName(c.name)
		if c.want == "" {
			if err != nil {
				t.Errorf("%.40q: %v", c.name, err)
			}
			continue
		}
		if !errors.Is(err, ErrBadName) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v, want %q", c.name, err, c.want)
		}
	}
}

// A sink is a Writer that says how it was closed.
type sink struct {
	closed  chan error
	closing func() // called by Close first
}

func (s *sink) SetTracks([]media.Track) error        { return nil }
func (s *sink) WriteSample(int, *media.Sample) error { return nil }
func (s *sink) Close(reason error) error {
	if s.closing != nil {
		s.closing()
	}
	s.closed <- reason
	return nil
}

func newSink(context.Context, string, Request) (Writer, error) {
	return &sink{closed: make(chan error, 1)}, nil
}

func TestKeys(t *testing.T) {
	both := &Gate{Target: newSink, Keys: []string{"any", "other", ""}, KeyByName: map[string]string{"live/a": "ka", "live/empty": ""}}
	byName := &Gate{Target: newSink, KeyByName: map[string]string{"live/a": "ka"}}
	ladder := &Gate{Target: newSink, KeyByName: map[string]string{"live/a": "ka", "live/a_360p": "k3", "live/x": "kx"},
		Suffix: regexp.MustCompile("_[0-9]+p"), Renditions: map[string]Rendition{"live/hd": {Stream: "live/a", Name: "1080p"}}}
	for _, c := range []struct {
		g         *Gate
		name, key string
		ok        bool
	}{
		{&Gate{Target: newSink}, "live/a", "", true},
		{&Gate{Target: newSink}, "live/a", "whatever", true},
		{both, "live/a", "any", true},
		{both, "live/a", "other", true},
		{both, "live/b", "any", true},
		{both, "live/a", "ka", true},
		{both, "live/b", "ka", false},
		{both, "live/b", "", false},
		{both, "live/empty", "", false},
		{both, "live/a", "Any", false},
		{both, "live/a", "any ", false},
		{byName, "live/a", "ka", true},
		{byName, "live/a", "kb", false},
		{byName, "live/b", "ka", false},
		{byName, "live/b", "", false},
		{&Gate{Target: newSink, Keys: []string{""}}, "live/a", "", false},
		{ladder, "live/a_720p", "ka", true},
		{ladder, "live/hd", "ka", true},
		{ladder, "live/a_360p", "k3", true},
		{ladder, "live/a_360p", "ka", true},
		{ladder, "live/a_720p", "k3", false},
		{ladder, "live/a_720p", "kx", false},
		{ladder, "live/b_720p", "ka", false},
		{ladder, "live/x", "ka", false},
	} {
		w, err := c.g.Publish(t.Context(), Request{Name: c.name, Key: c.key})
		if c.ok != (err == nil) || !c.ok && !errors.Is(err, ErrDenied) {
			t.Errorf("%s with %q: %v", c.name, c.key, err)
		}
		if err == nil {
			w.Close(nil)
		} else if c.key != "" && strings.Contains(err.Error(), c.key) {
			t.Errorf("the key is in %q", err)
		}
	}
	if s := both.Stats(); s.Admitted != 4 || s.Denied != 5 || s.Live != 0 {
		t.Errorf("%+v", s)
	}
}

// Without a key nobody learns what else is wrong.
func TestDeniedFirst(t *testing.T) {
	g := &Gate{Target: newSink, KeyByName: map[string]string{"live/a": "ka"}}
	for _, req := range []Request{{Name: "live/a", Rendition: "no name"}, {Name: "live/a", Role: "none"}} {
		if _, err := g.Publish(t.Context(), req); !errors.Is(err, ErrDenied) {
			t.Errorf("%+v: %v", req, err)
		}
		req.Key = "ka"
		if _, err := g.Publish(t.Context(), req); err == nil || errors.Is(err, ErrDenied) {
			t.Errorf("%+v: %v", req, err)
		}
	}
}

// Who has no key must not learn which names are live.
func TestDeniedBeforeInUse(t *testing.T) {
	g := &Gate{Target: newSink, Keys: []string{"k"}}
	if _, err := g.Publish(t.Context(), Request{Name: "live/a", Key: "k"}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Publish(t.Context(), Request{Name: "live/a"}); !errors.Is(err, ErrDenied) {
		t.Error(err)
	}
}

func TestInUse(t *testing.T) {
	g := &Gate{Target: newSink}
	a, err := g.Publish(t.Context(), Request{Protocol: "rtmp", Name: "live/a", Kick: func(error) { t.Error("kicked") }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Publish(t.Context(), Request{Protocol: "srt", Name: "live/a"}); !errors.Is(err, ErrInUse) {
		t.Errorf("second: %v", err)
	}
	if _, err := g.Publish(t.Context(), Request{Name: "live/b"}); err != nil {
		t.Errorf("another name: %v", err)
	}
	a.Close(nil)
	if _, err := g.Publish(t.Context(), Request{Name: "live/a"}); err != nil {
		t.Errorf("after the first: %v", err)
	}
	if s := g.Stats(); s != (GateStats{Live: 2, Admitted: 3, InUse: 1}) {
		t.Errorf("%+v", s)
	}
}

// A name whose Target failed, or panicked, is free.
func TestTargetFails(t *testing.T) {
	broken := errors.New("broken")
	mode := 0
	g := &Gate{Target: func(ctx context.Context, name string, req Request) (Writer, error) {
		switch mode {
		case 0:
			return nil, broken
		case 1:
			panic(broken)
		}
		return newSink(ctx, name, req)
	}}
	if _, err := g.Publish(t.Context(), Request{Name: "live/a"}); err != broken {
		t.Error(err)
	}
	mode = 1
	func() {
		defer func() { recover() }()
		g.Publish(t.Context(), Request{Name: "live/a"})
	}()
	mode = 2
	if _, err := g.Publish(t.Context(), Request{Name: "live/a"}); err != nil {
		t.Error(err)
	}
}

// A stage is a Gate with takeover whose Writers say what happens to them, in order.
type stage struct {
	Gate
	t      *testing.T
	mu     sync.Mutex
	events []string                  // protected by mu
	open   func(remote string) error // called by Target, if there is one
	write  func(string) error        // called with each event of a Writer, likewise
}

func newStage(t *testing.T) *stage {
	s := &stage{t: t}
	s.Takeover = true
	s.Target = func(_ context.Context, name string, req Request) (Writer, error) {
		s.say("%s opens", req.Remote)
		if s.open != nil {
			if err := s.open(req.Remote); err != nil {
				return nil, err
			}
		}
		return &actor{s, req.Remote}, nil
	}
	return s
}

func (s *stage) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, fmt.Sprintf(format, args...))
}

// expect waits until nobody does anything any more, and compares what has happened since it was called last.
func (s *stage) expect(want ...string) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.events, want) {
		s.t.Errorf("%q, want %q", s.events, want)
	}
	s.events = nil
}

func (s *stage) counts(want GateStats) {
	s.t.Helper()
	if got := s.Stats(); got != want {
		s.t.Errorf("%+v, want %+v", got, want)
	}
}

// publish publishes live/a and says when that is kicked.
func (s *stage) publish(remote string, change ...func(*Request)) Writer {
	s.t.Helper()
	req := Request{Name: "live/a", Remote: remote, Kick: func(reason error) { s.say("%s kicked: %v", remote, reason) }}
	for _, f := range change {
		f(&req)
	}
	w, err := s.Publish(s.t.Context(), req)
	if err != nil {
		s.t.Fatal(err)
	}
	return w
}

type actor struct {
	*stage
	name string
}

func (a *actor) do(format string, args ...any) error {
	event := a.name + " " + fmt.Sprintf(format, args...)
	a.say("%s", event)
	if a.write != nil {
		return a.write(event)
	}
	return nil
}

func (a *actor) SetTracks(tracks []media.Track) error {
	var kinds []string
	for i := range tracks {
		kinds = append(kinds, tracks[i].Kind.String())
	}
	return a.do("%v", kinds)
}
func (a *actor) WriteSample(track int, s *media.Sample) error {
	return a.do("%d at %d: %s", track, s.DTS, s.Data)
}
func (a *actor) Close(reason error) error { return a.do("closed: %v", reason) }

var (
	picture  = media.Track{Kind: media.Video, Timescale: 90000, Codec: media.Codec{Config: []byte("v")}}
	promised = media.Track{Kind: media.Video, Timescale: 90000} // by metadata
	sound    = media.Track{Kind: media.Audio, Timescale: 48000, Codec: media.Codec{Config: []byte("a")}}
)

// send writes a sample whose Data is not what it was when that has returned.
func send(w Writer, track int, dts int64, sync bool, data string) error {
	s := media.Sample{DTS: dts, Sync: sync, Data: []byte(data)}
	err := w.WriteSample(track, &s)
	clear(s.Data)
	s.DTS = -1
	return err
}

func noError(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}

const isKicked = " kicked: another publisher took over"

// The first goes on until a key frame has come from the second. What comes from there on is kept, and gets to the second's Writer,
// which is opened after the first one's has been closed, however long that takes within the wait.
func TestTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		old := s.publish("1")
		s.expect("1 opens")
		w := s.publish("2")
		noError(t, w.SetTracks([]media.Track{promised}), send(w, 0, 0, true, "no configuration"), w.SetTracks([]media.Track{picture, sound}))
		for i := range int64(100) {
			noError(t, send(w, 0, i*3000, false, "inter"), send(w, 1, i*48000, true, "sound"))
		}
		time.Sleep(time.Minute)
		noError(t, send(w, 7, 0, true, "no such track"))
		s.expect()
		noError(t, send(old, 0, 5, true, "x"))
		s.expect("1 0 at 5: x")
		s.counts(GateStats{Live: 1, Admitted: 1})

		noError(t, send(w, 0, 300000, true, "key"), send(w, 1, 160000, true, "sound"))
		s.expect("1" + isKicked)
		time.Sleep(DefaultTakeoverWait - 1)
		noError(t, w.SetTracks([]media.Track{picture}), send(w, 0, 303000, false, "inter"))
		s.expect()
		s.counts(GateStats{Live: 1, Admitted: 1})
		noError(t, old.Close(ErrKicked))
		s.expect("1 closed: another publisher took over", "2 opens", "2 [video audio]", "2 0 at 300000: key", "2 1 at 160000: sound",
			"2 [video]", "2 0 at 303000: inter")
		s.counts(GateStats{Live: 1, Admitted: 2, Takeovers: 1})

		noError(t, send(w, 0, 306000, false, "inter"), w.SetTracks(nil))
		s.expect("2 0 at 306000: inter", "2 []")
		noError(t, w.Close(nil))
		s.expect("2 closed: <nil>")
		s.counts(GateStats{Admitted: 2, Takeovers: 1})
	})
}

// Without a picture a second of sound is what there is to begin with; with one that is only announced it is not.
func TestTakeoverBySound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		old := s.publish("1")
		w := s.publish("2")
		noError(t, w.SetTracks([]media.Track{sound, promised}))
		for i := range int64(1000) {
			noError(t, send(w, 0, i*1024, true, ""))
		}
		s.expect("1 opens")
		noError(t, w.Close(nil))

		w = s.publish("3")
		noError(t, w.SetTracks([]media.Track{sound}), send(w, 0, 1000000, true, "a"))
		noError(t, send(w, 0, 5000, true, "b"), send(w, 0, 5000+47999, true, "c")) // time has begun anew
		s.expect()
		noError(t, send(w, 0, 5000+48000, true, "d"))
		s.expect("1" + isKicked)
		noError(t, old.Close(nil), send(w, 0, 5000+49024, true, "e"))
		s.expect("1 closed: <nil>", "3 opens", "3 [audio]", "3 0 at 53000: d", "3 0 at 54024: e")
		w.Close(nil)
	})
}

// A publication that does not end refuses the newcomer, and keeps its name until it does.
func TestTakeoverOfTheStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, wait := range []time.Duration{0, 7 * time.Second} {
			s := newStage(t)
			s.TakeoverWait = wait
			old := s.publish("1")
			w := s.publish("2")
			noError(t, w.SetTracks([]media.Track{picture}), send(w, 0, 0, true, ""))
			time.Sleep(cmp.Or(wait, DefaultTakeoverWait) - 1)
			synctest.Wait()
			noError(t, send(w, 0, 0, true, ""))
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			for range 2 {
				if err := send(w, 0, 0, true, ""); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "does not let go") {
					t.Error(err)
				}
				if err := w.SetTracks(nil); !errors.Is(err, ErrInUse) {
					t.Error(err)
				}
			}
			s.counts(GateStats{Live: 1, Admitted: 1, InUse: 1})
			again := s.publish("3") // before the one that has been refused has left
			if err := w.Close(nil); !errors.Is(err, ErrInUse) {
				t.Error(err)
			}
			noError(t, again.Close(nil), old.Close(nil))
			s.expect("1 opens", "1"+isKicked, "1 closed: <nil>")
			s.counts(GateStats{Admitted: 1, InUse: 1})
			s.publish("4")
			s.expect("4 opens")
		}
	})
}

// What is kept is bounded, in number and in bytes.
func TestTakeoverOverflow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		big := media.Track{Kind: media.Video, Codec: media.Codec{Config: make([]byte, 1<<20)}}
		for name, c := range map[string]struct {
			more func(w Writer) error
			fit  int // beside the tracks and the key frame
		}{
			"samples": {func(w Writer) error { return send(w, 0, 0, false, "") }, maxKeptSamples - 2},
			"bytes":   {func(w Writer) error { return w.WriteSample(0, &media.Sample{Data: make([]byte, 1<<20)}) }, maxKeptBytes>>20 - 1},
			"tracks":  {func(w Writer) error { return w.SetTracks([]media.Track{big}) }, maxKeptBytes>>20 - 1},
		} {
			s := newStage(t)
			old := s.publish("1")
			w := s.publish("2")
			noError(t, w.SetTracks([]media.Track{picture}), send(w, 0, 0, true, ""))
			synctest.Wait()
			for range c.fit {
				noError(t, c.more(w))
			}
			err := c.more(w)
			if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "more has come") {
				t.Errorf("%s: %v", name, err)
			}
			if again := c.more(w); again != err {
				t.Errorf("%s: then %v", name, again)
			}
			s.counts(GateStats{Live: 1, Admitted: 1, InUse: 1})
			w.Close(err)
			noError(t, old.Close(nil))
			s.expect("1 opens", "1"+isKicked, "1 closed: <nil>")
			s.counts(GateStats{Admitted: 1, InUse: 1})
		}
	})
}

// Who leaves before anything flows has changed nothing; who leaves after that leaves the name to others.
func TestTakeoverGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		old := s.publish("1")
		w := s.publish("2")
		noError(t, w.SetTracks([]media.Track{picture}), send(w, 0, 0, false, ""), w.Close(errors.New("lost")))
		s.expect("1 opens")
		noError(t, send(old, 0, 1, true, "x"))
		s.expect("1 0 at 1: x")
		s.counts(GateStats{Live: 1, Admitted: 1})

		w = s.publish("3")
		noError(t, w.SetTracks([]media.Track{picture}), send(w, 0, 0, true, ""))
		s.expect("1" + isKicked)
		noError(t, w.Close(nil), old.Close(ErrKicked))
		s.expect("1 closed: another publisher took over")
		s.counts(GateStats{Admitted: 1})
		s.publish("4")
		s.expect("4 opens")
	})
}

// One newcomer at a time waits for a place; and whoever has no key is told so before anything else.
func TestTakeoverQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.Keys = []string{"k"}
		key := func(r *Request) { r.Key = "k" }
		s.publish("1", key)
		w := s.publish("2", key)
		if _, err := s.Publish(t.Context(), Request{Name: "live/a", Key: "k"}); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "waits") {
			t.Error(err)
		}
		if _, err := s.Publish(t.Context(), Request{Name: "live/a", Key: "x"}); !errors.Is(err, ErrDenied) {
			t.Error(err)
		}
		noError(t, w.Close(nil))
		noError(t, s.publish("3", key).Close(nil))
		s.expect("1 opens")
		s.counts(GateStats{Live: 1, Admitted: 1, InUse: 1, Denied: 1})
	})
}

// Another track of a connection ends nobody before the first track has, and does not begin where the first has been refused.
func TestTakeoverByTracks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		track := func(first Writer) func(*Request) {
			return func(r *Request) { r.Track, r.First = "track1", first }
		}
		old := s.publish("1")
		oldTrack := s.publish("1t", track(nil))
		s.expect("1 opens", "1t opens")
		w := s.publish("2")
		wTrack := s.publish("2t", track(w))
		noError(t, w.SetTracks([]media.Track{picture}), wTrack.SetTracks([]media.Track{sound}))
		for i := range int64(100) {
			noError(t, send(w, 0, i*3000, false, "inter"), send(wTrack, 0, i*1600, true, "sound"))
		}
		s.expect()

		noError(t, send(w, 0, 300000, true, "key"))
		s.expect("1" + isKicked)
		time.Sleep(DefaultTakeoverWait)
		s.expect() // the first is stuck, and the second is refused
		if err := send(wTrack, 0, 160000, true, "sound"); !errors.Is(err, ErrInUse) {
			t.Error(err)
		}
		if _, err := s.Publish(t.Context(), Request{Name: "live/a", Track: "track2", First: w}); !errors.Is(err, ErrInUse) {
			t.Error(err)
		}
		wTrack.Close(nil)
		w.Close(nil)
		noError(t, old.Close(nil), oldTrack.Close(nil))
		s.expect("1 closed: <nil>", "1t closed: <nil>")
		if n := s.Stats().Live; n != 0 {
			t.Errorf("%d are live", n)
		}
	})
}

// A newcomer from whom nothing comes that a player can begin with makes room for others after a while, and is told why.
func TestTakeoverNeverBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		old := s.publish("1")
		w := s.publish("2")
		noError(t, w.SetTracks([]media.Track{picture}), send(w, 0, 0, false, "inter"))
		time.Sleep(beginWithin - 1)
		noError(t, send(w, 0, 1, false, "inter"))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if err := send(w, 0, 2, false, "inter"); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "key frames") {
			t.Error(err)
		}
		third := s.publish("3")
		s.expect("1 opens")
		w.Close(nil)
		noError(t, third.Close(nil), old.Close(nil))
		s.counts(GateStats{Admitted: 1, InUse: 1})
	})
}

// When the first leaves by itself the second is like any publication at once, whether or not a player could begin.
func TestTakeoverOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		old := s.publish("1")
		w := s.publish("2")
		noError(t, w.SetTracks([]media.Track{picture}), send(w, 0, 0, false, "early"), old.Close(nil))
		s.expect("1 opens", "1 closed: <nil>", "2 opens", "2 [video]")
		noError(t, send(w, 0, 1, false, "late"))
		s.expect("2 0 at 1: late")
		s.counts(GateStats{Live: 1, Admitted: 2})

		third := s.publish("3") // may take over from it in turn
		noError(t, third.SetTracks([]media.Track{picture}), send(third, 0, 0, true, "key"))
		s.expect("2" + isKicked)
		noError(t, w.Close(ErrKicked))
		s.expect("2 closed: another publisher took over", "3 opens", "3 [video]", "3 0 at 0: key")
		noError(t, third.Close(nil))
		s.counts(GateStats{Admitted: 3, Takeovers: 1})
	})
}

// A Target that fails or panics ends the newcomer, when that does something next, and its place is free.
func TestTakeoverFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		begin := func(s *stage) Writer {
			old := s.publish("1")
			s.open = func(string) error { return s.write("open") }
			w := s.publish("2")
			noError(t, w.SetTracks([]media.Track{picture}), send(w, 0, 0, true, ""))
			synctest.Wait()
			noError(t, old.Close(ErrKicked))
			synctest.Wait()
			return w
		}
		panics := func(f func()) (v any) {
			defer func() { v = recover() }()
			f()
			return nil
		}
		at := func(where string, do func() error) *stage {
			s := newStage(t)
			s.write = func(event string) error {
				if event == where {
					return do()
				}
				return nil
			}
			return s
		}
		for where, admitted := range map[string]int64{"open": 1, "2 [video]": 2, "2 0 at 0: ": 2} {
			s := at(where, func() error { return broken })
			w := begin(s)
			if err := send(w, 0, 1, true, ""); err != broken {
				t.Errorf("%s: %v", where, err)
			}
			if err := w.Close(broken); err != broken {
				t.Errorf("%s: closed with %v", where, err)
			}
			s.counts(GateStats{Admitted: admitted, Takeovers: 1, Failed: 2 - admitted})
			if closed := slices.Contains(s.events, "2 closed: broken"); closed != (admitted == 2) {
				t.Errorf("%s: %q", where, s.events)
			}

			s = at(where, func() error { panic(broken) })
			w = begin(s)
			v := panics(func() { send(w, 0, 1, true, "") })
			if text, _ := v.(string); !strings.HasPrefix(text, "broken") || !strings.Contains(text, "gate_test.go") {
				t.Errorf("%s: %v", where, v)
			}
			if v := panics(func() { w.Close(nil) }); v != nil {
				t.Errorf("%s: and then %v", where, v)
			}
			s.counts(GateStats{Admitted: admitted, Takeovers: 1})

			s = at(where, func() error { panic(broken) })
			w = begin(s)
			if v := panics(func() { w.Close(nil) }); v == nil {
				t.Errorf("%s: no panic", where)
			}
			s.counts(GateStats{Admitted: admitted, Takeovers: 1})
		}
	})
}

// Somebody may take over from a newcomer that has just got its place and is being opened.
func TestTakeoverInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		old := s.publish("1")
		var ws [2]Writer
		for i, name := range []string{"2", "3"} {
			s.open = func(string) error { time.Sleep(time.Second); return nil }
			ws[i] = s.publish(name)
			noError(t, ws[i].SetTracks([]media.Track{picture}), send(ws[i], 0, 0, true, ""))
			synctest.Wait()
			if i == 0 {
				noError(t, old.Close(ErrKicked))
				s.expect("1 opens", "1"+isKicked, "1 closed: another publisher took over", "2 opens")
			}
		}
		s.expect("2" + isKicked)
		noError(t, send(ws[0], 0, 1, false, ""), ws[0].Close(ErrKicked)) // waits for what is opened
		s.expect("2 [video]", "2 0 at 0: ", "2 0 at 1: ", "2 closed: another publisher took over", "3 opens")
		noError(t, ws[1].Close(nil))
		s.expect("3 [video]", "3 0 at 0: ", "3 closed: <nil>")
		s.counts(GateStats{Admitted: 3, Takeovers: 2})
	})
}

// The tracks of a connection take over together, and the first one begins first: the others have its times.
func TestTakeoverOfTracks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, both := range map[string]bool{"of both": true, "of the first": false} {
			s := newStage(t)
			track := func(first Writer) func(*Request) {
				return func(r *Request) { r.Track, r.First, r.Remote = "track1", first, r.Remote+"b" }
			}
			old := s.publish("1")
			var beside Writer
			if both {
				beside = s.publish("1", track(old))
			}
			w := s.publish("2")
			v := s.publish("2", track(w))
			noError(t, w.SetTracks([]media.Track{picture}), v.SetTracks([]media.Track{picture}))
			noError(t, send(v, 0, 1, true, "key"), send(w, 0, 1, true, "key"))
			s.open = func(string) error { time.Sleep(time.Second); return nil }
			synctest.Wait()
			if both {
				noError(t, beside.Close(nil))
			}
			time.Sleep(time.Second)
			noError(t, old.Close(nil))
			time.Sleep(3 * time.Second)
			synctest.Wait()
			after := slices.Index(s.events, "1 closed: <nil>")
			if got, want := s.events[after+1:], []string{"2 opens", "2 [video]", "2 0 at 1: key", "2b opens", "2b [video]", "2b 0 at 1: key"}; !slices.Equal(got, want) {
				t.Errorf("%s: %q", name, got)
			}
			noError(t, v.Close(nil), w.Close(nil))
			if n := s.Stats().Live; n != 0 {
				t.Errorf("%s: %d live", name, n)
			}
		}

		// The first does not come about: nor does what waits for it.
		s := newStage(t)
		old := s.publish("1")
		w := s.publish("2")
		v := s.publish("2", func(r *Request) { r.Track, r.First = "track1", w })
		noError(t, v.Close(nil), w.Close(nil), old.Close(nil))
		s.expect("1 opens", "1 closed: <nil>")
		s.counts(GateStats{Admitted: 1})
	})
}

// Of many newcomers one has the name at any time, and every Writer that is opened is closed before the next.
func TestTakeoverRace(t *testing.T) {
	var mu sync.Mutex
	open := 0
	change := func(d int) {
		mu.Lock()
		if open += d; open > 1 {
			t.Error("two at once")
		}
		mu.Unlock()
	}
	g := &Gate{Takeover: true, Target: func(ctx context.Context, name string, req Request) (Writer, error) {
		change(1)
		return &sink{closed: make(chan error, 1), closing: func() { change(-1) }}, nil
	}}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for range 20 {
				kicked := make(chan error, 1)
				w, err := g.Publish(t.Context(), Request{Name: "live/a", Kick: func(r error) {
					select {
					case kicked <- r:
					default:
					}
				}})
				if err != nil {
					runtime.Gosched()
					continue
				}
				err = w.SetTracks([]media.Track{picture})
				for i := 0; i < 100 && err == nil; i++ {
					select {
					case err = <-kicked:
					default:
						err = send(w, 0, int64(i), true, "")
					}
				}
				w.Close(err)
			}
		})
	}
	wg.Wait()
	if s := g.Stats(); s.Live != 0 || s.Admitted == 0 {
		t.Errorf("%+v", s)
	}
}

// After a takeover samples go through as they do without one.
func TestTakeoverCostsNothing(t *testing.T) {
	g := &Gate{Takeover: true, Target: newSink}
	old, err := g.Publish(t.Context(), Request{Name: "live/a"})
	noError(t, err)
	w, err := g.Publish(t.Context(), Request{Name: "live/a"})
	noError(t, err, w.SetTracks([]media.Track{picture}), send(w, 0, 0, true, ""), old.Close(nil))
	<-w.(*challenger).done
	var s media.Sample
	if n := testing.AllocsPerRun(100, func() { w.WriteSample(0, &s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is made here needs no key and gives way to whoever really publishes, also where others are refused.
func TestMake(t *testing.T) {
	g := &Gate{Target: newSink, Keys: []string{"k"}, Suffix: regexp.MustCompile("_[0-9]+p")}
	place := Rendition{Stream: "live/a", Name: "720p"}
	made := &sink{closed: make(chan error, 1)}
	open := func() (Writer, error) { return made, nil }
	w, err := g.Make(place, open)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Make(place, open); !errors.Is(err, ErrInUse) {
		t.Errorf("twice: %v", err)
	}
	if err := w.WriteSample(0, &media.Sample{}); err != nil {
		t.Error(err)
	}
	if s := g.Stats(); s != (GateStats{}) {
		t.Errorf("%+v", s)
	}
	if _, err := g.Publish(t.Context(), Request{Name: "live/a_720p"}); !errors.Is(err, ErrDenied) {
		t.Errorf("without a key: %v", err)
	}
	real, err := g.Publish(t.Context(), Request{Name: "live/a_720p", Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Publish(t.Context(), Request{Name: "live/a_720p", Key: "k"}); !errors.Is(err, ErrInUse) {
		t.Errorf("a second one that waits: %v", err)
	}
	if err := w.WriteSample(0, &media.Sample{}); err != nil {
		t.Errorf("before the real one's frames: %v", err)
	}
	noError(t, real.SetTracks([]media.Track{picture}), send(real, 0, 0, true, ""))
	for err = nil; err == nil; runtime.Gosched() { // what makes it notices with one of the next samples
		err = w.WriteSample(0, &media.Sample{})
	}
	w.Close(err) // from here on the place is the real one's
	if err := <-made.closed; err != ErrKicked {
		t.Errorf("closed with %v", err)
	}
	if _, err := g.Make(place, open); !errors.Is(err, ErrInUse) {
		t.Errorf("beside the real one: %v", err)
	}
	if _, err := g.Publish(t.Context(), Request{Name: "live/a_720p", Key: "k"}); !errors.Is(err, ErrInUse) {
		t.Errorf("a second real one: %v", err)
	}
	real.Close(nil)
	full := errors.New("full")
	if _, err := g.Make(place, func() (Writer, error) { return nil, full }); err != full {
		t.Error(err)
	}
	func() {
		defer func() { recover() }()
		g.Make(place, func() (Writer, error) { panic("in open") })
	}()
	if _, err := g.Make(place, open); err != nil {
		t.Errorf("after two that could not be opened: %v", err)
	}
}

// The embedded Writer is what samples go to: no lock, no allocation.
func BenchmarkGateWriteSample(b *testing.B) {
	g := &Gate{Target: newSink}
	w, err := g.Publish(b.Context(), Request{Name: "live/a"})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var s media.Sample
	for b.Loop() {
		w.WriteSample(0, &s)
	}
}

func TestGateReserved(t *testing.T) {
	g := &Gate{Target: newSink, Reserved: []string{"api"}}
	if _, err := g.Publish(context.Background(), Request{Name: "api/streams"}); !errors.Is(err, ErrBadName) {
		t.Error(err)
	}
	if _, err := g.Publish(context.Background(), Request{Name: "apis/streams"}); err != nil {
		t.Error(err)
	}
}

// Several publications make one stream: by the end of their names, by what they ask for, or by a list.
func TestGateRenditions(t *testing.T) {
	var got Rendition
	g := &Gate{
		Suffix:     regexp.MustCompile("_[0-9]+p[0-9]*"),
		Renditions: map[string]Rendition{"live/hd": {Stream: "live/cam", Name: "1080p"}, "live/odd_480p": {Stream: "live/odd_480p"}},
		Target: func(_ context.Context, name string, req Request) (Writer, error) {
			got = Rendition{Stream: name, Name: req.Rendition}
			return newSink(t.Context(), name, req)
		},
	}
	for _, c := range []struct {
		name, rendition string
		want            Rendition
		err             error
	}{
		{"live/cam", "", Rendition{Stream: "live/cam", Name: ""}, nil},
		{"live/cam_720p", "", Rendition{Stream: "live/cam", Name: "720p"}, nil},
		{"live/cam_720p60", "", Rendition{Stream: "live/cam", Name: "720p60"}, nil},
		{"live/cam_b_720p", "", Rendition{Stream: "live/cam_b", Name: "720p"}, nil},
		{"live/cam_720p_b", "", Rendition{Stream: "live/cam_720p_b", Name: ""}, nil},
		{"live/_720p", "", Rendition{Stream: "live/_720p", Name: ""}, nil},
		{"live/cam2", "360p", Rendition{Stream: "live/cam2", Name: "360p"}, nil},
		{"live/hd", "", Rendition{Stream: "live/cam", Name: "1080p"}, nil},
		{"live/odd_480p", "", Rendition{Stream: "live/odd_480p", Name: ""}, nil},
		{"live/hd", "", Rendition{}, ErrInUse},
		{"live/cam", "1080p", Rendition{}, ErrInUse},
		{"live/cam", "a/b", Rendition{}, ErrBadName},
		{"live/cam", strings.Repeat("a", MaxRendition+1), Rendition{}, ErrBadName},
	} {
		got = Rendition{}
		_, err := g.Publish(t.Context(), Request{Name: c.name, Rendition: c.rendition})
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s %s: %v, %v; want %v, %v", c.name, c.rendition, got, err, c.want, c.err)
		}
	}
	if n := g.Stats().Live; n != 9 {
		t.Errorf("%d live", n)
	}
}

type trackSink struct{ tracks []media.Track }

func (s *trackSink) SetTracks(t []media.Track) error          { s.tracks = t; return nil }
func (s *trackSink) WriteSample(_ int, _ *media.Sample) error { return nil }
func (s *trackSink) Close(error) error                        { return nil }

// What a publisher says of its audio is said of tracks that do not say it themselves; what has no name, and is not the sound of a
// picture, is called after its rendition.
func TestGateLabels(t *testing.T) {
	video, audio := media.Track{Kind: media.Video}, media.Track{Kind: media.Audio}
	named := media.Track{Kind: media.Audio, Language: "fr", Label: "Fran\u00e7ais"}
	for name, c := range map[string]struct {
		req    Request
		tracks []media.Track
		want   string // language and label of the last track
		as     Rendition
	}{
		"nothing said":       {Request{Name: "live/a"}, []media.Track{video, audio}, ",", Rendition{Stream: "live/a", Name: ""}},
		"sound of a picture": {Request{Name: "live/a", Rendition: "720p"}, []media.Track{video, audio}, ",", Rendition{Stream: "live/a", Name: "720p"}},
		"said":               {Request{Name: "live/a", Language: "de", Label: "Deutsch"}, []media.Track{video, audio}, "de,Deutsch", Rendition{Stream: "live/a", Name: ""}},
		"sound alone":        {Request{Name: "live/a", Rendition: "comment"}, []media.Track{audio}, ",comment", Rendition{Stream: "live/a", Name: "comment"}},
		"language alone":     {Request{Name: "live/a", Rendition: "x", Language: "de"}, []media.Track{audio}, "de,", Rendition{Stream: "live/a", Name: "x"}},
		"a second track":     {Request{Name: "live/a", Track: "track1"}, []media.Track{video, audio}, ",track1", Rendition{Stream: "live/a", Name: "track1"}},
		"of a rendition":     {Request{Name: "live/a", Rendition: "720p", Track: "track1"}, []media.Track{audio}, ",720p-track1", Rendition{Stream: "live/a", Name: "720p-track1"}},
		"nonsense":           {Request{Name: "live/a", Language: "d\"e\n", Label: " De\x00utsch\n"}, []media.Track{video, audio}, ",Deutsch", Rendition{Stream: "live/a", Name: ""}},
		"nothing, said":      {Request{Name: "live/a", Rendition: "x", Language: "und", Label: "\x1b"}, []media.Track{audio}, ",x", Rendition{Stream: "live/a", Name: "x"}},
		"says it itself":     {Request{Name: "live/a", Track: "track1", Language: "de", Label: "x"}, []media.Track{named}, "fr,Fran\u00e7ais", Rendition{Stream: "live/a", Name: "track1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &trackSink{}
			var as Rendition
			g := &Gate{Target: func(_ context.Context, stream string, req Request) (Writer, error) {
				as = Rendition{Stream: stream, Name: req.Rendition}
				if req.Source() != c.req.Rendition {
					t.Errorf("source %q", req.Source())
				}
				return s, nil
			}}
			w, err := g.Publish(t.Context(), c.req)
			if err != nil {
				t.Fatal(err)
			}
			before := slices.Clone(c.tracks)
			if err := w.SetTracks(c.tracks); err != nil {
				t.Fatal(err)
			}
			last := s.tracks[len(s.tracks)-1]
			if got := last.Language + "," + last.Label; got != c.want || as != c.as {
				t.Errorf("%q as %v, want %q as %v", got, as, c.want, c.as)
			}
			if !reflect.DeepEqual(before, c.tracks) {
				t.Error("the caller's tracks have changed")
			}
			if _, err := g.Publish(t.Context(), c.req); !errors.Is(err, ErrInUse) {
				t.Error(err)
			}
		})
	}
	if _, err := (&Gate{Target: newSink}).Publish(t.Context(), Request{Name: "live/a", Track: "a b"}); !errors.Is(err, ErrBadName) {
		t.Error(err)
	}
}

// The primary and the backup of a rendition are two places, and both are told what they are.
func TestRoles(t *testing.T) {
	var got []string
	g := &Gate{Target: func(_ context.Context, stream string, req Request) (Writer, error) {
		got = append(got, req.Rendition+" "+req.Role)
		return &trackSink{}, nil
	}}
	publish := func(role string) error {
		_, err := g.Publish(t.Context(), Request{Name: "live/a", Rendition: "720p", Role: role})
		return err
	}
	for _, role := range []string{"", Backup} {
		if err := publish(role); err != nil {
			t.Errorf("%q: %v", role, err)
		}
	}
	for _, role := range []string{"", Primary, Backup} {
		if err := publish(role); !errors.Is(err, ErrInUse) {
			t.Errorf("%q again: %v", role, err)
		}
	}
	if err := publish("spare"); !errors.Is(err, ErrBadName) {
		t.Errorf("another role: %v", err)
	}
	if want := []string{"720p primary", "720p backup"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
