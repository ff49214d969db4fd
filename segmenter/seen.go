package segmenter

import "slices"

// maxSeen is how many ladders are remembered, each of a name and MaxRenditions names of rungs.
const maxSeen = 1000

// A seenLadder is one that was live once.
type seenLadder struct {
	stream string
	rungs  []string
}

// remember keeps which rungs a stream had that is gone: several, which really were in the ladder. Those that were not are forgotten, and
// so is the ladder that was live the longest time ago, when there are too many. o.mu is held.
func (o *Origin) remember(stream string, rungs []string) {
	o.seen = slices.DeleteFunc(o.seen, func(l seenLadder) bool { return l.stream == stream })
	if len(rungs) < 2 {
		return
	}
	if len(o.seen) >= maxSeen {
		o.seen = slices.Delete(o.seen, 0, 1)
	}
	o.seen = append(o.seen, seenLadder{stream, rungs})
}

// lastLadder is what the stream of that name had when it was last live, nil if that is not known. o.mu is held.
func (o *Origin) lastLadder(stream string) []string {
	for i := range o.seen {
		if o.seen[i].stream == stream {
			return o.seen[i].rungs
		}
	}
	return nil
}
