package rtmp

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"io"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"headwater/ingest"
	"headwater/ingest/amf0"
	"headwater/segmenter"
)

// origins is a Publisher that cuts what it is given, as the origin does.
type origins struct{ o segmenter.Origin }

func (o *origins) Publish(_ context.Context, r ingest.Request) (ingest.Writer, error) {
	return o.o.Open(r.Name, "", time.Unix(1767323045, 0))
}

// encoded returns the bytes of a publication of so many seconds: 30 fps at 3 Mb/s with a key frame every two seconds, and
// AAC at 48 kHz, in chunks of 4096 bytes, and the number of its samples.
func encoded(seconds int) (b []byte, samples int) {
	const fps, size = 30, 4096
	add := func(csid int, typ uint8, ms int, body []byte) {
		p := piece{csid: csid, time: uint32(ms), length: len(body), typ: typ, stream: 1}
		for first := true; first || len(body) > 0; first = false {
			k := min(len(body), size)
			if !first {
				p = piece{format: 3, csid: csid}
			}
			p.data = string(body[:k])
			b = p.append(b)
			body = body[k:]
		}
	}
	avcC, _ := hex.DecodeString("0164001fffe100166764001facd9405005bb011000000300100000030" + "3c001000668ebe3cb22c0")
	add(6, typeVideo, 0, append([]byte{0x17, 0, 0, 0, 0}, avcC...))
	add(5, typeAudio, 0, []byte{0xaf, 0, 0x11, 0x90})
	frame := func(first, nal byte, n int) []byte {
		f := make([]byte, 9+n)
		f[0], f[1] = first, 1
		binary.BigEndian.PutUint32(f[5:], uint32(n))
		f[9] = nal
		return f
	}
	key, delta, sound := frame(0x17, 0x65, 100_000), frame(0x27, 0x41, 11_000), append([]byte{0xaf, 1}, make([]byte, 340)...)
	audio := 0
	for f := range seconds * fps {
		for ; audio*1024*fps < f*48000; audio++ {
			add(5, typeAudio, audio*1024/48, sound)
			samples++
		}
		samples++
		if f%(2*fps) == 0 {
			add(6, typeVideo, f*1000/fps, key)
		} else {
			add(6, typeVideo, f*1000/fps, delta)
		}
	}
	return b, samples
}

// From RTMP bytes to published parts, without a socket; one operation is a minute of a publication.
func BenchmarkIngest(b *testing.B) {
	in, samples := encoded(60)
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		o := feed(b, in)
		if s, _ := o.o.Stream("live/demo"); s.Run() == nil {
			b.Fatal("nothing was cut")
		}
	}
	b.ReportMetric(float64(samples)*float64(b.N)/b.Elapsed().Seconds(), "samples/s")
}

// The whole way allocates for parts and segments, never for a sample.
func TestIngestAllocations(t *testing.T) {
	short, _ := encoded(30)
	long, _ := encoded(90)
	count := func(in []byte) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		feed(t, in)
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}
	count(short)
	// Six parts a second in two renditions, at about seven allocations each, and a few for a segment.
	if per := float64(count(long)-count(short)) / 60; per > 60 {
		t.Errorf("%.1f allocations for a second of 77 samples", per)
	}
}

// feed serves a connection on which those bytes come, to its end.
func feed(t testing.TB, in []byte) *origins {
	t.Helper()
	o := &origins{}
	s := &Server{Publisher: o, Log: slog.New(slog.DiscardHandler)}
	c := newConn(s, &finite{endless{again{b: in}}})
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	c.ctx = ctx
	if err := c.handleCommand(0, commandPayload("connect", 1, amf0.Object{"app": "live"})); err != nil {
		t.Fatal(err)
	}
	if err := c.handleCommand(1, commandPayload("publish", 2, nil, "demo")); err != nil {
		t.Fatal(err)
	}
	c.size = 4096
	for {
		m, err := c.next()
		if err == io.EOF {
			return o
		}
		if err == nil {
			err = c.handle(&m)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// finite is an endless connection that ends.
type finite struct{ endless }

func (f *finite) Read(p []byte) (int, error) {
	if f.n < 0 {
		return 0, io.EOF
	}
	n := copy(p, f.b[f.n:])
	if f.n += n; f.n == len(f.b) {
		f.n = -1
	}
	return n, nil
}
