package transcode

import (
	"sync/atomic"
	"time"

	"headwater/segmenter/media"
)

// Stats are of one publication, or of all. Counts are since the beginning.
type Stats struct {
	Running  int    // children now
	Starts   uint64 // of children
	Restarts uint64 // starts after the first for a publication, for whatever reason
	Failures uint64 // children that ended when they were not told to, and that could not be started

	FramesIn      uint64 // pictures, or audio frames where only those are wanted, that were fed to a child
	FramesOut     uint64 // pictures and audio frames out of it, over all rungs
	DroppedGOPs   uint64 // that were not fed, or not whole, for the child lagged
	DroppedFrames uint64 // samples in them

	Lag time.Duration // of the slowest rung behind the source, in media time; 0 while there is no child
	CPU time.Duration // user and system, of all children. Where there is no /proc, of those that have ended.
}

// Add makes s the sum of both; of lags it takes the larger.
func (s *Stats) Add(x Stats) {
	s.Running += x.Running
	s.Starts += x.Starts
	s.Restarts += x.Restarts
	s.Failures += x.Failures
	s.FramesIn += x.FramesIn
	s.FramesOut += x.FramesOut
	s.DroppedGOPs += x.DroppedGOPs
	s.DroppedFrames += x.DroppedFrames
	s.Lag = max(s.Lag, x.Lag)
	s.CPU += x.CPU
}

type counters struct {
	starts, failures, framesIn, framesOut, droppedGOPs, droppedFrames atomic.Uint64
	up                                                                atomic.Pointer[run]
}

// Stats may be called by any goroutine.
func (t *Transcoder) Stats() Stats {
	c := &t.count
	s := Stats{
		Starts:        c.starts.Load(),
		Failures:      c.failures.Load(),
		FramesIn:      c.framesIn.Load(),
		FramesOut:     c.framesOut.Load(),
		DroppedGOPs:   c.droppedGOPs.Load(),
		DroppedFrames: c.droppedFrames.Load(),
		CPU:           time.Duration(t.cpuTime()),
	}
	if s.Starts > 1 {
		s.Restarts = s.Starts - 1
	}
	if r := c.up.Load(); r != nil {
		s.Running = 1
		s.Lag = r.behind(r.heard.Load())
	}
	return s
}

// behind is how far the slowest rung is behind a time of the source, ns.
func (r *run) behind(at int64) time.Duration {
	out := int64(1<<63 - 1)
	for _, o := range r.outputs {
		last := o.last.Load()
		if last == 0 {
			last = r.began
		}
		out = min(out, last)
	}
	return time.Duration(max(at-out, 0))
}

// cpuTime is what all children have used, ns. It never falls, though what is told of a child that runs is coarser than
// what is told when it has ended.
func (t *Transcoder) cpuTime() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.cpu
	if t.pid != 0 {
		now += processTime(t.pid)
	}
	t.top = max(t.top, now)
	return t.top
}

// clockTick is the unit of the times in /proc/PID/stat: USER_HZ, which is 100 wherever Go runs on Linux.
const clockTick = media.Second / 100
