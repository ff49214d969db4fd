package segmenter

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"headwater/segmenter/journal"
	"headwater/segmenter/store"
)

// Keeping a run where it outlives the process: what happens to it is written to a log, and its chunks to files, before the
// Window is published that shows it. What is served lies in memory all the same, so that a disk that fails harms nobody: then
// the run goes on, its log is marked, so that nobody takes it for all that there was, and it is written anew, with everything
// that it holds, as soon as that can be done.
//
// The system is not asked to put anything on the disk itself: what has been written survives the process, not a power failure.

// A keeper keeps one run. Run.mu protects it.
type keeper struct {
	dir     *store.Dir
	counts  *keeping
	folder  *store.Folder // nil: not made yet
	log     *store.Log    // of which nothing is missing; nil: it fails, or has not been begun
	broken  *store.Log    // is to be marked as lacking something
	anew    bool          // the log is being begun
	failing bool
	retry   time.Time
	pending []byte         // records of what no Window shows yet
	base    int64          // size of the log when it was begun
	inits   map[string]int // numbers of initialization sections; they stay what they are while a segment needs them
	part    journal.Part   // room for a record

	// Of a run that has ended.
	whole     *journal.Recording // the log is being begun with all segments stored, and this
	recording bool               // it is being made a recording, or is one
	recorded  bool               // it is one: its folder stays
	again     time.Time          // when that may be tried again
}

// keeping counts an origin's runs.
type keeping struct {
	runs, failing, failures atomic.Int64
	err                     atomic.Pointer[error] // the latest
}

// A Keeping says how many runs are kept where they outlive the process.
type Keeping struct {
	Runs     int   // that are, or should be
	Failing  int   // that are not, although they should be: they go on in memory alone
	Failures int64 // times that one began to fail
	Err      error // why the latest did; nil: none has
}

// Keeping says how that goes.
func (o *Origin) Keeping() Keeping {
	k := Keeping{Runs: int(o.keeping.runs.Load()), Failing: int(o.keeping.failing.Load()), Failures: o.keeping.failures.Load()}
	if err := o.keeping.err.Load(); err != nil {
		k.Err = *err
	}
	return k
}

const (
	retryKeeping = 5 * time.Second // between attempts to write what could not be written
	// minRewrite is how long a log is at least before it is begun anew, which is when it has doubled.
	minRewrite = 256 << 10
)

// keep begins to keep the run, which from now on can be played. Run.mu is held.
func (r *Run) keep() {
	if r.Stream == nil || r.Stream.origin == nil || r.Stream.origin.dir == nil || r.keeper != nil {
		return
	}
	o := r.Stream.origin
	r.keeper = &keeper{dir: o.dir, counts: &o.keeping}
	o.keeping.runs.Add(1)
	r.rewrite()
}

// noting says whether what happens is to be noted.
func (r *Run) noting() bool { return r.keeper != nil && (r.keeper.log != nil || r.keeper.anew) }

func (r *Run) note(record any) {
	r.keeper.pending = journal.Append(r.keeper.pending, record)
}

func (r *Run) noteBoundary(b *boundary) {
	if r.noting() {
		r.note(&journal.Boundary{MSN: b.msn, DiscSeq: b.discSeq, Time: b.time, Moved: b.moved, Disc: b.disc})
	}
}

// noteRendition notes that x has been added, last.
func (r *Run) noteRendition(x *Rendition) {
	if !r.noting() {
		return
	}
	if err := r.openFile(x, len(*r.renditions.Load())-1); err != nil {
		r.failKeeping(err)
		return
	}
	r.note(x.record())
}

func (x *Rendition) record() *journal.Rendition {
	return &journal.Rendition{ID: x.ID, Kind: x.Kind, Rung: x.Rung, Lower: x.Lower}
}

func (r *Run) openFile(x *Rendition, n int) (err error) {
	if x.disk == nil {
		x.number = n
		x.disk, err = r.keeper.folder.File(n)
	}
	return err
}

// maxInits bounds the initialization sections that are kept: they are all written when a log is begun anew.
const maxInits = 1024

var errInits = fmt.Errorf("the stream has changed its configuration more than %d times", maxInits)

// noteInit notes an initialization section, unless it has been, and returns its number.
func (r *Run) noteInit(in *Init) (int, error) {
	k := r.keeper
	if n, ok := k.inits[in.Hash]; ok {
		return n, nil
	}
	if len(k.inits) >= maxInits {
		return 0, errInits
	}
	taken := make([]bool, len(k.inits)+1)
	for _, n := range k.inits {
		if n < len(taken) {
			taken[n] = true
		}
	}
	n := slices.Index(taken, false)
	k.inits[in.Hash] = n
	r.note(&journal.Init{Track: in.Track, Bytes: in.Bytes, Number: n + 1})
	return n, nil
}

// noteInits notes those that the renditions need, under the numbers that they have, and forgets the others'.
func (r *Run) noteInits(renditions []*Rendition) error {
	k, was := r.keeper, r.keeper.inits
	k.inits = map[string]int{}
	var fresh []*Init
	note := func(in *Init) {
		n, ok := was[in.Hash]
		if _, noted := k.inits[in.Hash]; noted {
			return
		} else if !ok {
			fresh = append(fresh, in)
			return
		}
		k.inits[in.Hash] = n
		r.note(&journal.Init{Track: in.Track, Bytes: in.Bytes, Number: n + 1})
	}
	for _, x := range renditions {
		for _, u := range x.inits {
			note(u.init)
		}
		if x.open.Init != nil {
			note(x.open.Init)
		}
	}
	for _, in := range fresh {
		if _, err := r.noteInit(in); err != nil {
			return err
		}
	}
	return nil
}

func (r *Run) noteBegin(x *Rendition, s *Start) {
	if !r.noting() {
		return
	}
	n, err := r.noteInit(s.Init)
	if err != nil {
		r.failKeeping(err)
		return
	}
	r.note(&journal.Begin{Rendition: x.number, Init: n, MSN: s.MSN, DiscSeq: s.DiscSeq,
		Time: s.Time, NextPart: s.NextPart, Wall: s.ProgramTime, Disc: s.Discontinuity})
}

func (r *Run) noteCut(x *Rendition, end int64) {
	if r.noting() {
		r.note(&journal.Cut{Rendition: x.number, End: end})
	}
}

// notePart stores p's chunk, which is head and payload, and notes p.
func (r *Run) notePart(x *Rendition, p *Part, head, payload []byte) {
	if !r.noting() {
		return
	}
	x.markDisk(p)
	var err error
	if p.disk, err = x.disk.Keep(head, payload); err != nil {
		r.failKeeping(err)
		return
	}
	r.notePlaced(x, p)
}

// markDisk lets segments be given back whole.
func (x *Rendition) markDisk(p *Part) {
	if p.MSN != x.diskMSN {
		x.disk.Mark()
		x.diskMSN = p.MSN
	}
}

func (r *Run) notePlaced(x *Rendition, p *Part) {
	j := &r.keeper.part
	*j = journal.Part{Rendition: x.number, At: p.disk.Offset(), Size: p.disk.Len(), Head: p.head,
		Time: p.Time, Duration: p.Duration, Arrived: p.Arrived, Independent: p.Independent, Samples: p.Samples}
	r.note(j)
	j.Samples = nil
}

func (r *Run) noteEnded() {
	if r.noting() {
		r.note(&journal.Ended{})
	}
}

// flush writes what has been noted. A Window may be published then.
func (r *Run) flush() {
	k := r.keeper
	if k == nil || k.log == nil || len(k.pending) == 0 {
		return
	}
	if size := k.log.Size(); size > minRewrite && size > 2*k.base {
		r.rewrite() // with what is pending: it has happened
		return
	}
	if err := k.log.Append(k.pending); err != nil {
		r.failKeeping(err)
		return
	}
	k.pending = k.pending[:0]
}

// failKeeping goes on in memory.
func (r *Run) failKeeping(err error) {
	k := r.keeper
	if k.log != nil {
		k.broken, k.log = k.log, nil
	}
	k.mark()
	k.pending = k.pending[:0]
	k.retry = time.Time{} // counts from the next Tick
	k.counts.err.Store(&err)
	if !k.failing {
		k.failing = true
		k.counts.failing.Add(1)
		k.counts.failures.Add(1)
	}
}

// mark says in a log that lacks something that it does.
func (k *keeper) mark() {
	if k.broken != nil && k.broken.Mark(journal.StateAt, journal.Failed) == nil {
		k.broken.Close()
		k.broken = nil
	}
}

// keepAtOnce is how many bytes, about, are stored while nothing else can happen to a run.
const keepAtOnce = 4 << 20

// keepSome stores some of what is not stored, and says whether there may be more.
func (r *Run) keepSome(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.keeper
	if k == nil || !k.failing || k.retry.IsZero() || now.Before(k.retry) {
		return false
	}
	var room []byte
	for _, x := range *r.renditions.Load() {
		stored := 0
		for _, s := range x.list[x.cold:] {
			if x.disk == nil || stored > keepAtOnce {
				return x.disk != nil
			}
			if n := len(s.Parts); n == 0 || s.Parts[n-1].disk.Len() > 0 {
				continue
			}
			if x.keepParts(s.Parts, &room) != nil {
				return false // rewrite will find that, too
			}
			stored += s.Size()
		}
	}
	return false
}

// tend tries again what has failed.
func (r *Run) tend(now time.Time) {
	for r.keepSome(now) { // much may have come together
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.keeper
	switch {
	case k == nil || !k.failing:
	case k.retry.IsZero():
		k.mark()
		k.retry = now.Add(retryKeeping)
	case !now.Before(k.retry):
		k.mark()
		r.rewrite()
	}
}

// rewrite begins the log anew with what the run holds, and stores what of that is not stored. Run.mu is held.
func (r *Run) rewrite() {
	k := r.keeper
	err := r.writeAnew()
	k.pending = nil // room for a whole log, which the next part does not need
	if err != nil {
		r.failKeeping(err)
		return
	}
	if k.failing {
		k.failing = false
		k.counts.failing.Add(-1)
	}
}

// folderName is what the run's folder is called.
func (r *Run) folderName() string { return r.ID + "-" + contentHash([]byte(r.Stream.Name)) }

func (r *Run) writeAnew() (err error) {
	k := r.keeper
	if k.folder == nil {
		if k.folder, err = k.dir.Folder(r.folderName(), true); err != nil {
			return err
		}
	}
	renditions := *r.renditions.Load()
	var room []byte // for a chunk
	for i, x := range renditions {
		if err := r.openFile(x, i); err != nil {
			return err
		}
		if err := x.keepAll(&room); err != nil {
			return err
		}
	}
	k.pending = journal.AppendHeader(k.pending[:0])
	k.anew = true
	err = r.noteAll(renditions)
	k.anew = false
	if err != nil {
		return err
	}
	log, err := k.folder.Rewrite(k.pending)
	if err != nil {
		return err
	}
	if k.log != nil {
		k.log.Close()
	}
	if k.broken != nil { // it has been replaced
		k.broken.Close()
		k.broken = nil
	}
	k.log, k.base = log, log.Size()
	for _, x := range renditions {
		if x.index != nil && x.cold > 0 {
			x.index.Free(x.at(x.list[0].MSN))
		}
	}
	return nil
}

// keepAll stores the chunks that are not stored.
func (x *Rendition) keepAll(room *[]byte) error {
	for _, s := range x.list[x.cold:] {
		if err := x.keepParts(s.Parts, room); err != nil {
			return err
		}
	}
	return x.keepParts(x.open.Parts, room)
}

func (x *Rendition) keepParts(parts []*Part, room *[]byte) (err error) {
	for _, p := range parts {
		if p.disk.Len() > 0 {
			continue
		}
		x.markDisk(p)
		if *room, err = p.chunk.Append(reuse(*room), 0, p.chunk.Len()); err != nil {
			return err
		}
		if p.disk, err = x.disk.Keep(nil, *room); err != nil {
			return err
		}
	}
	return nil
}

// noteAll notes everything that the run holds. What is stored is in the indexes.
func (r *Run) noteAll(renditions []*Rendition) error {
	cfg := &r.Config
	r.note(&journal.Run{
		Stream: r.Stream.Name, ID: r.ID, Boot: r.keeper.dir.Boot, FirstMSN: r.FirstMSN, Epoch: r.Epoch,
		TargetDuration: int64(cfg.TargetDuration), PartTarget: int64(cfg.PartTarget), WindowMin: int64(cfg.WindowMin), WindowSegments: cfg.WindowSegments,
		Target: r.target.Load(), Slack: r.slack.Load(), Heard: r.heard.Load(),
		Last: r.last.Load(), Discs: r.discs, Decided: r.decided.Load(), Edge: r.edge, Moved: r.slew.moved, Due: r.due,
		Event: cfg.Event, Record: int64(cfg.Record), HoldBack: r.holdBack.Load(),
	})
	if r.keeper.whole != nil {
		r.note(r.keeper.whole)
	}
	if err := r.noteInits(renditions); err != nil {
		return err
	}
	for i := range r.recent {
		r.noteBoundary(&r.recent[i])
	}
	for _, x := range renditions {
		r.note(x.record())
		indexed := x.cold
		if r.keeper.whole != nil {
			indexed = len(x.list)
		}
		if indexed > 0 {
			r.note(&journal.Stored{Rendition: x.number, Base: x.base, From: x.list[0].MSN, To: x.list[indexed-1].MSN + 1})
		}
		for _, s := range x.list[indexed:] {
			r.noteBegin(x, &Start{MSN: s.MSN, Time: s.Start, NextPart: -1, ProgramTime: s.Time, Discontinuity: s.Discontinuity, DiscSeq: s.DiscSeq, Init: s.Init})
			for _, p := range s.Parts {
				r.notePlaced(x, p)
			}
			r.noteCut(x, s.Start+s.Duration)
		}
		if o := &x.open; x.running {
			r.noteBegin(x, &Start{MSN: o.MSN, Time: o.Start, NextPart: x.nextPart, ProgramTime: o.Time, Discontinuity: o.Discontinuity, DiscSeq: o.DiscSeq, Init: o.Init})
			for _, p := range o.Parts {
				r.notePlaced(x, p)
			}
		}
		r.note(x.state())
	}
	r.note(&journal.Begun{})
	if r.ended {
		r.noteEnded()
	}
	return nil
}

func (x *Rendition) state() *journal.State {
	s := &x.stats
	return &journal.State{
		Rendition: x.number, First: x.first, Until: x.until, Listed: x.listed.ticks, Longest: x.longest, NextPart: x.nextPart, Tail: x.tail,
		Parts: s.parts.Load(), Segments: s.segments.Load(), Gaps: s.gaps.Load(), Samples: s.samples.Load(), Bytes: s.bytes.Load(),
		Dropped: s.dropped.Load(), Adjusted: s.adjusted.Load(), Peak: s.peak.Load(), MediaBytes: s.mediaBytes.Load(), MediaTicks: s.mediaTicks.Load(),
		IFramePeak: s.iframePeak.Load(), IFrameBytes: s.iframeBytes.Load(), IFrameTicks: s.iframeTicks.Load(),
	}
}

// forget removes what is kept of the run: it is no longer served. Run.mu is held.
func (r *Run) forget() {
	k := r.keeper
	if k == nil {
		return
	}
	r.keeper = nil
	if k.log != nil {
		k.log.Close()
	}
	if k.folder != nil && !k.recorded {
		if err := k.folder.Remove(); err != nil {
			k.counts.err.Store(&err)
		}
	}
	if k.broken != nil {
		k.broken.Close()
	}
	k.counts.runs.Add(-1)
	if k.failing {
		k.counts.failing.Add(-1)
	}
}
