package segmenter

import (
	"math"
	"time"

	"headwater/segmenter/media"
)

// A Publication receives the samples of one publisher and cuts them into the renditions of its stream's run. Its methods are
// called from one goroutine; together they are what ingest calls a Writer.
//
// The first key frame is where its times are laid onto the run's timeline: at 0 in a new run, in one that goes on where the
// wall clock says, but never before the end of what is there. Video leads: its key frames begin segments, in all renditions.
// Without video the audio does.
type Publication struct {
	stream *Stream
	run    *Run // nil until the first key frame

	tracks []media.Track
	lanes  []*lane // the leader first
	of     []*lane // by index of track; nil: not placed
	leader *lane
	based  bool // the times are laid onto the timeline
	change bool // tracks have changed: a discontinuity is due at the next key frame

	held      []heldSample // audio that came before the first key frame
	heldBytes int

	began    int64 // where this continuity run began on the timeline, ns
	cur      boundary
	lastKey  int64            // presentation time of the last key frame, leader's ticks
	cadence  int64            // between the last two, leader's ticks; 0 is unknown
	advice   [2]string        // on key frames, on parts
	awaiting bool             // a track is announced that has not come
	arrived  int64            // of the latest sample
	limit    time.Duration    // the run's target duration
	slack    time.Duration    // by how much the leader's segments may exceed it
	seen     []bool           // by index of track: a sample has come
	breaks   [maxBreaks]int64 // when it began anew, Unix ns
	anews    int
	err      error // why the publication cannot go on
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
	p.stream.setTracks(p.tracks)
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

// lead is how far the leader has come, in its ticks.
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
	p.awaiting = waiting
	p.run.mu.Lock()
	p.run.waiting = waiting
	p.run.mu.Unlock()
	p.run.settle()
}

// WriteSample takes one sample.
func (p *Publication) WriteSample(track int, s *media.Sample) error {
	if track < 0 || track >= len(p.tracks) || !p.tracks[track].Ready() {
		return media.Formatf("sample", "of track %d, which has not been described", track)
	}
	p.arrived = s.Arrived
	if !p.based {
		return p.warm(track, s)
	}
	l := p.of[track]
	if l == nil {
		if !p.arrives(track) {
			if p.tracks[track].Kind == media.Video && s.Sync {
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
// while nobody has seen a playlist; whatever comes later waits for the next key frame.
func (p *Publication) arrives(track int) bool {
	if p.seen[track] {
		return false
	}
	p.seen[track] = true
	if p.tracks[track].Kind == media.Audio && p.leader.cut != nil && !p.run.IsReady() {
		p.join(track)
	} else if !p.covered(p.tracks[track].Kind) {
		p.change = true
	}
	p.await(p.awaiting && p.missing())
	return p.of[track] != nil
}

// covered says whether a lane leads a track of that kind: a run has one rendition of each.
func (p *Publication) covered(k media.Kind) bool {
	for i, l := range p.of {
		if l != nil && p.tracks[i].Kind == k {
			return true
		}
	}
	return false
}

// anew ends the continuity run, and begins another with this sample or the next that can begin one.
func (p *Publication) anew(track int, s *media.Sample) error {
	if err := p.tooOften(s.Arrived); err != nil {
		return err
	}
	p.pause()
	p.based = false
	return p.warm(track, s)
}

// warm takes a sample before the first key frame.
func (p *Publication) warm(track int, s *media.Sample) error {
	t := &p.tracks[track]
	p.seen[track] = true
	if t.Kind == media.Video {
		if !s.Sync {
			return nil // nothing can be decoded before a key frame
		}
		if err := p.base(track, s.DTS+int64(s.CTO), int64(s.CTO), s.Arrived); err != nil {
			return err
		}
		if err := p.video(track, p.of[track], s); err != nil {
			return err
		}
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
			if v.Ready() {
				return nil // its key frame will come
			}
			wait = announcedWait
		}
	}
	if p.stream.hasVideo() {
		wait = announcedWait
	}
	if media.Rescale(s.DTS-p.held[0].s.DTS, t.Timescale, media.Second) < wait {
		return nil
	}
	if err := p.base(first.track, first.s.DTS, 0, first.s.Arrived); err != nil {
		return err
	}
	return p.replay()
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

// base lays the publication's times onto the run's timeline, at pts of the track that leads, and begins a segment there.
func (p *Publication) base(track int, pts, cto, arrived int64) error {
	if p.run == nil {
		p.run = p.stream.runFor(p, arrived)
	}
	run := p.run
	var at int64
	resumed := run.discs > 0 || len(*run.renditions.Load()) > 0
	if resumed {
		at = max(run.edge, arrived-run.Epoch)
	}
	p.limit = time.Duration(run.TargetDuration()) * time.Second
	if !run.IsReady() && run.msn == 0 {
		p.limit = run.Config.TargetDuration
	}

	p.lanes, p.leader = p.lanes[:0], nil
	clear(p.of)
	lead := &p.tracks[track]
	p.place(track)
	p.leader = p.of[track]
	for i := range p.tracks {
		if i == track || !p.tracks[i].Ready() || p.tracks[i].Kind != media.Audio {
			continue
		}
		// A header is no promise: a rendition begins when a sample has come, or the run has it already.
		if _, known := run.find(p.tracks[i].Kind.String()); known || p.seen[i] {
			p.place(i)
		}
	}
	p.slack = slackOverTarget
	for i := range p.tracks {
		if t := &p.tracks[i]; t.Ready() && t.Kind == media.Audio {
			frame := media.Rescale(int64(t.FrameSamples), t.Timescale, media.Second)
			p.slack = min(p.slack, 499*time.Millisecond-time.Duration(frame))
		}
	}
	for _, l := range p.lanes {
		l.off = l.ticks(at) - media.Rescale(pts, lead.Timescale, l.scale)
	}
	for _, r := range *run.renditions.Load() { // what the run has and this publication has not
		if !p.has(r) {
			l := &lane{pub: p, rend: r, init: r.Window().Init()}
			l.scale = l.init.Track.Timescale
			p.lanes = append(p.lanes, l)
		}
	}
	p.leader.reorder = media.Rescale(cto, lead.Timescale, p.leader.scale)
	p.leader.strays = 0
	p.based, p.began, p.change, p.cadence = true, at, false, 0
	p.await(p.missing() && !run.IsReady())
	p.begin(at, resumed)
	return nil
}

func (p *Publication) has(r *Rendition) bool {
	for _, l := range p.lanes {
		if l.rend == r {
			return true
		}
	}
	return false
}

// place gives the track with that index a lane, once for each kind of track.
func (p *Publication) place(i int) {
	t := &p.tracks[i]
	id := t.Kind.String()
	for _, l := range p.lanes {
		if l.rend.ID == id {
			return
		}
	}
	l := &lane{pub: p, scale: t.Timescale}
	if r, ok := p.run.find(id); ok {
		l.rend = r
		if w := r.Window(); w != nil {
			l.scale = w.Init().Track.Timescale
		}
	} else {
		l.rend = p.run.AddRendition(id, t.Kind)
	}
	l.setTrack(*t)
	p.of[i] = l
	p.lanes = append(p.lanes, l)
}

// join gives a track a lane that begins with the segment that is open.
func (p *Publication) join(i int) {
	n := len(p.lanes)
	p.place(i)
	if len(p.lanes) == n {
		return
	}
	l := p.lanes[n]
	l.off = media.Rescale(p.leader.off, p.leader.scale, l.scale)
	l.queue = append(l.queue, p.cur)
}

// begin opens the next segment in all renditions, at a time on the timeline, after a pause or at the start.
func (p *Publication) begin(at int64, disc bool) {
	run := p.run
	if run.msn == 0 {
		run.msn = run.FirstMSN
	} else {
		run.msn++
	}
	if disc {
		run.discs++
	}
	p.cur = boundary{msn: run.msn, time: at, disc: disc, discSeq: run.discs}
	for _, l := range p.lanes {
		l.joined = false
		if l == p.leader && l.cut != nil {
			t := l.ticks(at)
			l.cut.reset(t)
			l.rend.Start(l.start(p.cur, t, t))
			l.open = true
			p.lastKey = t
			continue
		}
		if l.grid != nil {
			l.grid.reset()
		}
		l.queue = append(l.queue[:0], p.cur)
	}
	p.report(disc)
}

// pause ends the open segment of every rendition. The publication has to be based anew, or begun.
func (p *Publication) pause() {
	l := p.leader
	if l.cut != nil {
		l.cut.settle(l.cut.lastDTS + max(l.cut.pace.nominal, 1))
		if len(l.cut.rows) > 0 {
			l.publish(l.cut.take(p.arrived))
		}
		l.complete(max(l.cut.d, l.rend.open.Start+1), nil)
		p.finishFollowers(l.nanos(l.cut.d))
		return
	}
	// Audio leads: everything it has is its own to publish.
	end := l.nanos(l.grid.end)
	l.follow(math.MaxInt64, p.arrived)
	l.finish(end, p.arrived)
	p.finishFollowers(end)
}

func (p *Publication) finishFollowers(end int64) {
	for _, l := range p.lanes {
		if l != p.leader {
			l.finish(end, p.arrived)
		}
	}
}

// Close ends the publication. A nil reason is a clean unpublish, anything else a loss.
func (p *Publication) Close(reason error) error {
	playable := p.run != nil && p.run.IsReady()
	defer func() { p.stream.unpublish(p, reason, playable) }()
	if p.based {
		p.pause()
		p.based = false
	}
	if p.run != nil {
		p.await(false)
	}
	p.held = nil
	return nil
}
