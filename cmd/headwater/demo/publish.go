package demo

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"headwater/ingest/amf0"
	"headwater/segmenter/media"
)

// Limits of the client.
const (
	setupTimeout = 10 * time.Second // from the handshake to the answer to publish
	writeTimeout = 10 * time.Second
	chunkSize    = 65536   // of what is sent
	maxMessage   = 1 << 16 // of what is received: a server that is published to has only short things to say
	maxStreams   = 16      // chunk streams that a server may use
)

// Message types (RTMP 1.0, 5.4 and 7.1).
const (
	typeSetChunkSize = 1
	typeCommand      = 20
)

// A RefusedError is the server's refusal, in its words.
type RefusedError struct{ Code, Description string }

func (e *RefusedError) Error() string {
	if e.Description == "" {
		return "refused: " + e.Code
	}
	return "refused: " + e.Code + ": " + e.Description
}

// Publish publishes clip as app/name on the RTMP server at the other end of nc, in real time and again and again, until
// ctx ends, which is no error, or the connection does. name may carry a publish key as a query. It closes nc. started, if
// not nil, is called once the server has accepted.
func Publish(ctx context.Context, nc net.Conn, app, name string, clip *Clip, started func()) error {
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	defer nc.Close()
	c := &client{r: bufio.NewReader(nc), w: bufio.NewWriterSize(nc, chunkSize), chunk: 128, streams: map[byte]*chunkStream{}}
	nc.SetDeadline(time.Now().Add(setupTimeout))
	err := c.setup(app, name, nc.RemoteAddr().String())
	if err == nil {
		if !stop() { // from here on play minds ctx, so that it can say goodbye
			return nil
		}
		nc.SetDeadline(time.Time{})
		if started != nil {
			started()
		}
		err = c.play(ctx, nc, clip)
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// A client publishes on one connection.
type client struct {
	r       *bufio.Reader
	w       *bufio.Writer
	chunk   int // of what is received
	streams map[byte]*chunkStream
	stream  uint32 // message stream to publish on
	head    []byte
}

type chunkStream struct {
	kind      byte
	extended  bool
	size, got int
	payload   []byte
}

// setup does everything up to the server's consent (RTMP 1.0, 5.2 and 7.2).
func (c *client) setup(app, name, host string) error {
	if err := c.handshake(); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	c.message(2, typeSetChunkSize, 0, 0, binary.BigEndian.AppendUint32(nil, chunkSize))
	c.command(0, "connect", 1.0, amf0.Object{
		"app": app, "type": "nonprivate", "flashVer": "FMLE/3.0 (compatible; headwater demo)",
		"tcUrl": "rtmp://" + host + "/" + app,
	})
	if _, err := c.result(1); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	c.command(0, "createStream", 2.0, nil)
	args, err := c.result(2)
	if err != nil {
		return fmt.Errorf("createStream: %w", err)
	}
	if id, ok := last(args).(float64); ok {
		c.stream = uint32(id)
	}
	c.command(c.stream, "publish", 3.0, nil, name, "live")
	if err := c.consent(); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func (c *client) handshake() error {
	var c0c1 [1 + 1536]byte
	c0c1[0] = 3
	for i := range c0c1[9:] { // "random" by name, but only to tell sessions apart, and here is one
		c0c1[9+i] = byte(i * 7)
	}
	c.w.Write(c0c1[:])
	if err := c.w.Flush(); err != nil {
		return err
	}
	var s0s1s2 [1 + 2*1536]byte
	if _, err := io.ReadFull(c.r, s0s1s2[:]); err != nil {
		return err
	}
	if s0s1s2[0] != 3 {
		return media.Formatf("rtmp", "the server answers with version %d", s0s1s2[0])
	}
	c.w.Write(s0s1s2[1 : 1+1536])
	return c.w.Flush()
}

// play sends the clip. What the server says meanwhile is read and, but for a status of level error, ignored. Its bytes are
// too few ever to need an Acknowledgement (RTMP 1.0, 5.4.3).
func (c *client) play(ctx context.Context, nc net.Conn, clip *Clip) error {
	failed := make(chan error, 1)
	go func() {
		for {
			if err := c.status(); err != nil {
				failed <- err
				return
			}
		}
	}()
	defer func() {
		nc.Close()
		<-failed
	}()

	if clip.Meta != nil {
		c.message(4, typeData, c.stream, 0, append(amf0.Append(nil, "@setDataFrame"), clip.Meta...))
	}
	for _, t := range clip.Tracks {
		c.message(csid(t.Type), t.Type, c.stream, 0, t.Config)
	}
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for l := (&loop{clip: clip}); ; {
		f := l.frame()
		if wait := time.Until(start.Add(time.Duration(f.Time) * time.Millisecond)); wait > 0 {
			// What is due has been written to the buffer; what comes next is not due yet.
			if err := c.w.Flush(); err != nil {
				return err
			}
			timer.Reset(wait)
			select {
			case <-timer.C:
			case err := <-failed:
				failed <- err
				return err
			case <-ctx.Done():
				c.command(0, "FCUnpublish", 4.0, nil, "")
				c.command(0, "deleteStream", 5.0, nil, float64(c.stream))
				nc.SetWriteDeadline(time.Now().Add(time.Second))
				c.w.Flush()
				return ctx.Err()
			}
		}
		nc.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err := c.message(csid(f.Type), f.Type, c.stream, uint32(f.Time), f.Body); err != nil {
			return err
		}
	}
}

// csid is the chunk stream for messages of that type, the same one that others use.
func csid(kind byte) byte {
	if kind == typeVideo {
		return 6
	}
	return 4
}

func (c *client) command(stream uint32, values ...any) {
	var b []byte
	for _, v := range values {
		b = amf0.Append(b, v)
	}
	c.message(3, typeCommand, stream, 0, b)
}

// message writes one message, every one with a whole header: it costs a few bytes and needs no memory of the last one. A
// time from 0xFFFFFF on goes into the extended field, in each of the message's chunks (5.3.1.3). An error
// stays with c.w.
func (c *client) message(csid, kind byte, stream, time uint32, body []byte) error {
	h := append(c.head[:0], csid)
	short := min(time, 0xffffff)
	h = append(h, byte(short>>16), byte(short>>8), byte(short), byte(len(body)>>16), byte(len(body)>>8), byte(len(body)), kind)
	h = binary.LittleEndian.AppendUint32(h, stream)
	if short == 0xffffff {
		h = binary.BigEndian.AppendUint32(h, time)
	}
	c.w.Write(h)
	for len(body) > chunkSize {
		c.w.Write(body[:chunkSize])
		body = body[chunkSize:]
		h = append(h[:0], 3<<6|csid)
		if short == 0xffffff {
			h = binary.BigEndian.AppendUint32(h, time)
		}
		c.w.Write(h)
	}
	c.head = h
	_, err := c.w.Write(body)
	return err
}

// result waits for the answer to the command of that transaction and returns its arguments.
func (c *client) result(transaction float64) ([]any, error) {
	if err := c.w.Flush(); err != nil {
		return nil, err
	}
	for {
		name, args, err := c.next()
		if err != nil {
			return nil, err
		}
		if len(args) == 0 || args[0] != transaction {
			continue
		}
		switch name {
		case "_result":
			return args[1:], nil
		case "_error":
			return nil, refusal(last(args))
		}
	}
}

// consent waits for the answer to publish, which is a status (7.2.2.6).
func (c *client) consent() error {
	if err := c.w.Flush(); err != nil {
		return err
	}
	for {
		name, args, err := c.next()
		if err != nil {
			return err
		}
		info, _ := last(args).(amf0.Object)
		switch {
		case name == "_error", name == "onStatus" && info.String("level") == "error":
			return refusal(info)
		case name == "onStatus" && info.String("code") == "NetStream.Publish.Start":
			return nil
		}
	}
}

// status reads one message; it is an error if it says so.
func (c *client) status() error {
	name, args, err := c.next()
	if err != nil {
		return err
	}
	if info, _ := last(args).(amf0.Object); name == "onStatus" && info.String("level") == "error" {
		return refusal(info)
	}
	return nil
}

func refusal(v any) error {
	info, _ := v.(amf0.Object)
	return &RefusedError{Code: info.String("code"), Description: info.String("description")}
}

func last(args []any) any {
	if len(args) == 0 {
		return nil
	}
	return args[len(args)-1]
}

// next returns the next command, its name and what follows it.
func (c *client) next() (string, []any, error) {
	for {
		kind, b, err := c.receive()
		if err != nil {
			return "", nil, err
		}
		switch {
		case kind == typeSetChunkSize && len(b) == 4:
			if c.chunk = int(binary.BigEndian.Uint32(b) & 0x7fffffff); c.chunk == 0 {
				return "", nil, media.Formatf("rtmp", "chunk size 0")
			}
		case kind == typeCommand:
			args, err := amf0.DecodeAll(b)
			if err != nil {
				return "", nil, err
			}
			if len(args) > 0 {
				if name, ok := args[0].(string); ok {
					return name, args[1:], nil
				}
			}
		}
	}
}

// receive returns the next message (5.3.1). Its payload is valid until the next call.
func (c *client) receive() (kind byte, payload []byte, err error) {
	for {
		first, err := c.r.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		id := first & 63
		if id < 2 {
			return 0, nil, media.Formatf("rtmp", "a chunk stream that no server needs")
		}
		s := c.streams[id]
		if s == nil {
			if len(c.streams) == maxStreams {
				return 0, nil, media.Formatf("rtmp", "the server uses too many chunk streams")
			}
			s = &chunkStream{}
			c.streams[id] = s
		}
		var h [11]byte
		format := first >> 6
		n := [4]int{11, 7, 3, 0}[format]
		if _, err := io.ReadFull(c.r, h[:n]); err != nil {
			return 0, nil, err
		}
		if n >= 3 {
			s.extended = h[0] == 0xff && h[1] == 0xff && h[2] == 0xff
		}
		if n >= 7 {
			s.size, s.kind = int(h[3])<<16|int(h[4])<<8|int(h[5]), h[6]
		}
		if s.size > maxMessage {
			return 0, nil, media.Formatf("rtmp", "a message of %d bytes from the server", s.size)
		}
		if s.extended {
			if _, err := c.r.Discard(4); err != nil {
				return 0, nil, err
			}
		}
		if format != 3 || s.got >= s.size {
			s.got = 0
			s.payload = append(s.payload[:0], make([]byte, s.size)...)
		}
		n = min(c.chunk, s.size-s.got)
		if _, err := io.ReadFull(c.r, s.payload[s.got:s.got+n]); err != nil {
			return 0, nil, err
		}
		if s.got += n; s.got == s.size {
			return s.kind, s.payload, nil
		}
	}
}
