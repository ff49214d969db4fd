package segmenter

import (
	"crypto/sha256"
	"io"
	"time"

	"headwater/segmenter/cmaf"
	"headwater/segmenter/journal"
	"headwater/segmenter/media"
	"headwater/segmenter/store"
)

// A long window: most of it lies on the disk alone. A segment that no player of the live edge asks for any more, and whose chunks
// are all in the run's directory, takes the place of itself in the list as a stored one, which is little more than where they
// are. What is known of it then is an entry in the rendition's index, so that the log is as short as that of a short window.

const (
	// storeBatch is how many segments are stored at a time, at least: each time the list is copied. A long list is copied
	// after more of them.
	storeBatch   = 8
	batchPerList = 2048 // segments in the list for which there is one more in a batch
	// storedCost is about how many bytes of memory a stored segment takes.
	storedCost = 300
	// memoryDVR is by how much longer than by default a window may be of what is in memory alone.
	memoryDVR = 5 * time.Minute
	// squeezeOver is in how many segments' time everything that is stored goes when the disk fails for longer than that.
	squeezeOver = 128
)

// Stored says that the segment lies on the disk alone: its Parts are not there. See Load.
func (s *Segment) Stored() bool { return s.stored.Len() > 0 }

// Arrived is the wall clock at which the last of it arrived, Unix ns; 0 for a gap.
func (s *Segment) Arrived() int64 {
	if n := len(s.Parts); n > 0 {
		return s.Parts[n-1].Arrived
	}
	return s.arrived
}

// IFrameSize is how many bytes, from its beginning on, hold its first I-frame: the moof box, the mdat header, and the first sample's
// data. It is 0 when the segment does not begin with one.
func (s *Segment) IFrameSize() int {
	switch {
	case !s.Independent:
		return 0
	case len(s.Parts) > 0:
		return s.Parts[0].HeadSize() + int(s.Parts[0].Samples[0].Size)
	}
	return int(s.iframe)
}

// samples is how many samples it has.
func (s *Segment) samples() (n int) {
	if s.Stored() {
		return int(s.count)
	}
	for _, p := range s.Parts {
		n += len(p.Samples)
	}
	return n
}

// store returns the stored form of s. It says false when its chunks are not all on the disk, one after the other. Run.mu is held.
func (s *Segment) store() (*Segment, bool) {
	if s.Gap || s.Stored() {
		return s, true
	}
	var b store.Blob
	for _, p := range s.Parts {
		longer, ok := b.Then(p.disk)
		if p.disk.Len() == 0 || !ok {
			return nil, false
		}
		b = longer
	}
	return &Segment{
		MSN: s.MSN, Discontinuity: s.Discontinuity, DiscSeq: s.DiscSeq, Init: s.Init, Start: s.Start, Duration: s.Duration, Time: s.Time,
		Independent: s.Independent, stored: b, arrived: s.Arrived(), iframe: uint32(s.IFrameSize()), count: uint32(s.samples()),
	}, true
}

// Load returns the segment with its Parts, whose sample tables are read from the disk if it is stored: s itself if it is not. Of
// its parts, when each arrived is not known any more. An error says that the store could not be read.
func (s *Segment) Load() (*Segment, error) {
	if !s.Stored() {
		return s, nil
	}
	full := &Segment{
		MSN: s.MSN, Discontinuity: s.Discontinuity, DiscSeq: s.DiscSeq, Init: s.Init, Start: s.Start, Duration: s.Duration, Time: s.Time,
		Independent: s.Independent,
	}
	var head []byte
	err := s.chunks(func(at, moof, size int) (err error) {
		if head, err = s.stored.Append(head[:0], at, moof+cmaf.MdatHeader); err != nil {
			return err
		}
		h, err := cmaf.ParseHead(head)
		if err != nil {
			return err
		}
		p := &Part{MSN: s.MSN, Index: len(full.Parts), Time: int64(h.Time), Duration: h.Duration(), Arrived: s.arrived,
			Samples: h.Samples, chunk: s.stored.Slice(at, size), head: h.Size}
		for i := range p.Samples {
			p.Independent = p.Independent || p.Samples[i].Sync
		}
		full.Parts = append(full.Parts, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return full, nil
}

// chunks calls f for each of a stored segment's chunks: where it begins, how long its moof box is, and how long it is.
func (s *Segment) chunks(f func(at, moof, size int) error) error {
	var head []byte
	box := func(at int) (n int, err error) {
		if head, err = s.stored.Append(head[:0], at, cmaf.MdatHeader); err == nil {
			if n = cmaf.BoxSize(head); n < cmaf.MdatHeader || n > s.stored.Len()-at {
				err = media.Formatf("segment", "%d lacks its chunks", s.MSN)
			}
		}
		return n, err
	}
	for at, n := 0, 0; at < s.stored.Len(); n++ {
		moof, err := box(at)
		if err != nil {
			return err
		}
		mdat, err := box(at + moof)
		if err != nil {
			return err
		}
		if n == maxParts || moof > cmaf.MaxHead {
			return media.Formatf("segment", "%d has chunks that it cannot have", s.MSN)
		}
		if err := f(at, moof, moof+mdat); err != nil {
			return err
		}
		at += moof + mdat
	}
	return nil
}

// hashStored is the hash of the hashes of a stored segment's parts, which has been that of the segment when it was in memory.
func (s *Segment) hashStored() (string, error) {
	h := sha256.New()
	err := s.chunks(func(at, _, size int) error {
		part := sha256.New()
		if err := s.stored.WriteRange(part, at, size); err != nil {
			return err
		}
		io.WriteString(h, hashName(part))
		return nil
	})
	return hashName(h), err
}

// ripe is how many segments after those that are stored are old enough to be. Parts have left the playlist after three target
// durations and are fetched for three more (RFC 8216bis 6.2.2); whoever plays a short window finds all of it in memory.
func (r *Rendition) ripe(edge int64, most int) (n int) {
	hot := 2 * (r.Run.Config.WindowSegments + 1)
	span := media.Rescale(12*int64(r.Run.limit()), media.Second, r.list[len(r.list)-1].Init.Track.Timescale)
	for n < most && r.cold+n < len(r.list)-hot {
		s := r.list[r.cold+n]
		if _, ok := s.store(); !ok || edge-s.Start-s.Duration < span {
			break
		}
		n++
	}
	return n
}

// unload stores what is old enough.
func (r *Rendition) unload(edge int64) {
	if r.Run.keeper == nil || r.Run.keeper.log == nil {
		return
	}
	batch := storeBatch + len(r.list)/batchPerList
	if len(r.list)-r.cold < batch || r.ripe(edge, batch) < batch {
		return
	}
	if err := r.writeIndex(batch); err != nil {
		r.Run.failKeeping(err)
		return
	}
	// Windows share the array behind list.
	list := append(make([]*Segment, 0, len(r.list)+len(r.list)/8+1), r.list...)
	for i := r.cold; i < r.cold+batch; i++ {
		list[i], _ = r.list[i].store()
		r.account(list[i].cost() - r.list[i].cost())
	}
	r.list, r.dead = list, 0
	r.cold += batch
}

// writeIndex puts the n segments after those that are stored into the index. They can be stored.
func (r *Rendition) writeIndex(n int) (err error) {
	if n == 0 {
		return nil
	}
	first := r.list[r.cold].MSN
	if r.index == nil {
		if r.index, err = r.Run.keeper.folder.Index(r.number); err != nil {
			return err
		}
		r.base = first
	}
	b := make([]byte, 0, n*journal.SegmentSize)
	for _, s := range r.list[r.cold : r.cold+n] {
		t, ok := s.store()
		if !ok {
			return media.Formatf("segment", "%d is not where it should be", s.MSN)
		}
		init, err := r.Run.noteInit(s.Init)
		if err != nil {
			return err
		}
		b = journal.AppendSegment(b, &journal.Segment{
			MSN: t.MSN, DiscSeq: t.DiscSeq, Start: t.Start, Duration: t.Duration, Wall: t.Time, At: t.stored.Offset(), Size: uint32(t.Size()),
			Arrived: t.arrived, IFrame: t.iframe, Samples: t.count, Init: uint16(init),
			Disc: t.Discontinuity, Independent: t.Independent, Gap: t.Gap,
		})
	}
	return r.index.Write(r.at(first), b)
}

// at is where in the index the segment of that number is.
func (r *Rendition) at(msn uint64) int64 { return int64(msn-r.base) * journal.SegmentSize }

// hasDisk says whether what the run has is kept, or will be. r.mu is held.
func (r *Run) hasDisk() bool {
	return r.Stream != nil && r.Stream.origin != nil && r.Stream.origin.dir != nil && (r.keeper == nil || !r.keeper.failing)
}

// unkept is how much of the rendition is in memory alone because there is no disk, or it fails, ticks up to edge.
func (r *Rendition) unkept(edge int64) int64 {
	if s := r.Run.Stream; s == nil || s.origin == nil || r.cold == len(r.list) || r.Run.hasDisk() {
		return 0
	}
	return edge - r.list[r.cold].Start
}

// A listing counts the segments that are listed.
type listing struct {
	ticks int64 // how long they last together
	mixed int   // that begin neither with a sync sample nor are gaps
	media int   // that are no gaps
}

func (l *listing) add(s *Segment, sign int) {
	l.ticks += int64(sign) * s.Duration
	switch {
	case s.Gap:
		return
	case !s.Independent:
		l.mixed += sign
	}
	l.media += sign
}

// A use is an initialization section that segments need.
type use struct {
	init *Init
	last uint64 // the latest segment that does; there may be earlier ones
}

// needs notes that s needs its initialization section.
func (r *Rendition) needs(s *Segment) {
	if n := len(r.inits); n > 0 && r.inits[n-1].init == s.Init {
		r.last = s.MSN
		return
	}
	r.inits = append(r.uses(), use{init: s.Init})
	r.last = s.MSN
}

// uses returns the initialization sections with what they are needed for, in a slice of its own: Windows share r.inits.
func (r *Rendition) uses() []use {
	out := make([]use, 0, len(r.inits)+1)
	for i, u := range r.inits {
		if i == len(r.inits)-1 {
			u.last = r.last
		}
		if len(r.list) > 0 && u.last < r.list[0].MSN {
			continue
		}
		out = append(out, u)
	}
	return out
}

// maxStored bounds the stored segments of a rendition: more than a month's.
const maxStored = 1 << 22

// storedTogether is how many recovered segments are given back at one time: each such range costs memory and time.
const storedTogether = 16

// stored takes what the rendition's index tells of.
func (v *recovery) stored(j *journal.Stored) error {
	x, err := v.rendition(j.Rendition)
	if err != nil {
		return err
	}
	if v.begun || len(x.list) > 0 || x.running || j.Base == 0 || j.From < j.Base || j.To <= j.From || j.To-j.Base > 1<<40 || j.To-j.From > maxStored {
		return media.Formatf("journal", "stored segments that cannot be there")
	}
	if x.index, err = v.folder.Index(j.Rendition); err != nil {
		return err
	}
	x.base = j.Base
	b, err := x.index.Read(x.at(j.From), int(j.To-j.From)*journal.SegmentSize)
	if err != nil {
		return err
	}
	x.list = make([]*Segment, 0, j.To-j.From+64)
	var group []Segment
	for i := range int(j.To - j.From) {
		if i%storedTogether == 0 {
			x.disk.Mark()
			group = make([]Segment, min(storedTogether, int(j.To-j.From)-i))
		}
		var e journal.Segment
		if err := journal.DecodeSegment(&e, b[i*journal.SegmentSize:]); err != nil {
			return err
		}
		init := v.inits[int(e.Init)]
		if e.MSN != j.From+uint64(i) || init == nil {
			return media.Formatf("index", "another segment than %d", j.From+uint64(i))
		}
		s := &group[i%storedTogether]
		*s = Segment{MSN: e.MSN, DiscSeq: e.DiscSeq, Init: init, Start: e.Start, Duration: e.Duration, Time: e.Wall,
			Discontinuity: e.Disc, Independent: e.Independent, Gap: e.Gap, arrived: e.Arrived, iframe: e.IFrame, count: e.Samples}
		if !s.Gap {
			x.diskMSN = s.MSN
			if s.stored, err = x.disk.Restore(e.At, int(e.Size)); err != nil {
				return err
			}
			x.account(s.cost())
		}
		x.list = append(x.list, s)
		x.needs(s)
		v.heard = max(v.heard, s.arrived)
	}
	x.cold = len(x.list)
	x.close(x.list[x.cold-1])
	return nil
}
