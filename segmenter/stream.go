package segmenter

import (
	"context"
	"errors"
	"slices"
	"strconv"
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
	rungs    map[string]bool // that have been published
	lost     bool            // the last publication ended without a goodbye
	closing  bool            // it has ended, and no Tick has seen that yet
	deadline time.Time       // end of the grace
	lastMSN  uint64          // the highest number that any run has used
	changed  chan struct{}   // closed when runs or pubs change; nil until somebody waits
	status   Status          // but for what the publications tell

	awaited atomic.Int32 // rungs of the ladder that are not in it yet, and may come
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

// publish begins a publication.
func (s *Stream) publish(rung string, now time.Time) (*Publication, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pubs) >= MaxRenditions {
		return nil, errRenditions
	}
	p := &Publication{Rung: rung, stream: s, since: now}
	p.input.Store(&Input{Rung: rung, Since: now, State: Waiting})
	if n := len(s.runs); n > 0 && !s.runs[n-1].Ended() && (len(s.pubs) == 0 || s.rungs[rung]) {
		s.status.Reconnects++
	}
	s.pubs = append(s.pubs, p)
	if s.rungs == nil {
		s.rungs = map[string]bool{}
	}
	if len(s.rungs) < MaxRenditions {
		s.rungs[rung] = true
	}
	s.closing, s.lost = false, false
	s.deadline = time.Time{}
	s.count()
	s.wake()
	return p, nil
}

// placed says that p is in the ladder.
func (s *Stream) placed(*Publication) {
	s.mu.Lock()
	s.count()
	s.mu.Unlock()
}

// count counts the rungs that a first multivariant playlist should wait for: those that are published, that were, that the
// configuration names, and that are being made. s.mu is held.
func (s *Stream) count() {
	want := map[string]bool{}
	for r := range s.rungs {
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

// runFor returns the run that p continues or begins: the current one, unless it has ended or its target duration or part
// target is no longer the configured one, which a playlist cannot change (RFC 8216bis 6.2.1).
func (s *Stream) runFor(p *Publication, arrived int64) *Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	cfg := s.origin.config(s.Name).withDefaults()
	if n := len(s.runs); n > 0 {
		r := s.runs[n-1]
		same := r.Config.TargetDuration == cfg.TargetDuration && r.Config.PartTarget == cfg.PartTarget
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

// newRun begins a run. s.mu is held. The Unix second numbers its first segment and the Unix millisecond names it, so that
// both move forward over a restart that lost everything; a run that begins sooner than the clock allows counts on.
func (s *Stream) newRun(arrived int64, cfg Config) *Run {
	msn := max(uint64(max(arrived, 0))/media.Second, s.lastMSN+1, 1)
	ms := uint64(max(arrived, 0)) / 1_000_000
	for _, r := range s.runs {
		if last, err := strconv.ParseUint(r.ID, 36, 64); err == nil && ms <= last {
			ms = last + 1
		}
	}
	r := NewRun(strconv.FormatUint(ms, 36), s, cfg, msn, arrived)
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
	kept := s.runs[:0:0]
	for i, r := range s.runs {
		if over && i == len(s.runs)-1 {
			r.End()
		}
		if r.Ended() && r.expiry.IsZero() {
			// A playlist may be removed when its segments may: its own duration and a segment's later (RFC 8216bis 6.2.2).
			r.expiry = now.Add(2*time.Duration(r.lasts()) + time.Duration(r.TargetDuration())*time.Second)
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
	s.wake()
}

// AwaitReady returns the current run once it can be played. It waits for a publisher's first segment, and for a publisher
// only while a run is within its grace. The error is ErrNotFound when there is nothing to wait for, ErrNotReady when ctx
// ends.
func (s *Stream) AwaitReady(ctx context.Context) (*Run, error) {
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
		case <-ctx.Done():
			return nil, ErrNotReady
		}
	}
}
