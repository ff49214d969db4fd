package segmenter

import (
	"cmp"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"headwater/segmenter/media"
)

// A Publication receives the samples of one publisher and cuts them into renditions of its stream's run. Its methods are
// called from one goroutine; together they are what ingest calls a Writer.
//
// The first key frame is where its times are laid onto the run's timeline. If nobody else is there, that is at 0 in a new run,
// in one that goes on where the wall clock says, but never before the end of what is there; and the publication leads. Video
// leads: its key frames begin segments, in all renditions. Without video the audio does. Beside a leader, it is laid where its
// key frames are those of the leader, and takes over the leader's boundaries.
type Publication struct {
	Rung string // which of the stream's renditions it feeds, "720p"; "" is the only one or the source

	stream *Stream
	since  time.Time
	shares *string  // the rung whose times these are by construction
	lower  bool     // made of that rung
	rungs  []string // that are made of this publication; protected by stream.mu
	run    *Run     // nil until the first key frame

	tracks []media.Track
	lanes  []*lane // the leader first
	of     []*lane // by index of track; nil: not placed
	leader *lane   // of this publication's lanes: the video, or audio without video
	based  bool    // the times are laid onto the timeline
	gen    uint64  // of the conductor, when that was done
	change bool    // tracks have changed: a discontinuity is due at the next key frame

	held      []heldSample // audio that came before the first key frame
	heldBytes int

	began    int64 // where this continuity run began on the timeline, ns
	lastKey  int64 // presentation time of the last key frame, leader's ticks
	cadence  int64 // between the last two, leader's ticks; 0 is unknown
	sparse   bool  // that, and the one before, are too long for the target
	reached  int64 // decode time of the frame that is being put into a part, or was last, leader's ticks
	untold   int64 // when it is told next that no key frame comes, likewise
	gap      int64 // the latest time between two that was too long for the target, ns; 0 is none
	gapEnd   int64 // when that ended, Unix ns
	recovery int64 // when the latest picture arrived that is media.Sample.Recovery, Unix ns; 0 is none
	tellNext int64 // when it is told next that there is no first key frame, Unix ns
	slots    int64 // target durations since it began, when audio leads
	keys     []keyTime
	keysSeen int // key frames since the publication's times were last unknown
	advice   [2]Advice
	awaiting bool             // a track is announced that has not come; protected by run.mu
	arrived  int64            // of the latest sample
	pictured int64            // and of the latest of video
	kept     *shift           // what was added to its times when it stalled
	late     int64            // when the first key frame arrived that belongs into a gap, Unix ns; 0 is none
	seen     []bool           // by index of track: a sample has come
	breaks   [maxBreaks]int64 // when it began anew, Unix ns
	anews    int
	err      error // why the publication cannot go on

	leadFrom atomic.Int64 // what others decided before this publication led ends here, ns; written before it becomes the leader

	// Following.
	by      Evidence
	hits    uint8       // whether the last eight boundaries were at key frames, the latest in the lowest bit
	doubted bool        // it has been kept out since its times were last unknown
	again   bool        // it is to be placed anew at the next key frame
	orphans uint64      // see conductor
	out     bool        // kept out of the ladder: too few were
	leaning int         // boundaries in a row that were off to one side
	skew    int64       // of the latest key frame against its boundary, ns
	lag     int64       // by how much later it arrived, ns
	inStep  atomic.Bool // the video is cut at the boundaries: it may lead
	alone   atomic.Bool // it has no video, and is on the timeline, or has nothing that others do not feed
	// shift is what is added to the leading lane's times; others may look at it.
	shift atomic.Pointer[shift]
	input atomic.Pointer[Input] // for Status

	// Two publications of a rung: see pair.go.
	*pulse
	paired    atomic.Bool                 // the other one is on the timeline
	standsFor atomic.Pointer[Publication] // it, if that feeds the rung; nil: this one does. Written with run.mu held
	relief    *Publication                // gets the rung back with the next boundary; protected by run.mu
	inRow     int                         // boundaries in a row at which it had a key frame while it stood by; likewise
	warmed    int64                       // when the first sample came since it was on the timeline, Unix ns
}

// A shift is what has to be added to times to get those of the run's timeline.
type shift struct {
	ticks   int64
	scale   uint32
	reorder int64 // the composition offset of the first key frame, ns
}

type heldSample struct {
	track int
	s     media.Sample
}

// How long, in media time, to wait for what has been announced, and how much is held meanwhile.
const (
	announcedWait = 3 * media.Second
	silentWait    = 1 * media.Second // for video that nothing has announced
	maxHeldBytes  = 4 << 20
	maxHeld       = 1024
)

// maxRetained bounds the bytes a rendition may hold: a publication beyond it is ended, not the machine's memory used up.
const maxRetained = 1 << 30

// A publication may begin anew, with other times or another configuration, maxBreaks times in breakSpan of arrival time:
// each time costs a segment, and perhaps an initialization section, however short.
const (
	maxBreaks = 10
	breakSpan = 10 * media.Second
)

// Share tells, before anything else is called, that the publication's times are by construction those of the stream's publication
// of that rung: they are tracks of one connection, or the one has been made of the other.
func (p *Publication) Share(rung string) { p.shares = &rung }

// Derive tells, before anything else is called, that the publication has been made of the stream's publication of that rung, with
// fewer bits: it shares its times, and its audio is a rendition of its own, though it is the same sound.
func (p *Publication) Derive(rung string) {
	p.Share(rung)
	p.lower = true
}

// Expect tells which rungs are being made of this publication: a first playlist waits for them as for Config.Ladder.
func (p *Publication) Expect(rungs []string) {
	p.stream.mu.Lock()
	defer p.stream.mu.Unlock()
	p.rungs = rungs
	p.stream.count()
}

// SetTracks tells what the publication carries.
func (p *Publication) SetTracks(tracks []media.Track) error {
	for len(p.of) < len(tracks) {
		p.of = append(p.of, nil)
		p.seen = append(p.seen, false)
	}
	p.tracks = append(p.tracks[:0], tracks...)
	if p.based {
		for i := range p.tracks {
			if l, t := p.of[i], &p.tracks[i]; l != nil && t.Ready() && string(l.init.Track.Codec.Config) != string(t.Codec.Config) {
				p.change = true
			}
		}
		p.await(p.missing() && p.leader.nanos(p.lead())-p.began <= announcedWait)
	}
	p.tell()
	return nil
}

// missing says whether a track has been announced of which no sample has come.
func (p *Publication) missing() bool {
	for i := range p.tracks {
		if !p.tracks[i].Ready() || !p.seen[i] {
			return true
		}
	}
	return false
}

// lead is how far the leading lane has come, in its ticks.
func (p *Publication) lead() int64 {
	if p.leader.cut != nil {
		return p.leader.cut.d
	}
	return p.leader.grid.end
}

// tooOften notes that the publication begins anew, and says whether it does so too often.
func (p *Publication) tooOften(arrived int64) error {
	i := p.anews % maxBreaks
	if p.anews >= maxBreaks && arrived-p.breaks[i] < breakSpan {
		return media.Formatf("timestamps or configuration", "changed %d times in %d s", maxBreaks, breakSpan/media.Second)
	}
	p.breaks[i] = arrived
	p.anews++
	return nil
}

// await says whether the run waits for a track that has been announced.
func (p *Publication) await(waiting bool) {
	p.run.mu.Lock()
	p.awaiting = waiting
	p.run.mu.Unlock()
	p.run.settle()
}

// WriteSample takes one sample.
func (p *Publication) WriteSample(track int, s *media.Sample) error {
	if track < 0 || track >= len(p.tracks) || !p.tracks[track].Ready() {
		return media.Formatf("sample", "of track %d, which has not been described", track)
	}
	p.arrived = s.Arrived
	if p.tracks[track].Kind == media.Video {
		p.pictured = s.Arrived
	}
	if s.Recovery {
		p.recovery = s.Arrived
	}
	if p.based && p.gen != p.run.gen.Load() {
		p.based, p.warmed = false, 0 // the run has come to a halt without this publication
		p.kept, p.late = p.shift.Load(), 0
		p.inStep.Store(false)
		p.alone.Store(false)
		p.run.abandon(p)
	}
	if !p.based {
		return p.warm(track, s)
	}
	l := p.of[track]
	if l == nil {
		if !p.arrives(track) {
			if p.leader.cut == nil && p.tracks[track].Kind == media.Video && s.Sync {
				return p.anew(track, s) // audio led until now
			}
			return nil
		}
		l = p.of[track]
	}
	var err error
	if l.cut != nil {
		err = p.video(track, l, s)
	} else {
		err = p.audio(track, l, s)
	}
	if err == nil {
		err = p.err
	}
	return err
}

// arrives takes note of the first sample of a track that has no lane, and says whether it has one now. Audio joins at once
// while nobody has seen a playlist, and beside others with the next segment; whatever else comes later waits for the next key
// frame.
func (p *Publication) arrives(track int) bool {
	if p.seen[track] {
		return false
	}
	p.seen[track] = true
	switch {
	case p.tracks[track].Kind == media.Audio && p.leader.cut != nil && (!p.run.IsReady() || !p.run.leads(p)):
		p.place(track)
		if l := p.of[track]; l != nil {
			l.off = media.Rescale(p.leader.off, p.leader.scale, l.scale)
			l.pulled = p.run.last.Load() - 1 // it begins with the segment that is open
		}
	case !p.covered(p.tracks[track].Kind):
		p.change = true
	}
	p.await(p.awaiting && p.missing())
	return p.of[track] != nil
}

// covered says whether a lane leads a track of that kind: a publication has one rendition of each.
func (p *Publication) covered(k media.Kind) bool {
	for i, l := range p.of {
		if l != nil && p.tracks[i].Kind == k {
			return true
		}
	}
	return false
}

// anew takes the publication off the timeline, and lays it there again with this sample or the next that can begin a segment.
func (p *Publication) anew(track int, s *media.Sample) error {
	if err := p.tooOften(s.Arrived); err != nil {
		return err
	}
	p.leave()
	p.kept = nil
	return p.warm(track, s)
}

// warm takes a sample of a publication that is not on the timeline.
func (p *Publication) warm(track int, s *media.Sample) error {
	t := &p.tracks[track]
	p.seen[track] = true
	p.warmed = cmp.Or(p.warmed, s.Arrived)
	if t.Kind == media.Video {
		if !s.Sync {
			p.adviseWaiting(s.Arrived)
			return nil // nothing can be decoded before a key frame
		}
		p.advice[0] = Advice{}
		if placed, err := p.base(track, s); err != nil || !placed {
			return err
		}
		if err := p.video(track, p.of[track], s); err != nil {
			return err
		}
		p.forget(media.Rescale(s.DTS+int64(s.CTO), t.Timescale, media.Second))
		return p.replay()
	}
	if len(p.held) >= maxHeld || p.heldBytes+len(s.Data) > maxHeldBytes {
		p.held, p.heldBytes = nil, 0
	}
	c := *s
	c.Data = append([]byte(nil), s.Data...)
	p.held, p.heldBytes = append(p.held, heldSample{track, c}), p.heldBytes+len(c.Data)

	first := &p.held[0]
	wait := int64(silentWait)
	for i := range p.tracks {
		if v := &p.tracks[i]; v.Kind == media.Video {
			if v.Ready() && s.Arrived-p.pictured < announcedWait {
				return nil // its key frame will come
			}
			wait = announcedWait
		}
	}
	if p.stream.hasVideo(p.Rung) {
		wait = announcedWait
	}
	if media.Rescale(s.DTS-p.held[0].s.DTS, t.Timescale, media.Second) < wait {
		return nil
	}
	if placed, err := p.base(first.track, &first.s); err != nil || !placed {
		return err
	}
	return p.replay()
}

// forget drops the audio of before the first key frame, which is presented at a time of the publication's own, ns. If it were much,
// it would be so far from where the timeline begins that it looked like another time base.
func (p *Publication) forget(key int64) {
	p.held = slices.DeleteFunc(p.held, func(h heldSample) bool {
		t := &p.tracks[h.track]
		return media.Rescale(h.s.DTS+int64(t.FrameSamples), t.Timescale, media.Second) <= key
	})
}

func (p *Publication) replay() error {
	held := p.held
	p.held, p.heldBytes = nil, 0
	for i := range held {
		if err := p.WriteSample(held[i].track, &held[i].s); err != nil {
			return err
		}
	}
	return nil
}

// begin opens the next segment in all renditions, at a time on the timeline, after a halt or at the start.
func (p *Publication) begin(at int64, disc bool) {
	b, ok := p.run.announce(p, boundary{time: at, disc: disc, arrived: p.arrived})
	if !ok {
		return
	}
	for _, l := range p.lanes {
		l.pulled = b.msn
		if l == p.leader && l.cut != nil {
			p.enterFresh(l, b, l.ticks(at))
			p.lastKey, p.reached = l.ticks(at), l.ticks(at)
			continue
		}
		if l.grid != nil {
			l.grid.reset()
		}
		l.queue = append(l.queue[:0], b)
	}
	p.report(disc)
}

// leave takes the publication off the timeline. What waits is published. If there is nobody to lead after it, every open
// segment ends where it does.
func (p *Publication) leave() {
	if !p.based {
		return
	}
	p.based, p.warmed = false, 0
	l := p.leader
	var end int64
	if l.cut != nil {
		l.forget()
		l.cut.settle(l.cut.lastDTS + l.frameLasts())
		if len(l.cut.rows) > 0 {
			l.publish(l.cut.take(p.arrived))
		}
		end = l.nanos(l.cut.d)
		if !l.open {
			end = p.run.decided.Load()
		}
	} else {
		// Audio leads: everything it has is its own to publish.
		end = l.nanos(l.grid.end)
		if p.run.leads(p) {
			l.followTo(math.MaxInt64, l.grid, p.arrived)
		}
	}
	for _, f := range p.lanes {
		if f.grid != nil {
			if !p.run.leads(p) {
				end = min(end, p.run.decided.Load()) // the leader may yet begin a segment after that
			}
			f.finish(end, p.arrived)
		}
	}
	p.inStep.Store(false)
	p.alone.Store(false)
	if !p.run.leave(p, end) {
		p.run.abandon(p)
	}
	p.keys, p.keysSeen = p.keys[:0], 0
}

// Close ends the publication. A nil reason is a clean unpublish, anything else a loss.
func (p *Publication) Close(reason error) error {
	playable := p.run != nil && p.run.IsReady()
	defer func() { p.stream.unpublish(p, reason, playable) }()
	p.closed.Store(true)
	p.leave()
	if p.run != nil {
		p.await(false)
	}
	p.held = nil
	return nil
}
