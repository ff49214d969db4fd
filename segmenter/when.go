package segmenter

import (
	"math"
	"slices"
	"sort"

	"headwater/segmenter/media"
)

// Looking up times: what of a stream is where.

// ends is the program date and time of s's end, Unix ns.
func (s *Segment) ends() int64 {
	return s.Time + media.Rescale(s.Duration, s.Init.Track.Timescale, media.Second)
}

// Main returns the Window of the rendition by whose dates a time is looked up: the first with video, or the first; nil when there is
// no segment.
func (r *Run) Main() *Window {
	var first *Window
	for _, x := range r.Renditions() {
		w := x.Window()
		if len(w.retained) == 0 {
			continue
		}
		if x.Kind == media.Video {
			return w
		}
		if first == nil {
			first = w
		}
	}
	return first
}

// Range returns the Media Sequence Numbers of the first and last segment of those that hold the times from start to end, Unix ns, end
// itself not; first > last when there is none yet, or none any more. A start of 0 is the beginning of what is retained, an end of 0
// leaves it open: then last is the newest complete segment. whole says that no later segment will belong to it.
func (r *Run) Range(start, end int64) (first, last uint64, whole bool) {
	w := r.Main()
	if w == nil {
		return 1, 0, r.Ended()
	}
	segs := w.retained
	from, to := 0, len(segs)
	if start > 0 {
		from = sort.Search(len(segs), func(i int) bool { return segs[i].ends() > start })
	}
	if end > 0 {
		to = sort.Search(len(segs), func(i int) bool { return segs[i].Time >= end })
	}
	newest := segs[len(segs)-1]
	whole = w.Ended || end > 0 && newest.ends() >= end
	if from >= to {
		return segs[0].MSN + uint64(from), segs[0].MSN + uint64(from) - 1, whole
	}
	return segs[from].MSN, segs[to-1].MSN, whole
}

// A stretch is a run and the time that it holds, Unix ns.
type stretch struct {
	run      *Run // nil: a recording that is not in memory
	id       string
	from, to int64
}

// stretches are the runs of s that can be played.
func (s *Stream) stretches() (out []stretch) {
	s.mu.Lock()
	runs := s.runs
	s.mu.Unlock()
	for _, r := range runs {
		w := r.Main()
		if w == nil || !r.IsReady() {
			continue
		}
		t := stretch{run: r, id: r.ID, from: w.retained[0].Time, to: math.MaxInt64}
		if w.Ended {
			t.to = w.retained[len(w.retained)-1].ends()
		}
		out = append(out, t)
	}
	return out
}

// pick returns the stretch that holds t, or the first that begins after it.
func pick(all []stretch, t int64) (best stretch, ok bool) {
	for _, v := range all {
		if v.to > t && (!ok || v.from < best.from) {
			best, ok = v, true
		}
	}
	return best, ok
}

// RunAt returns the one of the stream's runs that are still served, live or ended, that holds the time t, Unix ns, or the first
// that begins after it.
func (s *Stream) RunAt(t int64) (*Run, bool) {
	v, ok := pick(s.stretches(), t)
	return v.run, ok
}

// RunAt returns the run of the stream of that name, live, ended or recorded, that holds the time t, Unix ns, or the first that
// begins after it.
func (o *Origin) RunAt(stream string, t int64) (*Run, bool) {
	var all []stretch
	if s, ok := o.Stream(stream); ok {
		all = s.stretches()
	}
	c := &o.recorded
	c.mu.Lock()
	for _, v := range c.all {
		if v.Stream == stream && !slices.ContainsFunc(all, func(s stretch) bool { return s.id == v.Run }) {
			all = append(all, stretch{id: v.Run, from: v.Began.UnixNano(), to: v.Ended.UnixNano()})
		}
	}
	c.mu.Unlock()
	v, ok := pick(all, t)
	if ok && v.run == nil {
		return o.Run(stream, v.id)
	}
	return v.run, ok
}
