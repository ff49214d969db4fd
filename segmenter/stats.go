package segmenter

import (
	"sync/atomic"

	"headwater/segmenter/media"
)

// What is counted and measured of a rendition.

// renditionStats are counted by the owner and read by anybody.
type renditionStats struct {
	parts, segments, gaps, samples, bytes atomic.Uint64
	peak                                  atomic.Uint64 // bits a second, the largest so far
	mediaBytes                            atomic.Uint64 // bytes and ticks of the complete segments that hold media
	mediaTicks                            atomic.Int64
	iframePeak, iframeBytes               atomic.Uint64 // likewise for the first I-frames, and their segments' ticks
	iframeTicks                           atomic.Int64
	retained                              atomic.Int64 // bytes held now
	dropped, adjusted                     atomic.Uint64
}

// A RenditionStats is a snapshot of a Rendition's counters, all since the run began except Retained.
type RenditionStats struct {
	Parts, Segments, Gaps uint64
	Samples, Bytes        uint64 // accepted from the encoder
	Dropped               uint64 // samples that could not be placed on the timeline
	Adjusted              uint64 // samples whose timestamp was moved to keep decode times rising
	Peak                  int    // bits a second: the largest rate over any run of segments of 0.5 to 1.5 target durations
	Average               int    // bits a second
	IFramePeak            int    // bits a second of the first I-frames of segments, measured like Peak
	IFrameAverage         int    // bits a second
	Retained              int64  // bytes kept in memory, about
	Stored                int    // segments that lie on the disk alone, now; gaps among them count too
}

// Stats returns the rendition's counters.
func (r *Rendition) Stats() RenditionStats {
	s := &r.stats
	out := RenditionStats{
		Parts: s.parts.Load(), Segments: s.segments.Load(), Gaps: s.gaps.Load(),
		Samples: s.samples.Load(), Bytes: s.bytes.Load(),
		Dropped: s.dropped.Load(), Adjusted: s.adjusted.Load(),
		Peak: int(s.peak.Load()), Retained: s.retained.Load(),
	}
	if w := r.window.Load(); w != nil {
		average := func(bytes uint64, ticks int64) int {
			if ticks <= 0 {
				return 0
			}
			return int(float64(bytes) * 8 * float64(w.Timescale()) / float64(ticks))
		}
		out.Average = average(s.mediaBytes.Load(), s.mediaTicks.Load())
		out.Stored = w.stored
		out.IFrameAverage = average(s.iframeBytes.Load(), s.iframeTicks.Load())
	}
	out.IFramePeak = max(int(s.iframePeak.Load()), out.IFrameAverage) // a short first segment is better than no figure
	return out
}

// maxMeasured bounds how many segments are looked at to find the peak bit rate.
const maxMeasured = 64

// measure updates the peak bit rate: the largest over any contiguous run of segments that lasts 0.5 to 1.5 target
// durations (RFC 8216bis 4.4.6.2). Only runs that end with s are new.
func (r *Rendition) measure(s *Segment) {
	if s.Gap {
		return
	}
	r.stats.mediaBytes.Add(uint64(s.Size()))
	r.stats.mediaTicks.Add(s.Duration)
	r.measureBy((*Segment).Size, &r.stats.peak)
	if n := s.IFrameSize(); n > 0 && r.Kind == media.Video {
		r.stats.iframeBytes.Add(uint64(n))
		r.stats.iframeTicks.Add(s.Duration)
		r.measureBy((*Segment).IFrameSize, &r.stats.iframePeak)
	}
}

// measureBy updates a peak of what size says of a segment; 0 ends a run as a gap does.
func (r *Rendition) measureBy(size func(*Segment) int, peak *atomic.Uint64) {
	ts := float64(r.open.Init.Track.Timescale)
	td := float64(max(r.Run.TargetDuration(), 1))
	var bytes, dur float64
	for i := len(r.list) - 1; i >= max(len(r.list)-maxMeasured, 0) && size(r.list[i]) > 0; i-- {
		bytes += float64(size(r.list[i]))
		dur += float64(r.list[i].Duration) / ts
		if dur > 1.5*td && i < len(r.list)-1 {
			break
		}
		if dur >= 0.5*td {
			if rate := uint64(bytes * 8 / dur); rate > peak.Load() {
				peak.Store(rate)
			}
		}
	}
	if peak.Load() == 0 && dur > 0 { // a short first segment is better than no figure
		peak.Store(uint64(bytes * 8 / dur))
	}
}
