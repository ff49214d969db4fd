package segmenter

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"headwater/segmenter/media"
)

// A Status says how a stream is doing, for people and for metrics.
type Status struct {
	Publishing       bool
	Since            time.Time     // when the first of the present publications began
	KeyframeInterval time.Duration // the leader's
	TargetDuration   int           // s
	Inputs           []Input       // the present publications, by rung
	Advice           []Advice
	Reconnects       int
	Discontinuities  int
	Switches         [len(Reasons)]uint64 // between primaries and backups, in the order of Reasons
}

// An Input is a publication that feeds a stream.
type Input struct {
	Rung             string // "720p"; "" is the only one or the source
	Backup           bool   // not the primary
	Switched         Switch // when and why the rung went over to it, if it feeds it; zero: it has from the beginning
	Since            time.Time
	State            State
	By               Evidence      // what its place on the timeline rests on
	Reason           string        // why it is not in the ladder, in plain words
	KeyframeInterval time.Duration // the latest, or for how long none has come if that is too long; 0 is unknown
	Skew             time.Duration // of its latest key frame against the leader's
	Lag              time.Duration // by how much later than the leader's that arrived
	Tracks           []media.Track
	Renditions       []string // the rendition that each track feeds; "" is none
	Advice           []Advice
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
	Standby   State = "standby"   // the other publication of the rung feeds it
)

// tell brings the publication's Input up to date.
func (p *Publication) tell() {
	in := &Input{
		Rung: p.Rung, Backup: p.backup, Since: p.since, State: Waiting, By: p.by,
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
		in.KeyframeInterval = time.Duration(p.keyInterval())
		for i, l := range p.of[:len(p.tracks)] {
			if l != nil {
				in.Renditions[i] = l.rend.ID
			} else if p.seen[i] {
				in.Renditions[i] = p.id(i)
			}
		}
	}
	for _, a := range p.advice {
		if a.Text != "" {
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
		s.standing(p, &in)
		if in.State == Leading || st.KeyframeInterval == 0 {
			st.KeyframeInterval = in.KeyframeInterval
		}
		if st.Since.IsZero() || in.Since.Before(st.Since) {
			st.Since = in.Since
		}
		advice := in.Advice
		if in.Reason != "" && in.State != Standby {
			advice = append(slices.Clip(advice), Advice{in.Reason, in.Reason})
		}
		for _, a := range advice {
			if at := in.place(); at != "" {
				a = Advice{at + ": " + a.Text, at + ": " + a.About}
			}
			st.Advice = append(st.Advice, a)
		}
		st.Inputs = append(st.Inputs, in)
	}
	for i := range st.Switches {
		st.Switches[i] = s.switches[i].Load()
	}
	slices.SortFunc(st.Inputs, func(a, b Input) int { return cmp.Or(compareRungs(a.Rung, b.Rung), order(a.Backup)-order(b.Backup)) })
	return st
}

func order(backup bool) int {
	if backup {
		return 1
	}
	return 0
}

// Role says whether it is a primary or a backup.
func (in *Input) Role() string {
	if in.Backup {
		return "backup"
	}
	return "primary"
}

// place names the input for people.
func (in *Input) place() string {
	switch {
	case !in.Backup:
		return in.Rung
	case in.Rung == "":
		return "backup"
	}
	return in.Rung + " backup"
}

// standing says in in whether p stands by, and otherwise since when it feeds its rung: what p itself, if it has stalled, does not
// know. s.mu is held.
func (s *Stream) standing(p *Publication, in *Input) {
	q := p.standsFor.Load()
	if (in.State == Leading || in.State == Following || in.State == Out) && !s.places(p) {
		in.State, in.By = Waiting, "" // the run has come to a halt without it
	}
	switch {
	case q != nil && in.State != Waiting:
		in.State, in.Reason = Standby, "the primary feeds it"
		if q.backup {
			in.Reason = "the backup feeds it"
		}
	case in.State == Aligning && p.hasOther(s.pubs):
		in.State = Standby
		if in.Reason != "" {
			in.Reason = "its key frames are not those of the other encoder: a switch makes a discontinuity; let both place key frames at the same times of the source"
			in.Advice = append(slices.Clip(in.Advice), Advice{in.Reason, in.Reason})
		}
	case in.State == Waiting && p.hasOther(s.pubs):
		in.State, in.Reason = Standby, "it has to begin with a key frame"
	}
	if w := p.took.Load(); w != nil && q == nil {
		in.Switched = *w
	}
}

// places says whether p is on the timeline of the current run. s.mu is held.
func (s *Stream) places(p *Publication) bool {
	n := len(s.runs)
	if n == 0 {
		return false
	}
	r := s.runs[n-1]
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.pubs, p)
}

// hasOther says whether another publication of p's rung is among those.
func (p *Publication) hasOther(pubs []*Publication) bool {
	return slices.ContainsFunc(pubs, func(q *Publication) bool { return q != p && q.Rung == p.Rung })
}

// turned counts a switch.
func (s *Stream) turned(why Reason) { s.switches[slices.Index(Reasons[:], why)].Add(1) }

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
