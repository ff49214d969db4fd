package main

// A bitWriter appends bits, most significant first, as H.264 and AAC write them.
type bitWriter struct {
	buf  []byte
	free uint // bits still free in the last byte of buf
}

// u appends the low n bits of v.
func (w *bitWriter) u(v uint32, n uint) {
	for n > 0 {
		if w.free == 0 {
			w.buf = append(w.buf, 0)
			w.free = 8
		}
		k := min(n, w.free)
		n -= k
		w.free -= k
		w.buf[len(w.buf)-1] |= byte(v>>n&(1<<k-1)) << w.free
	}
}

// ue appends v as an unsigned Exp-Golomb code (ISO/IEC 14496-10, 9.1).
func (w *bitWriter) ue(v uint32) {
	v++
	n := uint(0)
	for v>>n > 1 {
		n++
	}
	w.u(0, n)
	w.u(v, n+1)
}

// align fills the last byte with zero bits.
func (w *bitWriter) align() { w.free = 0 }

// bytes appends whole bytes; the writer is aligned.
func (w *bitWriter) bytes(b []byte) { w.buf = append(w.buf, b...) }

// trailing ends an RBSP: a one bit, then zero bits (ISO/IEC 14496-10, 7.3.2.11).
func (w *bitWriter) trailing() {
	w.u(1, 1)
	w.align()
}

// appendNAL appends a NAL unit with that header byte: rbsp with its emulation prevention bytes (ISO/IEC 14496-10, 7.4.1).
func appendNAL(dst []byte, header byte, rbsp []byte) []byte {
	dst = append(dst, header)
	zeros := 0
	for _, b := range rbsp {
		if zeros == 2 && b <= 3 {
			dst = append(dst, 3)
			zeros = 0
		}
		if b == 0 {
			zeros++
		} else {
			zeros = 0
		}
		dst = append(dst, b)
	}
	return dst
}
