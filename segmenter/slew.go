package segmenter

import "headwater/segmenter/media"

// Dates and the wall clock. EXT-X-PROGRAM-DATE-TIME goes on by the duration of the media, and the media by the encoder's clock, which
// is never quite the origin's: an hour of one that is off by 1 % would put the date off by 36 s. So where the media keeps arriving
// earlier or later than its date says, the date is moved, at the beginnings of segments, by less than anybody sees, and never back.

const (
	slewBand = 100 * media.Second / 1000 // how far off the date may be
	slewStep = 30 * media.Second / 1000  // by how much it moves at the beginning of a segment, at most: 1.5 % of two seconds
	slewOver = 8                         // segments over which the least delay counts: what a network holds up is no drift
)

// A slew follows how much later than its date says the media arrives.
type slew struct {
	moved  int64           // what has been added to the run's Epoch, ns
	delays [slewOver]int64 // of the latest boundaries
	n      int             // boundaries since the publication that leads began
}

// note takes a boundary whose frame arrived that long after its date, ns.
func (s *slew) note(delay int64) {
	s.delays[s.n%slewOver] = delay
	s.n++
	if s.n < slewOver {
		return
	}
	least := s.delays[0]
	for _, d := range s.delays {
		least = min(least, d)
	}
	if near(least, 0, slewBand) {
		return
	}
	by := max(min(least, slewStep), -slewStep)
	s.moved += by
	for i := range s.delays {
		s.delays[i] -= by
	}
}

// restart says that whoever leads from now on is another.
func (s *slew) restart() { s.n = 0 }

// date is the date and time of a time on the timeline, Unix ns, as it is reckoned from the latest boundary on. Run.mu is held.
func (r *Run) date(time int64) int64 { return r.Epoch + r.slew.moved + time }

// dated is the time on the timeline of a date and time: the reverse of date.
func (r *Run) dated(wall int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return wall - r.Epoch - r.slew.moved
}
