package tstest

import "reflect"

// section takes the one section out of the payload of a packet (ISO/IEC 13818-1 2.4.4) and checks its frame.
func (p *parser) section(b []byte, table byte) (version int, body []byte) {
	if b[0] != 0 || len(b) < 4 {
		p.bad("pointer_field %d", b[0])
		return 0, nil
	}
	b = b[1:]
	n := int(b[1]&0x0f)<<8 | int(b[2])
	if b[0] != table || b[1]&0xf0 != 0xb0 || n < 9 || 3+n > len(b) {
		p.bad("table % x", b[:3])
		return 0, nil
	}
	for _, v := range b[3+n:] {
		if v != 0xff {
			p.bad("%#x after the section", v)
			break
		}
	}
	b = b[:3+n]
	// Over a section with its CRC the register ends at zero (annex A). This one shifts bit by bit.
	var register uint32 = 0xffffffff
	for _, v := range b {
		for i := 7; i >= 0; i-- {
			feedback := register>>31 != uint32(v>>i)&1
			register <<= 1
			if feedback {
				register ^= 0x04c11db7
			}
		}
	}
	if register != 0 {
		p.bad("the CRC of table %d is wrong", table)
	}
	if b[3] != 0 || b[4] != 1 || b[5]&0xc1 != 0xc1 || b[6] != 0 || b[7] != 0 {
		p.bad("table %d: % x", table, b[3:8])
	}
	return int(b[5]>>1) & 31, b[8 : len(b)-4]
}

// association reads the PAT (2.4.4.3).
func (p *parser) association(payload []byte) {
	_, b := p.section(payload, 0)
	if len(b) != 4 || b[0] != 0 || b[1] != 1 || b[2]&0xe0 != 0xe0 {
		p.bad("PAT % x is not of the one program 1", b)
		return
	}
	p.pmtPID = uint16(b[2]&0x1f)<<8 | uint16(b[3])
	if p.pmtPID < 0x10 {
		p.bad("PMT on the reserved PID %#x", p.pmtPID)
	}
}

// programMap reads the PMT (2.4.4.8).
func (p *parser) programMap(payload []byte) {
	version, b := p.section(payload, 2)
	if len(b) < 4 || b[0]&0xe0 != 0xe0 || b[2] != 0xf0 || b[3] != 0 {
		p.bad("PMT % x", b)
		return
	}
	m := PMT{Version: version, PCRPID: uint16(b[0]&0x1f)<<8 | uint16(b[1])}
	declared := false
	for b = b[4:]; len(b) > 0; {
		if len(b) < 5 || b[1]&0xe0 != 0xe0 || b[3]&0xf0 != 0xf0 {
			p.bad("PMT entry % x", b)
			return
		}
		s := Stream{Type: b[0], PID: uint16(b[1]&0x1f)<<8 | uint16(b[2])}
		n := int(b[3]&0x0f)<<8 | int(b[4])
		if b = b[5:]; n > len(b) {
			p.bad("descriptors of %d bytes in %d", n, len(b))
			return
		}
		switch d := b[:n]; {
		case n == 6 && d[0] == 10 && d[1] == 4 && d[5] == 0:
			s.Language = string(d[2:5])
		case n != 0:
			p.bad("descriptors % x", d)
		}
		b = b[n:]
		declared = declared || s.PID == m.PCRPID
		m.Streams = append(m.Streams, s)
	}
	if !declared {
		p.bad("the PCR's PID %#x is that of no stream", m.PCRPID)
	}
	if list := p.report.PMT; len(list) > 0 {
		before := list[len(list)-1]
		same := before.PCRPID == m.PCRPID && reflect.DeepEqual(before.Streams, m.Streams)
		if same != (before.Version == m.Version) {
			p.bad("PMT %+v after %+v", m, before)
		}
	}
	p.pmt = m
	p.report.PMT = append(p.report.PMT, m)
}
