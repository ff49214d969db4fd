package mpegts

import (
	"headwater/segmenter/media"
)

// A cursor stands before a sample of a Source that has bytes, or at its end.
type cursor struct {
	chunks []Chunk
	scale  uint32
	frame  int64 // ticks that an audio frame lasts
	from   int64 // where the segment begins, ticks; not after t
	to     int64 // where it ends; 0 is where its samples do

	chunk, row, off int
	t               int64 // decode time of the sample, or the end of the last; ticks
}

// A span is what the sample table tells of a whole Source.
type span struct {
	from, to int64 // decode times at 90 kHz
	reorder  int64 // the longest by which a presentation time is before the decode time, at 90 kHz
	rows     int   // samples that have bytes
	sync     int   // of these, those that decoding can start with
	bytes    int
	largest  int // bytes of a sample
}

// open puts the cursor at the start of s and reads through its sample table, checking it. where is said in errors.
func (c *cursor) open(where string, s *Source) (span, error) {
	var p span
	if s.Track.Timescale == 0 {
		return p, media.Formatf(where, "have no timescale")
	}
	*c = cursor{chunks: s.Chunks, scale: s.Track.Timescale, frame: int64(s.Track.FrameSamples)}
	if s.To > s.From {
		c.to = min(s.To, maxTime)
	}
	if c.frame <= 0 {
		c.frame = 1024
	}
	end := int64(-maxTime)
	for i := range s.Chunks {
		ch := &s.Chunks[i]
		if len(ch.Samples) == 0 && len(ch.Data) == 0 {
			continue
		}
		if ch.Time < end || ch.Time > maxTime {
			return p, media.Formatf(where, "go back in time, from %d to %d", end, ch.Time)
		}
		end = ch.Time
		size := 0
		for j := range ch.Samples {
			r := &ch.Samples[j]
			if r.Size > 0 {
				t := media.Rescale(end, c.scale, clockRate)
				if p.rows == 0 {
					p.from = t
				}
				if r.CTO < 0 {
					p.reorder = max(p.reorder, t-media.Rescale(end+int64(r.CTO), c.scale, clockRate))
				}
				if r.Sync {
					p.sync++
				}
				p.rows++
				size += int(r.Size)
				p.largest = max(p.largest, int(r.Size))
			}
			end += int64(r.Duration)
		}
		if size != len(ch.Data) {
			return p, media.Formatf(where, "have %d bytes, their table says %d", len(ch.Data), size)
		}
		p.bytes += size
	}
	p.to = media.Rescale(max(end, c.to), c.scale, clockRate)
	if len(c.chunks) > 0 {
		c.t = c.chunks[0].Time
	}
	c.skip()
	if c.from = c.t; c.to > 0 {
		c.from = min(max(s.From, -maxTime), c.t)
		p.from = min(p.from, media.Rescale(c.from, c.scale, clockRate))
	}
	return p, nil
}

func (c *cursor) done() bool { return c.chunk == len(c.chunks) }

// time is t at 90 kHz.
func (c *cursor) time() int64 { return media.Rescale(c.t, c.scale, clockRate) }

// due is until when there is nothing more of the stream, at 90 kHz: until the next sample, or the end of the segment. It is not worth a
// PCR if that is hardly later than the end of the last sample.
func (c *cursor) due() int64 {
	t := c.time()
	if to := media.Rescale(c.to, c.scale, clockRate); c.done() && to > t+pcrGap {
		return to
	}
	return t
}

// sample returns the sample that the cursor stands before.
func (c *cursor) sample() (*media.SampleInfo, []byte) {
	ch := &c.chunks[c.chunk]
	r := &ch.Samples[c.row]
	return r, ch.Data[c.off : c.off+int(r.Size)]
}

// advance goes behind the sample.
func (c *cursor) advance() {
	r := &c.chunks[c.chunk].Samples[c.row]
	c.off += int(r.Size)
	c.t += int64(r.Duration)
	c.row++
	c.skip()
}

// skip goes over rows without bytes and the ends of chunks.
func (c *cursor) skip() {
	for c.chunk < len(c.chunks) {
		rows := c.chunks[c.chunk].Samples
		for ; c.row < len(rows); c.row++ {
			if rows[c.row].Size > 0 {
				return
			}
			c.t += int64(rows[c.row].Duration)
		}
		c.chunk++
		c.row, c.off = 0, 0
		if c.chunk < len(c.chunks) && len(c.chunks[c.chunk].Samples) > 0 {
			c.t = c.chunks[c.chunk].Time
		}
	}
}

// group returns where the audio PES packet ends that begins with the sample, and the bytes of its elementary stream. It has
// frames that follow each other as their duration says, within a tick of 90 kHz, because only the first has a PTS.
func (c cursor) group() (end cursor, size int) {
	longest := int64(c.scale) / audioPerSecond
	start, due := c.t, c.t
	for n := 0; !c.done(); n++ {
		r := &c.chunks[c.chunk].Samples[c.row]
		off := c.t - due
		if n > 0 && (c.t+int64(r.Duration)-start > longest || size+adtsBytes+int(r.Size) > maxAudioBytes ||
			max(off, -off)*clockRate > int64(c.scale)) {
			break
		}
		size += adtsBytes + int(r.Size)
		due += c.frame
		c.advance()
	}
	return c, size
}
