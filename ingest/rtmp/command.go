package rtmp

import (
	"cmp"
	"errors"
	"fmt"

	"headwater/ingest"
	"headwater/ingest/amf0"
	"headwater/ingest/poll"
	"headwater/segmenter/media"
)

// handleCommand answers a command (RTMP 1.0, section 7.2) on the message stream that it came on.
func (c *conn) handleCommand(stream uint32, p []byte) error {
	args, err := amf0.DecodeAll(p)
	if len(args) == 0 {
		if err == nil {
			err = media.Formatf("rtmp command", "nothing in it")
		}
		return err
	}
	name, ok := args[0].(string)
	if !ok {
		return media.Formatf("rtmp command", "its name is not a string")
	}
	cmd, known := commands[name]
	if err != nil && known { // an unknown command may say what it likes
		return fmt.Errorf("rtmp command %s: %w", name, err)
	}
	q := request{stream: stream}
	if len(args) > 1 {
		q.transaction, _ = args[1].(float64)
	}
	if len(args) > 2 {
		q.args = args[2:]
	}
	if !known {
		c.unknown(&q)
		return c.flush()
	}
	if !c.connected && name != "connect" {
		return media.Formatf("rtmp command", "%s before connect", name)
	}
	if err := cmd(c, &q); err != nil {
		return err
	}
	return c.flush()
}

// A request is a command that has been taken apart.
type request struct {
	stream      uint32
	transaction float64
	args        []any // behind the transaction: the command object, then arguments
}

// arg returns the nth argument behind the command object, nil when there is none.
func (q *request) arg(n int) any {
	if n+1 < len(q.args) {
		return q.args[n+1]
	}
	return nil
}

var commands map[string]func(*conn, *request) error

func init() { // by init, since play and publish lead back here
	commands = map[string]func(*conn, *request) error{
		"connect":       (*conn).connect,
		"releaseStream": (*conn).acknowledge,
		"FCPublish":     (*conn).onFCPublish,
		"createStream":  (*conn).createStream,
		"publish":       (*conn).publish,
		"FCUnpublish":   (*conn).onFCUnpublish,
		"deleteStream":  (*conn).deleteStream,
		"closeStream":   (*conn).deleteStream,
		"play":          (*conn).play,
		"play2":         (*conn).play,
		// Answers to what we never ask, and a question whose only use is its round trip.
		"_result":  (*conn).ignore,
		"_error":   (*conn).ignore,
		"onStatus": (*conn).ignore,
		"_checkbw": (*conn).ignore,
	}
}

func (c *conn) ignore(*request) error { return nil }

// unknown answers a command that nobody knows here. Encoders ask this and that (getStreamLength) and go on without.
func (c *conn) unknown(q *request) {
	if q.transaction == 0 {
		return
	}
	c.command(csidCommand, q.stream, "_error", q.transaction, nil, amf0.Object{
		"level": "error", "code": "NetConnection.Call.Failed", "description": "method not found",
	})
}

// acknowledge answers a command that needs no more than an answer.
func (c *conn) acknowledge(q *request) error {
	if q.transaction != 0 {
		c.command(csidCommand, q.stream, "_result", q.transaction, nil, nil)
	}
	return nil
}

// fourCCs are the codecs that we take in the form of Enhanced RTMP v2.
var fourCCs = []any{"avc1", "hvc1", "mp4a"}

func (c *conn) connect(q *request) error {
	if c.connected {
		return media.Formatf("rtmp command", "connect a second time")
	}
	var o amf0.Object
	if len(q.args) > 0 {
		o, _ = q.args[0].(amf0.Object)
	}
	app, ok := o["app"].(string)
	if !ok {
		c.command(csidCommand, 0, "_error", q.transaction, nil, amf0.Object{
			"level": "error", "code": "NetConnection.Connect.Rejected", "description": "connect names no application",
		})
		return c.refused(errors.New("connect names no application"))
	}
	c.connected = true
	c.app, c.tcURL = app, o.String("tcUrl")

	c.control(typeWindowAckSize, ourWindow)
	c.control(typeSetPeerBandwidth, ourWindow, limitDynamic)
	c.control(typeSetChunkSize, ourChunkSize)
	c.outSize = ourChunkSize

	// What servers of Adobe answer; encoders look at the version before they use FCPublish.
	properties := amf0.Object{"fmsVer": "FMS/3,5,3,824", "capabilities": 127, "mode": 1}
	// Enhanced RTMP v2, "Enhancing NetConnection connect Command": only to peers that speak of it, and only what is true.
	if o["fourCcList"] != nil || o["videoFourCcInfoMap"] != nil || o["audioFourCcInfoMap"] != nil {
		const canForward = 4                    // we decode nothing
		const multitrack, modEx, nano = 2, 4, 8 // of capsEx: no reconnect requests
		properties["fourCcList"] = fourCCs
		properties["videoFourCcInfoMap"] = amf0.Object{"avc1": canForward, "hvc1": canForward}
		properties["audioFourCcInfoMap"] = amf0.Object{"mp4a": canForward}
		properties["capsEx"] = multitrack | modEx | nano
	}
	c.command(csidCommand, 0, "_result", q.transaction, properties, amf0.Object{
		"level": "status", "code": "NetConnection.Connect.Success", "description": "Connection succeeded.",
		"objectEncoding": 0,
	})
	return nil
}

func (c *conn) onFCPublish(q *request) error {
	c.fcPublish = true // onFCPublish says that the stream may be published, so it comes after the key was checked
	return c.acknowledge(q)
}

// maxStreams is how many message streams a connection may make. Encoders use one; those that publish again after an
// unpublish, one more each time.
const maxStreams = 1024

func (c *conn) createStream(q *request) error {
	if c.streams++; c.streams > maxStreams {
		return media.Formatf("rtmp command", "more than %d streams created", maxStreams)
	}
	c.command(csidCommand, 0, "_result", q.transaction, nil, int(c.streams))
	return nil
}

func (c *conn) publish(q *request) error {
	if c.pub != nil {
		return c.refuse(q.stream, fmt.Errorf("%w: this connection is publishing %s already", ingest.ErrInUse, c.name))
	}
	given, ok := q.arg(0).(string)
	if !ok {
		return c.refuse(q.stream, fmt.Errorf("%w: publish without a name", ingest.ErrBadName))
	}
	req := publication(c.app, c.tcURL, given)
	req.Remote, req.Kick = remote(c.nc), c.kick
	req.Role = cmp.Or(req.Role, c.role)
	c.name = req.Name
	w, err := c.srv.Publisher.Publish(c.ctx, req)
	if err != nil {
		return c.refuse(q.stream, err)
	}
	c.pub = &publishing{demux: c.demux(w, req), stream: q.stream}
	c.maxMessage = MaxMessage
	c.resize(largeBuffer)
	c.deadline("message", c.srv.idleTimeout())
	c.extend = c.now

	if c.fcPublish {
		c.command(csidCommand, 0, "onFCPublish", 0, nil, amf0.Object{
			"level": "status", "code": "NetStream.Publish.Start", "description": "Started publishing stream.",
		})
	}
	c.status(q.stream, "status", "NetStream.Publish.Start", "Started publishing stream.")
	poll.InLine(c.nc, true) // what media is does not block
	return nil
}

// refuse tells the peer that it may not publish, and why.
func (c *conn) refuse(stream uint32, err error) error {
	code, description := "NetStream.Publish.Denied", err.Error()
	switch {
	case errors.Is(err, ingest.ErrInUse), errors.Is(err, ingest.ErrBadName):
		code = "NetStream.Publish.BadName"
	case !errors.Is(err, ingest.ErrDenied):
		description = "the server cannot take this publication" // the rest is for our log only
	}
	c.status(stream, "error", code, description)
	return c.refused(err)
}

// refused sends what is queued as the last word on this connection.
func (c *conn) refused(err error) error {
	if e := c.flush(); e == nil {
		c.linger = true
	}
	return fmt.Errorf("%w: %w", errRefused, err)
}

func (c *conn) play(q *request) error {
	c.status(q.stream, "error", "NetStream.Play.Failed", "This server takes publications over RTMP. Play the stream over HLS.")
	return c.refused(errors.New("a request to play"))
}

func (c *conn) onFCUnpublish(q *request) error {
	if c.pub == nil {
		return c.acknowledge(q)
	}
	return c.end(func() {
		c.command(csidCommand, 0, "onFCUnpublish", 0, nil, amf0.Object{
			"level": "status", "code": "NetStream.Unpublish.Success", "description": "Stopped publishing stream.",
		})
		c.acknowledge(q)
	})
}

// deleteStream serves closeStream too, which names no stream but comes on it.
func (c *conn) deleteStream(q *request) error {
	id := q.stream
	if f, ok := q.arg(0).(float64); ok && f >= 0 && f < 1<<32 {
		id = uint32(f)
	}
	if c.pub == nil || id != c.pub.stream {
		return nil
	}
	return c.end(func() {})
}

// end ends the publication as the peer asked, then sends what first queues and that it has ended.
func (c *conn) end(first func()) error {
	stream := c.pub.stream
	if err := c.unpublish(nil); err != nil {
		return err
	}
	c.deadline("publish request", c.srv.idleTimeout())
	first()
	c.status(stream, "status", "NetStream.Unpublish.Success", "Stopped publishing stream.")
	// The publication has ended well whether or not the peer waits for the answer, and most do not: what is wrong with
	// the socket shows in the next read.
	c.flush()
	return nil
}

// unpublish closes the publication's Writers.
func (c *conn) unpublish(reason error) error {
	poll.InLine(c.nc, false)
	d := c.pub.demux
	c.pub = nil
	return d.Close(reason)
}
