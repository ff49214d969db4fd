package rtmp

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"headwater/ingest"
	"headwater/ingest/amf0"
	"headwater/segmenter/media"
)

// counter is a Writer and Demuxer that costs nothing.
type counter struct{ messages, bytes int }

func (c *counter) Publish(context.Context, ingest.Request) (ingest.Writer, error) { return c, nil }
func (c *counter) SetTracks([]media.Track) error                                  { return nil }
func (c *counter) WriteSample(int, *media.Sample) error                           { return nil }
func (c *counter) Close(error) error                                              { return nil }
func (c *counter) Audio(_, _ int64, b []byte) error                               { return c.Video(0, 0, b) }
func (c *counter) Data(int64, []byte) error                                       { return nil }
func (c *counter) Video(_, _ int64, b []byte) error {
	c.messages++
	c.bytes += len(b)
	return nil
}

// setChunkSize is that message.
func setChunkSize(n int) []byte {
	return wire(whole(typeSetChunkSize, 0, string([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})))
}

var publishCommands = append(commandBytes(0, "connect", 1, amf0.Object{"app": "live"}), commandBytes(1, "publish", 2, nil, "demo")...)

// stream returns the given seconds of a publication as an encoder sends it: 30 fps at 3 Mb/s with a key frame of 100 KB
// every two seconds, and AAC at 48 kHz, in chunks of the given size.
func stream(seconds, size int) (b []byte, messages int) {
	const fps, key = 30, 100_000
	delta := (2*3_000_000/8 - key) / (2*fps - 1)
	add := func(csid int, typ uint8, ms, n int) {
		p := piece{csid: csid, time: uint32(ms), length: n, typ: typ, stream: 1}
		for first := true; first || n > 0; first = false {
			k := min(n, size)
			if !first {
				p = piece{format: 3, csid: csid}
			}
			p.data = string(make([]byte, k))
			b = p.append(b)
			n -= k
		}
		messages++
	}
	audio := 0
	for f := range seconds * fps {
		for ; audio*1024*fps < f*48000; audio++ {
			add(5, typeAudio, audio*1024/48, 340)
		}
		n := delta
		if f%(2*fps) == 0 {
			n = key
		}
		add(6, typeVideo, f*1000/fps, n)
	}
	return b, messages
}

// again is a reader that never ends.
type again struct {
	b []byte
	n int
}

func (a *again) Read(p []byte) (int, error) {
	n := copy(p, a.b[a.n:])
	a.n = (a.n + n) % len(a.b)
	return n, nil
}

// The chunk reader alone; one operation is one second of a publication.
func BenchmarkChunkReader(b *testing.B) {
	for _, size := range []int{128, 4096, 1 << 16} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			in, messages := stream(10, size)
			r := newChunkReader(&again{b: in}, MaxMessage)
			r.resize(largeBuffer)
			r.size = size
			for range messages {
				r.next()
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(in) / 10))
			n := 0
			for b.Loop() {
				for range messages / 10 {
					if _, err := r.next(); err != nil {
						b.Fatal(err)
					}
					n++
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

// A whole connection over loopback, as fast as it goes; one operation is one second of a publication.
func BenchmarkConnection(b *testing.B) {
	for _, size := range []int{128, 4096} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			k := &counter{}
			s := &Server{MaxRate: -1, Publisher: k, Demux: func(ingest.Writer) Demuxer { return k }}
			p := dialTCP(b, s)
			p.send(hello(3, simpleC1()))
			p.send(publishCommands)
			p.send(setChunkSize(size))
			go p.listen()
			in, messages := stream(10, size)
			b.ReportAllocs()
			b.SetBytes(int64(len(in) / 10))
			b.ResetTimer()
			for range (b.N + 9) / 10 {
				p.nc.Write(in)
			}
			p.nc.(*net.TCPConn).CloseWrite()
			p.end()
			if want := (b.N + 9) / 10 * messages; k.messages != want {
				b.Fatalf("%d of %d messages", k.messages, want)
			}
		})
	}
}

// In the steady state nothing is allocated: not per message, nor per read.
func TestAllocations(t *testing.T) {
	for _, size := range []int{128, 4096, 1 << 16} {
		in, messages := stream(10, size)
		k := &counter{}
		s := &Server{MaxRate: -1, Publisher: k, Demux: func(ingest.Writer) Demuxer { return k }}
		c := newConn(s, &endless{again{b: in}})
		c.ctx = context.Background()
		if err := c.handleCommand(0, commandPayload("connect", 1, amf0.Object{"app": "live"})); err != nil {
			t.Fatal(err)
		}
		if err := c.handleCommand(1, commandPayload("publish", 2, nil, "demo")); err != nil {
			t.Fatal(err)
		}
		c.size = size
		run := func(n int) {
			for range n {
				m, err := c.next()
				if err == nil {
					c.messages++
					c.progress = true
					err = c.handle(&m)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		run(messages)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		run(10 * messages)
		runtime.ReadMemStats(&after)
		// A hundred seconds with an acknowledgement every 3 or 4 of them, and what the runtime does beside.
		if n := after.Mallocs - before.Mallocs; n > 100 {
			t.Errorf("chunks of %d: %d allocations for %d messages", size, n, 10*messages)
		}
		if c.buffers > 2*128<<10 {
			t.Errorf("chunks of %d: %d bytes of message buffers", size, c.buffers)
		}
	}
}

func commandPayload(values ...any) (b []byte) {
	for _, v := range values {
		b = amf0.Append(b, v)
	}
	return b
}

// endless is a connection whose peer sends the same again and again.
type endless struct{ again }

func (c *endless) Write(p []byte) (int, error)      { return len(p), nil }
func (c *endless) Close() error                     { return nil }
func (c *endless) LocalAddr() net.Addr              { return nil }
func (c *endless) RemoteAddr() net.Addr             { return nil }
func (c *endless) SetDeadline(time.Time) error      { return nil }
func (c *endless) SetReadDeadline(time.Time) error  { return nil }
func (c *endless) SetWriteDeadline(time.Time) error { return nil }
