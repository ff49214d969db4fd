package casetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"headwater/ingest/amf0"
)

// A client is the RTMP side of an encoder. Its messages say their time as a whole, or as the difference from the one before.
type client struct {
	nc     net.Conn
	out    []byte
	chunk  int  // chunk size that it sends
	repeat bool // continuations repeat an extended timestamp, as RTMP 1.0, 5.3.1.3 asks and not everybody does
	deltas bool // headers of type 1 wherever time goes forward
	last   map[byte]uint32
	ended  chan struct{} // closed when the server has closed the connection
	said   []byte        // what it has said since its consent; not before it has ended
}

const clientTimeout = 10 * time.Second

// dial connects and publishes "live/<name>".
func dial(addr, name string) (*client, error) {
	nc, err := net.DialTimeout("tcp", addr, clientTimeout)
	if err != nil {
		return nil, err
	}
	c := &client{nc: nc, chunk: 128, repeat: true, last: map[byte]uint32{}, ended: make(chan struct{})}
	if err := c.begin(name); err != nil {
		nc.Close()
		return nil, err
	}
	return c, nil
}

func (c *client) begin(name string) error {
	c.nc.SetDeadline(time.Now().Add(clientTimeout))
	hello := make([]byte, 1+1536)
	hello[0] = 3
	c.nc.Write(hello)
	answer := make([]byte, 1+2*1536)
	if _, err := io.ReadFull(c.nc, answer); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	c.out = append(c.out, answer[1:1+1536]...)
	c.command(0, "connect", 1.0, amf0.Object{"app": "live", "tcUrl": "rtmp://localhost/live"})
	c.command(0, "createStream", 2.0, nil)
	c.command(1, "publish", 3.0, nil, name, "live")
	c.message(2, 1, 0, 0, binary.BigEndian.AppendUint32(nil, 4096))
	c.chunk = 4096
	if err := c.flush(); err != nil {
		return err
	}
	// What the server says is looked at for its consent, the answer to publish; after that it has nothing to say but why it goes.
	started := make(chan error, 1)
	go func() {
		defer close(c.ended)
		var got []byte
		buf := make([]byte, 4096)
		for {
			n, err := c.nc.Read(buf)
			got = append(got, buf[:n]...)
			switch {
			case bytes.Contains(got, []byte("NetStream.Publish.Start")):
				select {
				case started <- nil:
				default:
				}
				got = got[:0]
			case err != nil:
				c.said = got
				select {
				case started <- fmt.Errorf("publish: %w: %q", err, got):
				default:
				}
				return
			}
			if len(got) > 1<<16 {
				got = got[:0]
			}
		}
	}()
	err := <-started
	c.nc.SetDeadline(time.Time{})
	return err
}

func (c *client) command(stream uint32, args ...any) {
	var b []byte
	for _, a := range args {
		b = amf0.Append(b, a)
	}
	c.message(3, 20, stream, 0, b)
}

// message appends a message (RTMP 1.0, 5.3.1).
func (c *client) message(csid, kind byte, stream, ts uint32, body []byte) {
	last, known := c.last[csid]
	c.last[csid] = ts
	field, format := ts, byte(0)
	if d := ts - last; c.deltas && known && d < 1<<31 && csid > 3 {
		field, format = d, 1
	}
	extended := field >= 0xffffff
	b := append(c.out, format<<6|csid)
	var ext [4]byte
	binary.BigEndian.PutUint32(ext[:], field)
	if extended {
		b = append(b, 0xff, 0xff, 0xff)
	} else {
		b = append(b, ext[1:]...)
	}
	b = append(b, byte(len(body)>>16), byte(len(body)>>8), byte(len(body)), kind)
	if format == 0 {
		b = binary.LittleEndian.AppendUint32(b, stream)
	}
	if extended {
		b = append(b, ext[:]...)
	}
	for len(body) > c.chunk {
		b = append(append(b, body[:c.chunk]...), 3<<6|csid)
		if extended && c.repeat {
			b = append(b, ext[:]...)
		}
		body = body[c.chunk:]
	}
	c.out = append(b, body...)
	if len(c.out) > 64<<10 {
		c.flush()
	}
}

// setChunk changes the size of the chunks that follow.
func (c *client) setChunk(n int) {
	c.message(2, 1, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(n)))
	c.chunk = n
}

func (c *client) flush() error {
	c.nc.SetWriteDeadline(time.Now().Add(clientTimeout))
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return err
}

// unpublish says goodbye, as encoders do.
func (c *client) unpublish(name string) {
	c.command(0, "FCUnpublish", 4.0, nil, name)
	c.command(0, "deleteStream", 5.0, nil, 1.0)
	c.flush()
	c.nc.Close()
	<-c.ended
}

// reset aborts the connection.
func (c *client) reset() {
	c.flush()
	c.nc.(*net.TCPConn).SetLinger(0)
	c.nc.Close()
	<-c.ended
}
