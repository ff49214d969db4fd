package segmenter

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"headwater/segmenter/media"
)

// A rung is one of several encoders of one live source. Frame n of the source is in every rung; its number is in the size of
// its sample, so that what is presented when can be read back from the parts.
type rung struct {
	*feed
	name  string
	from  float64 // joins, seconds of the source
	to    float64 // leaves; 0: never
	lag   float64 // arrives so much later, s
	every int     // takes every n-th frame of the source
	late  bool    // has left
	clock float64 // 0: the stream does not say what the time is; else at the source's frame 0, s of the day

	backup bool       // of its rung
	silent [2]float64 // sends nothing between these, s, and never sends that

	pending *feed // what the encoder will be when it joins; nil: the usual
}

const sourceRate = 30

// ladder runs encoders of one source side by side, in the order in which their samples arrive, for so many seconds.
func ladder(t *testing.T, o *Origin, seconds float64, rungs ...*rung) {
	t.Helper()
	wall := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ticked := wall
	for {
		var next *rung
		var video bool
		first := math.Inf(1)
		for _, r := range rungs {
			if r.late {
				continue
			}
			v, a := float64(0), math.Inf(1)
			if r.feed == nil {
				v = r.from
			} else {
				if v = float64(r.frames) / sourceRate; r.video < 0 {
					v = math.Inf(1)
				}
				if r.audio >= 0 {
					a = float64(r.audios) * 1024 / 48000
				}
			}
			if at := min(v, a) + r.lag; at < first {
				first, next, video = at, r, v <= a
			}
		}
		if next == nil || first >= seconds {
			return
		}
		if next.feed == nil {
			if next.open(t, o, wall); next.video < 0 {
				continue
			}
		}
		if next.to > 0 && first-next.lag >= next.to {
			next.late = true
			if err := next.pub.Close(errors.New("reset")); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if at := first - next.lag; at >= next.silent[0] && at < next.silent[1] {
			if video {
				next.frames += max(next.every, 1)
			} else {
				next.audios++
			}
			continue
		}
		if video {
			next.picture()
		} else {
			next.sound()
		}
		if now := wall.Add(time.Duration(first * 1e9)); now.Sub(ticked) >= time.Second {
			ticked = now
			o.Tick(now)
		}
	}
}

func (r *rung) open(t *testing.T, o *Origin, wall time.Time) {
	begin := o.Open
	if r.backup {
		begin = o.OpenBackup
	}
	pub, err := begin("live/a", r.name, wall.Add(time.Duration(r.from*1e9)))
	if err != nil {
		t.Fatal(err)
	}
	f := r.pending
	if f == nil {
		f = &feed{fps: sourceRate, gop: 60, depth: 2, audio: 1, speed: 1}
	}
	if f.beside {
		pub.Share("")
	}
	f.t, f.pub, f.wall = t, pub, wall.UnixNano()+int64(r.lag*1e9)
	f.frames, f.audios = int(math.Ceil(r.from*sourceRate)), int(math.Ceil(r.from*48000/1024))
	for f.frames%max(r.every, 1) != 0 {
		f.frames++
	}
	first := f.frames
	keyAt := f.keyAt
	f.keyAt = func(n int) bool { return n == first || keyAt != nil && keyAt(n) || n%f.gop == 0 }
	f.payload = make([]byte, 1<<15)
	r.feed = f
	f.tracks()
}

func (r *rung) picture() {
	f := r.feed
	n := f.frames
	f.frames += max(r.every, 1)
	// A frame of the source is presented at the same time in all, and decoded sooner the deeper they reorder.
	cto := int64(math.Round(float64(f.depth*max(r.every, 1))/sourceRate*1000)) * 90
	ms := f.base + 200 + int64(math.Round(float64(n)/sourceRate*1000))
	if f.jitter != nil {
		ms += f.jitter(n)
	}
	key := f.keyAt(n)
	s := media.Sample{DTS: ms*90 - cto, CTO: int32(cto), Sync: key, Arrived: f.at(float64(n) / sourceRate), Data: f.payload[:1000+n]}
	if at := r.clock + float64(n)/sourceRate; r.clock > 0 && key {
		s.Clock = int64(math.Round(math.Mod(at, 86400)*1000)) * 1e6
	}
	if err := f.pub.WriteSample(0, &s); err != nil {
		f.t.Fatalf("%s: frame %d: %v", r.name, n, err)
	}
}

// shown returns, by Media Sequence Number, what the source's time is minus the presentation time, of every sample, s.
func shown(x *watcher) map[uint64][]float64 {
	out := map[uint64][]float64{}
	for _, s := range x.segs {
		for _, p := range s.Parts {
			at := p.Time
			for _, row := range p.Samples {
				out[s.MSN] = append(out[s.MSN], float64(row.Size-1000)/sourceRate-float64(at+int64(row.CTO))/90000)
				at += int64(row.Duration)
			}
		}
	}
	return out
}

// sameTimes holds what is true of the video renditions of a ladder: a segment is at the same time in all, to the tick, and what
// is presented then is the same frame of the source.
func sameTimes(t *testing.T, half float64, keyed bool, xs ...*watcher) {
	t.Helper()
	all := map[uint64]*Segment{}
	for _, x := range xs {
		for _, s := range x.segs {
			u := all[s.MSN]
			if u == nil {
				all[s.MSN] = s
				continue
			}
			if s.Start != u.Start || s.Duration != u.Duration || s.Time != u.Time || s.DiscSeq != u.DiscSeq || s.Discontinuity != u.Discontinuity {
				t.Errorf("%s: segment %d from %d for %d at %d (%d), elsewhere from %d for %d at %d (%d) (RFC 8216bis 6.2.4)",
					x.r.ID, s.MSN, s.Start, s.Duration, s.Time, s.DiscSeq, u.Start, u.Duration, u.Time, u.DiscSeq)
			}
			if !s.Gap && !s.Independent && keyed {
				t.Errorf("%s: segment %d does not begin with a key frame", x.r.ID, s.MSN)
			}
		}
	}
	ref := map[uint64]float64{}
	for _, x := range xs {
		for msn, ds := range shown(x) {
			for _, d := range ds {
				if r, ok := ref[msn]; !ok {
					ref[msn] = d
				} else if math.Abs(d-r) > half {
					t.Errorf("%s: segment %d shows a frame %.3f s off", x.r.ID, msn, d-r)
					break
				}
			}
		}
	}
}

func watchAll(t *testing.T, o *Origin, ids ...string) []*watcher {
	t.Helper()
	var xs []*watcher
	for _, id := range ids {
		xs = append(xs, watch(t, rendition(t, o, "live/a", id)))
	}
	return xs
}

func media0(x *watcher) (n int) {
	for _, s := range x.segs {
		if !s.Gap {
			n++
		}
	}
	return n
}

// Three pushes of one source form one ladder, whenever they join, with whatever time base, lag, reordering and frame rate.
func TestLadder(t *testing.T) {
	long := Config{PartTarget: DefaultPartTarget, WindowSegments: 100}
	with := func(set func(f *feed)) *feed {
		f := &feed{fps: sourceRate, gop: 60, depth: 2, audio: 1, speed: 1}
		set(f)
		return f
	}
	restart := func(from float64) func(f *feed) {
		return func(f *feed) { f.base = -int64(math.Ceil(from*sourceRate) / sourceRate * 1000) }
	}
	for name, c := range map[string]struct {
		rungs []*rung
		by    Evidence
		media int // segments that the joining rungs must have at least, of 14
	}{
		"together": {by: SharedBase, media: 13, rungs: []*rung{{name: "1080p"}, {name: "720p"}, {name: "480p"}}},
		"joining": {by: SharedBase, media: 11, rungs: []*rung{{name: "1080p"},
			{name: "720p", from: 1.3}, {name: "480p", from: 4}}},
		"restarting at 0": {by: Assumed, media: 9, rungs: []*rung{{name: "1080p"},
			{name: "720p", from: 1.3, pending: with(restart(1.3))}, {name: "480p", from: 3.7, pending: with(restart(3.7))}}},
		"lagging": {by: SharedBase, media: 13, rungs: []*rung{{name: "1080p"},
			{name: "720p", lag: 0.2}, {name: "480p", lag: 0.35}}},
		"leader lagging": {by: SharedBase, media: 11, rungs: []*rung{{name: "1080p", lag: 0.2},
			{name: "720p", from: 1}, {name: "480p", from: 1.1, pending: with(func(f *feed) { f.depth = 0 })}}},
		"beginning at 0 one after another": {by: Assumed, media: 9, rungs: []*rung{{name: "1080p"},
			{name: "720p", from: 0.4, pending: with(restart(0.4))}, {name: "480p", from: 0.9, pending: with(restart(0.9))}}},
		"lagging and restarting": {by: Assumed, media: 9, rungs: []*rung{{name: "1080p"},
			{name: "720p", from: 1.3, lag: 0.2, pending: with(restart(1.3))}, {name: "480p", from: 2.6, lag: 0.1, pending: with(restart(2.6))}}},
		"restarting, with the time": {by: Embedded, media: 12, rungs: []*rung{{name: "1080p", clock: 3600},
			{name: "720p", from: 1.3, clock: 3600, pending: with(restart(1.3))}, {name: "480p", from: 1.7, lag: 1.1, clock: 3600, pending: with(restart(1.7))}}},
		"at midnight": {by: Embedded, media: 10, rungs: []*rung{{name: "1080p", clock: 86396},
			{name: "720p", from: 3.3, clock: 86396, pending: with(restart(3.3))}, {name: "480p", from: 4.7, clock: 86396, pending: with(restart(4.7))}}},
		"with the wrong time": {by: Assumed, media: 9, rungs: []*rung{{name: "1080p", clock: 3600},
			{name: "720p", from: 1.3, clock: 3600.4, pending: with(restart(1.3))}, {name: "480p", from: 3.7, clock: 7200, pending: with(restart(3.7))}}},
		"two frames late": {by: Assumed, media: 9, rungs: []*rung{{name: "1080p"},
			{name: "720p", from: 0.1, pending: with(func(f *feed) { f.base = 67 })}, {name: "480p", from: 0.2, pending: with(func(f *feed) { f.base = 133 })}}},
		"multiplexed from decode time 0": {by: SharedBase, media: 13, rungs: []*rung{{name: "1080p"},
			{name: "720p", pending: with(func(f *feed) { f.depth, f.base = 0, -67 })}, {name: "480p", pending: with(func(f *feed) { f.depth, f.base = 1, -33 })}}},
		"half the frames": {by: SharedBase, media: 13, rungs: []*rung{{name: "1080p"},
			{name: "720p", every: 2, pending: with(func(f *feed) { f.fps = 15 })}, {name: "480p"}}},
		"reordered otherwise": {by: SharedBase, media: 13, rungs: []*rung{{name: "1080p"},
			{name: "720p", pending: with(func(f *feed) { f.depth = 2; f.jitter = func(n int) int64 { return int64(n % 2) } })}, {name: "480p"}}},
		"key frames at scene cuts too": {by: SharedBase, media: 11, rungs: []*rung{
			{name: "1080p", pending: with(func(f *feed) { f.keyAt = func(n int) bool { return n%97 == 50 } })}, {name: "720p"},
			{name: "480p", from: 0.5}}},
		"more key frames in the leader": {by: SharedBase, media: 10, rungs: []*rung{
			{name: "1080p", pending: with(func(f *feed) { f.gop = 30 })}, {name: "720p", from: 1.5}, {name: "480p", from: 1.5}}},
	} {
		t.Run(name, func(t *testing.T) {
			o := origin(long)
			ladder(t, o, 30, c.rungs...)
			xs := watchAll(t, o, "video_1080p", "video_720p", "video_480p")
			for _, x := range xs {
				x.checkParts(long, false)
			}
			sameTimes(t, 0.5/sourceRate, true, xs...)
			st, _ := o.Stream("live/a")
			for _, x := range xs[1:] {
				if n := media0(x); n < c.media {
					t.Errorf("%s has %d segments with media of %d: %+v", x.r.ID, n, len(x.segs), inputs(st))
				}
				if w := st.Run().Renditions(); len(w) != 4 {
					t.Errorf("%d renditions", len(w))
				}
			}
			for _, in := range st.Status().Inputs {
				if in.State == Following && in.By != c.by && in.By != Leads {
					t.Errorf("%s is aligned by %q, want %q", in.Rung, in.By, c.by)
				}
				if in.State != Following && in.State != Leading {
					t.Errorf("%s is %s: %s", in.Rung, in.State, in.Reason)
				}
			}
			if !st.Run().IsReady() {
				t.Error("not ready")
			}
		})
	}
}

func inputs(st *Stream) (out []string) {
	for _, in := range st.Status().Inputs {
		out = append(out, fmt.Sprintf("%s %s by %s, %v %v: %s", in.Rung, in.State, in.By, in.Skew, in.Lag, in.Reason))
	}
	return out
}

// Audio that is the same in several publications is one rendition, whoever comes first; audio that is something else has one of
// its own, and so has every track that comes beside the first of a connection.
func TestLadderAudio(t *testing.T) {
	type push struct {
		rung, language string
		channels, rate int
		silent, blind  bool // no audio, no video
		beside         bool
		at             float64 // joins, s; 0: a tenth of a second after the one before
		scale          uint32
	}
	for name, c := range map[string]struct {
		pushes []push
		want   string
	}{
		"the same":                {[]push{{rung: "1080p"}, {rung: "720p"}, {}}, "audio video video_1080p video_720p"},
		"languages":               {[]push{{rung: "de", language: "de", blind: true}, {language: "en"}, {rung: "720p", language: "en"}}, "audio audio_de video video_720p"},
		"another encoding":        {[]push{{channels: 6}, {rung: "360p", channels: 2}}, "audio audio_360p video video_360p"},
		"announced at 64 kb/s":    {[]push{{rate: 192_000}, {rung: "720p", rate: 160_000}, {rung: "360p", rate: 64_000}}, "audio audio_360p video video_360p video_720p"},
		"the source's is another": {[]push{{rung: "360p", channels: 2}, {channels: 6}}, "audio audio-source video video_360p"},
		"begun together":          {[]push{{at: 0.97, language: "en"}, {at: 0.97, rung: "720p", language: "de"}, {at: 0.97, rung: "360p", language: "fr"}}, "audio audio_360p audio_720p video video_360p video_720p"},
		"the source a bit later":  {[]push{{at: 0.97, rung: "720p", language: "de"}, {at: 0.971, language: "en"}}, "audio audio-source video video_720p"},
		"other timescales":        {[]push{{at: 0.97}, {at: 0.97, rung: "720p", scale: 44100, channels: 1}}, "audio audio-source video video_720p"},
		"only other timescales":   {[]push{{at: 0.97}, {at: 0.97, rung: "720p", scale: 44100}}, "audio video video_720p"},
		"a rung called source":    {[]push{{rung: "720p", language: "de"}, {rung: "source", language: "fr"}, {language: "en"}}, "audio audio-source audio_source video video_720p video_source"},
		"its first is not needed": {[]push{{rung: "720p"}, {blind: true}, {rung: "track1", beside: true, blind: true}}, "audio audio_track1 video_720p"},
		"tracks of a connection":  {[]push{{}, {rung: "track1", beside: true, blind: true}, {rung: "track2", beside: true, silent: true}}, "audio audio_track1 video video_track2"},
	} {
		t.Run(name, func(t *testing.T) {
			o := origin(Config{PartTarget: DefaultPartTarget})
			var rungs []*rung
			for i, p := range c.pushes {
				f := &feed{fps: sourceRate, gop: 60, depth: 2, audio: 1, speed: 1, base: 2 * fromZero / 1_000_000}
				f.sound0 = audioTrack()
				f.sound0.Language, f.sound0.BitRate = p.language, p.rate
				if p.channels > 0 {
					f.sound0.Channels = p.channels
				}
				if p.silent {
					f.audio = -1
				}
				if p.blind {
					f.video, f.audio = -1, 0
				}
				f.beside = p.beside
				f.sound0.Timescale = cmp.Or(p.scale, f.sound0.Timescale)
				rungs = append(rungs, &rung{name: p.rung, from: cmp.Or(p.at, float64(i)*0.1), pending: f})
			}
			ladder(t, o, 12, rungs...)
			st, _ := o.Stream("live/a")
			var ids []string
			for _, r := range st.Run().Renditions() {
				ids = append(ids, r.ID)
				if w := r.Window(); len(w.Segments) < 3 || w.Segments[len(w.Segments)-1].Gap {
					t.Errorf("%s has %d segments", r.ID, len(w.Segments))
				}
			}
			slices.Sort(ids)
			if got := strings.Join(ids, " "); got != c.want {
				t.Errorf("renditions %s, want %s; %v", got, c.want, inputs(st))
			}
		})
	}
}

// An encoder whose key frames are not those of the others is kept out, with a reason, and the others do not suffer.
func TestKeptOut(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget, WindowSegments: 100}
	o := origin(cfg)
	bad := &rung{name: "720p", pending: &feed{fps: sourceRate, gop: 90, depth: 2, audio: -1, speed: 1}}
	ladder(t, o, 60, &rung{name: "1080p"}, bad)
	st, _ := o.Stream("live/a")
	for _, in := range st.Status().Inputs {
		if in.Rung == "720p" && (in.State != Out && in.State != Aligning || in.Reason == "") {
			t.Errorf("720p is %s: %q", in.State, in.Reason)
		}
	}
	x := watchAll(t, o, "video_1080p")[0]
	x.check(cfg)
	if media0(x) != len(x.segs) || len(x.segs) < 28 {
		t.Errorf("the leader has %d segments with media, of %d", media0(x), len(x.segs))
	}
}

// Whoever leaves, the others go on; what has left is a gap, and comes back under its old name.
func TestLadderLeaves(t *testing.T) {
	for _, leaver := range []int{0, 1} {
		t.Run(fmt.Sprint(leaver), func(t *testing.T) {
			cfg := Config{PartTarget: DefaultPartTarget, WindowSegments: 100}
			o := origin(cfg)
			rungs := []*rung{{name: "1080p"}, {name: "720p"}, {name: "480p"}}
			rungs[leaver].to = 9.5
			back := &rung{name: rungs[leaver].name, from: 17.2}
			ladder(t, o, 40, append(rungs, back)...)
			xs := watchAll(t, o, "video_1080p", "video_720p", "video_480p")
			for i, x := range xs {
				x.checkParts(cfg, false)
				gaps := len(x.segs) - media0(x)
				if i == leaver && (gaps < 3 || gaps > 5) || i != leaver && gaps > 0 {
					t.Errorf("%s has %d gaps", x.r.ID, gaps)
				}
				if x.segs[len(x.segs)-1].Gap {
					t.Errorf("%s ends with a gap", x.r.ID)
				}
				for _, s := range x.segs {
					if s.Discontinuity {
						t.Errorf("%s: segment %d is a discontinuity", x.r.ID, s.MSN)
					}
				}
			}
			sameTimes(t, 0.5/sourceRate, true, xs...)
			a := watchAll(t, o, "audio")[0]
			a.checkParts(cfg, false)
			if n := len(a.segs) - media0(a); n > 0 {
				t.Errorf("audio has %d gaps", n)
			}
		})
	}
}

// Whatever encoders of one source do, what is listed under one number is the same time of it, in every Window.
func TestAnyLadder(t *testing.T) {
	followed, led := 0, 0 // segments with media
	for seed := range often(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(uint64(seed), 7))
			cfg := Config{PartTarget: DefaultPartTarget, WindowSegments: 100}
			o := origin(cfg)
			gop := []int{30, 60, 60, 90}[rnd.IntN(4)]
			keyed := gop <= 60
			sparse := rnd.IntN(4) == 0 // some have half the key frames
			var rungs []*rung
			for _, name := range []string{"", "720p", "480p", "360p"} {
				for at := 6 * rnd.Float64(); at < 40; {
					r := &rung{name: name, from: at, lag: 0.25 * rnd.Float64(), every: 1}
					r.pending = &feed{fps: sourceRate, gop: gop, depth: 2, audio: 1 - 2*rnd.IntN(2), speed: 1}
					if sparse && rnd.IntN(2) == 0 {
						r.pending.gop, keyed = 2*gop, false
					}
					amount := rnd.Int64N(3)
					r.pending.jitter = func(int) int64 { return rnd.Int64N(2*amount+1) - amount }
					if rnd.IntN(3) == 0 {
						r.pending.base = rnd.Int64N(1 << 30)
					}
					if rnd.IntN(4) == 0 {
						keyed = false // a scene cut may come just before a key frame, which then begins no segment
						p := 0.01 * rnd.Float64()
						cuts := map[int]bool{}
						for n := range 2000 {
							cuts[n] = rnd.Float64() < p
						}
						r.pending.keyAt = func(n int) bool { return cuts[n] }
					}
					stay := 8 + 40*rnd.Float64()
					r.to = at + stay
					at += stay + 0.5 + 10*rnd.Float64()
					rungs = append(rungs, r)
				}
			}
			var v viewer
			for at := 1.0; at <= 45; at++ {
				ladder(t, o, at, rungs...)
				v.look(t, o)
			}
			v.check(t, cfg, keyed, 0)
			all, most := 0, 0
			for _, x := range v.xs {
				if x.r.Kind == media.Video {
					n := media0(x)
					all, most = all+n, max(most, n)
				}
			}
			followed, led = followed+all-most, led+most
		})
	}
	// Four rungs of which each is away now and then, and first has to find its place.
	if followed < led*3/2 {
		t.Errorf("followers have %d segments beside %d of whom they follow", followed, led)
	}
}

// Where everybody is gone, the segment ends where what has been published of it does, whoever led. Where the picture of the leader
// stands still it ends where the others' does.
func TestLadderEndsWithItsMedia(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget, WindowSegments: 100}
	sparse := &feed{fps: sourceRate, gop: 1 << 20, depth: 2, audio: 1, speed: 1, keyAt: func(n int) bool { return n%60 == 0 && n != 360 }}
	for name, rungs := range map[string][]*rung{
		"the leader is silent, the other one leaves": {{to: 11.5}, {name: "360p", silent: [2]float64{9.7, 15}}},
		"in the same segment":                        {{to: 11.5}, {name: "360p", silent: [2]float64{10.9, 15}}},
		"before a new leader has looked":             {{to: 12.1}, {name: "720p", silent: [2]float64{11.6, 12.6}}, {name: "360p"}},
		"others are further":                         {{to: 12.35, pending: sparse}, {name: "720p", silent: [2]float64{11.5, 12.6}}, {name: "360p"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := origin(cfg)
			ladder(t, o, 20, rungs...)
			st, _ := o.Stream("live/a")
			for _, r := range st.Run().Renditions() {
				x := watch(t, r)
				x.holes = true
				x.checkParts(cfg, false)
			}
		})
	}
}

// Whatever the encoders of a ladder leave out, no segment is shorter than what is in it.
func TestAnyHoles(t *testing.T) {
	for seed := range often(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(uint64(seed), 99))
			cfg := Config{PartTarget: DefaultPartTarget, WindowSegments: 100, LongGOP: []LongGOP{Stretch, Stretch, CutGOP}[rnd.IntN(3)]}
			gop := []int{60, 60, 73, 146, 250}[rnd.IntN(5)]
			var rungs []*rung
			for _, name := range []string{"", "720p", "360p"} {
				r := &rung{name: name, from: 2 * rnd.Float64(), lag: 0.4 * rnd.Float64()}
				r.pending = &feed{fps: sourceRate, gop: gop, depth: 2, audio: 1 - 2*rnd.IntN(2), speed: 1}
				begin := 8 + 10*rnd.Float64()
				r.silent = [2]float64{begin, begin + 0.5 + 2.5*rnd.Float64()}
				r.to = r.silent[1] + 12*rnd.Float64()*rnd.Float64()
				rungs = append(rungs, r)
			}
			o := origin(cfg)
			ladder(t, o, 45, rungs...)
			st, _ := o.Stream("live/a")
			for _, r := range st.Run().Renditions() {
				x := watch(t, r)
				x.holes, x.past = true, int64(x.w.Timescale())/4
				x.checkParts(cfg, false)
			}
		})
	}
}

// One frame that says it is presented later than it can be, key frame or not, holds up nothing, and makes no segment longer.
func TestWrongOffset(t *testing.T) {
	for _, who := range []string{"alone", "follower", "backup"} {
		for _, off := range []int64{700, 5000} { // ms
			for _, key := range []bool{false, true} {
				t.Run(fmt.Sprint(who, off, key), func(t *testing.T) { wrongOffset(t, who, off, key) })
			}
		}
	}
}

func wrongOffset(t *testing.T, who string, off int64, key bool) {
	cfg := Config{PartTarget: DefaultPartTarget, WindowSegments: 100}
	o := origin(cfg)
	a, b := &rung{name: "a"}, &rung{name: "b"}
	rungs := []*rung{a, b}
	switch who {
	case "alone":
		rungs, b = rungs[:1], a
	case "backup":
		b.name, b.backup = "a", true
	}
	most, done := 0, false
	for at := 1.0 / sourceRate; at < 20; at += 1.0 / sourceRate {
		ladder(t, o, at, rungs...)
		if f := b.feed; f.frames >= 330 && (f.frames%60 == 0 || !key) && !done {
			done = true
			n := f.frames
			f.frames++
			s := media.Sample{DTS: (f.base + 133 + int64(float64(n)/sourceRate*1000+0.5)) * 90, CTO: int32((67 + off) * 90), Sync: key, Arrived: f.at(float64(n) / sourceRate), Data: f.payload[:1000+n]}
			if err := f.pub.WriteSample(0, &s); err != nil {
				t.Fatal(err)
			}
		}
		if l := b.pub.leader; l != nil {
			most = max(most, len(l.held.frames)-l.held.head)
		}
	}
	if most > 10 || b != a && b.pub.run.leads(b.pub) || !done {
		t.Errorf("%d frames are held, and it leads: %v", most, b.pub.run.leads(b.pub))
	}
	st, _ := o.Stream("live/a")
	for _, r := range st.Run().Renditions() {
		x := watch(t, r)
		x.past = int64(x.w.Timescale()) * 6 // where the frame says it is
		x.checkParts(cfg, false)
		for _, s := range x.segs {
			if s.Gap || s.Discontinuity {
				t.Errorf("%s: segment %d is a gap: %v, a discontinuity: %v", r.ID, s.MSN, s.Gap, s.Discontinuity)
			}
		}
	}
}

// A viewer has seen all Windows of all renditions of a run.
type viewer struct {
	xs    []*watcher
	segs  map[*Rendition]map[uint64]*Segment
	ready bool // it could be played when it was looked at last: its target duration is settled
}

// look goes through the Windows that live/a has made since.
func (v *viewer) look(t *testing.T, o *Origin) {
	t.Helper()
	st, ok := o.Stream("live/a")
	if !ok || st.Run() == nil {
		return
	}
	for _, r := range st.Run().Renditions() {
		if !slices.ContainsFunc(v.xs, func(x *watcher) bool { return x.r == r }) {
			x := watch(t, r)
			x.holes = true // whoever leaves, leaves the rest of a segment empty
			v.xs = append(v.xs, x)
			v.see(t, x)
		}
	}
	for _, x := range v.xs {
		for x.w.succ != nil {
			x.w = x.w.succ
			x.note()
			v.see(t, x)
		}
	}
	v.ready = st.Run().IsReady()
}

// see checks the Window that x is at.
func (v *viewer) see(t *testing.T, x *watcher) {
	t.Helper()
	w := x.w
	if v.segs == nil {
		v.segs = map[*Rendition]map[uint64]*Segment{}
	}
	if v.segs[x.r] == nil {
		v.segs[x.r] = map[uint64]*Segment{}
	}
	if v.ready && w.TargetDuration != x.r.Run.TargetDuration() {
		t.Errorf("%s: a target duration of %d s, the run's is %d s (RFC 8216bis 4.4.3.1)", x.r.ID, w.TargetDuration, x.r.Run.TargetDuration())
	}
	disc := w.DiscSeq
	for i, s := range w.Segments {
		if s.Discontinuity {
			disc++
		}
		if s.MSN != w.Segments[0].MSN+uint64(i) || s.DiscSeq != disc {
			t.Errorf("%s: segment %d (%d) is at %d of a Window that begins with %d (%d)", x.r.ID, s.MSN, s.DiscSeq, i, w.Segments[0].MSN, w.DiscSeq)
		}
		if was := v.segs[x.r][s.MSN]; was != nil && was != s {
			t.Errorf("%s: segment %d has become another (RFC 8216bis 6.2.1)", x.r.ID, s.MSN)
		}
		v.segs[x.r][s.MSN] = s
	}
}

// oneFrame is how long a frame of sound is, s.
const oneFrame = 1024.0 / 48000

// check checks what was seen as a whole: all show the same at the same times, and in each segment sound begins with the picture, but
// for a frame, which may be one that lasts longer to bring sound back to its time. Where a pair's active encoder fails, a gap begins where
// its sound ends, torn s away from that of the picture at most: what was no part yet is lost.
func (v *viewer) check(t *testing.T, cfg Config, keyed bool, torn float64) {
	t.Helper()
	if len(v.xs) == 0 {
		t.Fatal("nothing was cut")
	}
	var pictures []*watcher
	for _, x := range v.xs {
		if x.past = 0; !keyed {
			x.past = int64(x.w.Timescale()) / 4 // whoever is ahead of the leader by its lag may miss a boundary that is not to be expected
		}
		x.checkParts(cfg, false)
		if x.r.Kind == media.Video {
			pictures = append(pictures, x)
		}
	}
	sameTimes(t, 0.75/sourceRate, keyed, pictures...)
	for _, x := range v.xs {
		if x.r.Kind != media.Audio {
			continue
		}
		scale := float64(x.w.Timescale())
		for i, s := range x.segs {
			early, late := oneFrame, oneFrame
			if s.Gap {
				early, late = max(early, torn), max(late, torn)
			}
			if i > 0 && len(x.segs[i-1].Parts) > 0 {
				parts := x.segs[i-1].Parts
				samples := parts[len(parts)-1].Samples
				late = max(late, float64(samples[len(samples)-1].Duration)/scale)
			}
			for _, p := range pictures {
				u := v.segs[p.r][s.MSN]
				if u == nil {
					continue
				}
				off := float64(s.Start)/scale - float64(u.Start)/float64(p.w.Timescale())
				if off < -early-1e-6 || off > late+1e-6 || s.DiscSeq != u.DiscSeq || s.Discontinuity != u.Discontinuity {
					t.Errorf("%s: segment %d begins %.4f s after that of %s, discontinuity %d and %d (RFC 8216bis 6.2.4)", x.r.ID, s.MSN, off, p.r.ID, s.DiscSeq, u.DiscSeq)
				}
				break
			}
		}
	}
}

// Who asks first gets the whole ladder: it is waited for while its publications find their places, three target durations at
// most (players do not read a multivariant playlist again).
func TestLadderIsAwaited(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget, Ladder: []string{"1080p", "720p", "480p"}}
	sound := &feed{fps: sourceRate, gop: 60, depth: 2, video: -1, audio: 0, speed: 1}
	for name, c := range map[string]struct {
		rungs []*rung
		want  int
		at    float64 // at the latest, s
	}{
		"all":                          {[]*rung{{name: "1080p"}, {name: "720p", from: 0.1}, {name: "480p", from: 0.3}}, 4, 4.5},
		"one is late":                  {[]*rung{{name: "1080p"}, {name: "720p", from: 0.1}, {name: "480p", from: 1.2}}, 4, 6.5},
		"one has the same sound alone": {[]*rung{{name: "1080p"}, {name: "720p"}, {name: "480p"}, {name: "audio", pending: sound}}, 4, 4.5},
		"one is absent":                {[]*rung{{name: "1080p"}, {name: "720p", from: 0.1}}, 3, 6.5},
		"unknown":                      {[]*rung{{name: "1080p"}, {name: "720p"}, {name: "480p"}, {name: "240p"}}, 5, 4.5},
	} {
		t.Run(name, func(t *testing.T) {
			o := origin(cfg)
			for at := 0.1; at < 10; at += 0.1 {
				ladder(t, o, at, c.rungs...)
				st, ok := o.Stream("live/a")
				if !ok || st.Run() == nil || !st.Run().IsReady() {
					continue
				}
				if n := len(st.Run().Presentation().Renditions); n != c.want || at > c.at {
					t.Errorf("%d renditions after %.1f s, want %d by %.1f s", n, at, c.want, c.at)
				}
				return
			}
			t.Error("never ready")
		})
	}
}

// The ladder that a stream had when it was last live is waited for; what does not come then, once.
func TestLastLadderIsAwaited(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	day := 0.0 // of the source, s
	for i, c := range []struct {
		rungs []*rung
		want  int
		from  float64 // when it is ready, s
		to    float64
	}{
		{[]*rung{{name: "1080p"}, {name: "720p", from: 0.1}, {name: "480p", from: 0.1}}, 4, 0, 4.5},
		{[]*rung{{name: "1080p"}, {name: "720p", from: 0.1}, {name: "480p", from: 2.3}}, 4, 4, 6.5},
		{[]*rung{{name: "1080p"}, {name: "720p", from: 0.1}}, 3, 5.5, 6.5},
		{[]*rung{{name: "1080p"}, {name: "720p", from: 0.1}}, 3, 0, 4.5},
		{[]*rung{{name: "1080p"}}, 2, 5.5, 6.5},
		{[]*rung{{name: "1080p"}}, 2, 0, 2.5},
	} {
		for _, r := range c.rungs {
			r.from, r.to = day+r.from, day+8
		}
		n, at := 0, 0.1
		for ; at < 7.5 && n == 0; at += 0.1 {
			ladder(t, o, day+at, c.rungs...)
			if st, ok := o.Stream("live/a"); ok && st.Run() != nil && st.Run().IsReady() {
				n = len(st.Run().Presentation().Renditions)
			}
		}
		if n != c.want || at < c.from || at > c.to {
			t.Errorf("day %d: %d renditions after %.1f s, want %d in %.1f to %.1f s", i, n, at, c.want, c.from, c.to)
		}
		ladder(t, o, day+20, c.rungs...)
		wall := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(day+20) * time.Second)
		for range 140 {
			wall = wall.Add(time.Second)
			o.Tick(wall)
		}
		if _, ok := o.Stream("live/a"); ok {
			t.Fatal("the stream is not gone")
		}
		day += 170
	}
}

// What is remembered of streams that are gone is bounded, the latest stay.
func TestLastLaddersAreBounded(t *testing.T) {
	o := &Origin{}
	for i := range maxSeen + 10 {
		o.remember(fmt.Sprint("live/", i), []string{"a", "b"})
		o.remember("live/0", []string{"a", "c"})
	}
	if n := len(o.seen); n != maxSeen || o.lastLadder("live/1") != nil || !slices.Equal(o.lastLadder("live/0"), []string{"a", "c"}) {
		t.Errorf("%d are remembered, of the first %q, of the second %q", n, o.lastLadder("live/0"), o.lastLadder("live/1"))
	}
	if o.remember("live/0", []string{"a"}); o.lastLadder("live/0") != nil {
		t.Error("one rendition is not a ladder")
	}
}

// A rendition costs no more in a ladder than in a stream of its own: compare the two.
func BenchmarkLadder(b *testing.B) {
	const rungs = 5
	for name, place := range map[string]func(i int) (stream, rung string){
		"OneStream":   func(i int) (string, string) { return "live/a", fmt.Sprint(i, "p") },
		"ManyStreams": func(i int) (string, string) { return fmt.Sprint("live/", i), "" },
	} {
		b.Run(name, func(b *testing.B) {
			o := origin(Config{PartTarget: DefaultPartTarget})
			var fs []*feed
			for i := range rungs {
				stream, rung := place(i)
				wall := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
				pub, err := o.Open(stream, rung, wall)
				if err != nil {
					b.Fatal(err)
				}
				f := &feed{t: b, pub: pub, fps: 30, gop: 60, depth: 2, wall: wall.UnixNano(), audio: -1, payload: make([]byte, 4000), speed: 1}
				fs = append(fs, f.tracks())
			}
			second := func() {
				for range 30 {
					for _, f := range fs {
						f.frame()
					}
				}
			}
			for range 40 {
				second() // until memory is in its steady state
			}
			b.ReportAllocs()
			for b.Loop() {
				second()
			}
		})
	}
}

// A ladder that nobody watches renders nothing: no playlist, no multivariant playlist, no hash.
func TestNobodyWatches(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget, WindowSegments: 100})
	rungs := []*rung{{name: "1080p"}, {name: "720p"}, {name: "480p"}, {name: "360p"}, {name: "240p"}}
	ladder(t, o, 2.5, rungs...)
	var xs []*watcher
	st, _ := o.Stream("live/a")
	for _, r := range st.Run().Renditions() {
		xs = append(xs, watch(t, r))
	}
	ladder(t, o, 20, rungs...)
	if len(xs) != 6 {
		t.Fatalf("%d renditions", len(xs))
	}
	for _, x := range xs {
		windows := 0
		for w := x.w; w != nil; w = w.succ {
			windows++
			if w.memo != nil {
				t.Fatalf("%s: a playlist has been rendered", x.r.ID)
			}
		}
		for _, s := range x.follow().segs {
			if s.hash != "" {
				t.Fatalf("%s: segment %d has been hashed", x.r.ID, s.MSN)
			}
			for _, p := range s.Parts {
				if p.hash != "" {
					t.Fatalf("%s: part %d of segment %d has been hashed", x.r.ID, p.Index, s.MSN)
				}
			}
		}
		if windows < 50 {
			t.Errorf("%s: %d windows", x.r.ID, windows)
		}
	}
	if st.Run().pres != nil {
		t.Error("the run has been described")
	}
}

// Publications on different goroutines, and readers meanwhile.
func TestLadderConcurrent(t *testing.T) {
	t.Run("rungs", func(t *testing.T) {
		concurrent(t, func(o *Origin, i int) (*Publication, error) { return o.Open("live/a", fmt.Sprint(i, "p"), time.Time{}) })
	})
	t.Run("pairs", func(t *testing.T) {
		concurrent(t, func(o *Origin, i int) (*Publication, error) {
			if i%2 == 1 {
				return o.OpenBackup("live/a", fmt.Sprint(i/2, "p"), time.Time{})
			}
			return o.Open("live/a", fmt.Sprint(i/2, "p"), time.Time{})
		})
	})
}

// concurrent lets four publications come and go, that each open opens again and again.
func concurrent(t *testing.T, open func(o *Origin, i int) (*Publication, error)) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	var wg sync.WaitGroup
	done := make(chan struct{})
	wall := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 3))
			from := 0
			for range 6 {
				pub, err := open(o, i)
				if err != nil {
					t.Error(err)
					return
				}
				f := &feed{t: t, pub: pub, fps: 30, gop: 30, depth: 2, wall: wall.UnixNano(), audio: 1, payload: make([]byte, 4000), speed: 1}
				f.frames, f.audios = from, int(float64(from)/30*46.875)
				f.tracks()
				for range 100 + rnd.IntN(300) {
					f.run(1.0 / 30)
				}
				from = f.frames + rnd.IntN(90)
				pub.Close(errors.New("reset"))
			}
		})
	}
	var readers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			st, ok := o.Stream("live/a")
			if !ok || st.Run() == nil {
				continue
			}
			st.Status()
			st.Run().Presentation()
			for _, r := range st.Run().Renditions() {
				w := r.Window()
				for i := 1; i < len(w.Segments); i++ {
					if w.Segments[i].MSN != w.Segments[i-1].MSN+1 {
						t.Errorf("%s: segment %d follows %d", r.ID, w.Segments[i].MSN, w.Segments[i-1].MSN)
					}
				}
			}
			o.Tick(wall)
		}
	})
	wg.Wait()
	close(done)
	readers.Wait()
}

// What leaves and does not return leaves the multivariant playlist when no media of it is listed any more. Its media playlist
// stays, and it comes back under its old name.
func TestLadderShrinks(t *testing.T) {
	o := origin(Config{PartTarget: DefaultPartTarget})
	rungs := []*rung{{name: "1080p"}, {name: "720p", to: 10}, {name: "720p", from: 45}}
	listed := func() (ids []string) {
		st, _ := o.Stream("live/a")
		for _, d := range st.Run().Presentation().Renditions {
			ids = append(ids, d.Rendition.ID)
		}
		slices.Sort(ids)
		return ids
	}
	all, less := []string{"audio", "video_1080p", "video_720p"}, []string{"audio", "video_1080p"}
	for _, c := range []struct {
		at   float64
		want []string
	}{{9, all}, {20, all}, {40, less}, {52, all}} {
		ladder(t, o, c.at, rungs...)
		if got := listed(); !slices.Equal(got, c.want) {
			t.Errorf("after %g s: %q, want %q", c.at, got, c.want)
		}
		x := rendition(t, o, "live/a", "video_720p")
		if w := x.Window(); w.LastMSN()+1 < rendition(t, o, "live/a", "video_1080p").Window().LastMSN() {
			t.Errorf("after %g s: the playlist of what has left has stopped at %d", c.at, w.LastMSN())
		}
	}
}

// Sound that several carry goes on with another of them when whoever feeds it says nothing for a while, connected or not.
func TestSilentSound(t *testing.T) {
	cfg := Config{PartTarget: DefaultPartTarget, WindowSegments: 100}
	for name, rungs := range map[string][]*rung{
		"the leader":        {{name: "1080p", silent: [2]float64{11.3, 60}}, {name: "720p"}},
		"a follower":        {{name: "720p", silent: [2]float64{11.3, 60}}, {name: "1080p", from: 0.1, pending: &feed{fps: sourceRate, gop: 120, depth: 2, audio: 1, speed: 1}}},
		"and comes back":    {{name: "1080p", silent: [2]float64{11.3, 18}}, {name: "720p"}},
		"for half a second": {{name: "1080p", silent: [2]float64{11.3, 11.8}}, {name: "720p"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := origin(cfg)
			ladder(t, o, 32, rungs...)
			x := watchAll(t, o, "audio")[0]
			x.holes = true
			x.checkParts(cfg, false)
			if got := torn(x); len(got) > 3 { // it is looked at once a segment
				t.Errorf("not whole: %v", got)
			}
			if _, discs := filled(x); discs != 0 {
				t.Errorf("%d discontinuities", discs)
			}
		})
	}
}

// A run that begins with several pictures to choose from leaves players more time, and what it says does not change when others join.
func TestLadderHoldBack(t *testing.T) {
	for name, c := range map[string]struct {
		cfg   Config
		rungs []*rung
		want  time.Duration
	}{
		"alone":         {Config{PartTarget: DefaultPartTarget}, []*rung{{}}, 0},
		"a ladder":      {Config{PartTarget: DefaultPartTarget}, []*rung{{name: "1080p"}, {name: "720p"}}, 3 * time.Second},
		"set":           {Config{PartTarget: DefaultPartTarget, PartHoldBack: 2 * time.Second}, []*rung{{name: "1080p"}, {name: "720p"}}, 2 * time.Second},
		"joined later":  {Config{PartTarget: DefaultPartTarget}, []*rung{{name: "1080p"}, {name: "720p", from: 12}}, 0},
		"with a backup": {Config{PartTarget: DefaultPartTarget}, []*rung{{}, {backup: true}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o := origin(c.cfg)
			ladder(t, o, 20, c.rungs...)
			if got := rendition(t, o, "live/a", "audio").Run.HoldBack(); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
