package rtmp

import (
	"encoding/binary"
	"fmt"
	"time"

	"headwater/ingest/amf0"
)

// Message types (RTMP 1.0, sections 5.4, 6.2 and 7.1).
const (
	typeSetChunkSize     = 1
	typeAbort            = 2
	typeAcknowledgement  = 3
	typeUserControl      = 4
	typeWindowAckSize    = 5
	typeSetPeerBandwidth = 6
	typeAudio            = 8
	typeVideo            = 9
	typeDataAMF3         = 15
	typeCommandAMF3      = 17
	typeDataAMF0         = 18
	typeCommandAMF0      = 20
	typeAggregate        = 22
)

// User control events (7.1.7).
const (
	eventPingRequest  = 6
	eventPingResponse = 7
)

// Chunk streams that we send on.
const (
	csidControl = 2 // 5.4 demands it
	csidCommand = 3
	csidStatus  = 5
)

const (
	ourChunkSize = 4096
	// ourWindow is both the window of acknowledgement that we ask for and the one by which we acknowledge a peer that
	// names none.
	ourWindow    = 2_500_000
	limitDynamic = 2 // of Set Peer Bandwidth, 5.4.5
)

// appendMessage appends a message in chunks of the given size, with a full header and timestamp 0.
func appendMessage(dst []byte, csid, typ uint8, stream uint32, payload []byte, size int) []byte {
	n := len(payload)
	dst = append(dst, csid, 0, 0, 0, byte(n>>16), byte(n>>8), byte(n), typ)
	dst = binary.LittleEndian.AppendUint32(dst, stream)
	for len(payload) > size {
		dst = append(dst, payload[:size]...)
		dst = append(dst, 0xc0|csid)
		payload = payload[size:]
	}
	return append(dst, payload...)
}

// queue appends a message to what flush will send.
func (c *conn) queue(csid, typ uint8, stream uint32, payload []byte) {
	c.out = appendMessage(c.out, csid, typ, stream, payload, c.outSize)
}

// control queues a protocol control message whose payload is v and then tail.
func (c *conn) control(typ uint8, v uint32, tail ...byte) {
	c.queue(csidControl, typ, 0, append(binary.BigEndian.AppendUint32(nil, v), tail...))
}

// command queues a command of the given values.
func (c *conn) command(csid uint8, stream uint32, values ...any) {
	var p []byte
	for _, v := range values {
		p = amf0.Append(p, v)
	}
	c.queue(csid, typeCommandAMF0, stream, p)
}

// status queues an onStatus (7.2.2). Its transaction is 0: nobody answers.
func (c *conn) status(stream uint32, level, code, description string) {
	c.command(csidStatus, stream, "onStatus", 0, nil, amf0.Object{"level": level, "code": code, "description": description})
}

// flush sends what has been queued.
func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.write(c.out)
	c.out = c.out[:0]
	return err
}

// write writes p within the time allowed.
func (c *conn) write(p []byte) (int, error) {
	timeout := c.srv.writeTimeout()
	c.nc.SetWriteDeadline(time.Now().Add(timeout))
	n, err := c.nc.Write(p)
	if isTimeout(err) {
		err = fmt.Errorf("the peer takes no replies for %v: %w", timeout, err)
	}
	return n, err
}
