package segmenter

import (
	"fmt"
	"slices"
	"time"

	"headwater/segmenter/media"
)

// A Status says how a stream is doing, for people and for metrics.
type Status struct {
	Publishing       bool
	Since            time.Time     // when the first of the present publications began
	KeyframeInterval time.Duration // the leader's latest; 0 is unknown
	TargetDuration   int           // s
	Inputs           []Input       // the present publications, by rung
	Advice           []string      // what the encoders' operators should change, in plain words
	Reconnects       int
	Discontinuities  int
}

// An Input is a publication that feeds a stream.
type Input struct {
	Rung             string // "720p"; "" is the only one or the source
	Since            time.Time
	State            State
	By               Evidence      // what its place on the timeline rests on
	Reason           string        // why it is not in the ladder, in plain words
	KeyframeInterval time.Duration // the latest; 0 is unknown
	Skew             time.Duration // of its latest key frame against the leader's
	Lag              time.Duration // by how much later than the leader's that arrived
	Tracks           []media.Track
	Renditions       []string // the rendition that each track feeds; "" is none
	Advice           []string
}

// State is a publication's part in its stream.
type State string

// The states of a publication.
const (
	Waiting   State = "waiting"   // for a first key frame
	Leading   State = "leading"   // its key frames begin the segments
	Following State = "following" // it is cut where the leader is
	Aligning  State = "aligning"  // it is not known yet where on the timeline it belongs
	Out       State = "out"       // its key frames are not those of the ladder
)

// tell brings the publication's Input up to date.
func (p *Publication) tell() {
	in := &Input{
		Rung: p.Rung, Since: p.since, State: Waiting, By: p.by,
		Tracks: append([]media.Track(nil), p.tracks...), Renditions: make([]string, len(p.tracks)),
	}
	switch {
	case p.based && p.run.leads(p):
		in.State, in.By = Leading, Leads
	case p.based && p.out:
		in.State = Out
		in.Reason = fmt.Sprintf("its key frames, every %.3g s, are not those of the ladder: let all encoders place key frames at the same times, every %.3g s, and none at scene cuts only",
			time.Duration(p.interval.Load()).Seconds(), p.run.limit().Seconds())
	case p.based:
		in.State = Following
	case len(p.keys) > 0:
		in.State, in.By = Aligning, ""
		if len(p.keys) > 3 && p.shares == nil {
			in.Reason = fmt.Sprintf("its key frames, every %.3g s, do not come when those of the ladder do: let all encoders place key frames at the same times of the source",
				time.Duration(p.interval.Load()).Seconds())
		}
	}
	if p.based {
		in.Skew, in.Lag = time.Duration(p.skew), time.Duration(p.lag)
		in.KeyframeInterval = time.Duration(p.leader.nanos(p.cadence))
		for i, l := range p.of[:len(p.tracks)] {
			if l != nil {
				in.Renditions[i] = l.rend.ID
			} else if p.seen[i] {
				in.Renditions[i] = p.id(i)
			}
		}
	}
	for _, a := range p.advice {
		if a != "" {
			in.Advice = append(in.Advice, a)
		}
	}
	p.input.Store(in)
}

// Status returns how the stream is doing.
func (s *Stream) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.Publishing = len(s.pubs) > 0
	for _, p := range s.pubs {
		in := *p.input.Load()
		if in.State == Leading || st.KeyframeInterval == 0 {
			st.KeyframeInterval = in.KeyframeInterval
		}
		if st.Since.IsZero() || in.Since.Before(st.Since) {
			st.Since = in.Since
		}
		advice := in.Advice
		if in.Reason != "" {
			advice = append(slices.Clip(advice), in.Reason)
		}
		for _, a := range advice {
			if in.Rung != "" {
				a = in.Rung + ": " + a
			}
			st.Advice = append(st.Advice, a)
		}
		st.Inputs = append(st.Inputs, in)
	}
	slices.SortFunc(st.Inputs, func(a, b Input) int { return compareRungs(a.Rung, b.Rung) })
	return st
}

// compareRungs orders rungs by the number they begin with, the largest first; the source comes before all.
func compareRungs(a, b string) int {
	if (a == "") != (b == "") {
		if a == "" {
			return -1
		}
		return 1
	}
	number := func(s string) (n int) {
		for _, c := range s {
			if c < '0' || c > '9' || n > 1e6 {
				break
			}
			n = 10*n + int(c-'0')
		}
		return n
	}
	if x, y := number(a), number(b); x != y {
		return y - x
	}
	if a < b {
		return -1
	} else if a > b {
		return 1
	}
	return 0
}
