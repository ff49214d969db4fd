package rtmp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"headwater/segmenter/media"
)

// A piece is one chunk on the wire, spelt by hand.
type piece struct {
	format, csid int
	time         uint32 // of formats 0 to 2
	length       int    // of formats 0 and 1
	typ          uint8
	stream       uint32
	ext          uint32 // extended timestamp, written when time is noTimestamp or withExt
	withExt      bool
	data         string
}

func (p piece) append(b []byte) []byte {
	f := byte(p.format << 6)
	switch {
	case p.csid < 64:
		b = append(b, f|byte(p.csid))
	case p.csid < 64+256:
		b = append(b, f, byte(p.csid-64))
	default:
		b = append(b, f|1, byte(p.csid-64), byte((p.csid-64)>>8))
	}
	if p.format < 3 {
		b = append(b, byte(p.time>>16), byte(p.time>>8), byte(p.time))
	}
	if p.format < 2 {
		b = append(b, byte(p.length>>16), byte(p.length>>8), byte(p.length), p.typ)
	}
	if p.format == 0 {
		b = binary.LittleEndian.AppendUint32(b, p.stream)
	}
	if p.withExt || p.format < 3 && p.time == noTimestamp {
		b = binary.BigEndian.AppendUint32(b, p.ext)
	}
	return append(b, p.data...)
}

func wire(pieces ...piece) []byte {
	var b []byte
	for _, p := range pieces {
		b = p.append(b)
	}
	return b
}

// whole is a message in one chunk of format 0.
func whole(typ uint8, stream uint32, data string) piece {
	return piece{csid: 3, typ: typ, stream: stream, length: len(data), data: data}
}

var (
	a128 = strings.Repeat("a", 128)
	b128 = strings.Repeat("b", 128)
)

type msg struct {
	Type   uint8
	Stream uint32
	Time   uint32
	Data   string
}

// chunkCases are streams of chunks, the messages in them, and what the error after them says ("" is EOF).
var chunkCases = []struct {
	name string
	in   []byte
	want []msg
	err  string
}{
	{"nothing", nil, nil, ""},
	{"one message", wire(whole(8, 1, "abc")), []msg{{8, 1, 0, "abc"}}, ""},
	{"two chunks", wire(
		piece{csid: 4, time: 7, length: 130, typ: 9, stream: 1, data: a128},
		piece{format: 3, csid: 4, data: "zz"},
	), []msg{{9, 1, 7, a128 + "zz"}}, ""},
	{"exactly one chunk, then exactly two", wire(
		piece{csid: 4, length: 128, typ: 9, data: a128},
		piece{csid: 4, length: 256, typ: 9, data: a128}, piece{format: 3, csid: 4, data: b128},
	), []msg{{9, 0, 0, a128}, {9, 0, 0, a128 + b128}}, ""},
	{"compressed headers", wire(
		piece{csid: 4, time: 100, length: 1, typ: 8, stream: 1, data: "a"},
		piece{format: 1, csid: 4, time: 20, length: 2, typ: 9, data: "bb"},
		piece{format: 2, csid: 4, time: 30, data: "cc"},
		piece{format: 3, csid: 4, data: "dd"},
	), []msg{{8, 1, 100, "a"}, {9, 1, 120, "bb"}, {9, 1, 150, "cc"}, {9, 1, 180, "dd"}}, ""},
	{"format 3 after format 0 adds its timestamp", wire(
		piece{csid: 4, time: 23, length: 1, typ: 8, stream: 1, data: "a"},
		piece{format: 3, csid: 4, data: "b"},
	), []msg{{8, 1, 23, "a"}, {8, 1, 46, "b"}}, ""},
	{"interleaved", wire(
		piece{csid: 4, length: 256, typ: 9, stream: 1, data: a128},
		piece{csid: 5, length: 2, typ: 8, stream: 1, data: "xy"},
		piece{format: 3, csid: 4, data: b128},
	), []msg{{8, 1, 0, "xy"}, {9, 1, 0, a128 + b128}}, ""},
	{"chunk stream ids in three forms", wire(
		piece{csid: 2, length: 1, typ: 8, data: "a"},
		piece{csid: 63, length: 1, typ: 8, data: "b"},
		piece{csid: 64, length: 1, typ: 8, data: "c"},
		piece{csid: 319, length: 1, typ: 8, data: "d"},
		piece{csid: 320, length: 129, typ: 8, data: a128},
		piece{format: 3, csid: 320, data: "e"},
		piece{csid: 65599, length: 1, typ: 8, data: "f"},
		piece{format: 3, csid: 65599, data: "g"},
	), []msg{{8, 0, 0, "a"}, {8, 0, 0, "b"}, {8, 0, 0, "c"}, {8, 0, 0, "d"}, {8, 0, 0, a128 + "e"}, {8, 0, 0, "f"}, {8, 0, 0, "g"}}, ""},
	{"one id in two forms is one chunk stream", append(
		wire(piece{csid: 64, length: 129, typ: 8, data: a128}), 0xc1, 0, 0, 'x',
	), []msg{{8, 0, 0, a128 + "x"}}, ""},
	{"format 1 first", wire(piece{format: 1, csid: 4, time: 5, length: 1, typ: 8, data: "a"}), []msg{{8, 0, 5, "a"}}, ""},
	{"format 2 first", wire(piece{format: 2, csid: 4, time: 5, data: "a"}), nil, "compressed header first on chunk stream 4"},
	{"format 3 first", wire(piece{format: 3, csid: 9, data: "a"}), nil, "compressed header first on chunk stream 9"},
	{"new header in the middle", wire(
		piece{csid: 4, length: 129, typ: 8, data: a128},
		piece{csid: 4, length: 1, typ: 8, data: "x"},
	), nil, "before the last was complete"},
	{"zero length, then more", wire(
		piece{csid: 4, time: 1, typ: 9, stream: 1},
		piece{format: 3, csid: 4},
		piece{format: 1, csid: 4, length: 1, typ: 9, data: "a"},
	), []msg{{9, 1, 1, ""}, {9, 1, 2, ""}, {9, 1, 2, "a"}}, ""},
	{"largest plain timestamp", wire(piece{csid: 4, time: 0xfffffe, length: 1, typ: 8, data: "a"}), []msg{{8, 0, 0xfffffe, "a"}}, ""},
	{"extended timestamp repeated", wire(
		piece{csid: 4, time: noTimestamp, ext: 0x01020304, length: 130, typ: 9, data: a128},
		piece{format: 3, csid: 4, withExt: true, ext: 0x01020304, data: "zz"},
	), []msg{{9, 0, 0x01020304, a128 + "zz"}}, ""},
	{"extended timestamp not repeated", wire(
		piece{csid: 4, time: noTimestamp, ext: 0x01020304, length: 134, typ: 9, data: a128},
		piece{format: 3, csid: 4, data: "\x01\x02\x03zzz"},
	), []msg{{9, 0, 0x01020304, a128 + "\x01\x02\x03zzz"}}, ""},
	{"extended timestamp of exactly 24 bits", wire(
		piece{csid: 4, time: noTimestamp, ext: noTimestamp, length: 1, typ: 9, data: "a"},
		piece{format: 1, csid: 4, time: 1, length: 1, typ: 9, data: "b"},
	), []msg{{9, 0, 0xffffff, "a"}, {9, 0, 0x1000000, "b"}}, ""},
	{"extended delta, wrapping", wire(
		piece{csid: 4, time: noTimestamp, ext: 0xfffffff0, length: 1, typ: 9, data: "a"},
		piece{format: 2, csid: 4, time: noTimestamp, ext: 0x01000000, data: "b"},
		piece{format: 3, csid: 4, withExt: true, ext: 0x01000000, data: "c"},
		piece{format: 2, csid: 4, time: 1, data: "d"},
		piece{format: 3, csid: 4, data: "e"},
	), []msg{{9, 0, 0xfffffff0, "a"}, {9, 0, 0xfffff0, "b"}, {9, 0, 0x1fffff0, "c"}, {9, 0, 0x1fffff1, "d"}, {9, 0, 0x1fffff2, "e"}}, ""},
	{"Set Chunk Size", wire(
		whole(1, 0, "\x00\x00\x00\x03"),
		piece{csid: 4, length: 4, typ: 8, data: "abc"}, piece{format: 3, csid: 4, data: "d"},
	), []msg{{1, 0, 0, "\x00\x00\x00\x03"}, {8, 0, 0, "abcd"}}, ""},
	{"Set Chunk Size in the middle of a message", wire(
		piece{csid: 4, length: 256, typ: 8, data: a128},
		whole(1, 0, "\x00\x00\x10\x00"),
		piece{format: 3, csid: 4, data: b128},
	), []msg{{1, 0, 0, "\x00\x00\x10\x00"}, {8, 0, 0, a128 + b128}}, ""},
	{"Set Chunk Size 1", wire(
		whole(1, 0, "\x00\x00\x00\x01"),
		piece{csid: 4, length: 2, typ: 8, data: "a"}, piece{format: 3, csid: 4, data: "b"},
	), []msg{{1, 0, 0, "\x00\x00\x00\x01"}, {8, 0, 0, "ab"}}, ""},
	{"Set Chunk Size 0", wire(whole(1, 0, "\x00\x00\x00\x00")), nil, "chunk size 0x0"},
	{"Set Chunk Size, high bit", wire(whole(1, 0, "\x80\x00\x10\x00")), nil, "chunk size 0x80001000"},
	{"Set Chunk Size, largest", wire(whole(1, 0, "\x7f\xff\xff\xff"), whole(8, 0, a128+b128)),
		[]msg{{1, 0, 0, "\x7f\xff\xff\xff"}, {8, 0, 0, a128 + b128}}, ""},
	{"Set Chunk Size, short", wire(whole(1, 0, "\x00\x10")), nil, "Set Chunk Size of 2 bytes"},
	{"Abort", wire(
		piece{csid: 4, length: 256, typ: 9, data: a128},
		whole(2, 0, "\x00\x00\x00\x04"),
		piece{csid: 4, length: 1, typ: 9, data: "x"},
	), []msg{{2, 0, 0, "\x00\x00\x00\x04"}, {9, 0, 0, "x"}}, ""},
	{"Abort of nothing", wire(whole(2, 0, "\x00\x01\x00\x04"), whole(8, 0, "x")),
		[]msg{{2, 0, 0, "\x00\x01\x00\x04"}, {8, 0, 0, "x"}}, ""},
	{"Abort, short", wire(whole(2, 0, "")), nil, "Abort of 0 bytes"},
	{"longer than allowed", wire(piece{csid: 4, length: MaxCommand + 1, typ: 9, data: a128}), nil, "message of 65537 bytes"},
	{"16 MB announced", wire(piece{csid: 4, length: 0xffffff, typ: 9, data: a128}), nil, "message of 16777215 bytes"},
	{"cut off in a header", wire(whole(8, 0, "x"))[:5], nil, ""},
	{"cut off in the payload", wire(whole(8, 0, "xyz"))[:13], nil, ""},
	{"64 chunk streams", wire(opened(64)...), make64(), ""},
	{"65 chunk streams", wire(opened(65)...), make64(), "more than 64 chunk streams"},
}

// opened are n empty messages on as many chunk streams, low and high ones.
func opened(n int) []piece {
	ps := make([]piece, n)
	for i := range ps {
		ps[i] = piece{csid: 2 + i*1000, typ: 8}
	}
	return ps
}

func make64() []msg {
	ms := make([]msg, 64)
	for i := range ms {
		ms[i].Type = 8
	}
	return ms
}

func newChunkReader(src io.Reader, maxMessage int) *chunkReader {
	return &chunkReader{
		reader: reader{src: src, buf: make([]byte, smallBuffer)}, size: defaultChunkSize, maxMessage: maxMessage,
	}
}

func readAll(r *chunkReader) (ms []msg, err error) {
	for {
		m, err := r.next()
		if err != nil {
			return ms, err
		}
		ms = append(ms, msg{m.typ, m.stream, m.timestamp, string(m.payload)})
	}
}

func TestChunks(t *testing.T) {
	for _, c := range chunkCases {
		for name, src := range map[string]io.Reader{
			"at once":    bytes.NewReader(c.in),
			"by bytes":   iotest.OneByteReader(bytes.NewReader(c.in)),
			"data & err": iotest.DataErrReader(bytes.NewReader(c.in)),
		} {
			t.Run(c.name+" "+name, func(t *testing.T) {
				r := newChunkReader(src, MaxCommand)
				got, err := readAll(r)
				if d := cmp.Diff(c.want, got); d != "" {
					t.Error(d)
				}
				var fe *media.FormatError
				if c.err == "" && err != io.EOF || c.err != "" && (!errors.As(err, &fe) || !strings.Contains(err.Error(), c.err)) {
					t.Errorf("%v, want %q", err, c.err)
				}
				if _, again := r.next(); again != err {
					t.Errorf("then %v", again)
				}
			})
		}
	}
}

// What appendMessage writes, the reader reads.
func TestAppendMessage(t *testing.T) {
	for _, size := range []int{1, 5, 128, 4096} {
		for _, n := range []int{0, 1, 127, 128, 129, 1000, 4096, 10_000} {
			r := newChunkReader(bytes.NewReader(appendMessage(nil, 3, 20, 7, bytes.Repeat([]byte("x"), n), size)), MaxCommand)
			r.size = size
			m, err := r.next()
			if err != nil || len(m.payload) != n || m.typ != 20 || m.stream != 7 {
				t.Errorf("chunks of %d, %d bytes: got %d, type %d, stream %d, %v", size, n, len(m.payload), m.typ, m.stream, err)
			}
		}
	}
}

// The last bytes of a message are not held back until it is known whether four more of them are a timestamp.
func TestExtendedTimestampDoesNotWait(t *testing.T) {
	in := wire(
		piece{csid: 4, time: noTimestamp, ext: 0x01020304, length: 130, typ: 9, data: a128},
		piece{format: 3, csid: 4, data: "zz"},
	)
	r := newChunkReader(io.MultiReader(bytes.NewReader(in), iotest.ErrReader(errors.New("read too far"))), MaxCommand)
	if m, err := r.next(); err != nil || len(m.payload) != 130 {
		t.Error(len(m.payload), err)
	}
}

// A length that is only announced costs nothing, and what is under way in all chunk streams together has a bound.
func TestBufferLimits(t *testing.T) {
	r := newChunkReader(bytes.NewReader(wire(piece{csid: 4, length: MaxMessage, typ: 9, data: a128})), MaxMessage)
	if _, err := r.next(); err != io.EOF {
		t.Error(err)
	}
	if r.buffers > minGrow {
		t.Errorf("%d bytes held for 128", r.buffers)
	}

	big := strings.Repeat("x", MaxCommand-1)
	in := wire(whole(1, 0, "\x00\x00\xff\xfe"))
	for csid := 4; csid < 8; csid++ {
		in = piece{csid: csid, length: MaxCommand, typ: 9, data: big[:0xfffe]}.append(in)
	}
	r = newChunkReader(bytes.NewReader(in), MaxCommand)
	_, err := readAll(r)
	if err == nil || !strings.Contains(err.Error(), "messages under way") {
		t.Error(err)
	}
	if r.buffers > MaxBuffers*MaxCommand {
		t.Errorf("%d bytes held", r.buffers)
	}
}

func FuzzChunks(f *testing.F) {
	for _, c := range chunkCases {
		f.Add(c.in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := newChunkReader(bytes.NewReader(in), MaxCommand)
		once, err := readAll(r)
		if r.buffers > MaxBuffers*MaxCommand || r.count > MaxChunkStreams+1 {
			t.Fatalf("%d bytes, %d chunk streams", r.buffers, r.count)
		}
		bytewise, err2 := readAll(newChunkReader(iotest.OneByteReader(bytes.NewReader(in)), MaxCommand))
		if fmt.Sprint(err) != fmt.Sprint(err2) {
			t.Fatalf("%v; byte by byte: %v", err, err2)
		}
		if d := cmp.Diff(once, bytewise); d != "" {
			t.Fatal(d)
		}
	})
}
