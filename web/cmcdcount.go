package web

import (
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"headwater/segmenter"
)

// The upper bounds of the buckets: seconds of buffer and of latency, bits a second.
var (
	cmcdBufferBounds     = [...]float64{.1, .25, .5, 1, 1.5, 2, 3, 5, 8, 12, 20, 30, 60}
	cmcdLatencyBounds    = [...]float64{.5, 1, 1.5, 2, 2.5, 3, 4, 6, 10, 20, 30, 60}
	cmcdThroughputBounds = [...]float64{.5e6, 1e6, 2e6, 3e6, 5e6, 8e6, 12e6, 20e6, 50e6, 100e6}
)

// A cmcdHistogram counts values by buckets, without a lock.
type cmcdHistogram struct {
	counts [16]atomic.Uint64 // as many as there are bounds, and one more
	sum    atomic.Uint64     // in the unit of observe
}

func (h *cmcdHistogram) observe(v int64, unit float64, bounds []float64) {
	i, x := 0, float64(v)*unit
	for i < len(bounds) && x > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(uint64(v))
}

func (h *cmcdHistogram) metric(d *prometheus.Desc, unit float64, bounds []float64) prometheus.Metric {
	var n uint64
	buckets := make(map[float64]uint64, len(bounds))
	for i, b := range bounds {
		n += h.counts[i].Load()
		buckets[b] = n
	}
	n += h.counts[len(bounds)].Load()
	return prometheus.MustNewConstHistogram(d, n, float64(h.sum.Load())*unit, buckets)
}

// A cmcdMean counts values and their sum.
type cmcdMean struct{ n, sum atomic.Uint64 }

func (m *cmcdMean) observe(v int64) {
	if v >= 0 {
		m.n.Add(1)
		m.sum.Add(uint64(v))
	}
}

func (m *cmcdMean) metric(d *prometheus.Desc, unit float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstSummary(d, m.n.Load(), float64(m.sum.Load())*unit, nil, labels...)
}

// cmcdStats is what players say, all of them together and by stream. Sessions and contents are never told apart: these are
// names that anybody can make up.
type cmcdStats struct {
	requests   [len(cmcdCarriers)][len(cmcdObjects)][len(cmcdTypes)]atomic.Uint64
	malformed  atomic.Uint64
	buffer     cmcdHistogram
	latency    cmcdHistogram
	throughput cmcdHistogram

	streams sync.Map // *segmenter.Stream to *streamCMCD

	mu   sync.Mutex // protects what follows, and additions to streams
	size int        // of streams
	room int        // at which those that have ended are looked for
}

// A streamCMCD is the same of one stream.
type streamCMCD struct {
	requests, starved, startup           atomic.Uint64
	buffer, latency, throughput, bitRate cmcdMean
}

// Units of CTA-5004 in those of Prometheus.
const (
	perMilli = 1e-3
	perKilo  = 1e3
)

// count counts what a request says. st is the stream that it is about, nil when there is no such stream.
func (c *cmcdStats) count(r *cmcdReport, st *segmenter.Stream, live func(*segmenter.Stream) bool) {
	carrier := 0
	if r.header {
		carrier = 1
	}
	c.requests[carrier][r.object][r.kind].Add(1)
	if r.malformed > 0 {
		c.malformed.Add(uint64(r.malformed))
	}
	if r.buffer >= 0 {
		c.buffer.observe(r.buffer, perMilli, cmcdBufferBounds[:])
	}
	if r.latency >= 0 {
		c.latency.observe(r.latency, perMilli, cmcdLatencyBounds[:])
	}
	if r.throughput >= 0 {
		c.throughput.observe(r.throughput, perKilo, cmcdThroughputBounds[:])
	}
	if st == nil {
		return
	}
	s := c.of(st, live)
	s.requests.Add(1)
	if r.starved {
		s.starved.Add(1)
	}
	if r.startup {
		s.startup.Add(1)
	}
	s.buffer.observe(r.buffer)
	s.latency.observe(r.latency)
	s.throughput.observe(r.throughput)
	s.bitRate.observe(r.bitRate)
}

// minCMCDRoom is how many streams are kept without looking whether they are still there.
const minCMCDRoom = 64

// of returns what is counted for st. There are at most twice as many as there are streams, so that nothing has to be told when
// one ends.
func (c *cmcdStats) of(st *segmenter.Stream, live func(*segmenter.Stream) bool) *streamCMCD {
	if s, ok := c.streams.Load(st); ok {
		return s.(*streamCMCD)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s, had := c.streams.LoadOrStore(st, &streamCMCD{})
	if had {
		return s.(*streamCMCD)
	}
	if c.size++; c.size > max(c.room, minCMCDRoom) {
		c.streams.Range(func(k, _ any) bool {
			if k != st && !live(k.(*segmenter.Stream)) {
				c.streams.Delete(k)
				c.size--
			}
			return true
		})
		c.room = 2 * c.size
	}
	return s.(*streamCMCD)
}

// isLive says whether st is the stream of its name.
func (s *Server) isLive(st *segmenter.Stream) bool {
	now, ok := s.Origin.Stream(st.Name)
	return ok && now == st
}

// countCMCD counts what the player says of itself, if it does.
func (s *Server) countCMCD(w *response, r *http.Request) {
	var report cmcdReport
	if readCMCD(r, &report) {
		s.cmcd.count(&report, w.stream, s.isLive)
	}
}

// A cmcdCollector tells the counts to /metrics. Streams that are no longer there are not told.
type cmcdCollector struct {
	server *Server

	requests, malformed, buffer, latency, throughput                               *prometheus.Desc
	stRequests, stStarved, stStartup, stBuffer, stLatency, stThroughput, stBitRate *prometheus.Desc
}

func newCMCDCollector(s *Server) *cmcdCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("headwater_cmcd_"+name, help, labels, nil)
	}
	return &cmcdCollector{
		server:     s,
		requests:   desc("requests_total", "Requests with CMCD, by how it came, type of object and type of stream.", "carrier", "object", "type"),
		malformed:  desc("malformed_total", "CMCD pairs that were left out of the counts."),
		buffer:     desc("buffer_seconds", "What players have in their buffers (bl)."),
		latency:    desc("latency_seconds", "How far players are behind the live edge (ltc)."),
		throughput: desc("throughput_bits_per_second", "Throughput as players measure it (mtp)."),

		stRequests:   desc("stream_requests_total", "Requests with CMCD.", "stream"),
		stStarved:    desc("stream_starved_total", "Requests of players whose buffer had run dry (bs).", "stream"),
		stStartup:    desc("stream_startup_total", "Requests of players that start, seek or recover (su).", "stream"),
		stBuffer:     desc("stream_buffer_seconds", "What players have in their buffers (bl), sum and count.", "stream"),
		stLatency:    desc("stream_latency_seconds", "How far players are behind the live edge (ltc), sum and count.", "stream"),
		stThroughput: desc("stream_throughput_bits_per_second", "Throughput as players measure it (mtp), sum and count.", "stream"),
		stBitRate:    desc("stream_encoded_bits_per_second", "Bit rate of what players ask for (br), sum and count.", "stream"),
	}
}

// Describe implements prometheus.Collector.
func (c *cmcdCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.requests, c.malformed, c.buffer, c.latency, c.throughput,
		c.stRequests, c.stStarved, c.stStartup, c.stBuffer, c.stLatency, c.stThroughput, c.stBitRate} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *cmcdCollector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	m := &c.server.cmcd
	for i, carrier := range cmcdCarriers {
		for j, object := range cmcdObjects {
			for k, kind := range cmcdTypes {
				if n := m.requests[i][j][k].Load(); n > 0 {
					count(c.requests, n, carrier, object.label, kind)
				}
			}
		}
	}
	count(c.malformed, m.malformed.Load())
	ch <- m.buffer.metric(c.buffer, perMilli, cmcdBufferBounds[:])
	ch <- m.latency.metric(c.latency, perMilli, cmcdLatencyBounds[:])
	ch <- m.throughput.metric(c.throughput, perKilo, cmcdThroughputBounds[:])
	for _, st := range c.server.Origin.Streams() {
		v, ok := m.streams.Load(st)
		if !ok {
			continue
		}
		s := v.(*streamCMCD)
		count(c.stRequests, s.requests.Load(), st.Name)
		count(c.stStarved, s.starved.Load(), st.Name)
		count(c.stStartup, s.startup.Load(), st.Name)
		ch <- s.buffer.metric(c.stBuffer, perMilli, st.Name)
		ch <- s.latency.metric(c.stLatency, perMilli, st.Name)
		ch <- s.throughput.metric(c.stThroughput, perKilo, st.Name)
		ch <- s.bitRate.metric(c.stBitRate, perKilo, st.Name)
	}
}
