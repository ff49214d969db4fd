package rtmp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"headwater/ingest"
	"headwater/ingest/poll"
	"headwater/segmenter/media"
)

// A conn is one connection. All of it belongs to serve, wherever that is run (see package poll), except kick.
type conn struct {
	chunkReader // reads by way of Read

	srv    *Server
	nc     net.Conn
	ctx    context.Context // ends with the reason of a kick
	cancel context.CancelCauseFunc
	start  time.Time
	role   string // of what is published, unless it says otherwise

	// Input. The wall clock is read once per read from the socket.
	now      time.Time
	arrived  int64 // now, Unix ns
	received uint64
	acked    uint64    // value of received that we acknowledged last
	window   uint64    // bytes between acknowledgements
	spanned  time.Time // since when input has been counted for MaxRate
	before   uint64    // value of received then
	messages int64     // not yet added to the server's count
	progress bool      // a message has been completed since the deadline was set
	extend   time.Time
	phase    string // what the deadline is for

	// Output.
	out     []byte
	outSize int
	linger  bool // the peer is to read a last message of ours

	// The session.
	connected bool
	app       string
	tcURL     string
	streams   uint32 // message streams made by createStream
	fcPublish bool
	name      string // of the present or last publication
	pub       *publishing
}

// publishing is a publication under way.
type publishing struct {
	demux  Demuxer
	stream uint32
	clock  clock
}

var (
	errRefused = errors.New("refused")
	errLost    = errors.New("the connection was lost without an unpublish")
	errNothing = errors.New("the peer closed before it published")
)

// A panicError is what is left of a panic.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// guard calls f and makes an error of its panic.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	return f()
}

// kick ends the connection from outside. The first reason counts.
func (c *conn) kick(reason error) {
	c.cancel(reason)
	c.nc.Close()
}

// serve serves the connection, closes it, and says in the log how it ended.
func (c *conn) serve() {
	err := guard(c.run)
	poll.InLine(c.nc, false)
	if cause := context.Cause(c.ctx); cause != nil {
		err = cause
	}
	var format *media.FormatError
	var unsupported *media.UnsupportedError
	if c.pub != nil {
		switch stream := c.pub.stream; {
		case errors.As(err, &format), errors.As(err, &unsupported):
			c.status(stream, "error", "NetStream.Publish.Rejected", err.Error())
			c.linger = c.flush() == nil
		case errors.Is(err, ingest.ErrInUse) && !errors.Is(err, errRefused): // whoever has the name has not made way
			err = c.refuse(stream, err)
		}
		if e := guard(func() error { return c.unpublish(err) }); e != nil && err == nil {
			err = e
		}
	}
	if c.linger {
		c.drain()
	}
	c.nc.Close()
	c.srv.stats.messages.Add(c.messages)
	c.srv.count(err)
	c.logEnd(err)
}

func (c *conn) logEnd(err error) {
	level, reason := slog.LevelInfo, "unpublished"
	if err != nil {
		reason = err.Error()
		if !errors.Is(err, ErrStopping) {
			level = slog.LevelWarn
		}
	}
	if c.received == 0 && err == errNothing {
		level = slog.LevelDebug // health checks and port scans
	}
	attrs := []any{"remote", remote(c.nc), "stream", c.name[:min(len(c.name), ingest.MaxName)], "duration", time.Since(c.start).Round(time.Millisecond),
		"bytes", c.received, "reason", reason}
	var p *panicError
	if errors.As(err, &p) {
		level = slog.LevelError
		attrs = append(attrs, "stack", string(p.stack))
	}
	c.srv.log().Log(context.Background(), level, "rtmp connection ended", attrs...)
}

// run is the connection's life. A nil error is a peer that unpublished, or asked for nothing that was refused, and left.
func (c *conn) run() error {
	c.deadline("handshake", c.srv.handshakeTimeout())
	if err := handshake(&c.reader, writerFunc(c.write), random); err != nil {
		var unsupported *media.UnsupportedError
		c.linger = errors.As(err, &unsupported)
		return c.readError(err)
	}
	c.deadline("publish request", c.srv.idleTimeout())
	for {
		m, err := c.next()
		if err != nil {
			return c.readError(err)
		}
		c.messages++
		c.progress = true
		if err := c.handle(&m); err != nil {
			return err
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// readError says what an error in reading means here.
func (c *conn) readError(err error) error {
	switch {
	case isTimeout(err):
		return fmt.Errorf("no %s in time: %w", c.phase, err)
	case c.pub != nil:
		if err == io.EOF {
			return errLost
		}
	case err == io.EOF && c.name == "":
		return errNothing
	case err == io.EOF, errors.Is(err, syscall.ECONNRESET):
		return nil // it has unpublished; a peer that leaves without reading our answer resets the connection
	}
	return err
}

// deadline gives the peer d for what comes next.
func (c *conn) deadline(phase string, d time.Duration) {
	c.phase = phase
	c.nc.SetReadDeadline(time.Now().Add(d))
}

// Read reads once from the socket, and does what is due once per read: it stamps the time, moves the deadline when
// messages come, counts, and acknowledges.
func (c *conn) Read(p []byte) (int, error) {
	if c.progress && c.pub != nil && c.now.After(c.extend) {
		// Moving a deadline costs as much as a small read. An eighth of it too much harms nobody.
		idle := c.srv.idleTimeout()
		c.nc.SetReadDeadline(c.now.Add(idle + idle/8))
		c.extend = c.now.Add(idle / 8)
		c.progress = false
	}
	n, err := c.nc.Read(p)
	c.now = time.Now()
	c.arrived = c.now.UnixNano()
	if c.now.Sub(c.spanned) >= rateSpan {
		c.spanned, c.before = c.now, c.received
	}
	c.received += uint64(n)
	if sum := c.received - c.before; sum > c.srv.maxInSpan() {
		return 0, media.Formatf("rtmp", "%d bytes in less than %v: no encoder sends so much", sum, rateSpan)
	}
	c.srv.stats.bytes.Add(int64(n))
	if c.messages > 0 {
		c.srv.stats.messages.Add(c.messages)
		c.messages = 0
	}
	// 5.4.3: acknowledge after each window. Half of it, and counted from the connection's first byte, is early enough for
	// a sender that stops at the window and counts the handshake, or does not.
	if err == nil && c.received-c.acked >= (c.window+1)/2 {
		c.acked = c.received
		c.control(typeAcknowledgement, uint32(c.received)) // wraps
		err = c.flush()
	}
	return n, err
}

// handle does what a message asks for.
func (c *conn) handle(m *message) error {
	switch m.typ {
	case typeAudio, typeVideo:
		return c.media(m.typ, m.stream, m.timestamp, m.payload)
	case typeDataAMF0:
		return c.data(m.timestamp, m.payload)
	case typeDataAMF3:
		return c.data(m.timestamp, skipAMF3(m.payload))
	case typeCommandAMF0:
		return c.handleCommand(m.stream, m.payload)
	case typeCommandAMF3:
		return c.handleCommand(m.stream, skipAMF3(m.payload))
	case typeAggregate:
		return c.aggregate(m)
	case typeUserControl:
		return c.userControl(m.payload)
	case typeWindowAckSize, typeSetPeerBandwidth:
		if len(m.payload) < 4 {
			return media.Formatf("rtmp", "control message %d of %d bytes", m.typ, len(m.payload))
		}
		v := binary.BigEndian.Uint32(m.payload)
		if m.typ == typeWindowAckSize && v > 0 {
			c.window = uint64(v)
		}
		if m.typ == typeSetPeerBandwidth && v != ourWindow {
			// 5.4.5: answer with the window that we expect acknowledgements by, if it is not what the peer knows. We hardly
			// send, and wait for no acknowledgement; so ours stays.
			c.control(typeWindowAckSize, ourWindow)
			return c.flush()
		}
	}
	// The chunk reader has seen to Set Chunk Size and Abort. Acknowledgements, shared objects and types that nobody
	// knows ask for nothing.
	return nil
}

// skipAMF3 takes the byte off the front that says which AMF an AMF 3 message really uses; in practice it is always AMF 0.
func skipAMF3(p []byte) []byte {
	if len(p) > 0 && p[0] == 0 {
		return p[1:]
	}
	return p
}

// media hands an audio or video message to the demuxer. What comes outside a publication is dropped: encoders go on for a
// moment after they have unpublished.
func (c *conn) media(typ uint8, stream, timestamp uint32, body []byte) error {
	p := c.pub
	if p == nil || len(body) == 0 {
		return nil
	}
	if stream != p.stream && stream != 0 { // 0: an encoder that begins with a compressed header
		return nil
	}
	ts := p.clock.unwrap(timestamp)
	if typ == typeAudio {
		return p.demux.Audio(ts, c.arrived, body)
	}
	return p.demux.Video(ts, c.arrived, body)
}

// data hands metadata to the demuxer. It is a hint: none is better than no publication. Its timestamp does not move the clock, for
// many encoders send all of it with 0.
func (c *conn) data(timestamp uint32, body []byte) error {
	if c.pub == nil || len(body) == 0 {
		return nil
	}
	err := c.pub.demux.Data(c.pub.clock.near(timestamp), body)
	var format *media.FormatError
	if errors.As(err, &format) {
		return nil
	}
	return err
}

// aggregate splits an aggregate message (7.1.6): FLV tags, whose times count from the first one's and are put on the
// aggregate's own.
func (c *conn) aggregate(m *message) error {
	const tagHeader, backPointer = 11, 4
	var first uint32
	for p, n := m.payload, 0; len(p) > 0; n++ {
		if len(p) < tagHeader {
			return media.Formatf("rtmp aggregate", "tag header cut off after %d bytes", len(p))
		}
		typ := p[0]
		size := int(p[1])<<16 | int(p[2])<<8 | int(p[3])
		ts := uint32(p[7])<<24 | uint32(p[4])<<16 | uint32(p[5])<<8 | uint32(p[6])
		p = p[tagHeader:]
		if size > len(p) {
			return media.Formatf("rtmp aggregate", "tag of %d bytes with %d left", size, len(p))
		}
		body := p[:size:size]
		p = p[min(size+backPointer, len(p)):]
		if n == 0 {
			first = ts
		}
		var err error
		switch typ {
		case typeAudio, typeVideo:
			err = c.media(typ, m.stream, m.timestamp+ts-first, body)
		case typeDataAMF0:
			err = c.data(m.timestamp+ts-first, body)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) userControl(p []byte) error {
	if len(p) < 6 || binary.BigEndian.Uint16(p) != eventPingRequest {
		return nil // what a publisher has to say otherwise (Set Buffer Length) is about playing
	}
	c.queue(csidControl, typeUserControl, 0, append([]byte{0, eventPingResponse}, p[2:6]...))
	return c.flush()
}

// Limits on what is read after our last word.
const (
	drainTime = time.Second
	drainSize = 4 << 20
)

// drain says that nothing more will come, and reads a little of what the peer still sends: closing a socket with unread
// input resets the connection, and the peer may then never see why.
func (c *conn) drain() {
	if cw, ok := c.nc.(interface{ CloseWrite() error }); ok {
		cw.CloseWrite()
	}
	c.nc.SetReadDeadline(time.Now().Add(drainTime))
	for n := 0; n < drainSize; {
		k, err := c.nc.Read(c.buf)
		if err != nil {
			return
		}
		n += k
	}
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

func remote(nc net.Conn) string {
	if a := nc.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}
