package segmenter

import (
	"context"
	"errors"
	"strconv"
	"sync"
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
	pub      *Publication
	lost     bool          // the last publication ended without a goodbye
	closing  bool          // it has ended, and no Tick has seen that yet
	deadline time.Time     // end of the grace
	lastMSN  uint64        // the highest number that any run has used
	changed  chan struct{} // closed when runs or pub change; nil until somebody waits
	status   Status
}

// A Status says how a stream is doing, for people and for metrics.
type Status struct {
	Publishing       bool
	Since            time.Time     // when the publication began
	KeyframeInterval time.Duration // the latest; 0 is unknown
	TargetDuration   int           // s
	Tracks           []media.Track
	Advice           []string // what the encoder's operator should change, in plain words
	Reconnects       int
	Discontinuities  int
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

// Status returns how the stream is doing.
func (s *Stream) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// publish begins a publication.
func (s *Stream) publish(now time.Time) *Publication {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &Publication{stream: s}
	s.pub, s.closing, s.lost = p, false, false
	s.deadline = time.Time{}
	s.status.Publishing, s.status.Since = true, now
	s.status.Tracks, s.status.Advice = nil, nil
	if n := len(s.runs); n > 0 && !s.runs[n-1].Ended() {
		s.status.Reconnects++
	}
	s.wake()
	return p
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
		if same && !r.Ended() {
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
	if s.pub != p {
		return
	}
	s.pub, s.closing, s.lost = nil, true, reason != nil
	s.status.Publishing = false
	if p.run != nil {
		s.lastMSN = max(s.lastMSN, p.run.msn)
		var format *media.FormatError
		var unsupported *media.UnsupportedError
		if n := len(s.runs) - 1; !playable && n >= 0 && s.runs[n] == p.run && (errors.As(reason, &format) || errors.As(reason, &unsupported)) {
			p.run.End()
			p.run.release()
			s.runs = append([]*Run(nil), s.runs[:n]...)
		}
	}
	s.wake()
}

// setTracks notes what is being published.
func (s *Stream) setTracks(tracks []media.Track) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Tracks = append([]media.Track(nil), tracks...)
}

// report notes how p is doing.
func (s *Stream) report(p *Publication, gop time.Duration, disc bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastMSN = max(s.lastMSN, p.run.msn)
	s.status.KeyframeInterval = gop
	s.status.TargetDuration = p.run.TargetDuration()
	if disc {
		s.status.Discontinuities++
	}
	s.status.Advice = nil
	for _, a := range p.advice {
		if a != "" {
			s.status.Advice = append(s.status.Advice, a)
		}
	}
}

// hasVideo says whether the run that a publication would continue has a video rendition.
func (s *Stream) hasVideo() bool {
	r := s.Run()
	if r == nil || r.Ended() {
		return false
	}
	_, ok := r.find(media.Video.String())
	return ok
}

// Tick does what is due at now: it ends the run when the grace is over, and lets go of ended runs when nobody can still be
// playing them. It says whether the stream has nothing left.
func (s *Stream) Tick(now time.Time) (idle bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing && s.pub == nil {
		s.closing = false
		s.deadline = now
		if n := len(s.runs); n > 0 {
			s.deadline = now.Add(s.runs[n-1].Config.UnpublishGrace)
			if s.lost {
				s.deadline = now.Add(s.runs[n-1].Config.LossGrace)
			}
		}
	}
	over := s.pub == nil && !now.Before(s.deadline)
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
	return s.pub == nil && len(s.runs) == 0
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
		if run != nil && run.IsReady() && !(run.Ended() && s.pub != nil) {
			s.mu.Unlock()
			return run, nil
		}
		if s.pub == nil && (run == nil || run.Ended()) {
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
