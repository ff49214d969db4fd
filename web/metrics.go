package web

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"headwater/segmenter"
)

// A Class is a class of objects, as requests are counted by.
type Class uint8

// The classes.
const (
	ClassOther Class = iota
	ClassMultivariant
	ClassPlaylist
	ClassSegment
	ClassPart
	ClassInit
	ClassPage
	ClassData
	ClassIFrames // I-frame playlists
	ClassTS      // MPEG-TS segments; its playlists are counted as the others are
	ClassSteering
	classes
)

var classNames = [classes]string{"other", "multivariant", "playlist", "segment", "part", "init", "page", "data", "iframes", "ts", "steering"}

func (c Class) String() string { return classNames[c%classes] }

// statuses are those that requests are counted by; whatever else there may be is counted as 0, "other".
var statuses = [...]int{
	0, http.StatusOK, http.StatusNoContent, http.StatusPartialContent, http.StatusNotModified,
	http.StatusBadRequest, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
	http.StatusRequestTimeout, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge, http.StatusRequestedRangeNotSatisfiable,
	statusClientLeft, http.StatusInternalServerError, http.StatusServiceUnavailable,
}

func statusIndex(status int) int {
	for i, s := range statuses {
		if s == status {
			return i
		}
	}
	return 0
}

// delayBounds are the upper bounds of the buckets of the part-to-publish delay, in seconds.
var delayBounds = [...]float64{.0005, .001, .002, .003, .005, .01, .02, .05, .1, .2, .5, 1}

// Metrics is what a Server counts. Counting takes no lock and allocates nothing.
type Metrics struct {
	requests [classes][len(statuses)]atomic.Uint64
	bytes    [classes]atomic.Uint64 // of bodies
	broken   atomic.Uint64          // replies that were broken off
	panics   atomic.Uint64
	muxed    atomic.Uint64 // MPEG-TS segments made

	delays     [len(delayBounds) + 1]atomic.Uint64
	delayNanos atomic.Int64
}

func (m *Metrics) count(w *response) {
	c := w.class % classes
	m.requests[c][statusIndex(w.status)].Add(1)
	m.bytes[c].Add(uint64(w.sent))
	if w.failed != nil {
		m.broken.Add(1)
	}
}

// ObservePart notes how long after its last sample arrived a part was published. It is made for segmenter.Origin.OnPart.
func (m *Metrics) ObservePart(_ *segmenter.Rendition, p *segmenter.Part) {
	m.observe(max(time.Now().UnixNano()-p.Arrived, 0))
}

func (m *Metrics) observe(nanos int64) {
	s := float64(nanos) / 1e9
	i := 0
	for i < len(delayBounds) && s > delayBounds[i] {
		i++
	}
	m.delays[i].Add(1)
	m.delayNanos.Add(nanos)
}

// A Counter is a figure that another package counts, told to /metrics. Several may have one name if their labels differ in
// values alone. Labels are few and known beforehand: never what a client or an encoder can make up.
type Counter struct {
	Name   string // with prefix and unit: "headwater_rtmp_bytes_total"
	Help   string
	Labels map[string]string
	Gauge  bool           // it may fall
	Value  func() float64 // called by any goroutine
}

// A collector reads the counters when it is asked to.
type collector struct {
	server   *Server
	counters []*prometheus.Desc // of Server.Counters

	requests, bytes, broken, panics, blocked, refused, delay *prometheus.Desc
	muxed, muxedBytes                                        *prometheus.Desc
	streams, publishing, target, keyframe, reconnects, discs *prometheus.Desc
	inLadder, inKeyframe, skew, lag, active, switches        *prometheus.Desc
	parts, segments, gaps, samples, sampleBytes              *prometheus.Desc
	dropped, adjusted, retained, peak, average, weight       *prometheus.Desc
}

func newCollector(s *Server) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("headwater_"+name, help, labels, nil)
	}
	stream, rendition, input := []string{"stream"}, []string{"stream", "rendition"}, []string{"stream", "rendition", "role"}
	c := &collector{
		server:     s,
		requests:   desc("http_requests_total", "Requests answered, by class of object and status.", "class", "status"),
		bytes:      desc("http_response_bytes_total", "Bytes of bodies sent, by class of object.", "class"),
		broken:     desc("http_broken_responses_total", "Replies broken off before their end: the reader left or was too slow."),
		panics:     desc("http_panics_total", "Requests that ended in a panic."),
		blocked:    desc("http_blocked_requests", "Requests that are being held now."),
		refused:    desc("http_blocked_refused_total", "Requests refused because too many were being held."),
		muxed:      desc("ts_segments_muxed_total", "MPEG-TS segments made because somebody asked for them."),
		muxedBytes: desc("ts_cached_bytes", "MPEG-TS segments kept in memory."),
		delay:      desc("part_publish_delay_seconds", "From the arrival of a part's last sample to its publication."),

		streams:    desc("streams", "Streams that are live or were until lately."),
		publishing: desc("stream_publishing", "1 while an encoder is publishing.", stream...),
		target:     desc("stream_target_duration_seconds", "Target duration of the current run.", stream...),
		inLadder:   desc("input_in_ladder", "1 for a publication that is cut beside the others of its stream, 0 for one that is not.", input...),
		active:     desc("input_active", "1 for the publication that feeds its rendition, 0 for one that stands by or is not in the ladder.", input...),
		switches:   desc("input_switches_total", "Renditions that went over from a primary to its backup, or back, by reason.", "stream", "reason"),
		inKeyframe: desc("input_keyframe_interval_seconds", "Latest distance between two key frames of a publication, or the time since the last one if that is too long.", input...),
		skew:       desc("input_skew_seconds", "A publication's latest key frame against the leader's, in presentation time.", input...),
		lag:        desc("input_lag_seconds", "By how much later than the leader's a publication's latest key frame arrived.", input...),
		keyframe:   desc("stream_keyframe_interval_seconds", "Latest distance between two key frames, or the time since the last one if that is too long.", stream...),
		reconnects: desc("stream_reconnects_total", "Publications that continued a run.", stream...),
		discs:      desc("stream_discontinuities_total", "Discontinuities.", stream...),

		parts:       desc("rendition_parts_total", "Parts published in the current run.", rendition...),
		segments:    desc("rendition_segments_total", "Segments completed in the current run.", rendition...),
		gaps:        desc("rendition_gap_segments_total", "Segments without media in the current run.", rendition...),
		samples:     desc("rendition_samples_total", "Samples accepted in the current run.", rendition...),
		sampleBytes: desc("rendition_bytes_total", "Bytes of samples accepted in the current run.", rendition...),
		dropped:     desc("rendition_dropped_samples_total", "Samples that could not be placed on the timeline.", rendition...),
		adjusted:    desc("rendition_adjusted_samples_total", "Samples whose timestamps were moved.", rendition...),
		retained:    desc("rendition_retained_bytes", "Bytes of media held in memory.", rendition...),
		peak:        desc("rendition_peak_bits_per_second", "Largest bit rate measured.", rendition...),
		average:     desc("rendition_average_bits_per_second", "Average bit rate measured.", rendition...),
	}
	c.weight = desc("pathway_weight", "Weight of a pathway of content steering, by the pattern of streams that it is for.", "streams", "pathway")
	for _, x := range s.Counters {
		c.counters = append(c.counters, prometheus.NewDesc(x.Name, x.Help, nil, x.Labels))
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.requests, c.bytes, c.broken, c.panics, c.blocked, c.refused, c.delay, c.muxed, c.muxedBytes,
		c.inLadder, c.inKeyframe, c.skew, c.lag, c.active, c.switches,
		c.streams, c.publishing, c.target, c.keyframe, c.reconnects, c.discs,
		c.parts, c.segments, c.gaps, c.samples, c.sampleBytes, c.dropped, c.adjusted, c.retained, c.peak, c.average, c.weight,
	} {
		ch <- d
	}
	for _, d := range c.counters {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	s, m := c.server, &c.server.metrics
	for class := range classes {
		for i, status := range statuses {
			if n := m.requests[class][i].Load(); n > 0 {
				label := "other"
				if status > 0 {
					label = strconv.Itoa(status)
				}
				count(c.requests, float64(n), class.String(), label)
			}
		}
		count(c.bytes, float64(m.bytes[class].Load()), class.String())
	}
	count(c.broken, float64(m.broken.Load()))
	count(c.panics, float64(m.panics.Load()))
	gauge(c.blocked, float64(s.gate.now.Load()))
	count(c.refused, float64(s.gate.refused.Load()))
	count(c.muxed, float64(m.muxed.Load()))
	gauge(c.muxedBytes, float64(s.ts.size()))

	var sum uint64
	buckets := make(map[float64]uint64, len(delayBounds))
	for i, bound := range delayBounds {
		sum += m.delays[i].Load()
		buckets[bound] = sum
	}
	sum += m.delays[len(delayBounds)].Load()
	ch <- prometheus.MustNewConstHistogram(c.delay, sum, float64(m.delayNanos.Load())/1e9, buckets)

	list := s.Origin.Streams()
	gauge(c.streams, float64(len(list)))
	for _, st := range list {
		status := st.Status()
		on := 0.0
		if status.Publishing {
			on = 1
		}
		gauge(c.publishing, on, st.Name)
		gauge(c.keyframe, status.KeyframeInterval.Seconds(), st.Name)
		for i := range status.Inputs {
			in := &status.Inputs[i]
			role, on, active := in.Role(), 0.0, 0.0
			switch in.State {
			case segmenter.Leading, segmenter.Following:
				on, active = 1, 1
			case segmenter.Standby:
				if in.By != "" {
					on = 1
				}
			}
			gauge(c.inLadder, on, st.Name, in.Rung, role)
			gauge(c.active, active, st.Name, in.Rung, role)
			gauge(c.inKeyframe, in.KeyframeInterval.Seconds(), st.Name, in.Rung, role)
			gauge(c.skew, in.Skew.Seconds(), st.Name, in.Rung, role)
			gauge(c.lag, in.Lag.Seconds(), st.Name, in.Rung, role)
		}
		for i, why := range segmenter.Reasons {
			if n := status.Switches[i]; n > 0 {
				count(c.switches, float64(n), st.Name, string(why))
			}
		}
		count(c.reconnects, float64(status.Reconnects), st.Name)
		count(c.discs, float64(status.Discontinuities), st.Name)
		run := st.Run()
		if run == nil {
			continue
		}
		gauge(c.target, float64(run.TargetDuration()), st.Name)
		for _, r := range run.Renditions() {
			x := r.Stats()
			count(c.parts, float64(x.Parts), st.Name, r.ID)
			count(c.segments, float64(x.Segments), st.Name, r.ID)
			count(c.gaps, float64(x.Gaps), st.Name, r.ID)
			count(c.samples, float64(x.Samples), st.Name, r.ID)
			count(c.sampleBytes, float64(x.Bytes), st.Name, r.ID)
			count(c.dropped, float64(x.Dropped), st.Name, r.ID)
			count(c.adjusted, float64(x.Adjusted), st.Name, r.ID)
			gauge(c.retained, float64(x.Retained), st.Name, r.ID)
			gauge(c.peak, float64(x.Peak), st.Name, r.ID)
			gauge(c.average, float64(x.Average), st.Name, r.ID)
		}
	}
	for _, x := range s.Steerings {
		for _, p := range x.pathways() {
			gauge(c.weight, float64(p.Weight), x.streams, p.ID)
		}
	}
	for i, x := range s.Counters {
		if x.Gauge {
			ch <- prometheus.MustNewConstMetric(c.counters[i], prometheus.GaugeValue, x.Value())
		} else {
			ch <- prometheus.MustNewConstMetric(c.counters[i], prometheus.CounterValue, x.Value())
		}
	}
}
