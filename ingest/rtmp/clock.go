package rtmp

// A clock makes one line of 64 bits out of the 32-bit millisecond timestamps of a publication, which wrap after 49.7 days
// (RTMP 1.0, section 4: serial arithmetic as in RFC 1982). Audio and video share one clock: were each to unwrap alone, a
// publication that starts at the wrap would have them 49.7 days apart.
type clock struct {
	last    int64
	started bool
}

// unwrap returns the time nearest to the last one that has these low 32 bits.
func (c *clock) unwrap(ts uint32) int64 {
	c.last, c.started = c.near(ts), true
	return c.last
}

// near is unwrap of a timestamp that the next ones need not be near to.
func (c *clock) near(ts uint32) int64 {
	if !c.started {
		return int64(ts)
	}
	return c.last + int64(int32(ts-uint32(c.last)))
}
