package mpegts

import (
	"encoding/binary"
	"slices"
)

const (
	packetSize  = 188
	payloadSize = packetSize - 4
	counters    = 16 // values of the continuity counter

	pcrBytes  = 8  // an adaptation field with a PCR and nothing else
	flagBytes = 2  // one with its flags only
	maxHeader = 19 // of a PES packet with PTS and DTS

	flagAccess = 0x40 // random_access_indicator (ISO/IEC 13818-1 2.4.3.4)
	flagPCR    = 0x10
)

// A stream is one elementary stream of the program.
type stream struct {
	pid     uint16
	id      byte // stream_id
	packets int  // with payload, written so far
}

// A pes says what a PES packet is like. Times are at 90 kHz, before timeOffset.
type pes struct {
	pts, dts int64
	size     int  // bytes of the elementary stream
	access   bool // decoding can start here
	last     bool // the last of its stream in the segment

	// For the stream that carries the PCR: its time here and where it is due next by itself, both before lead is taken off,
	// and the earliest decode time of anything in this PES packet or after it.
	clock, next, bound int64
}

// A clock is a row of PCRs that are due at from + span*i/n, for i < n; lead is yet to be taken off.
type clock struct {
	from, span int64
	i, n       int
}

func (c *clock) at() int64 { return c.from + c.span*int64(c.i)/int64(c.n) }

// intervals is in how many parts a time must be divided so that none is longer than pcrGap.
func intervals(span int64) int { return int(max((span+pcrGap-1)/pcrGap, 1)) }

// An out writes packets. After begin, exactly the size that was said must be written before anything else happens.
type out struct {
	dst          []byte
	video, audio stream
	clock        *stream // that whose packets carry the PCR
	pending      clock   // PCRs that are not written yet, for packets of their own

	// The PES packet in writing.
	st      *stream
	head    int   // bytes of its header
	bytes   int   // of it that are not yet allotted to packets
	whole   int   // packets of it
	begun   int   // packets of it that have been begun
	spread  bool  // its bytes are spread over more packets than they need
	flags   byte  // of the first packet's adaptation field
	inside  clock // PCRs in its packets
	at, end int   // the payload of the current packet that is not yet written, in dst
}

// tick writes the pending PCRs that are due up to t, in packets without payload, which do not count.
func (o *out) tick(t int64) {
	for c := &o.pending; c.i < c.n && c.at() <= t; c.i++ {
		b := o.packet(o.clock, 0x20, o.clock.packets-1)
		adaptation(b[4:], flagPCR, c.at())
	}
}

// begin begins a PES packet and writes its header (ISO/IEC 13818-1 2.4.3.6).
func (o *out) begin(st *stream, p *pes) {
	var h [maxHeader]byte
	h[2], h[3] = 1, st.id
	h[6] = 0x84 // data_alignment_indicator
	h[7], h[8], o.head = 0x80, 5, 14
	putTime(h[9:], 2, p.pts)
	if p.pts != p.dts {
		h[7], h[8], o.head = 0xc0, 10, 19
		putTime(h[9:], 3, p.pts)
		putTime(h[14:], 1, p.dts)
	}
	total := o.head + p.size
	if n := total - 6; n <= 0xffff { // else 0, which only video can come to
		binary.BigEndian.PutUint16(h[4:], uint16(n))
	}

	o.st, o.bytes, o.begun, o.flags, o.spread = st, total, 0, 0, false
	if p.access {
		o.flags = flagAccess
	}
	if st == o.clock {
		o.flags |= flagPCR
		o.inside = clock{from: p.clock, span: p.next - p.clock, n: intervals(p.next - p.clock)}
		o.whole = packetsFor(total + pcrBytes*o.inside.n)
		// More than one PCR goes into the PES packet if it has a packet for each, and if none would be ahead of what follows
		// before the next PES packet of this stream.
		if o.inside.n > 1 && (o.whole < o.inside.n || p.next-lead > p.bound) {
			o.pending, o.inside.n = o.inside, 1
			o.pending.i = 1
			o.whole = packetsFor(total + pcrBytes)
		} else {
			o.pending = clock{}
		}
	} else {
		o.inside = clock{}
		o.whole = packetsFor(total)
		if p.access {
			o.whole = packetsFor(total + flagBytes)
		}
	}
	if more := -(st.packets + o.whole) & (counters - 1); p.last && more > 0 {
		o.whole += more
		o.spread = true
	}
	o.next()
	o.write(h[:o.head])
}

func packetsFor(n int) int { return (n + payloadSize - 1) / payloadSize }

// next begins the next packet of the PES packet and allots it its bytes.
func (o *out) next() {
	flags, pcr, room := byte(0), int64(0), payloadSize
	if o.begun == 0 {
		flags = o.flags
	} else if o.inside.i < o.inside.n && o.begun == o.inside.i*o.whole/o.inside.n {
		flags = flagPCR
	}
	if flags&flagPCR != 0 {
		pcr = o.inside.at()
		o.inside.i++
		room -= pcrBytes
	} else if flags != 0 {
		room -= flagBytes
	}

	left := o.whole - o.begun
	size := room
	if o.spread { // over a packet more than necessary at least, so that a share always fits, even if PCRs take some room
		size = (o.bytes + left - 1) / left
		if o.begun == 0 {
			size = max(size, o.head)
		}
	}
	size = min(size, room, o.bytes-(left-1)) // the others have something too
	o.bytes -= size

	control := byte(0x10)
	if size < payloadSize {
		control = 0x30
	}
	b := o.packet(o.st, control, o.st.packets)
	if o.begun == 0 {
		b[1] |= 0x40 // payload_unit_start_indicator
	}
	if size < payloadSize {
		adaptation(b[4:packetSize-size], flags, pcr)
	}
	o.st.packets++
	o.begun++
	o.end = len(o.dst)
	o.at = o.end - size
}

// packet appends a packet with its first four bytes (ISO/IEC 13818-1 2.4.3.2); the others are undefined.
func (o *out) packet(st *stream, control byte, counter int) []byte {
	n := len(o.dst)
	o.dst = slices.Grow(o.dst, packetSize)[:n+packetSize]
	b := o.dst[n:]
	b[0], b[1], b[2], b[3] = 0x47, byte(st.pid>>8), byte(st.pid), control|byte(counter&(counters-1))
	return b
}

// write writes bytes of the PES packet.
func (o *out) write(p []byte) {
	for len(p) > 0 {
		if o.at == o.end {
			o.next()
		}
		n := copy(o.dst[o.at:o.end], p)
		o.at += n
		p = p[n:]
	}
}

// adaptation makes an adaptation field of all of b (ISO/IEC 13818-1 2.4.3.4).
func adaptation(b []byte, flags byte, pcr int64) {
	b[0] = byte(len(b) - 1)
	if len(b) == 1 {
		return
	}
	b[1] = flags
	b = b[2:]
	if flags&flagPCR != 0 {
		t := uint64(pcr + timeOffset - lead) // the upper bits fall off
		binary.BigEndian.PutUint32(b, uint32(t>>1))
		b[4], b[5] = byte(t<<7)|0x7e, 0 // the extension is 0
		b = b[6:]
	}
	for i := range b {
		b[i] = 0xff
	}
}

// putTime writes a PTS or DTS, modulo 2^33, behind the four bits that say which.
func putTime(b []byte, prefix byte, t int64) {
	u := uint64(t + timeOffset)
	b[0] = prefix<<4 | byte(u>>29)&0x0e | 1
	b[1] = byte(u >> 22)
	b[2] = byte(u>>14) | 1
	b[3] = byte(u >> 7)
	b[4] = byte(u<<1) | 1
}
