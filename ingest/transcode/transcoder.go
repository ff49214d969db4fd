package transcode

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"headwater/ingest"
	"headwater/segmenter/media"
)

// maxTold is how many lines of the log say of one publication that a rung is left out: a source may change all the time.
const maxTold = 20

// A Transcoder is a Writer around the source's. Its methods but Stats and Done are called from one goroutine, the
// source's, which it never holds up: not even Close waits for the child, see Done.
type Transcoder struct {
	ladder *Ladder
	name   string
	w      ingest.Writer
	log    *slog.Logger
	times  timing

	// For the source's goroutine.
	plan    *plan
	told    []skipped // rungs that the log says are left out
	lines   int       // how many it has said so
	current *run      // what samples go to; nil before the first and after one that ended
	renew   bool      // current cannot go on, and is replaced at the next boundary
	seen    bool      // the first boundary has been seen
	first   int64
	started bool // the supervisor

	// Between the source's goroutine and the supervisor's.
	want   atomic.Bool   // a new run may be handed over
	runs   chan *run     // one that waits to be served
	closed chan struct{} // closed by Close, after reason has been set
	reason error
	done   chan struct{} // closed when all has ended

	exact exactTimes
	count counters

	mu  sync.Mutex // protects what follows
	pid int        // of the child that runs; 0 is none
	cpu int64      // ns, of those that have ended
	top int64      // the largest sum that has been told
}

var _ ingest.Writer = (*Transcoder)(nil)

func newTranscoder(l *Ladder, name string, w ingest.Writer) *Transcoder {
	t := &Transcoder{
		ladder: l, name: name, w: w, log: l.Log, times: l.times.defaults(),
		runs: make(chan *run, 1), closed: make(chan struct{}), done: make(chan struct{}),
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.log = t.log.With("stream", name)
	t.want.Store(true)
	return t
}

// SetTracks implements ingest.Writer.
func (t *Transcoder) SetTracks(tracks []media.Track) error {
	tracks = slices.Clone(tracks) // the Writer may keep the list, and change it
	kept := slices.Clone(tracks)
	if err := t.w.SetTracks(tracks); err != nil {
		return err
	}
	p := newPlan(t.ladder.Rungs, kept)
	if r := t.running(); r != nil {
		switch {
		case len(p.rungs) == 0:
			r.finish(errChanged)
			t.current = nil
			t.want.Store(true) // the next may queue behind it
		case r.plan.changed(p):
			t.renew = true
		default:
			r.headers = r.headers || p.video >= 0 && string(t.plan.v.Codec.Config) != string(p.v.Codec.Config)
		}
	}
	if !p.waiting && !slices.Equal(t.told, p.skipped) {
		t.told = p.skipped
		for _, s := range p.skipped {
			if t.lines++; t.lines > maxTold {
				break
			}
			t.log.Info("rung is left out", "rung", s.rung.Name, "reason", s.reason)
		}
	}
	t.plan = p
	if e, ok := t.w.(Expecter); ok {
		e.Expect(p.names())
	}
	return nil
}

// WriteSample implements ingest.Writer.
func (t *Transcoder) WriteSample(track int, s *media.Sample) error {
	if err := t.w.WriteSample(track, s); err != nil {
		return err
	}
	t.feed(track, s)
	return nil
}

// Close implements ingest.Writer. The child gets a while to hand out what it has, then the rungs are closed as the source
// was.
func (t *Transcoder) Close(reason error) error {
	err := t.w.Close(reason)
	t.reason = reason
	if r := t.running(); r != nil {
		r.finish(reason)
		t.current = nil
	}
	close(t.closed)
	if !t.started {
		t.ladder.forget(t)
		close(t.done)
	}
	return err
}

// Done is closed when, after Close, the child has ended and every rung is closed.
func (t *Transcoder) Done() <-chan struct{} { return t.done }

// running returns the present run, unless it has ended.
func (t *Transcoder) running() *run {
	if t.current != nil && t.current.over.Load() {
		t.current = nil
	}
	return t.current
}

// hand gives r to the supervisor. None waits to be taken: see queue.
func (t *Transcoder) hand(r *run) {
	if !t.started {
		t.started = true
		t.ladder.children.Add(1)
		go t.supervise()
	}
	t.runs <- r // nobody else sends
	t.current, t.renew = r, false
}
