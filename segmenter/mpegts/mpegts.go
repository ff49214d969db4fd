// Package mpegts multiplexes one media segment's samples, H.264 in CMAF sample format and raw AAC frames, into one MPEG-TS
// segment (ISO/IEC 13818-1; RFC 8216 3.2). It refuses every other codec.
//
// A segment is a pure function of its samples and its Media Sequence Number: nothing is remembered from the segment before,
// so that segment N can be made alone, on any origin, when it is first asked for, and yet follows segment N-1 as if one
// multiplexer had written both. Continuity counters (ISO/IEC 13818-1 2.4.3.3) are what stands against that, since they count
// packets, and how many packets an access unit takes depends on what is in it. Therefore
//
//   - the PAT and the PMT are written once a segment, each in one packet whose counter is the Media Sequence Number
//     modulo 16;
//   - on each elementary PID the number of packets with payload in a segment is a multiple of 16, so that every segment
//     starts with counter 0. The last PES packet of the segment on the PID makes up for what is missing: its bytes are spread
//     evenly over up to 15 packets more, which adaptation field stuffing fills. No payload is ever empty. A PES packet
//     has at least 20 bytes, so that even one that is the only one of its segment can be spread over 16 packets; only when its
//     elementary stream has less than 15 bytes does its header go into more than one packet.
//
// That costs 15 packets at most, 7.5 on average, a PID and segment: 5.6 kbit/s for segments of 2 s.
//
// PTS, DTS and PCR are the track's times at 90 kHz, plus a constant of 10 s, modulo 2^33; there is no discontinuity where they
// wrap. The PCR comes at least every 40 ms and runs 200 ms before decode time.
package mpegts

import (
	"headwater/segmenter/media"
)

// A Chunk is a run of samples of one track, as a CMAF chunk holds them.
type Chunk struct {
	Time    int64              // decode time of the first sample, ticks of the track
	Samples []media.SampleInfo // rows without bytes are taken for a pause
	Data    []byte             // the samples' data, one after the other
}

// A Source is one track's part in a segment. Its chunks follow each other in time; they may leave gaps. The muxer only
// reads it, and keeps nothing of it.
type Source struct {
	Track  *media.Track
	Chunks []Chunk
	// Delay is how far, in ticks of the track, decode times lie before the chunks' times, for a video track whose composition
	// offsets are negative (ISO/IEC 14496-12 8.6.1.3): PES packets have no PTS before their DTS (ISO/IEC 13818-1 2.7.5). A
	// segment with greater negative offsets takes a greater delay by itself. For decode times to run on evenly from segment to
	// segment, let it be the greatest of all the run's. Presentation times do not depend on it.
	Delay int64
	// From and To are where the segment of an audio track begins and ends, in ticks of the track, when samples may be missing there;
	// both 0 are where its samples do. The segments next to it go on without discontinuity all the same: where there is no video,
	// PCRs bridge what is missing.
	From, To int64
}

const (
	clockRate = 90000 // Hz, of PTS, DTS and PCR base (ISO/IEC 13818-1 2.4.2.2)

	// timeOffset is added to all times, so that neither priming nor reordering makes one negative at the start of a run.
	timeOffset = 10 * clockRate

	// lead is by how much the PCR is less than the DTS of the access unit that it comes with: the time that there is for
	// delivering it. Data may stay in the decoder's buffers for one second (ISO/IEC 13818-1 2.4.2.6).
	lead = clockRate / 5

	// pcrGap is the longest time between two PCRs. ISO/IEC 13818-1 2.7.2 allows 100 ms, DVB (ETSI TS 101 154) 40 ms.
	pcrGap = clockRate / 25

	// maxSegment is the longest time that the samples of a segment may span; PCRs fill all of it, however few samples
	// there are.
	maxSegment = 300 * clockRate

	// maxDelay is the longest time that an access unit may wait for reordering.
	maxDelay = 10 * clockRate

	maxTime = 1 << 56 // ticks; keeps sums far from overflowing

	// An audio PES packet ends after that many frames' time, a tenth of a second, or before it gets larger than that.
	audioPerSecond = 10
	maxAudioBytes  = 16 << 10
)

// A muxer writes one segment.
type muxer struct {
	out

	v, a   cursor
	params avcParams
	adts   adtsHeader
	delay  int64 // at 90 kHz: what is taken from video decode times
}

// AppendSegment appends to dst the segment numbered msn that carries the samples of video and audio, either of which may be
// nil: then the program has no such stream. A Source without any bytes is declared, and nothing else. It returns a
// *media.FormatError when a Source is not what it should be, and a *media.UnsupportedError when MPEG-TS cannot carry it. It
// grows dst once as a rule, and allocates nothing else that grows with the number of samples.
func AppendSegment(dst []byte, msn uint64, video, audio *Source) ([]byte, error) {
	var m muxer
	m.video = stream{pid: videoPID, id: 0xe0} // ISO/IEC 13818-1, table 2-22
	m.audio = stream{pid: audioPID, id: 0xc0}
	m.clock = &m.video
	if video == nil {
		m.clock = &m.audio
	}
	size, err := m.plan(video, audio)
	if err != nil {
		return dst, err
	}
	if cap(dst)-len(dst) < size {
		dst = append(make([]byte, 0, len(dst)+size), dst...)
	}
	start := len(dst)
	m.dst = appendPSI(dst, byte(msn&15), video, audio)

	if from := media.Rescale(m.a.from, m.a.scale, clockRate); video == nil && from+pcrGap < m.audioTime() {
		m.pending = clock{from: from, span: m.audioTime() - from, n: intervals(m.audioTime() - from)}
	}
	first := true
	for !m.v.done() || !m.a.done() {
		// The first PES packet is one that decoding can start with, even if some audio is for before it.
		if !m.v.done() && (first || m.a.done() || m.videoTime() <= m.audioTime()) {
			err = m.accessUnit(first)
		} else {
			m.frames()
		}
		if err != nil {
			return m.dst[:start], err
		}
		first = false
	}
	m.tick(1 << 62)
	return m.dst, nil
}

// videoTime is the decode time of the next video sample, or the end of the last; at 90 kHz, before timeOffset.
func (m *muxer) videoTime() int64 { return m.v.time() - m.delay }

// audioTime is the same for audio.
func (m *muxer) audioTime() int64 { return m.a.time() }

// plan sets the muxer up for the two sources, checks everything about them that their sample tables tell, and estimates the
// segment's length in bytes, rather too high than too low.
func (m *muxer) plan(video, audio *Source) (int, error) {
	packets := 2
	var vs, as span
	var err error
	if video != nil {
		if m.params, err = parseAVC(video.Track); err != nil {
			return 0, err
		}
		if vs, err = m.v.open("video samples", video); err != nil {
			return 0, err
		}
		m.delay = max(media.Rescale(min(max(video.Delay, 0), maxTime), video.Track.Timescale, clockRate), vs.reorder)
		if m.delay > maxDelay {
			return 0, media.Formatf("video samples", "are presented %d ms before they are decoded", m.delay*1000/clockRate)
		}
		vs.from, vs.to = vs.from-m.delay, vs.to-m.delay
		// A sample's own bytes, the delimiter and some start codes, the header, and half a packet of stuffing.
		const each = 6 + 32 + maxHeader + pcrBytes + payloadSize
		packets += (vs.bytes+vs.rows*each+(vs.sync+1)*m.params.size)/payloadSize + counters
	}
	if audio != nil {
		if m.adts, err = parseAAC(audio.Track); err != nil {
			return 0, err
		}
		if as, err = m.a.open("audio samples", audio); err != nil {
			return 0, err
		}
		if as.largest > maxADTS-adtsBytes {
			return 0, media.Formatf("audio frame", "is %d bytes long, an ADTS frame has room for %d", as.largest, maxADTS-adtsBytes)
		}
		groups := 0
		for c := m.a; !c.done(); groups++ {
			c, _ = c.group()
		}
		packets += (as.bytes+as.rows*adtsBytes+groups*(maxHeader+pcrBytes+payloadSize))/payloadSize + counters
	}
	all := vs
	if vs.rows == 0 {
		all = as
	} else if as.rows != 0 {
		all.from, all.to = min(vs.from, as.from), max(vs.to, as.to)
	}
	if all.rows == 0 {
		return 0, media.Formatf("segment", "has no samples")
	}
	if all.to-all.from > maxSegment {
		return 0, media.Formatf("segment", "lasts longer than %d s", maxSegment/clockRate)
	}
	// One PCR in a packet of its own in each interval, unless access units come often enough to carry them.
	n := int((all.to-all.from)/pcrGap) + 1
	if video == nil || vs.rows < n {
		packets += 2 * n
	}
	return packets * packetSize, nil
}

// accessUnit writes the next video sample as one PES packet. first says that the segment begins with it.
func (m *muxer) accessUnit(first bool) error {
	row, data := m.v.sample()
	dts := m.videoTime()
	pts := media.Rescale(m.v.t+int64(row.CTO), m.v.scale, clockRate)
	size, idr, err := m.params.measure(data)
	if err != nil {
		return err
	}
	sets := idr || first
	if sets {
		size += m.params.size
	}
	m.v.advance()

	p := pes{pts: pts, dts: dts, clock: dts, next: m.videoTime(), bound: dts, size: size, access: idr, last: m.v.done()}
	if !m.a.done() {
		a := m.audioTime()
		p.bound = min(p.bound, a)
		if first {
			p.clock = min(dts, a+lead)
		}
	}
	m.tick(dts)
	m.begin(&m.video, &p)
	m.write(delimiter)
	if sets {
		m.params.write(&m.out)
	}
	m.params.writeUnits(&m.out, data)
	return nil
}

// frames writes the next few audio frames as one PES packet.
func (m *muxer) frames() {
	end, size := m.a.group()
	t, next := m.audioTime(), end.due()
	m.tick(t)
	p := pes{pts: t, dts: t, clock: t, next: next, bound: t, size: size, last: end.done()}
	switch {
	case m.clock == &m.audio:
		p.access = true
	case m.video.packets == 0 && m.v.done(): // there is no picture that could carry the PCR
		m.pending = clock{from: t, span: next - t, n: intervals(next - t)}
		m.tick(t)
		p.access = true
	}
	m.begin(&m.audio, &p)
	for m.a.chunk != end.chunk || m.a.row != end.row {
		_, data := m.a.sample()
		h := m.adts.frame(len(data))
		m.write(h[:])
		m.write(data)
		m.a.advance()
	}
}
