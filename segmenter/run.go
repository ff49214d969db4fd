package segmenter

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"headwater/segmenter/media"
)

// maxParts bounds the parts of one segment: the index of a part takes seven bits of its sequence number.
const maxParts = 128

// LongGOP says what to do when key frames are further apart than a segment may last.
type LongGOP string

// What to do about long GOPs.
const (
	// Stretch makes the first GOP's length the target duration of the run, up to MaxTargetDuration.
	Stretch LongGOP = "stretch"
	// CutGOP also cuts at frames that are not key frames, dividing the GOP evenly.
	CutGOP LongGOP = "cut"
	// Refuse ends the publication.
	Refuse LongGOP = "refuse"
)

// MaxTargetDuration is the longest target duration that LongGOP Stretch settles on.
const MaxTargetDuration = 10 * time.Second

// A Config says how the streams of a name are cut. Zero values stand for the defaults.
type Config struct {
	TargetDuration time.Duration // default 2 s; a whole number of seconds in playlists
	PartTarget     time.Duration // 0 is ordinary HLS, without parts
	PartHoldBack   time.Duration // how far behind the live edge players of low latency stay; 0: see Run.HoldBack
	WindowSegments int           // segments listed at least; default 8
	WindowMin      time.Duration // and lasting at least; default 6 target durations
	LongGOP        LongGOP       // default Stretch
	LossGrace      time.Duration // how long a run outlives a publisher that was lost; default 90 s
	UnpublishGrace time.Duration // and one that said goodbye; default 10 s
	FailStarved    bool          // its playlists are not to be had while nothing comes in: see Run.Starved
	KeepBackup     bool          // a backup that has taken over goes on when the primary is well again
	Ladder         []string      // rungs that belong to it, and are waited for before it is first played; "" is the source
	Delivery       *Delivery     // nil: everything from one host
	// Event lists all segments of a run until it ends (EXT-X-PLAYLIST-TYPE:EVENT).
	Event bool
	// Record is for how long a run is kept that has ended, all of it; 0: not at all. It needs a directory, see Origin.Recover.
	Record time.Duration
}

// Defaults.
const (
	DefaultTargetDuration = 2 * time.Second
	DefaultPartTarget     = 334 * time.Millisecond
	DefaultWindowSegments = 8
	DefaultLossGrace      = 90 * time.Second
	DefaultUnpublishGrace = 10 * time.Second
)

func (c Config) withDefaults() Config {
	if c.TargetDuration <= 0 {
		c.TargetDuration = DefaultTargetDuration
	}
	c.TargetDuration = time.Duration(wholeSeconds(c.TargetDuration)) * time.Second
	if c.WindowSegments <= 0 {
		c.WindowSegments = DefaultWindowSegments
	}
	// A playlist never lasts less than three target durations (RFC 8216bis 6.2.2), and a delta update skips only what is
	// older than six (4.4.3.8).
	if c.WindowMin <= 0 {
		c.WindowMin = 6 * c.TargetDuration
	}
	c.WindowMin = max(c.WindowMin, 3*c.TargetDuration)
	if c.LongGOP == "" {
		c.LongGOP = Stretch
	}
	if c.LossGrace <= 0 {
		c.LossGrace = DefaultLossGrace
	}
	if c.UnpublishGrace <= 0 {
		c.UnpublishGrace = DefaultUnpublishGrace
	}
	return c
}

// A Run is one timeline of a Stream: it begins with a publication, goes on through reconnects within the grace, and ends
// for good. Everything but the multivariant playlist has its URL below the run's ID.
type Run struct {
	ID       string // a path element, never used again
	Stream   *Stream
	Config   Config // with defaults filled in
	FirstMSN uint64
	Epoch    int64 // wall clock at timeline 0, Unix ns

	renditions atomic.Pointer[[]*Rendition]
	target     atomic.Int64  // target duration, s
	slack      atomic.Int64  // ns by which a video segment may exceed it
	holdBack   atomic.Int64  // ns; see HoldBack
	version    atomic.Uint64 // rises when what a Presentation says may have changed

	mu sync.Mutex // orders Windows among the renditions; taken once a part
	conductor
	ended   bool
	over    atomic.Bool // ended, and all Windows say so
	overCh  chan struct{}
	readyCh chan struct{}
	ready   bool
	keeper  *keeper // nil: memory only
	// exhausted says that there is no room for what an EVENT playlist must not lose.
	exhausted bool

	expiry time.Time // when an ended run is let go; the stream's

	presMu sync.Mutex
	pres   *Presentation
}

// NewRun returns a run without renditions.
func NewRun(id string, s *Stream, cfg Config, firstMSN uint64, epoch int64) *Run {
	r := &Run{ID: id, Stream: s, Config: cfg.withDefaults(), FirstMSN: firstMSN, Epoch: epoch, readyCh: make(chan struct{}), overCh: make(chan struct{})}
	r.renditions.Store(&[]*Rendition{})
	r.target.Store(wholeSeconds(r.Config.TargetDuration))
	r.slack.Store(int64(slackOverTarget))
	r.holdBack.Store(int64(cfg.PartHoldBack))
	return r
}

// ladderHoldBack is how far behind the live edge players of low latency stay, by default, where there are renditions to choose from:
// within less, a network that has become slower than the rendition empties a player's buffer before it has changed to another.
const ladderHoldBack = 3 * time.Second

// HoldBack is how far behind the live edge players of low latency stay, at least: what is set, or else what a run with several video
// renditions needs; 0 is as near as the parts allow. It does not change once the run is ready.
func (r *Run) HoldBack() time.Duration { return time.Duration(r.holdBack.Load()) }

// wholeSeconds rounds to nearest, at least 1: RFC 8216bis compares EXT-X-TARGETDURATION with rounded durations (4.4.3.1).
func wholeSeconds(d time.Duration) int64 { return max(int64((d+time.Second/2)/time.Second), 1) }

// TargetDuration is the run's target duration in whole seconds. It may change until the run is ready, never afterwards.
func (r *Run) TargetDuration() int { return int(r.target.Load()) }

// limit is the target duration.
func (r *Run) limit() time.Duration { return time.Duration(r.target.Load()) * time.Second }

// AddRendition adds a rendition. Its owner calls Start next.
func (r *Run) AddRendition(id string, kind media.Kind) *Rendition {
	n := r.newRendition(id, kind, "")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(n)
	return n
}

func (r *Run) newRendition(id string, kind media.Kind, rung string) *Rendition {
	return &Rendition{ID: id, Kind: kind, Rung: rung, Run: r, nextPart: -1, feed: newFeeder()}
}

// add makes x one of the run's renditions. r.mu is held.
func (r *Run) add(x *Rendition) {
	rs := append([]*Rendition(nil), *r.renditions.Load()...)
	rs = append(rs, x)
	r.renditions.Store(&rs)
	r.noteRendition(x)
}

// Renditions returns the run's renditions that have begun; the slice is shared and does not change.
func (r *Run) Renditions() []*Rendition {
	rs := *r.renditions.Load()
	for i, x := range rs {
		if x.window.Load() == nil {
			out := append([]*Rendition(nil), rs[:i]...)
			for _, y := range rs[i+1:] {
				if y.window.Load() != nil {
					out = append(out, y)
				}
			}
			return out
		}
	}
	return rs
}

// Rendition returns the rendition with that ID.
func (r *Run) Rendition(id string) (*Rendition, bool) {
	if x, ok := r.find(id); ok && x.window.Load() != nil {
		return x, true
	}
	return nil, false
}

// find returns the rendition with that ID, begun or not.
func (r *Run) find(id string) (*Rendition, bool) {
	for _, x := range *r.renditions.Load() {
		if x.ID == id {
			return x, true
		}
	}
	return nil, false
}

// Ready is closed when the run can be played: each of its renditions has a complete segment, and the tracks that were
// announced are there or have been waited for long enough.
func (r *Run) Ready() <-chan struct{} { return r.readyCh }

// IsReady says whether Ready is closed.
func (r *Run) IsReady() bool {
	select {
	case <-r.readyCh:
		return true
	default:
		return false
	}
}

// settle closes readyCh when it is time. r.mu is not held.
func (r *Run) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ready {
		return
	}
	for _, p := range r.pubs {
		if p.awaiting {
			return
		}
	}
	// A ladder is waited for, but not for ever: players do not read a multivariant playlist again.
	late := r.decided.Load() >= 3*int64(r.limit())*19/20
	if r.Stream != nil && r.Stream.awaited.Load() > 0 && !late {
		return
	}
	begun, videos := 0, 0
	for _, x := range *r.renditions.Load() {
		if w := x.window.Load(); w != nil && len(w.Segments) > 0 {
			begun++
			if x.Kind == media.Video {
				videos++
			}
		} else if !late {
			return
		}
	}
	if begun == 0 {
		return
	}
	if videos > 1 && r.Config.PartHoldBack == 0 {
		r.holdBack.Store(int64(ladderHoldBack))
	}
	r.ready = true
	r.keep()
	r.version.Add(1)
	close(r.readyCh)
}

// Ended says whether the run has ended: all its playlists carry EXT-X-ENDLIST.
func (r *Run) Ended() bool { return r.over.Load() }

// Over is closed when the run has ended.
func (r *Run) Over() <-chan struct{} { return r.overCh }

// End ends the run: no segment will follow. The renditions' owner has stopped and cut.
func (r *Run) End() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended {
		return
	}
	r.ended = true
	r.noteEnded()
	for _, x := range *r.renditions.Load() {
		if x.window.Load() != nil {
			x.publish()
		}
	}
	r.conclude()
	r.version.Add(1)
}

// conclude says that the run has ended, and that all Windows say so.
func (r *Run) conclude() {
	r.over.Store(true)
	close(r.overCh)
}

// overflow ends the run if it is an EVENT that there is no room for: publications go on in another one.
func (r *Run) overflow() bool {
	r.mu.Lock()
	full := r.exhausted && !r.ended
	if full {
		r.halt(nil, r.mediaEnds())
	}
	r.mu.Unlock()
	if full {
		r.End()
	}
	return full
}

// named is the time that has become r's name, Unix ms, unless somebody else has named it.
func (r *Run) named() (int64, bool) { return nameTime(r.ID) }

// runName is what the run is called that is given that time, by an origin with that mark.
func runName(ms int64, mark string) string {
	id := strconv.FormatInt(ms, 36)
	if mark != "" {
		id += "-" + mark
	}
	return id
}

// nameTime reads what runName has written.
func nameTime(id string) (ms int64, ok bool) {
	at, mark, _ := strings.Cut(id, "-")
	ms, err := strconv.ParseInt(at, 36, 64)
	if err != nil || ms < 0 || !isMark(mark) || runName(ms, mark) != id {
		return 0, false
	}
	return ms, true
}

func isMark(s string) bool {
	return len(s) <= maxMark && !strings.ContainsFunc(s, func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'z') })
}

// retire lets no later run be called as one that is no stream's any more, nor by an earlier time.
func (o *Origin) retire(id string) {
	ms, _ := nameTime(id)
	for old := o.retired.Load(); ms > old && !o.retired.CompareAndSwap(old, ms); old = o.retired.Load() {
	}
}

// release says that what the run keeps is kept no longer. Its name stays taken, though nobody remembers it: no later run of the
// origin is given that time.
func (r *Run) release() {
	if r.Stream != nil && r.Stream.origin != nil {
		r.Stream.origin.retire(r.ID)
	}
	r.mu.Lock()
	r.forget()
	r.mu.Unlock()
	for _, x := range *r.renditions.Load() {
		x.account(-x.stats.retained.Load())
	}
}

// A Presentation is what a multivariant playlist describes: the renditions of a run and what has been measured of them,
// at one instant. It is immutable.
type Presentation struct {
	Run        *Run
	Renditions []Described

	version  uint64
	memoOnce sync.Once
	memo     any
}

// A Described is a rendition with what a multivariant playlist says about it.
type Described struct {
	Rendition *Rendition
	Track     media.Track
	Peak      int     // bits a second over any 0.5 to 1.5 target durations
	Average   int     // bits a second
	FrameRate float64 // measured, or stated if that agrees; 0 for audio

	IFramePeak, IFrameAverage int // bits a second of the first I-frames of its segments, measured likewise; 0: none yet

	init     *Init
	measured uint64 // complete segments with media, as far as that matters
}

// Presentation describes the run as it is now. The same value is returned until something it says changes.
func (r *Run) Presentation() *Presentation {
	v := r.version.Load()
	r.presMu.Lock()
	defer r.presMu.Unlock()
	if r.pres != nil && r.pres.version == v {
		return r.pres
	}
	p := &Presentation{Run: r, version: v}
	all := r.Renditions()
	alive := slices.ContainsFunc(all, func(x *Rendition) bool { return x.Window().alive() })
	for _, x := range all {
		w := x.Window()
		if len(w.Segments) == 0 || alive && !w.alive() {
			continue // nothing to play, or nothing any more: what has left comes back under its old name
		}
		d := Described{Rendition: x, Track: w.Init().Track, init: w.Init()}
		s := x.Stats()
		d.Peak, d.Average = s.Peak, s.Average
		d.IFramePeak, d.IFrameAverage = s.IFramePeak, s.IFrameAverage
		d.measured = min(s.Segments-s.Gaps, 8) // few are not yet believed when the playlist is written
		if x.Kind == media.Video {
			d.FrameRate = frameRate(w, maxMeasured)
			if d.FrameRate == 0 { // there are only gaps: what comes back will be as it was
				d.FrameRate = x.lastRate
			}
			if d.FrameRate == 0 {
				d.FrameRate = frameRate(w, len(w.Segments))
			}
			x.lastRate = d.FrameRate
		}
		p.Renditions = append(p.Renditions, d)
	}
	if r.pres != nil && p.same(r.pres) {
		r.pres.version = v
		return r.pres
	}
	r.pres = p
	return p
}

func (p *Presentation) same(q *Presentation) bool {
	if len(p.Renditions) != len(q.Renditions) {
		return false
	}
	for i := range p.Renditions {
		a, b := &p.Renditions[i], &q.Renditions[i]
		if a.Rendition != b.Rendition || a.Peak != b.Peak || a.Average != b.Average || a.IFramePeak != b.IFramePeak || a.IFrameAverage != b.IFrameAverage || a.FrameRate != b.FrameRate || a.init != b.init || a.measured != b.measured {
			return false
		}
	}
	return true
}

// Memo returns what render returned when it was first called for p.
func (p *Presentation) Memo(render func() any) any {
	p.memoOnce.Do(func() { p.memo = render() })
	return p.memo
}

// frameRate is the measured frame rate of w's track, taken to the nearest standard rate, or the stated one if that agrees
// with it: parameter sets may state the highest rate instead of the real one. It looks at the latest segments that have media,
// among no more than most.
func frameRate(w *Window, most int) float64 {
	stated := w.Init().Track.FrameRate.Float()
	var n int
	var ticks int64
	segments := 0
	for i := len(w.Segments) - 1; i >= 0 && segments < maxMeasured && len(w.Segments)-i <= most; i-- {
		if s := w.Segments[i]; !s.Gap {
			n += s.samples()
			ticks += s.Duration
			segments++
		}
	}
	if ticks <= 0 {
		return stated
	}
	f := float64(n) * float64(w.Timescale()) / float64(ticks)
	if stated > 0 && max(f/stated, stated/f) < 1.02 {
		return stated
	}
	return nearestRate(f)
}

// nearestRate returns the standard frame rate that f lies within 0.2 % of, the nearest first, or else f.
func nearestRate(f float64) float64 {
	best, err := f, 0.002
	for _, r := range [...]float64{10, 12, 12.5, 15, 20, 24000.0 / 1001, 24, 25, 30000.0 / 1001, 30, 48, 50, 60000.0 / 1001, 60, 72, 90, 100, 120} {
		if e := max(f/r, r/f) - 1; e < err {
			best, err = r, e
		}
	}
	return best
}

// Starved says whether nothing has come in for one and a half target durations at the time now: then the playlists of a run that has
// not ended go on with gaps, or, by Config.FailStarved, are not to be had, so that whoever has another origin goes there.
func (r *Run) Starved(now time.Time) bool {
	return !r.Ended() && now.UnixNano()-r.heard.Load() >= r.patience()
}

// patience is how long nothing may come in before gaps are made, ns.
func (r *Run) patience() int64 { return int64(r.limit()) * 3 / 2 }

// Remains is for how long the run is served when it has ended, unless it becomes a recording. A playlist may be removed when its segments
// may: its own duration and a segment's later (RFC 8216bis 6.2.2).
func (r *Run) Remains() time.Duration {
	return 2*time.Duration(r.lasts()) + time.Duration(r.TargetDuration())*time.Second
}

// lasts is the duration of the longest playlist of the run, ns.
func (r *Run) lasts() int64 {
	var most int64
	for _, x := range r.Renditions() {
		if w := x.Window(); w.ticks > 0 {
			most = max(most, media.Rescale(w.ticks, w.Timescale(), media.Second))
		}
	}
	return most
}
