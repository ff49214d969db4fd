package tstest

import "bytes"

func (p *parser) streamType(pid uint16) (byte, bool) {
	for _, s := range p.pmt.Streams {
		if s.PID == pid {
			return s.Type, true
		}
	}
	return 0, false
}

// elementary reads the payload of a packet on an elementary PID.
func (p *parser) elementary(pid uint16, payload []byte, starts, access bool) {
	typ, ok := p.streamType(pid)
	if !ok {
		p.bad("PID %#x is not declared", pid)
		return
	}
	if !starts {
		if access {
			p.bad("random_access_indicator where nothing starts")
		}
		a := p.open[pid]
		if a == nil {
			p.bad("PID %#x goes on with a PES packet that does not begin in the segment", pid)
			return
		}
		a.b = append(a.b, payload...)
		a.pcr, a.hasPCR = p.pcr, p.hasPCR
		return
	}
	p.finish(pid)
	if !p.started && !access {
		p.bad("the segment's first PES packet has no random_access_indicator")
	}
	p.started = true
	p.report.PES = append(p.report.PES, PES{PID: pid, Type: typ, Segment: p.segment, RandomAccess: access})
	p.open[pid] = &assembly{
		index: len(p.report.PES) - 1, randomAccess: access, pcr: p.pcr, hasPCR: p.hasPCR, b: bytes.Clone(payload),
	}
}

// finish reads the PES packet that ends on the PID (2.4.3.6).
func (p *parser) finish(pid uint16) {
	a := p.open[pid]
	if a == nil {
		return
	}
	delete(p.open, pid)
	s := &p.report.PES[a.index]
	b := a.b
	if len(b) < 14 || b[0] != 0 || b[1] != 0 || b[2] != 1 {
		p.bad("PID %#x: no PES packet: % x", pid, b[:min(len(b), 14)])
		return
	}
	s.ID, s.Length = b[3], int(b[4])<<8|int(b[5])
	if s.Length != 0 && s.Length != len(b)-6 {
		p.bad("PID %#x: PES_packet_length %d, %d bytes follow", pid, s.Length, len(b)-6)
	}
	if s.Length == 0 && s.Type != 0x1b {
		p.bad("PID %#x: PES packet without a length", pid)
	}
	// No scrambling, priority, copyright; alignment is said. PTS, perhaps DTS, and no other field.
	if b[6] != 0x84 || b[7] != 0x80 && b[7] != 0xc0 {
		p.bad("PID %#x: PES flags % x", pid, b[6:8])
		return
	}
	size, prefix := 5, byte(2)
	if s.HasDTS = b[7] == 0xc0; s.HasDTS {
		size, prefix = 10, 3
	}
	if int(b[8]) != size || len(b) < 9+size {
		p.bad("PID %#x: PES header of %d bytes", pid, b[8])
		return
	}
	s.PTS = p.time(b[9:14], prefix)
	s.DTS = s.PTS
	if s.HasDTS {
		s.DTS = p.time(b[14:19], 1)
		if s.DTS >= s.PTS {
			p.bad("PID %#x: DTS %d with PTS %d", pid, s.DTS, s.PTS)
		}
	}
	if last, ok := p.last[pid]; ok && s.DTS <= last {
		p.bad("PID %#x: DTS %d after %d", pid, s.DTS, last)
	}
	p.last[pid] = s.DTS
	if !a.hasPCR || a.pcr > s.DTS {
		p.bad("PID %#x: PCR %d is ahead of DTS %d", pid, a.pcr, s.DTS)
	}
	s.Data = b[9+size:]
	switch s.Type {
	case 0x1b:
		p.accessUnit(s)
	case 0x0f:
		p.frames(s)
	}
}

// time reads a PTS or DTS.
func (p *parser) time(b []byte, prefix byte) int64 {
	if b[0]>>4 != prefix || b[0]&1 != 1 || b[2]&1 != 1 || b[4]&1 != 1 {
		p.bad("time % x", b)
	}
	return p.unwrap(int64(b[0]>>1&7)<<30 | int64(b[1])<<22 | int64(b[2]>>1)<<15 | int64(b[3])<<7 | int64(b[4]>>1))
}

// accessUnit checks an access unit in byte stream format (ITU-T H.264, annex B and 7.4.1.2.3).
func (p *parser) accessUnit(s *PES) {
	if s.ID < 0xe0 || s.ID > 0xef {
		p.bad("video with stream_id %#x", s.ID)
	}
	b := s.Data
	if !bytes.HasPrefix(b, []byte{0, 0, 0, 1}) {
		p.bad("an access unit begins with % x", b[:min(len(b), 4)])
		return
	}
	var sps, pps, slice, idr bool
	for len(b) > 0 {
		at := bytes.Index(b, []byte{0, 0, 1})
		if at < 0 {
			break
		}
		b = b[at+3:]
		end := bytes.Index(b, []byte{0, 0, 1})
		if end < 0 {
			end = len(b)
		}
		nal := bytes.TrimRight(b[:end], "\x00")
		b = b[end:]
		if len(nal) == 0 {
			p.bad("an empty NAL unit")
			continue
		}
		typ := nal[0] & 0x1f
		if first := len(s.NAL) == 0; first != (typ == 9) {
			p.bad("NAL unit %d of an access unit has type %d", len(s.NAL), typ)
		}
		s.NAL = append(s.NAL, typ)
		switch typ {
		case 1, 2, 3, 4, 5:
			if typ == 5 && !slice && (!sps || !pps) {
				p.bad("an IDR picture without parameter sets: NAL units %v", s.NAL)
			}
			slice, idr = true, idr || typ == 5
		case 7:
			if slice || pps && !sps {
				p.bad("the SPS comes late: NAL units %v", s.NAL)
			}
			sps = true
		case 8:
			pps = true
		}
	}
	if idr != s.RandomAccess {
		p.bad("random_access_indicator %v, IDR picture %v", s.RandomAccess, idr)
	}
}

var rates = []int{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}

// frames checks a row of ADTS frames (ISO/IEC 14496-3, 1.A.2.2).
func (p *parser) frames(s *PES) {
	if s.ID < 0xc0 || s.ID > 0xdf {
		p.bad("audio with stream_id %#x", s.ID)
	}
	b := s.Data
	for len(b) > 0 {
		if len(b) < 7 || b[0] != 0xff || b[1] != 0xf1 {
			p.bad("no ADTS frame: % x", b[:min(len(b), 7)])
			return
		}
		size := int(b[3]&3)<<11 | int(b[4])<<3 | int(b[5])>>5
		index := int(b[2] >> 2 & 15)
		if size <= 7 || size > len(b) || index >= len(rates) || b[6]&3 != 0 {
			p.bad("ADTS frame % x of %d bytes in %d", b[:7], size, len(b))
			return
		}
		config := int(b[2])<<8 | int(b[3]&0xf0)
		if before, ok := p.rate[s.PID]; ok && before != config {
			p.bad("ADTS configuration %#x after %#x", config, before)
		}
		p.rate[s.PID] = config
		s.Rate = rates[index]
		s.Frames++
		b = b[size:]
	}
}
