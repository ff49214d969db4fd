package segmenter

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"sync"
	"time"

	"headwater/segmenter/journal"
	"headwater/segmenter/media"
	"headwater/segmenter/store"
)

// Recover keeps the origin's runs in dir from now on, and brings back those that the process before this one kept there: each
// is as if all its publishers had been lost at now, or longer ago than its grace if the last part is older than that. It is
// called once, before anything else; Config is called by several goroutines. It returns how many runs have come back, and what was wrong with those that have not:
// nothing is left of them, and a new run of the stream has other URLs.
func (o *Origin) Recover(dir *store.Dir, now time.Time) (int, []error) {
	o.dir = dir
	names, err := dir.Folders()
	if err != nil {
		return 0, []error{err}
	}
	runs, errs := o.readRuns(names, now)
	slices.SortFunc(runs, func(a, b *recovery) int {
		x, _ := a.run.named()
		y, _ := b.run.named()
		return cmp.Compare(x, y)
	})
	last := map[string]*recovery{}
	for _, v := range runs {
		last[v.run.Stream.Name] = v
	}
	for _, v := range runs {
		v.resume(now, last[v.run.Stream.Name] == v)
	}
	return len(runs), errs
}

// readRuns reads what is kept in the folders of these names, and removes what is of no use.
func (o *Origin) readRuns(names []string, now time.Time) (runs []*recovery, errs []error) {
	var mu sync.Mutex // protects runs and errs
	var done sync.WaitGroup
	free := make(chan struct{}, runtime.GOMAXPROCS(0))
	for _, name := range names {
		free <- struct{}{}
		done.Go(func() {
			v, err := o.readRun(name, now)
			mu.Lock()
			defer mu.Unlock()
			if v != nil {
				runs = append(runs, v)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
			<-free
		})
	}
	done.Wait()
	return runs, errs
}

func (o *Origin) readRun(name string, now time.Time) (*recovery, error) {
	folder, err := o.dir.Folder(name, false)
	if err != nil {
		return nil, err
	}
	v := &recovery{origin: o, folder: folder}
	err = v.read()
	if err == nil && !v.gone(now) {
		return v, nil
	}
	if errors.Is(err, errRecorded) {
		v.log.Close()
		entry, err := v.entry(v.decoder, name)
		if err != nil {
			return nil, fmt.Errorf("a recording, which is left as it is: %w", err)
		}
		o.retire(entry.Run)
		o.recorded.add(entry)
		return nil, nil
	}
	if errors.Is(err, fs.ErrNotExist) { // it never was playable, or has been let go
		err = nil
	}
	v.discard()
	return nil, err
}

// errOtherBoot: see store.Dir.
var errOtherBoot = errors.New("it was kept before the system was started anew, and may lack what was published last")

// errIncomplete: other bytes must not get the URLs of those that are missing.
var errIncomplete = errors.New("it could not be kept to its end")

// errRecorded: it is none that goes on.
var errRecorded = errors.New("it is a recording")

// A recovery makes a run of what has been kept of one.
type recovery struct {
	recorded bool             // it is a recording, and stays as it is
	decoder  *journal.Decoder // of a recording that has been found

	origin *Origin
	folder *store.Folder
	run    *Run
	inits  map[int]*Init
	next   int // the number of an initialization section that tells none
	log    *store.Log
	begun  bool  // what is read happened after the log was begun
	heard  int64 // when the publishers were last heard of, Unix ns
}

// read replays the log.
func (v *recovery) read() error {
	b, err := v.folder.ReadLog()
	if err != nil {
		return err
	}
	if v.log, err = v.folder.Log(); err != nil {
		return err
	}
	d, state, err := journal.NewDecoder(b)
	if err != nil {
		return err
	}
	switch {
	case v.recorded && state == journal.Recorded:
	case state == journal.Recorded:
		v.decoder = d
		return errRecorded
	case v.recorded || state != journal.Current:
		return errIncomplete
	}
	for {
		record, err := d.Next()
		if err == io.EOF || err == journal.ErrTorn {
			break // nobody has seen what a torn record tells of
		}
		if err != nil {
			return err
		}
		if err := v.replay(record); err != nil {
			return err
		}
	}
	if v.run == nil || !v.begun {
		return media.Formatf("journal", "it has no beginning")
	}
	for _, x := range v.renditions() {
		if len(x.list) == 0 && !x.running {
			return media.Formatf("journal", "rendition %s has no segment", x.ID)
		}
		if v.recorded {
			continue
		}
		if err := x.disk.Trim(); err != nil {
			return err
		}
	}
	return nil
}

func (v *recovery) renditions() []*Rendition { return *v.run.renditions.Load() }

func (v *recovery) rendition(n int) (*Rendition, error) {
	if v.run == nil || n >= len(v.renditions()) {
		return nil, media.Formatf("journal", "there is no rendition %d", n)
	}
	return v.renditions()[n], nil
}

func (v *recovery) replay(record any) error {
	if j, ok := record.(*journal.Run); ok {
		return v.begin(j)
	}
	if v.run == nil {
		return media.Formatf("journal", "it does not begin with a run")
	}
	r := v.run
	switch j := record.(type) {
	case *journal.Boundary:
		if len(r.recent) == maxRecent {
			r.recent = append(r.recent[:0], r.recent[1:]...)
		}
		r.recent = append(r.recent, boundary{msn: j.MSN, time: j.Time, disc: j.Disc, discSeq: j.DiscSeq, moved: j.Moved})
		if j.MSN > r.last.Load() {
			r.last.Store(j.MSN)
			r.discs = j.DiscSeq
			r.decided.Store(max(j.Time, r.decided.Load()))
			r.slew.moved = j.Moved
			r.due = false
		}
	case *journal.Rendition:
		return v.add(j)
	case *journal.Init:
		if j.Track.Timescale == 0 || len(j.Bytes) == 0 {
			return media.Formatf("journal", "an initialization section of nothing")
		}
		if j.Number > 0 {
			v.next = j.Number - 1
		}
		if v.inits == nil {
			v.inits = map[int]*Init{}
		}
		v.inits[v.next] = &Init{Track: j.Track, Bytes: j.Bytes, Hash: contentHash(j.Bytes)}
		v.next++
	case *journal.Stored:
		return v.stored(j)
	case *journal.Begin:
		return v.start(j)
	case *journal.Part:
		return v.part(j)
	case *journal.Cut:
		return v.cut(j)
	case *journal.State:
		return v.state(j)
	case *journal.Begun:
		v.begun = true
	case *journal.Ended:
		r.ended = true
	}
	return nil
}

func (v *recovery) begin(j *journal.Run) error {
	switch _, ok := nameTime(j.ID); {
	case v.run != nil || !ok || j.Stream == "" || j.FirstMSN == 0 || j.Target <= 0 ||
		j.Target > int64(MaxTargetDuration/time.Second) || j.PartTarget < 0 || j.WindowSegments < 0:
		return media.Formatf("journal", "it begins with no run that there can be")
	case j.Boot != v.origin.dir.Boot && !v.recorded:
		return errOtherBoot
	}
	s := &Stream{Name: j.Stream, origin: v.origin}
	if v.recorded {
		s.origin = nil // it is no stream of the origin's, nor is its memory counted
	}
	r := NewRun(j.ID, s, Config{
		TargetDuration: time.Duration(j.TargetDuration), PartTarget: time.Duration(j.PartTarget),
		WindowSegments: j.WindowSegments, WindowMin: time.Duration(j.WindowMin),
		Event: j.Event, Record: time.Duration(j.Record),
	}, j.FirstMSN, j.Epoch)
	r.target.Store(j.Target)
	r.slack.Store(j.Slack)
	r.holdBack.Store(j.HoldBack)
	r.last.Store(j.Last)
	r.decided.Store(j.Decided)
	r.discs, r.edge, r.due, r.slew.moved = j.Discs, j.Edge, j.Due, j.Moved
	v.run, v.heard = r, j.Heard
	return nil
}

func (v *recovery) add(j *journal.Rendition) error {
	n := len(v.renditions())
	if _, twice := v.run.find(j.ID); twice || j.ID == "" || n >= MaxRenditions || j.Kind != media.Video && j.Kind != media.Audio {
		return media.Formatf("journal", "rendition %q cannot be added", j.ID)
	}
	x := v.run.newRendition(j.ID, j.Kind, j.Rung)
	x.Lower, x.number = j.Lower, n
	var err error
	if x.disk, err = v.folder.File(n); err != nil {
		return err
	}
	if v.recorded {
		x.disk.Retain()
	}
	v.run.add(x)
	return nil
}

func (v *recovery) start(j *journal.Begin) error {
	x, err := v.rendition(j.Rendition)
	if err != nil {
		return err
	}
	if v.inits[j.Init] == nil {
		return media.Formatf("journal", "there is no initialization section %d", j.Init)
	}
	if n := len(x.list); n > 0 && j.MSN != x.list[n-1].MSN+1 || j.MSN == 0 || len(x.open.Parts) > 0 && x.running {
		return media.Formatf("journal", "segment %d begins out of turn", j.MSN)
	}
	x.begin(Start{MSN: j.MSN, Time: j.Time, NextPart: j.NextPart, ProgramTime: j.Wall, Discontinuity: j.Disc, DiscSeq: j.DiscSeq, Init: v.inits[j.Init]})
	return nil
}

func (v *recovery) part(j *journal.Part) error {
	x, err := v.rendition(j.Rendition)
	if err != nil {
		return err
	}
	if !x.running || len(j.Samples) == 0 || j.Size == 0 || j.Head > j.Size || len(x.open.Parts) >= maxParts {
		return media.Formatf("journal", "a part that cannot be there")
	}
	p := &Part{MSN: x.open.MSN, Index: len(x.open.Parts), Time: j.Time, Duration: j.Duration, Independent: j.Independent,
		Arrived: j.Arrived, Samples: j.Samples, head: j.Head}
	x.markDisk(p)
	if p.disk, err = x.disk.Restore(j.At, j.Size); err != nil {
		return err
	}
	p.chunk = p.disk
	x.add(p)
	v.heard = max(v.heard, p.Arrived)
	return nil
}

func (v *recovery) cut(j *journal.Cut) error {
	x, err := v.rendition(j.Rendition)
	if err != nil {
		return err
	}
	if !x.running || j.End < x.open.Start {
		return media.Formatf("journal", "a segment ends that has not begun")
	}
	if v.begun {
		x.cut(j.End, nil)
		return nil
	}
	s := x.open.segment(j.End)
	x.list = append(x.list, s)
	x.needs(s)
	x.close(s)
	return nil
}

// state ends what the log was begun with, for one rendition.
func (v *recovery) state(j *journal.State) error {
	x, err := v.rendition(j.Rendition)
	if err != nil {
		return err
	}
	if v.begun || j.First < 0 || j.First > len(x.list) || len(j.Until) != j.First {
		return media.Formatf("journal", "a state that is none of rendition %s", x.ID)
	}
	x.first, x.until, x.longest, x.nextPart, x.tail = j.First, j.Until, j.Longest, j.NextPart, j.Tail
	for _, s := range x.list[x.first:] {
		x.listed.add(s, 1)
	}
	if x.listed.ticks != j.Listed {
		return media.Formatf("journal", "rendition %s does not last as long as it should", x.ID)
	}
	s := &x.stats
	for _, c := range []struct {
		to interface{ Store(uint64) }
		v  uint64
	}{
		{&s.parts, j.Parts}, {&s.segments, j.Segments}, {&s.gaps, j.Gaps}, {&s.samples, j.Samples}, {&s.bytes, j.Bytes},
		{&s.dropped, j.Dropped}, {&s.adjusted, j.Adjusted}, {&s.peak, j.Peak}, {&s.mediaBytes, j.MediaBytes},
		{&s.iframePeak, j.IFramePeak}, {&s.iframeBytes, j.IFrameBytes},
	} {
		c.to.Store(c.v)
	}
	s.mediaTicks.Store(j.MediaTicks)
	s.iframeTicks.Store(j.IFrameTicks)
	return nil
}

// gone says whether nobody can still be playing the run.
func (v *recovery) gone(now time.Time) bool {
	for _, x := range v.renditions() {
		x.publish() // for lasts
	}
	if v.run.Config.Record > 0 {
		return false // it becomes a recording
	}
	return now.UnixNano()-v.heard > int64(v.grace())+2*v.run.lasts()+int64(v.run.limit())
}

func (v *recovery) grace() time.Duration {
	return v.origin.config(v.run.Stream.Name).withDefaults().LossGrace
}

func (v *recovery) discard() {
	if v.run != nil {
		v.run.release()
	}
	v.folder.Remove()
	if v.log != nil {
		v.log.Close()
	}
}

// resume lets the run go on. Only the current one of a stream does.
func (v *recovery) resume(now time.Time, current bool) {
	o, r := v.origin, v.run
	s, ok := o.Stream(r.Stream.Name)
	if !ok {
		s = r.Stream
	}
	// What cannot change is as it was; the rest is as it is configured now.
	cfg := o.config(s.Name).withDefaults()
	cfg.TargetDuration, cfg.PartTarget = r.Config.TargetDuration, r.Config.PartTarget
	cfg.Event, cfg.Record = r.Config.Event, r.Config.Record
	r.Stream, r.Config = s, cfg

	r.mu.Lock()
	r.heard.Store(v.heard)
	r.halt(nil, v.reached(now))
	r.ready = true
	close(r.readyCh)
	if !current || now.UnixNano()-v.heard > int64(cfg.LossGrace) {
		r.ended = true
	}
	if r.ended {
		r.conclude()
	}
	r.keeper = &keeper{dir: o.dir, counts: &o.keeping, folder: v.folder, broken: v.log, inits: v.numbers()} // until it is written anew
	o.keeping.runs.Add(1)
	r.rewrite() // with what has just happened, before anybody sees it
	for _, x := range v.renditions() {
		x.publish() // with the edges of all
	}
	r.mu.Unlock()

	s.mu.Lock()
	s.runs = append(s.runs, r)
	s.lastMSN = max(s.lastMSN, r.last.Load())
	s.closing, s.lost = true, true
	s.status.TargetDuration = r.TargetDuration()
	s.status.Discontinuities = int(r.discs)
	if s.rungs == nil {
		s.rungs = map[place]bool{}
	}
	pictures := slices.ContainsFunc(v.renditions(), func(x *Rendition) bool { return x.Kind == media.Video })
	for _, x := range v.renditions() {
		if pictures && x.Kind == media.Audio && x.Rung == "" {
			continue // the sound of several
		}
		s.rungs[place{rung: x.Rung}] = true
		s.joined(x.Rung)
	}
	s.count()
	s.mu.Unlock()
	if !ok {
		o.mu.Lock()
		o.streams.Store(s.Name, s)
		o.count++
		o.mu.Unlock()
	}
}

// numbers are those that the initialization sections have.
func (v *recovery) numbers() map[string]int {
	out := make(map[string]int, len(v.inits))
	for n, in := range v.inits {
		out[in.Hash] = n
	}
	return out
}

// minLost is how long a segment lasts at least of which nothing is there.
const minLost = 100 * time.Millisecond

// reached is where the open segments end, ns: where the picture does, or the sound if there is none. Without either they last
// until now, but not longer than segments do.
func (v *recovery) reached(now time.Time) int64 {
	r := v.run
	ends := map[media.Kind]int64{}
	for _, x := range v.renditions() {
		if n := len(x.open.Parts); x.running && x.open.MSN == r.last.Load() && n > 0 {
			ends[x.Kind] = max(ends[x.Kind], media.Rescale(x.open.Parts[n-1].end(), x.open.Init.Track.Timescale, media.Second))
		}
	}
	begun := r.decided.Load()
	if n := len(r.recent); n > 0 {
		begun = r.recent[n-1].time
	}
	lost := now.UnixNano() - r.date(begun)
	return cmp.Or(ends[media.Video], ends[media.Audio], begun+max(min(lost, int64(r.limit())), int64(minLost)))
}
