package segmenter

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"headwater/segmenter/media"
)

// A Stream is one live presentation under one name. It outlives its publishers: a reconnect within the grace continues
// the current Run, a later one begins another.
type Stream struct {
	Name string // "<app>/<name>"

	origin *Origin

	mu       sync.Mutex // protects what follows; taken at the ends of publications and once a segment, not on the sample path
	runs     []*Run     // the current run last; before it, ended ones that are still served
	pubs     []*Publication
	rungs    map[place]bool // that have been published
	inLadder []string       // rungs that have been in the ladder, but for those that are made here
	expected []string       // rungs that the stream had when it was last live, before the first run
	lost     bool           // the last publication ended without a goodbye
	closing  bool           // it has ended, and no Tick has seen that yet
	deadline time.Time      // end of the grace
	lastMSN  uint64         // the highest number that any run has used
	changed  chan struct{}  // closed when runs or pubs change; nil until somebody waits
	status   Status         // but for what the publications tell

	awaited  atomic.Int32 // rungs of the ladder that are not in it yet, and may come
	switches [len(Reasons)]atomic.Uint64
}

// Run returns the current run, nil when the stream has none yet. It may have ended.
func (s *Stream) Run() *Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.runs) == 0 {
		return nil
	}
	return s.runs[len(s.runs)-1]
}

// RunByID returns the run of that ID if it is still served.
func (s *Stream) RunByID(id string) (*Run, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runs {
		if r.ID == id {
			return r, true
		}
	}
	return nil, false
}

// A place is what one publication at a time has: a rung, as its primary or its backup.
type place struct {
	rung   string
	backup bool
}

// publish begins a publication.
func (s *Stream) publish(at place, now time.Time) (*Publication, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := 0
	for _, p := range s.pubs {
		if p.backup == at.backup {
			same++
		}
	}
	if same >= MaxRenditions {
		return nil, errRenditions
	}
	p := &Publication{Rung: at.rung, stream: s, since: now, pulse: &pulse{backup: at.backup}}
	p.input.Store(&Input{Rung: at.rung, Backup: at.backup, Since: now, State: Waiting})
	if len(s.pubs) == 0 && len(s.runs) > 0 {
		s.expected = nil // what has not come by now is waited for no longer
	}
	if n := len(s.runs); n > 0 && !s.runs[n-1].Ended() && (len(s.pubs) == 0 || s.rungs[at]) {
		s.status.Reconnects++
	}
	s.pubs = append(s.pubs, p)
	if s.rungs == nil {
		s.rungs = map[place]bool{}
	}
	if len(s.rungs) < 2*MaxRenditions {
		s.rungs[at] = true
	}
	s.closing, s.lost = false, false
	s.deadline = time.Time{}
	s.count()
	s.wake()
	return p, nil
}

// placed says that p is in the ladder.
func (s *Stream) placed(p *Publication) {
	s.mu.Lock()
	if !p.lower { // what is made of another is known when that comes
		s.joined(p.Rung)
	}
	s.count()
	s.mu.Unlock()
}

// joined notes that a rung is in the ladder, or was. s.mu is held.
func (s *Stream) joined(rung string) {
	if !slices.Contains(s.inLadder, rung) && len(s.inLadder) < MaxRenditions {
		s.inLadder = append(s.inLadder, rung)
	}
}

// count counts the rungs that a first multivariant playlist should wait for: those that are published, that were, also when the
// stream was last live, that the configuration names, and that are being made. s.mu is held.
func (s *Stream) count() {
	want := map[string]bool{}
	for at := range s.rungs {
		want[at.rung] = true
	}
	for _, r := range s.expected {
		want[r] = true
	}
	if len(s.pubs) > 0 {
		for _, r := range s.origin.config(s.Name).Ladder {
			want[r] = true
		}
	}
	for _, p := range s.pubs {
		want[p.Rung] = true
		for _, r := range p.rungs {
			want[r] = true
		}
	}
	for _, p := range s.pubs {
		if p.inStep.Load() || p.alone.Load() {
			delete(want, p.Rung)
		}
	}
	s.awaited.Store(int32(len(want)))
}

// wake lets waiters look again. s.mu is held.
func (s *Stream) wake() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// runFor returns the run that p continues or begins: the current one, unless it has ended or its target duration, part
// target, hold-back or kind of playlist is no longer the configured one, which a playlist cannot change (RFC 8216bis 6.2.1).
func (s *Stream) runFor(p *Publication, arrived int64) *Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg := s.origin.config(s.Name).withDefaults()
	if n := len(s.runs); n > 0 {
		r := s.runs[n-1]
		same := r.Config.TargetDuration == cfg.TargetDuration && r.Config.PartTarget == cfg.PartTarget && r.Config.PartHoldBack == cfg.PartHoldBack && r.Config.Event == cfg.Event
		if (same || len(s.pubs) > 1) && !r.Ended() { // others go on in it
			return r
		}
		r.End()
	}
	r := s.newRun(arrived, cfg)
	for len(s.runs) > maxRuns {
		s.runs[0].release()
		s.runs = append([]*Run(nil), s.runs[1:]...)
	}
	s.wake()
	return r
}

// maxRuns bounds the runs that are served, the current one and ended ones, for a publisher that comes and goes quickly.
const maxRuns = 4

// newRun begins a run. s.mu is held. The Unix second numbers its first segment and the Unix millisecond names it, beside the origin's
// mark, so that both move forward over a restart that lost everything; a run that begins sooner than the clock allows counts on.
func (s *Stream) newRun(arrived int64, cfg Config) *Run {
	msn := max(uint64(max(arrived, 0))/media.Second, s.lastMSN+1, 1)
	ms := max(arrived, 0) / 1_000_000
	if s.origin != nil && ms <= s.origin.retired.Load() { // the clock was set back, or the run before was no good
		ms = s.origin.retired.Load() + 1
	}
	for _, r := range s.runs {
		if last, ok := r.named(); ok && ms <= last {
			ms = last + 1
		}
	}
	mark := ""
	if s.origin != nil {
		mark = s.origin.Mark
	}
	r := NewRun(runName(ms, mark), s, cfg, msn, arrived)
	s.runs = append(s.runs, r)
	return r
}

// unpublish ends p. The grace begins with the next Tick, unless p was refused before its run could be played: then there is
// nothing to come back to.
func (s *Stream) unpublish(p *Publication, reason error, playable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.pubs, p)
	if i < 0 {
		return
	}
	s.pubs = slices.Delete(s.pubs, i, i+1)
	s.closing, s.lost = len(s.pubs) == 0, reason != nil
	s.count()
	if p.run != nil {
		s.lastMSN = max(s.lastMSN, p.run.last.Load())
		var format *media.FormatError
		var unsupported *media.UnsupportedError
		if n := len(s.runs) - 1; !playable && len(s.pubs) == 0 && n >= 0 && s.runs[n] == p.run && (errors.As(reason, &format) || errors.As(reason, &unsupported)) {
			p.run.End()
			p.run.release()
			s.runs = append([]*Run(nil), s.runs[:n]...)
		}
	}
	s.wake()
}

// report notes how far p's run has come.
func (s *Stream) report(p *Publication, disc bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastMSN = max(s.lastMSN, p.run.last.Load())
	s.status.TargetDuration = p.run.TargetDuration()
	if disc {
		s.status.Discontinuities++
	}
}

// hasVideo says whether the run that a publication of that rung would continue has a video rendition of it.
func (s *Stream) hasVideo(rung string) bool {
	r := s.Run()
	if r == nil || r.Ended() {
		return false
	}
	_, ok := r.find(renditionID(media.Video, rung))
	return ok
}

// Tick does what is due at now: it ends the run when the grace is over, and lets go of ended runs when nobody can still be
// playing them. It says whether the stream has nothing left.
func (s *Stream) Tick(now time.Time) (idle bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing && len(s.pubs) == 0 {
		s.closing = false
		s.deadline = now
		if n := len(s.runs); n > 0 {
			s.deadline = now.Add(s.runs[n-1].Config.UnpublishGrace)
			if s.lost {
				s.deadline = now.Add(s.runs[n-1].Config.LossGrace)
			}
		}
	}
	over := len(s.pubs) == 0 && !now.Before(s.deadline)
	if n := len(s.runs); n > 0 && s.runs[n-1].overflow() {
		s.wake()
	}
	if n := len(s.runs); n > 0 && !over {
		s.runs[n-1].stall(now.UnixNano())
		s.lastMSN = max(s.lastMSN, s.runs[n-1].last.Load())
	}
	kept := s.runs[:0:0]
	for i, r := range s.runs {
		if over && i == len(s.runs)-1 {
			r.End()
		}
		if r.Ended() && r.expiry.IsZero() {
			r.expiry = now.Add(r.Remains())
		}
		if r.expiry.IsZero() || now.Before(r.expiry) {
			kept = append(kept, r)
		} else {
			r.release()
		}
	}
	if len(kept) != len(s.runs) || over {
		s.runs = kept
		s.wake()
	}
	return over && len(kept) == 0
}

// tend does for the stream's runs what they could not do at its time.
func (s *Stream) tend(now time.Time) {
	s.mu.Lock()
	runs := s.runs
	s.mu.Unlock()
	for _, r := range runs {
		r.tend(now)
		r.finish(now)
	}
}

// idle says whether nothing is left of the stream.
func (s *Stream) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pubs) == 0 && len(s.runs) == 0
}

// end ends the current run now.
func (s *Stream) end() {
	if r := s.Run(); r != nil {
		r.End()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runs {
		r.finish(time.Time{})
	}
	s.wake()
}

// AwaitReady returns the current run once it can be played. It waits for a publisher's first segment, and for a publisher
// only while a run is within its grace. The error is ErrNotFound when there is nothing to wait for, ErrNotReady when ctx
// ends.
func (s *Stream) AwaitReady(ctx context.Context, late <-chan struct{}) (*Run, error) {
	for {
		s.mu.Lock()
		var run *Run
		if n := len(s.runs); n > 0 {
			run = s.runs[n-1]
		}
		if run != nil && run.IsReady() && !(run.Ended() && len(s.pubs) > 0) {
			s.mu.Unlock()
			return run, nil
		}
		if len(s.pubs) == 0 && (run == nil || run.Ended()) {
			s.mu.Unlock()
			return nil, ErrNotFound
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		var ready <-chan struct{}
		if run != nil && !run.Ended() {
			ready = run.Ready()
		}
		select {
		case <-ready:
		case <-changed:
		case <-late:
			return nil, ErrNotReady
		case <-ctx.Done():
			return nil, ErrNotReady
		}
	}
}
