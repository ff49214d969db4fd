package segmenter

import (
	"fmt"
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

// slackOverTarget is by how much a video segment may exceed the target duration so that it, and the audio segment beside it,
// which may be a frame longer, still round to it (RFC 8216bis 4.4.3.1). Audio frames of up to 46 ms leave so much.
const slackOverTarget = 450 * time.Millisecond

// maxRetained bounds the bytes a rendition may hold: a publication beyond it is ended, not the machine's memory used up.
const maxRetained = 1 << 30

// A publication may begin anew, with other times or another configuration, maxBreaks times in breakSpan of arrival time:
// each time costs a segment, and perhaps an initialization section, however short.
const (
	maxBreaks = 10
	breakSpan = 10 * media.Second
)

// maxLag is how far written decode times may fall behind, in media time, before frames that outlast the part target are
// refused.
const maxLag = 5 * media.Second

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

// jump is how far a video timestamp may run ahead of or behind the one before it.
func (p *Publication) jump(scale uint32) int64 {
	return media.Rescale(int64(max(2*time.Second, p.limit/2)), media.Second, scale)
}

// video takes a sample of the video track.
func (p *Publication) video(track int, l *lane, s *media.Sample) error {
	c := l.cut
	dts, cto := s.DTS, int64(s.CTO)
	if l.in != l.scale {
		dts, cto = media.Rescale(dts, l.in, l.scale), media.Rescale(cto, l.in, l.scale)
	}
	pts := dts + cto + l.off
	dts += l.off + l.reorder

	if len(c.rows) > 0 || c.pace.n > 0 {
		if d, far := dts-c.lastDTS, p.jump(l.scale); d > far || d < -far {
			// One sample is an accident; when the next ones agree with it, time has changed.
			if l.strays++; l.strays <= maxVideoStrays {
				l.rend.stats.dropped.Add(1)
				return nil
			}
			return p.anew(track, s)
		}
		if dts <= c.lastDTS {
			l.rend.stats.adjusted.Add(1)
		}
	}
	l.strays = 0
	if d, far := pts-c.d, 10*int64(l.scale); d > far || d < -far {
		l.rend.stats.dropped.Add(1) // no encoder reorders over ten seconds
		return nil
	}
	if dts-c.d > l.ticks(maxLag) {
		return &media.UnsupportedError{
			What: fmt.Sprintf("%.2g frames a second with a part target of %v", float64(l.scale)/float64(max(c.pace.nominal, 1)), p.run.Config.PartTarget),
			Hint: "send more frames, or set a longer part target, or 0 for ordinary HLS",
		}
	}

	predicted := len(c.rows) == 0
	if most := l.ticks(int64(p.most())); dts-l.rend.open.Start > most && p.holdsMedia(l) {
		// The picture has stood still beyond the longest segment. What is there ends where it would have, and the next
		// segment begins there too, with this frame presented at its own time.
		c.settle(min(c.lastDTS+max(c.pace.nominal, 1), l.rend.open.Start+most))
		if len(c.rows) > 0 {
			l.publish(c.take(s.Arrived))
		}
		if c.d > l.rend.open.Start {
			p.cut(l, c.d, s.Arrived)
		}
	}
	c.settle(dts)
	c.pace.frame(dts, predicted)

	cut, at := false, pts
	if s.Sync {
		if p.change {
			return p.anew(track, s)
		}
		var err error
		if cut, err = p.cutAtKey(l, pts); err != nil {
			return err
		}
	} else if p.overflows(l, dts) {
		if p.run.Config.LongGOP == Refuse {
			return p.refuse(l, dts-p.lastKey)
		}
		cut, at = true, c.d
	}
	switch {
	case cut && at > l.rend.open.Start && p.holdsMedia(l):
		if len(c.rows) > 0 {
			l.publish(c.take(s.Arrived))
		}
		p.cut(l, at, s.Arrived)
	case s.Sync && c.yields() || c.full(c.d):
		l.publish(c.take(s.Arrived))
	}
	if s.Sync && pts > p.lastKey {
		p.cadence, p.lastKey = pts-p.lastKey, pts
	}
	if err := c.add(dts, pts, s.Sync, s.Data); err != nil {
		return err
	}
	if c.predict() {
		l.publish(c.take(s.Arrived))
	}
	for _, f := range p.lanes {
		if f.grid == nil || f == l {
			continue
		}
		if _, waits := f.grid.next(); waits {
			f.follow(p.progress(f), s.Arrived)
		}
	}
	if p.awaiting && l.nanos(dts)-p.began > announcedWait {
		p.await(false)
	}
	return nil
}

// maxVideoStrays is how many samples in a row may be far off before they are believed.
const maxVideoStrays = 3

// progress is how far, in ticks of f, the leader has come: no segment will begin earlier.
func (p *Publication) progress(f *lane) int64 {
	if p.leader.cut == nil {
		return math.MaxInt64
	}
	c := p.leader.cut
	t := c.lastDTS
	if !c.pace.irregular {
		t += c.pace.nominal
	}
	return media.Rescale(t, p.leader.scale, f.scale)
}

// cutAtKey says whether the key frame presented at pts begins a segment. It ends one that has lasted three quarters of the
// target, or half of it if the next key frame would come too late.
func (p *Publication) cutAtKey(l *lane, pts int64) (bool, error) {
	e := pts - l.rend.open.Start
	key := pts - p.lastKey
	target, most := l.ticks(int64(p.limit)), l.ticks(int64(p.limit+p.slack))
	if key > most && p.run.Config.LongGOP == Refuse {
		return false, p.refuse(l, key)
	}
	if 4*e >= 3*target {
		return true, nil
	}
	return 2*e >= target && e+key > most, nil
}

func (p *Publication) refuse(l *lane, gop int64) error {
	return &media.UnsupportedError{
		What: fmt.Sprintf("going %.3g s without a key frame at a segment target of %v", float64(gop)/float64(l.scale), p.limit),
		Hint: fmt.Sprintf("set the encoder's keyframe interval to %.3g s", p.limit.Seconds()),
	}
}

// settling says whether the target duration may still be chosen: nobody has seen it.
func (p *Publication) settling() bool {
	return p.run.msn == p.run.FirstMSN && p.run.Config.LongGOP == Stretch && !p.run.IsReady()
}

// most is how long a segment of the leader may last.
func (p *Publication) most() time.Duration {
	if p.settling() {
		return MaxTargetDuration + p.slack
	}
	return p.limit + p.slack
}

// holdsMedia says whether the leader's open segment has a sample.
func (p *Publication) holdsMedia(l *lane) bool {
	return len(l.cut.rows) > 0 || len(l.rend.open.Parts) > 0
}

// overflows says whether a segment has to end before the frame at dts, which is not a key frame, because the next key frame
// comes too late: where it divides the cadence evenly, or when the segment can hold no more.
func (p *Publication) overflows(l *lane, dts int64) bool {
	frame := l.cut.pace.nominal
	e := l.cut.d - l.rend.open.Start
	limit := l.ticks(int64(p.most()))
	if e+frame > limit {
		return true
	}
	if p.cadence <= limit || p.settling() {
		return p.run.Config.LongGOP == CutGOP && p.cadence == 0 && e+frame > l.ticks(int64(p.limit))+frame/2
	}
	n := (p.cadence + limit - 1) / limit
	step := p.cadence / n
	// The next point of the grid that the last key frame began.
	since := l.cut.d - p.lastKey
	near := (since + step/2) / step * step
	return near > 0 && near < p.cadence-step/2 && since >= near-frame/2 && since < near+frame && 2*e >= l.ticks(int64(p.limit))
}

// cut ends the leader's segment at a time in its ticks, and begins the next one there, in all renditions.
func (p *Publication) cut(l *lane, at, arrived int64) {
	run := p.run
	if run.msn == run.FirstMSN && !run.IsReady() {
		lasted := time.Duration(l.nanos(at - l.rend.open.Start))
		if lasted > p.limit+p.slack {
			p.limit = min(time.Duration(wholeSeconds(lasted+500*time.Millisecond-p.slack))*time.Second, MaxTargetDuration)
			run.target.Store(int64(p.limit / time.Second))
		}
	}
	run.msn++
	p.cur = boundary{msn: run.msn, time: l.nanos(at), discSeq: run.discs}
	s := l.start(p.cur, at, l.cut.d)
	for _, f := range p.lanes {
		if f != l {
			f.queue = append(f.queue, p.cur)
		}
	}
	l.complete(at, &s)
	for _, f := range p.lanes {
		if f != l {
			f.fill(arrived)
		}
	}
	p.report(false)
}

// leadAudio begins segments when audio leads: at the first frame from every multiple of the target on.
func (p *Publication) leadAudio(t int64) {
	l := p.leader
	if len(l.queue) > 0 {
		return
	}
	target := p.limit
	n := (l.nanos(t) - p.began + int64(time.Millisecond)) / int64(target)
	last := (p.cur.time - p.began + int64(time.Millisecond)) / int64(target)
	if n <= last {
		return
	}
	p.run.msn++
	p.cur = boundary{msn: p.run.msn, time: l.nanos(t), discSeq: p.run.discs}
	for _, f := range p.lanes {
		f.queue = append(f.queue, p.cur)
		if f != l {
			f.fill(p.arrived)
		}
	}
	p.report(false)
}

// audio takes a sample of the audio track.
func (p *Publication) audio(track int, l *lane, s *media.Sample) error {
	if p.change && string(l.init.Track.Codec.Config) != string(p.tracks[track].Codec.Config) {
		if p.leader != l {
			l.rend.stats.dropped.Add(1) // of a configuration that begins with the next key frame
			return nil
		}
		return p.anew(track, s)
	}
	t := s.DTS
	if l.in != l.scale {
		t = media.Rescale(t, l.in, l.scale)
	}
	g := l.grid
	if g.stray(t+l.off, p.progress(l), p.leader == l) {
		l.rend.stats.dropped.Add(1)
		if g.strays++; g.strays < maxStrays {
			return nil
		}
		// Time has changed. If it has for the leader, all begins anew; else this track is put beside the leader again.
		if p.leader == l {
			return p.anew(track, s)
		}
		l.resync(s.Arrived)
		l.off += p.progress(l) - (t + l.off)
	} else if g.apart(t + l.off) {
		l.resync(s.Arrived) // nothing came for a while
	}
	g.strays = 0
	if !g.add(t+l.off, s.Data) {
		l.rend.stats.dropped.Add(1)
		return nil
	}
	if l.grid.adjusted > 0 {
		l.rend.stats.adjusted.Add(l.grid.adjusted)
		l.grid.adjusted = 0
	}
	l.follow(p.progress(l), s.Arrived)
	if p.awaiting && p.leader == l && l.nanos(g.end)-p.began > announcedWait {
		p.await(false)
	}
	return nil
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

// report brings the stream's status up to date, once a segment.
func (p *Publication) report(disc bool) {
	l := p.leader
	p.advice[0], p.advice[1] = "", ""
	target := p.run.Config.TargetDuration
	if l.cut != nil && l.nanos(p.cadence) > int64(target+slackOverTarget) {
		p.advice[0] = fmt.Sprintf("keyframes every %.3g s, but the segment target is %.3g s: set the encoder's keyframe interval to %.3g s",
			float64(p.cadence)/float64(l.scale), target.Seconds(), target.Seconds())
	}
	if pt := p.run.Config.PartTarget; pt > 0 && l.cut != nil && l.cut.pace.nominal > 0 {
		frame := l.nanos(l.cut.pace.nominal)
		ms := int64(time.Millisecond)
		if n := (int64(pt) + 2*ms) / frame; n == 0 || n*frame*100 < int64(pt)*85 {
			fits := (max(n+1, 1)*frame + ms - 1) / ms
			p.advice[1] = fmt.Sprintf("frames of %.1f ms fill a part target of %v badly: a part target of %d ms works",
				float64(frame)/1e6, pt, fits)
		}
	}
	p.stream.report(p, time.Duration(l.nanos(p.cadence)), disc)
}
