package transcode

import (
	"sync/atomic"
	"time"

	"headwater/segmenter/media"
)

// Stats are one publication's. Counts are since it began.
type Stats struct {
	Name  string   // the source's
	Rungs []string // that the present child makes; none while there is no child

	Up       bool   // a child runs
	Starts   uint64 // of children
	Restarts uint64 // starts after the first, for whatever reason
	Failures uint64 // children that ended when they were not told to, and that could not be started

	FramesIn     uint64 // pictures, or audio frames where only those are wanted, that were fed to a child
	FramesOut    uint64 // pictures and audio frames out of it, over all rungs
	DroppedGOPs  uint64 // that were not fed, or not whole, for the child lagged
	DroppedBytes uint64 // of samples in them

	Lag time.Duration // media time fed minus media time out, of the slowest rung; 0 while there is no child
	CPU time.Duration // user and system, of all children. Where there is no /proc, of those that have ended.
}

type counters struct {
	starts, failures, framesIn, framesOut, droppedGOPs, droppedBytes atomic.Uint64
	up                                                               atomic.Pointer[run]
}

// Stats may be called by any goroutine.
func (t *Transcoder) Stats() Stats {
	c := &t.count
	s := Stats{
		Name:         t.name,
		Starts:       c.starts.Load(),
		Failures:     c.failures.Load(),
		FramesIn:     c.framesIn.Load(),
		FramesOut:    c.framesOut.Load(),
		DroppedGOPs:  c.droppedGOPs.Load(),
		DroppedBytes: c.droppedBytes.Load(),
		CPU:          time.Duration(t.cpuTime()),
	}
	if s.Starts > 1 {
		s.Restarts = s.Starts - 1
	}
	if r := c.up.Load(); r != nil {
		s.Up = true
		s.Lag = r.lag()
		for _, o := range r.outputs {
			s.Rungs = append(s.Rungs, o.rung.Name)
		}
	}
	return s
}

// lag is how far the slowest rung is behind what has been fed.
func (r *run) lag() time.Duration {
	out := int64(1<<63 - 1)
	for _, o := range r.outputs {
		last := o.last.Load()
		if last == 0 {
			last = r.began
		}
		out = min(out, last)
	}
	return time.Duration(max(r.fed.Load()-out, 0))
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
