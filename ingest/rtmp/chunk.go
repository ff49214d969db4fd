package rtmp

import (
	"encoding/binary"
)

// Limits on what a peer may have us hold. Section numbers are those of RTMP 1.0.
const (
	// MaxMessage is the longest message of a publisher: a key frame of 64 Mbit. The 24 bits of the length field (5.3.1.2)
	// would allow twice that.
	MaxMessage = 8 << 20
	// MaxCommand is the longest message of a peer that has not been allowed to publish.
	MaxCommand = 64 << 10
	// MaxBuffers bounds the sum of all message buffers of one connection, in multiples of the longest message: one that
	// is being received, one that it interleaves with.
	MaxBuffers = 2
	// MaxChunkStreams is how many chunk streams a connection may use (5.3.1.1 has room for 65,597). Encoders use up to 8.
	MaxChunkStreams = 64
)

// minGrow is the smallest message buffer that is allocated.
const minGrow = 4 << 10

const (
	defaultChunkSize = 128
	noTimestamp      = 0xffffff // in the 24-bit field: the extended field follows (5.3.1.3)
)

// A message is one RTMP message. Its payload is valid, and may be modified, until the next call of chunkReader.next.
type message struct {
	payload   []byte
	timestamp uint32 // milliseconds; wraps
	stream    uint32
	typ       uint8
}

// A chunkStream is what compressed headers of one chunk stream refer to, and the message that is being received on it.
type chunkStream struct {
	buf       []byte // the payload received so far; its room is used again for the next message
	left      int    // bytes of the payload that are still to come
	length    int    // of the message, as the last header said
	timestamp uint32
	delta     uint32
	extended  uint32 // value of the extended field in the last header, when ext
	stream    uint32
	id        uint32
	typ       uint8
	ext       bool
	known     bool // a header with length and type has been seen
	partial   bool // a message has begun and is not complete
}

// A chunkReader takes messages out of a chunk stream (RTMP 1.0, section 5.3). It pulls: next returns one message after
// another, then the reader's one error for ever. It keeps one buffer per chunk stream, which grows as bytes arrive and
// never because of a size that is only announced.
type chunkReader struct {
	reader
	size       int // of the peer's chunks
	maxMessage int
	buffers    int // sum of the capacities of all message buffers
	low        [64]*chunkStream
	high       map[uint32]*chunkStream
	count      int
}

// next returns the next message. Set Chunk Size and Abort, which concern the chunk stream itself, are obeyed and
// returned too.
func (r *chunkReader) next() (message, error) {
	for {
		cs, err := r.header()
		if err != nil {
			return message{}, err
		}
		if cs.left <= r.size && len(cs.buf) == 0 && cs.left <= r.w-r.r {
			// A message in one chunk that has been received whole stays where it is.
			p := r.buf[r.r : r.r+cs.left : r.r+cs.left]
			r.r += cs.left
			return r.complete(cs, p)
		}
		again := byte(0xc0 | cs.id)
		for {
			if err := r.chunk(cs, min(cs.left, r.size)); err != nil {
				return message{}, err
			}
			if cs.left == 0 {
				return r.complete(cs, cs.buf)
			}
			// Nearly always the next chunk goes on with the same message.
			if cs.ext || cs.id >= 64 || r.r == r.w || r.buf[r.r] != again {
				break
			}
			r.r++
		}
	}
}

// chunk receives n bytes of payload.
func (r *chunkReader) chunk(cs *chunkStream, n int) error {
	for n > 0 {
		have := r.w - r.r
		if have == 0 {
			if err := r.fill(); err != nil {
				return err
			}
			continue
		}
		have = min(have, n)
		if len(cs.buf)+have > cap(cs.buf) {
			if err := r.grow(cs, have); err != nil {
				return err
			}
		}
		cs.buf = append(cs.buf, r.buf[r.r:r.r+have]...)
		r.r += have
		cs.left -= have
		n -= have
	}
	return nil
}

// grow makes room for n more bytes.
func (r *chunkReader) grow(cs *chunkStream, n int) error {
	size := max(minGrow, 2*cap(cs.buf), len(cs.buf)+n)
	size = max(min(size, r.maxMessage), len(cs.buf)+n)
	if total := r.buffers - cap(cs.buf) + size; total > MaxBuffers*r.maxMessage {
		return r.failf("messages under way need more than %d bytes", MaxBuffers*r.maxMessage)
	}
	r.buffers += size - cap(cs.buf)
	buf := make([]byte, len(cs.buf), size)
	copy(buf, cs.buf)
	cs.buf = buf
	return nil
}

func (r *chunkReader) complete(cs *chunkStream, payload []byte) (message, error) {
	cs.partial = false
	cs.buf = cs.buf[:0]
	m := message{payload: payload, timestamp: cs.timestamp, stream: cs.stream, typ: cs.typ}
	switch m.typ {
	case typeSetChunkSize:
		if len(payload) < 4 {
			return message{}, r.failf("Set Chunk Size of %d bytes", len(payload))
		}
		// 5.4.1: the first bit must be zero and the size 1 at least.
		size := binary.BigEndian.Uint32(payload)
		if size == 0 || size>>31 != 0 {
			return message{}, r.failf("chunk size %#x", size)
		}
		// No message is longer than a chunk of this size: the conversion is safe where int has 32 bits.
		r.size = int(min(size, 1<<24))
	case typeAbort:
		if len(payload) < 4 {
			return message{}, r.failf("Abort of %d bytes", len(payload))
		}
		if cs := r.find(binary.BigEndian.Uint32(payload)); cs != nil {
			cs.partial = false
			cs.buf = cs.buf[:0]
		}
	}
	return m, nil
}

// header reads a chunk's basic and message header (5.3.1) and returns its chunk stream, on which a message is then
// under way.
func (r *chunkReader) header() (*chunkStream, error) {
	p, err := r.take(1)
	if err != nil {
		return nil, err
	}
	format, id := p[0]>>6, uint32(p[0]&0x3f)
	switch id {
	case 0:
		if p, err = r.take(1); err != nil {
			return nil, err
		}
		id = 64 + uint32(p[0])
	case 1:
		if p, err = r.take(2); err != nil {
			return nil, err
		}
		id = 64 + uint32(p[0]) + uint32(p[1])<<8
	}
	cs := r.find(id)
	if cs == nil {
		if cs, err = r.open(id, format); err != nil {
			return nil, err
		}
	}
	if format == 3 {
		return cs, r.again(cs)
	}
	if cs.partial {
		return nil, r.failf("new message on chunk stream %d before the last was complete", id)
	}
	if p, err = r.take(headerSize[format]); err != nil {
		return nil, err
	}
	time := uint32(p[0])<<16 | uint32(p[1])<<8 | uint32(p[2])
	if format < 2 {
		cs.length = int(p[3])<<16 | int(p[4])<<8 | int(p[5])
		cs.typ = p[6]
		cs.known = true
	} else if !cs.known {
		return nil, r.failf("compressed header first on chunk stream %d", id)
	}
	if format == 0 {
		cs.stream = binary.LittleEndian.Uint32(p[7:])
	}
	if cs.ext = time == noTimestamp; cs.ext {
		if p, err = r.take(4); err != nil {
			return nil, err
		}
		time = binary.BigEndian.Uint32(p)
		cs.extended = time
	}
	cs.delta = time
	if format == 0 {
		cs.timestamp = time
	} else {
		cs.timestamp += time
	}
	return cs, r.begin(cs)
}

// headerSize is the size of the message header of formats 0 to 2.
var headerSize = [...]int{11, 7, 3}

// again reads what follows the basic header of a chunk of format 3: a continuation, or a message like the last
// (5.3.1.2.4).
func (r *chunkReader) again(cs *chunkStream) error {
	if !cs.known {
		return r.failf("compressed header first on chunk stream %d", cs.id)
	}
	if cs.ext {
		// 5.3.1.3 wants the extended field repeated here; some senders leave it out. The bytes tell. They are compared one
		// by one, since the last bytes of a message may be all that the peer sends for now.
		var want [4]byte
		binary.BigEndian.PutUint32(want[:], cs.extended)
		n := 0
		for n < 4 {
			p, err := r.peek(n + 1)
			if err != nil {
				return err
			}
			if p[n] != want[n] {
				break
			}
			n++
		}
		if n == 4 {
			r.r += 4
		}
	}
	if cs.partial {
		return nil
	}
	// After format 0 the delta is that header's timestamp itself: odd, but so says 5.3.1.2.4, and ffmpeg counts on it.
	cs.timestamp += cs.delta
	return r.begin(cs)
}

// begin starts a message as the last header describes it.
func (r *chunkReader) begin(cs *chunkStream) error {
	if cs.length > r.maxMessage {
		return r.failf("message of %d bytes, more than %d", cs.length, r.maxMessage)
	}
	cs.left = cs.length
	cs.buf = cs.buf[:0]
	cs.partial = true
	return nil
}

func (r *chunkReader) find(id uint32) *chunkStream {
	if id < uint32(len(r.low)) {
		return r.low[id]
	}
	return r.high[id]
}

// open makes a new chunk stream. Its first header must be complete, except that some encoders begin with format 1, which
// leaves the message stream at 0.
func (r *chunkReader) open(id uint32, format byte) (*chunkStream, error) {
	if format > 1 {
		return nil, r.failf("compressed header first on chunk stream %d", id)
	}
	if r.count++; r.count > MaxChunkStreams {
		return nil, r.failf("more than %d chunk streams", MaxChunkStreams)
	}
	cs := &chunkStream{id: id}
	if id < uint32(len(r.low)) {
		r.low[id] = cs
	} else {
		if r.high == nil {
			r.high = map[uint32]*chunkStream{}
		}
		r.high[id] = cs
	}
	return cs, nil
}
