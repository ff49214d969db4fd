package ingest

import (
	"context"
	"errors"
	"reflect"
	"regexp"
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

// The new Writer is opened after the old one's Close has returned, however long that takes within the wait.
func TestTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var events []string
		event := func(s string) { mu.Lock(); events = append(events, s); mu.Unlock() }
		g := &Gate{Takeover: true, Target: func(ctx context.Context, name string, req Request) (Writer, error) {
			event("open " + req.Remote)
			return &sink{closed: make(chan error, 1), closing: func() {
				time.Sleep(time.Second)
				event("closed " + req.Remote)
			}}, nil
		}}
		kicked := make(chan error, 1)
		old, err := g.Publish(t.Context(), Request{Name: "live/a", Remote: "1", Kick: func(r error) { kicked <- r }})
		if err != nil {
			t.Fatal(err)
		}
		go func() { old.Close(<-kicked) }()
		if _, err := g.Publish(t.Context(), Request{Name: "live/a", Remote: "2"}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(events, ", "); got != "open 1, closed 1, open 2" {
			t.Error(got)
		}
		if r := <-old.(*gateWriter).Writer.(*sink).closed; r != ErrKicked {
			t.Errorf("closed because of %v", r)
		}
		if s := g.Stats(); s != (GateStats{Live: 1, Admitted: 2, Takeovers: 1}) {
			t.Errorf("%+v", s)
		}
	})
}

// A publication that does not end refuses the newcomer, and keeps its name.
func TestTakeoverOfTheStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Gate{Takeover: true, Target: newSink}
		old, err := g.Publish(t.Context(), Request{Name: "live/a", Kick: func(error) {}})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := g.Publish(t.Context(), Request{Name: "live/a"}); !errors.Is(err, ErrInUse) {
			t.Error(err)
		}
		if d := time.Since(start); d != DefaultTakeoverWait {
			t.Errorf("waited %v", d)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		time.AfterFunc(time.Second, func() { cancel(gone) })
		if _, err := g.Publish(ctx, Request{Name: "live/a"}); err != gone {
			t.Error(err)
		}
		if s := g.Stats(); s.Live != 1 {
			t.Errorf("%+v", s)
		}
		old.Close(nil)
		if s := g.Stats(); s.Live != 0 {
			t.Errorf("%+v", s)
		}
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
			kicked := make(chan error, 100)
			w, err := g.Publish(t.Context(), Request{Name: "live/a", Kick: func(r error) {
				select {
				case kicked <- r:
				default:
				}
			}})
			if err != nil {
				return
			}
			select {
			case r := <-kicked:
				w.Close(r)
			case <-time.After(50 * time.Millisecond): // the last one is never kicked
				w.Close(nil)
			}
		})
	}
	wg.Wait()
	if s := g.Stats(); s.Live != 0 || s.Admitted == 0 {
		t.Errorf("%+v", s)
	}
}

// What is made here needs no key and gives way to whoever really publishes, also where others are refused.
func TestMake(t *testing.T) {
	g := &Gate{Target: newSink, Keys: []string{"k"}, Suffix: regexp.MustCompile("_[0-9]+p")}
	place := Rendition{"live/a", "720p"}
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
	go func() { // what makes it notices with the next sample
		for {
			if err := w.WriteSample(0, &media.Sample{}); err != nil {
				w.Close(err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	real, err := g.Publish(t.Context(), Request{Name: "live/a_720p", Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
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

// One publication that is kicked is one takeover, however many wait for its name.
func TestGateCountsTakeovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Gate{Takeover: true, Target: newSink}
		old, err := g.Publish(t.Context(), Request{Name: "live/a", Kick: func(error) {}})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { g.Publish(t.Context(), Request{Name: "live/a", Kick: func(error) {}}) })
		}
		synctest.Wait()
		old.Close(nil)
		wg.Wait()
		if s := g.Stats(); s.Takeovers != 1 || s.InUse != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// Several publications make one stream: by the end of their names, by what they ask for, or by a list.
func TestGateRenditions(t *testing.T) {
	var got Rendition
	g := &Gate{
		Suffix:     regexp.MustCompile("_[0-9]+p[0-9]*"),
		Renditions: map[string]Rendition{"live/hd": {"live/cam", "1080p"}, "live/odd_480p": {"live/odd_480p", ""}},
		Target: func(_ context.Context, name string, req Request) (Writer, error) {
			got = Rendition{name, req.Rendition}
			return newSink(t.Context(), name, req)
		},
	}
	for _, c := range []struct {
		name, rendition string
		want            Rendition
		err             error
	}{
		{"live/cam", "", Rendition{"live/cam", ""}, nil},
		{"live/cam_720p", "", Rendition{"live/cam", "720p"}, nil},
		{"live/cam_720p60", "", Rendition{"live/cam", "720p60"}, nil},
		{"live/cam_b_720p", "", Rendition{"live/cam_b", "720p"}, nil},
		{"live/cam_720p_b", "", Rendition{"live/cam_720p_b", ""}, nil},
		{"live/_720p", "", Rendition{"live/_720p", ""}, nil},
		{"live/cam2", "360p", Rendition{"live/cam2", "360p"}, nil},
		{"live/hd", "", Rendition{"live/cam", "1080p"}, nil},
		{"live/odd_480p", "", Rendition{"live/odd_480p", ""}, nil},
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
		"nothing said":       {Request{Name: "live/a"}, []media.Track{video, audio}, ",", Rendition{"live/a", ""}},
		"sound of a picture": {Request{Name: "live/a", Rendition: "720p"}, []media.Track{video, audio}, ",", Rendition{"live/a", "720p"}},
		"said":               {Request{Name: "live/a", Language: "de", Label: "Deutsch"}, []media.Track{video, audio}, "de,Deutsch", Rendition{"live/a", ""}},
		"sound alone":        {Request{Name: "live/a", Rendition: "comment"}, []media.Track{audio}, ",comment", Rendition{"live/a", "comment"}},
		"language alone":     {Request{Name: "live/a", Rendition: "x", Language: "de"}, []media.Track{audio}, "de,", Rendition{"live/a", "x"}},
		"a second track":     {Request{Name: "live/a", Track: "track1"}, []media.Track{video, audio}, ",track1", Rendition{"live/a", "track1"}},
		"of a rendition":     {Request{Name: "live/a", Rendition: "720p", Track: "track1"}, []media.Track{audio}, ",720p-track1", Rendition{"live/a", "720p-track1"}},
		"nonsense":           {Request{Name: "live/a", Language: "d\"e\n", Label: " De\x00utsch\n"}, []media.Track{video, audio}, ",Deutsch", Rendition{"live/a", ""}},
		"nothing, said":      {Request{Name: "live/a", Rendition: "x", Language: "und", Label: "\x1b"}, []media.Track{audio}, ",x", Rendition{"live/a", "x"}},
		"says it itself":     {Request{Name: "live/a", Track: "track1", Language: "de", Label: "x"}, []media.Track{named}, "fr,Fran\u00e7ais", Rendition{"live/a", "track1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &trackSink{}
			var as Rendition
			g := &Gate{Target: func(_ context.Context, stream string, req Request) (Writer, error) {
				as = Rendition{stream, req.Rendition}
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
