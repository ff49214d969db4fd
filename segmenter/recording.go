package segmenter

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"headwater/segmenter/journal"
	"headwater/segmenter/media"
	"headwater/segmenter/store"
)

// A run of a stream that is recorded stays in its folder when it has ended: its segments are all stored, its files are on the disk,
// and its log says so. In memory there is an entry in a catalogue; the run itself is read again when somebody asks for it.

// A Recording is a run that has ended and is kept.
type Recording struct {
	Stream, Run  string
	Began, Ended time.Time // program dates and times of what there is
	Bytes        int64     // of media
}

type runKey struct{ stream, run string }

// A recording is an entry of the catalogue.
type recording struct {
	Recording
	folder string
	keep   time.Duration // if the configuration no longer says for how long

	reading  sync.Mutex // held while it is read
	run      *Run       // nil: it is not in memory. Protected by the catalogue's mu, as what follows
	segments int
}

// A catalogue is what an origin has recorded.
type catalogue struct {
	mu     sync.Mutex
	all    []*recording // by the time at which they began
	byRun  map[runKey]*recording
	loaded []*recording // the one that was asked for last comes last
	look   time.Time    // when it is to be seen what is too old

	work    sync.WaitGroup // what goes on beside Tick
	closing sync.Mutex
	closed  bool       // no more of it begins; protected by closing
	turn    sync.Mutex // one thing is written or removed at a time
}

const (
	// maxLoaded and maxLoadedSegments bound the recordings that are in memory, and the stored segments of them.
	maxLoaded         = 32
	maxLoadedSegments = 500_000
	// lookEvery is how often it is seen what is too old.
	lookEvery = 10 * time.Second
)

// Recordings returns what is recorded of the stream of that name, of all streams if it is "", the oldest first.
func (o *Origin) Recordings(stream string) []Recording {
	c := &o.recorded
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Recording
	for _, v := range c.all {
		if stream == "" || v.Stream == stream {
			out = append(out, v.Recording)
		}
	}
	return out
}

// Run returns the run of that ID of the stream of that name, if it is still served or is a recording.
func (o *Origin) Run(stream, id string) (*Run, bool) {
	if s, ok := o.Stream(stream); ok {
		if r, ok := s.RunByID(id); ok {
			return r, true
		}
	}
	return o.recorded.load(o, runKey{stream, id})
}

// load returns the run of a recording, which it reads if need be.
func (c *catalogue) load(o *Origin, key runKey) (*Run, bool) {
	v, r := c.get(key)
	if v == nil || r != nil {
		return r, r != nil
	}
	v.reading.Lock()
	defer v.reading.Unlock()
	if v, r = c.get(key); v == nil || r != nil {
		return r, r != nil
	}
	r, err := o.readRecording(v.folder)
	if err != nil {
		err = fmt.Errorf("recording %s of %s: %w", key.run, key.stream, err)
		o.keeping.err.Store(&err)
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byRun[key] != v {
		return nil, false // it has been removed
	}
	v.run, v.segments = r, 0
	for _, x := range r.Renditions() {
		v.segments += len(x.list)
	}
	c.loaded = append(c.loaded, v)
	segments := 0
	for i, n := len(c.loaded)-1, 0; i >= 0; i-- {
		segments += c.loaded[i].segments
		if n++; n > 1 && (n > maxLoaded || segments > maxLoadedSegments) {
			for _, old := range c.loaded[:i+1] {
				old.run = nil
			}
			c.loaded = slices.Clone(c.loaded[i+1:])
			break
		}
	}
	return r, true
}

// get returns an entry, and its run if that is in memory.
func (c *catalogue) get(key runKey) (*recording, *Run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v := c.byRun[key]
	if v == nil || v.run == nil {
		return v, nil
	}
	if i := slices.Index(c.loaded, v); i >= 0 && i < len(c.loaded)-1 {
		copy(c.loaded[i:], c.loaded[i+1:])
		c.loaded[len(c.loaded)-1] = v
	}
	return v, v.run
}

func (c *catalogue) add(v *recording) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byRun == nil {
		c.byRun = map[runKey]*recording{}
	}
	key := runKey{v.Stream, v.Run}
	if c.byRun[key] != nil {
		return
	}
	c.byRun[key] = v
	i, _ := slices.BinarySearchFunc(c.all, v, func(a, b *recording) int { return a.Began.Compare(b.Began) })
	c.all = slices.Insert(c.all, i, v)
	c.look = time.Time{}
}

// take removes an entry. c.mu is held.
func (c *catalogue) take(v *recording) {
	delete(c.byRun, runKey{v.Stream, v.Run})
	c.all = slices.DeleteFunc(c.all, func(o *recording) bool { return o == v })
	c.loaded = slices.DeleteFunc(c.loaded, func(o *recording) bool { return o == v })
	v.run = nil
}

// RemoveRecording removes a recording, and what is served of it. The error is ErrNotFound if there is none, or says why its files
// could not be removed: they may be there again after a restart.
func (o *Origin) RemoveRecording(stream, run string) error {
	c := &o.recorded
	c.mu.Lock()
	v := c.byRun[runKey{stream, run}]
	if v == nil {
		c.mu.Unlock()
		return ErrNotFound
	}
	c.take(v)
	c.mu.Unlock()
	return o.erase(v)
}

// erase removes what is left of a recording that is no longer in the catalogue.
func (o *Origin) erase(v *recording) error {
	o.recorded.turn.Lock()
	defer o.recorded.turn.Unlock()
	if s, ok := o.Stream(v.Stream); ok {
		s.strike(v.Run)
	}
	folder, err := o.dir.Folder(v.folder, false)
	if err != nil {
		return err
	}
	return folder.Remove()
}

// strike lets go of an ended run that is still served.
func (s *Stream) strike(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.runs, func(r *Run) bool { return r.ID == id && r.Ended() })
	if i < 0 {
		return
	}
	s.runs[i].release()
	s.runs = slices.Concat(s.runs[:i], s.runs[i+1:])
	s.wake()
}

// beside does f beside what goes on, but for one such thing after the other.
func (c *catalogue) beside(f func()) {
	c.closing.Lock()
	defer c.closing.Unlock()
	if !c.closed {
		c.work.Go(f)
	}
}

// retain removes what is too old, and the oldest of what is too much.
func (o *Origin) retain(now time.Time) {
	c := &o.recorded
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Before(c.look) {
		return
	}
	c.look = now.Add(lookEvery)
	var bytes int64
	for _, v := range c.all {
		bytes += v.Bytes
	}
	var gone []*recording
	for _, v := range c.all {
		keep := cmp.Or(o.config(v.Stream).Record, v.keep)
		if tooMuch := o.MaxRecorded > 0 && bytes > o.MaxRecorded; tooMuch || now.Sub(v.Ended) >= keep {
			gone = append(gone, v)
			bytes -= v.Bytes
		}
	}
	for _, v := range gone {
		c.take(v)
		c.beside(func() {
			if err := o.erase(v); err != nil {
				o.keeping.err.Store(&err)
			}
		})
	}
}

// Close waits until what is recorded is on the disk, or cannot be put there. It is called after End, when nobody publishes any
// more, and before the directory is closed.
func (o *Origin) Close() {
	c := &o.recorded
	c.closing.Lock()
	c.closed = true
	c.closing.Unlock()
	c.work.Wait()
}

// finish makes a recording of the run beside what goes on, if it has ended and is recorded. What has failed is tried again after a
// while, or with the zero time at once.
func (r *Run) finish(now time.Time) {
	if r.Config.Record <= 0 || !r.Ended() || r.Stream == nil || r.Stream.origin == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.keeper
	if k == nil || k.log == nil || k.recording || !now.IsZero() && now.Before(k.again) {
		return
	}
	k.recording = true
	k.again = now.Add(retryKeeping)
	c := &r.Stream.origin.recorded
	c.beside(func() {
		c.turn.Lock()
		defer c.turn.Unlock()
		if err := r.record(k); err != nil {
			k.counts.err.Store(&err)
			r.mu.Lock()
			k.recording = false // it is tried again
			r.mu.Unlock()
		}
	})
}

// record makes a recording of the run, which has ended. It is called off the lock: it waits for the disk.
func (r *Run) record(k *keeper) error {
	r.mu.Lock()
	v, err := r.whole(k)
	var log *store.Log
	var files []interface{ Sync() error }
	if err == nil {
		log = k.log
		for _, x := range *r.renditions.Load() {
			x.disk.Retain()
			files = append(files, x.disk)
			if x.index != nil {
				files = append(files, x.index)
			}
		}
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	for _, f := range append(files, log, k.folder) {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	// Now there is nothing that a start of the system could take away.
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keeper != k || k.log != log {
		return errors.New("the run has been let go meanwhile")
	}
	if err := log.Mark(journal.StateAt, journal.Recorded); err != nil {
		return err
	}
	if err := log.Sync(); err != nil {
		return err
	}
	k.recorded = true
	r.Stream.origin.recorded.add(v)
	return nil
}

// whole begins the log anew with all segments stored, and returns the entry for the catalogue. r.mu is held.
func (r *Run) whole(k *keeper) (*recording, error) {
	if r.keeper != k || k.log == nil {
		return nil, errors.New("the run is not kept")
	}
	v := &journal.Recording{Began: math.MaxInt64, Keep: int64(r.Config.Record)}
	for _, x := range *r.renditions.Load() {
		if err := x.writeIndex(len(x.list) - x.cold); err != nil {
			return nil, err
		}
		for _, s := range x.list {
			v.Bytes += int64(s.Size())
		}
		if n := len(x.list); n > 0 {
			v.Began, v.Ended = min(v.Began, x.list[0].Time), max(v.Ended, x.list[n-1].ends())
		}
	}
	k.whole = v
	err := r.writeAnew()
	k.pending, k.whole = nil, nil
	if err != nil {
		r.failKeeping(err)
		return nil, err
	}
	return newRecording(r.Stream.Name, r.ID, r.folderName(), v), nil
}

func newRecording(stream, run, folder string, j *journal.Recording) *recording {
	return &recording{folder: folder, keep: time.Duration(j.Keep), Recording: Recording{
		Stream: stream, Run: run, Began: time.Unix(0, j.Began), Ended: time.Unix(0, j.Ended), Bytes: j.Bytes}}
}

// readRecording reads the run in the folder of that name.
func (o *Origin) readRecording(name string) (*Run, error) {
	folder, err := o.dir.Folder(name, false)
	if err != nil {
		return nil, err
	}
	v := &recovery{origin: o, folder: folder, recorded: true}
	err = v.read()
	if v.log != nil {
		v.log.Close()
	}
	if err != nil {
		return nil, err
	}
	r := v.run
	r.mu.Lock()
	defer r.mu.Unlock()
	cfg := o.config(r.Stream.Name).withDefaults()
	cfg.TargetDuration, cfg.PartTarget, cfg.Event, cfg.Record = r.Config.TargetDuration, r.Config.PartTarget, r.Config.Event, r.Config.Record
	r.Config = cfg
	r.Stream.runs = []*Run{r}
	r.ended, r.ready = true, true
	for range 2 { // with the edges of all
		for _, x := range v.renditions() {
			x.publish()
			if x.index != nil {
				x.index.Close()
				x.index = nil
			}
		}
	}
	r.conclude()
	close(r.readyCh)
	return r, nil
}

// entry reads what the log of a recording says of it.
func (v *recovery) entry(d *journal.Decoder, name string) (*recording, error) {
	first, err := d.Next()
	if err != nil {
		return nil, err
	}
	second, err := d.Next()
	if err != nil {
		return nil, err
	}
	run, ok := first.(*journal.Run)
	said, also := second.(*journal.Recording)
	if !ok || !also || run.Stream == "" || run.ID == "" {
		return nil, media.Formatf("journal", "it does not begin as that of a recording")
	}
	return newRecording(run.Stream, run.ID, name, said), nil
}
