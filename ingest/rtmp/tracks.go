package rtmp

import (
	"strconv"

	"headwater/ingest"
	"headwater/ingest/flv"
	"headwater/ingest/poll"
)

// demux makes the Demuxer of a publication that the Publisher has let through.
func (c *conn) demux(w ingest.Writer, req ingest.Request) Demuxer {
	if c.srv.Demux != nil {
		return c.srv.Demux(w)
	}
	return &flv.Demuxer{
		W:        w,
		Counters: &c.srv.tags,
		Open:     func(track int) (ingest.Writer, error) { return c.publishTrack(track, req, w) },
		LeftOut: func(track int, reason error) {
			if c.ctx.Err() == nil { // else the connection's end says it all
				poll.InLine(c.nc, false) // whoever reads the log may be slow
				c.srv.log().Warn("rtmp track left out", "remote", req.Remote, "stream", c.name, "track", track, "reason", reason)
				c.resume()
			}
		},
	}
}

// publishTrack asks for one more publication beside the connection's first: that of another track ID (Enhanced RTMP v2).
func (c *conn) publishTrack(track int, req ingest.Request, first ingest.Writer) (ingest.Writer, error) {
	poll.InLine(c.nc, false) // to open it may take a while
	req.Track, req.First = "track"+strconv.Itoa(track), first
	req.Language, req.Label = "", "" // they are the first track's
	w, err := c.srv.Publisher.Publish(c.ctx, req)
	c.resume()
	return w, err
}

// resume goes on in line after something that could block. The time that this took is not the peer's.
func (c *conn) resume() {
	c.deadline("message", c.srv.idleTimeout())
	c.extend = c.now
	poll.InLine(c.nc, true)
}
