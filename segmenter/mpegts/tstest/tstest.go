// Package tstest checks MPEG-TS segments with a parser of its own, which shares no code with the multiplexer: packets,
// continuity, program tables, clocks, PES packets, H.264 access units and ADTS frames. It is for tests.
package tstest

import (
	"errors"
	"fmt"
)

const (
	// MaxPCRGap is the longest time between two PCRs (ISO/IEC 13818-1 2.7.2), ticks of 90 kHz.
	MaxPCRGap = 9000

	wrap        = 1 << 33 // ticks of 90 kHz
	maxProblems = 50      // that are kept
)

// A Report is what was found in the segments.
type Report struct {
	PMT     []PMT // of each segment
	PES     []PES // in the order in which they begin
	PCR     []PCR
	Packets map[uint16][]int // of a PID: how many packets with payload each segment has
	PCRGap  int64            // the longest between two PCRs, ticks of 90 kHz
}

// A PMT is a program map.
type PMT struct {
	Version int
	PCRPID  uint16
	Streams []Stream
}

// A Stream is an entry of a PMT.
type Stream struct {
	PID      uint16
	Type     byte
	Language string
}

// A PES is a PES packet. Times are 90 kHz, unwrapped: they go on across a wrap.
type PES struct {
	PID          uint16
	Type         byte // stream_type
	ID           byte // stream_id
	Segment      int
	PTS, DTS     int64
	HasDTS       bool
	RandomAccess bool
	Length       int // as its header says; 0 is unknown
	Data         []byte
	NAL          []byte // types of the NAL units
	Frames       int    // ADTS frames
	Rate         int    // Hz, of the ADTS frames
}

// A PCR is a program clock reference.
type PCR struct {
	Segment int
	Value   int64 // ticks of 90 kHz, unwrapped
	Alone   bool  // its packet has no payload
}

// Video returns the PES packets of H.264 streams, in order.
func (r *Report) Video() []PES { return r.of(0x1b) }

// Audio returns the PES packets of AAC streams, in order.
func (r *Report) Audio() []PES { return r.of(0x0f) }

func (r *Report) of(typ byte) (list []PES) {
	for _, p := range r.PES {
		if p.Type == typ {
			list = append(list, p)
		}
	}
	return list
}

// A parser reads the segments of one run without discontinuity.
type parser struct {
	report   *Report
	problems []error
	more     int // problems that were not kept

	segment  int
	packet   int // in the segment
	counters map[uint16]int
	pmtPID   uint16
	pmt      PMT
	open     map[uint16]*assembly
	started  bool // a PES packet has begun in the segment
	clock    int64
	clocked  bool // clock means something
	pcr      int64
	hasPCR   bool
	last     map[uint16]int64 // decode times
	rate     map[uint16]int
}

// An assembly is a PES packet whose packets are being collected.
type assembly struct {
	index        int // in order of beginning
	randomAccess bool
	pcr          int64 // the last PCR before its end
	hasPCR       bool
	b            []byte
}

// Check reads segments that follow each other without discontinuity, as if they were one stream, and returns what it found,
// with an error that joins every rule they break:
//
//   - whole packets of 188 bytes with their sync byte, no error indicator, no scrambling, no null packets;
//   - continuity of every PID over all segments; no empty payload (ISO/IEC 13818-1 2.4.3.3);
//   - each segment begins with a PAT and a PMT, with right CRCs, of one program, whose version changes when it does;
//   - then a PES packet with random_access_indicator; that indicator at IDR pictures and nowhere else of a video stream;
//   - PES packets begin and end in their segment, with their length if they say one;
//   - PTS and DTS with all marker bits, no PTS before its DTS, decode times of a stream rising;
//   - PCR on its PID only, rising, at least every 100 ms, never ahead of the DTS of anything that follows;
//   - access units that begin with their only delimiter, with SPS and PPS, in this order, before an IDR picture's first slice;
//   - PES packets of whole ADTS frames, of one configuration.
func Check(segments [][]byte) (*Report, error) {
	p := parser{
		report:   &Report{Packets: map[uint16][]int{}},
		counters: map[uint16]int{}, last: map[uint16]int64{}, rate: map[uint16]int{},
	}
	for i, s := range segments {
		p.segment, p.packet, p.started, p.open = i, 0, false, map[uint16]*assembly{}
		if len(s) == 0 || len(s)%188 != 0 {
			p.bad("%d bytes are no whole number of packets", len(s))
		}
		base := len(p.report.PES)
		for ; len(s) >= 188; s = s[188:] {
			p.read(s[:188])
			p.packet++
		}
		for _, s := range p.pmt.Streams {
			p.finish(s.PID)
		}
		if len(p.report.PES) == base {
			p.bad("no PES packet")
		}
	}
	if p.more > 0 {
		p.problems = append(p.problems, fmt.Errorf("and %d more", p.more))
	}
	return p.report, errors.Join(p.problems...)
}

func (p *parser) bad(format string, args ...any) {
	if len(p.problems) == maxProblems {
		p.more++
		return
	}
	p.problems = append(p.problems, fmt.Errorf("segment %d, packet %d: %s", p.segment, p.packet, fmt.Sprintf(format, args...)))
}

// read reads one packet (ISO/IEC 13818-1 2.4.3.2).
func (p *parser) read(b []byte) {
	if b[0] != 0x47 {
		p.bad("sync byte %#x", b[0])
		return
	}
	pid := uint16(b[1]&0x1f)<<8 | uint16(b[2])
	starts := b[1]&0x40 != 0
	if b[1]&0x80 != 0 || b[3]&0xc0 != 0 || pid == 0x1fff {
		p.bad("error indicator, scrambling or null packet: % x", b[:4])
	}
	hasField, hasPayload := b[3]&0x20 != 0, b[3]&0x10 != 0
	payload := b[4:]
	access := false
	pcr, hasPCR := int64(0), false
	if hasField {
		n := int(b[4])
		if n > 183 || !hasPayload && n != 183 || hasPayload && n == 183 {
			p.bad("adaptation field of %d bytes, payload %v", n, hasPayload)
			return
		}
		payload = b[5+n:]
		access, pcr, hasPCR = p.adaptation(b[5 : 5+n])
	}
	if !hasField && !hasPayload {
		p.bad("neither adaptation field nor payload")
	}
	counter := int(b[3] & 15)
	if before, ok := p.counters[pid]; ok {
		want := before
		if hasPayload {
			want = (before + 1) & 15
		}
		if counter != want {
			p.bad("PID %#x: continuity counter %d after %d, payload %v", pid, counter, before, hasPayload)
		}
	}
	p.counters[pid] = counter
	if hasPCR {
		p.clockReference(pid, pcr, access, !hasPayload)
	} else if access && pid == p.pmt.PCRPID {
		p.bad("random_access_indicator without PCR on the PCR's PID (2.4.3.5)")
	}
	if !hasPayload {
		if access || starts {
			p.bad("a packet without payload says that something starts")
		}
		if pid != p.pmt.PCRPID || !hasPCR {
			p.bad("PID %#x: a packet without payload or PCR", pid)
		}
		return
	}
	counts := p.report.Packets[pid]
	for len(counts) <= p.segment {
		counts = append(counts, 0)
	}
	counts[p.segment]++
	p.report.Packets[pid] = counts

	switch {
	case p.packet == 0:
		if pid != 0 || !starts {
			p.bad("the segment begins with PID %#x, not with the PAT", pid)
		}
		p.association(payload)
	case p.packet == 1:
		if pid != p.pmtPID || !starts {
			p.bad("PID %#x comes second, not the PMT on %#x", pid, p.pmtPID)
		}
		p.programMap(payload)
	case pid == 0 || pid == p.pmtPID:
		p.bad("the tables are repeated")
	default:
		p.elementary(pid, payload, starts, access)
	}
}

// adaptation reads an adaptation field (2.4.3.4).
func (p *parser) adaptation(b []byte) (access bool, pcr int64, hasPCR bool) {
	if len(b) == 0 {
		return false, 0, false
	}
	flags := b[0]
	if flags&^0x50 != 0 {
		p.bad("adaptation field flags %#x", flags)
	}
	rest := b[1:]
	if flags&0x10 != 0 {
		if len(rest) < 6 {
			p.bad("a PCR in %d bytes", len(rest))
			return false, 0, false
		}
		for _, v := range rest[:4] {
			pcr = pcr<<8 | int64(v)
		}
		pcr = pcr<<1 | int64(rest[4]>>7)
		if extension := int(rest[4]&1)<<8 | int(rest[5]); extension >= 300 || rest[4]&0x7e != 0x7e {
			p.bad("PCR % x", rest[:6])
		}
		hasPCR, rest = true, rest[6:]
	}
	for _, v := range rest {
		if v != 0xff {
			p.bad("stuffing byte %#x", v)
			break
		}
	}
	return flags&0x40 != 0, pcr, hasPCR
}

// unwrap returns which of the times that are v modulo 2^33 is meant: the one next to the last one read.
func (p *parser) unwrap(v int64) int64 {
	if p.clocked {
		d := (v - p.clock) % wrap
		if d < 0 {
			d += wrap
		}
		if d >= wrap/2 {
			d -= wrap
		}
		v = p.clock + d
	}
	p.clock, p.clocked = v, true
	return v
}

func (p *parser) clockReference(pid uint16, v int64, access, alone bool) {
	if pid != p.pmt.PCRPID {
		p.bad("a PCR on PID %#x, the PMT says %#x", pid, p.pmt.PCRPID)
	}
	v = p.unwrap(v)
	if p.hasPCR {
		gap := v - p.pcr
		p.report.PCRGap = max(p.report.PCRGap, gap)
		if gap <= 0 || gap > MaxPCRGap {
			p.bad("PCR %d comes %d ticks after the one before", v, gap)
		}
	}
	p.pcr, p.hasPCR = v, true
	p.report.PCR = append(p.report.PCR, PCR{Segment: p.segment, Value: v, Alone: alone})
}
