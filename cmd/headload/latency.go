package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sort"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

type latencyCmd struct {
	RTMPURL     string        `name:"rtmp-url" default:"rtmp://127.0.0.1:1935/live/latency" help:"Where to publish. The name must not be live, nor have been shortly before."`
	URL         string        `name:"url" default:"http://127.0.0.1:8080/live/latency/index.m3u8" help:"Where the same stream plays."`
	Duration    time.Duration `default:"30s" help:"How long to measure."`
	MaxP99      time.Duration `name:"max-p99" placeholder:"3ms" help:"Exit with 1 when the 99th percentile of fetchable is longer."`
	MaxFirst    time.Duration `name:"max-first" placeholder:"2.2s" help:"Exit with 1 when the first playlist takes longer."`
	AllowRemote bool          `help:"Allow targets off this machine."`
	JSON        bool          `name:"json" help:"Report as JSON."`
	clipFlags
}

// Help is what headload latency --help says beyond its flags.
func (*latencyCmd) Help() string {
	return `For every part that ends full (as long as its target allows), the time from the start of the write of its last frame until
  listed     the answer to the blocked playlist request, which lists it, was here,
  hinted     the answer to the request for it as a preload hint was here, whole,
  fetchable  both were: it is listed, and whoever asks for it has it,
  fetched    a new request for it, sent when this program had read the list, was answered whole.
Here means received by the system: packets carry the time of that, so that what this program needs to wake up and read on
the same cores is not counted (on Linux; elsewhere it is). Its receive buffers hold a whole part, as a player's do that has
played for a while: else the server would have to wait for it. Fetched includes it, twice.
Echo is the same of a process that only answers, asked in between: what this machine needs at least.
Also the time from the first frame to the first media playlist, asked for from the start.

  headload latency --duration 60s --max-p99 3ms --max-first 2200ms`
}

// A latencyReport is what was measured.
type latencyReport struct {
	FirstMultivariant float64        `json:"first_multivariant_s"`
	FirstPlaylist     float64        `json:"first_playlist_s"` // from the first frame
	Parts             int            `json:"parts"`
	Full              int            `json:"parts_that_ended_full"`
	Listed            *durations     `json:"listed"`
	Hinted            *durations     `json:"hinted"`
	Fetchable         *durations     `json:"fetchable"`
	Fetched           *durations     `json:"fetched"`
	Echo              *durations     `json:"echo"`
	Late              *durations     `json:"late_writes"`
	Errors            map[string]int `json:"errors,omitempty"`
	Violations        map[string]int `json:"violations,omitempty"`
	Examples          []string       `json:"examples,omitempty"`
}

// Run publishes, measures and reports.
func (c *latencyCmd) Run(ctx context.Context, con *console) error {
	r, err := c.measure(ctx)
	if err != nil {
		return err
	}
	if err := con.report(r, c.JSON); err != nil {
		return err
	}
	if len(r.Violations) > 0 || r.Full == 0 || c.MaxP99 > 0 && r.Fetchable.quantile(0.99) > c.MaxP99 ||
		c.MaxFirst > 0 && r.FirstPlaylist > c.MaxFirst.Seconds() {
		return errFailed
	}
	return nil
}

func (c *latencyCmd) measure(ctx context.Context) (*latencyReport, error) {
	g := guard{c.AllowRemote}
	if err := errors.Join(g.check(ctx, c.RTMPURL), g.check(ctx, c.URL)); err != nil {
		return nil, err
	}
	target, err := parseTarget(c.RTMPURL)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, err
	}
	c.Coalesce = false // a frame's time is that of its own write
	s, err := c.stream()
	if err != nil {
		return nil, err
	}
	ft := newFrameTimes(s, c.Duration+setupTimeout)
	if ft.perRound() == 0 {
		return nil, fmt.Errorf("clip has no video")
	}

	run, stop := context.WithCancel(ctx)
	defer stop()
	pl := newPool(run, 1)
	defer pl.wg.Wait()
	defer stop()
	pub, err := dialPublisher(run, g.dialer(), target, s.prologue)
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	pl.pacers[0].join <- &paced{pub: pub, name: target.name, cursor: cursor{s: s, out: pub, onVideo: ft.wrote},
		end: func(_ *paced, err error) { ended <- err }}

	client := newClient(g, 1)
	d := g.dialer()
	allowed := d.Control
	d.Control = func(network, address string, c syscall.RawConn) error {
		if allowed != nil {
			if err := allowed(network, address, c); err != nil {
				return err
			}
		}
		return roomy(c)
	}
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return stamp(c), nil
	}
	defer client.CloseIdleConnections()
	m := latencyMeter{frames: ft, r: &latencyReport{Listed: &durations{}, Hinted: &durations{}, Fetchable: &durations{}, Fetched: &durations{}}}
	stats := newPlayStats()
	m.rend = rendition{f: &fetcher{client: client, timeout: 30 * time.Second, stats: stats}, lowLatency: true, now: time.Now}
	measuring, done := context.WithTimeout(run, c.Duration)
	defer done()
	e, err := startEcho(run)
	if err != nil {
		return nil, err
	}
	echoed := make(chan error, 1)
	go func() { echoed <- e.measure(measuring) }()
	err = m.run(measuring, u)
	done()
	if e := <-echoed; err == nil {
		err = e
	}
	stop()
	if e := <-ended; err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	pl.wg.Wait()
	m.r.Late, m.r.Echo = pl.late(), &e.took
	m.r.Errors, m.r.Violations, m.r.Examples = stats.errors, stats.violations, stats.examples
	return m.r, nil
}

// A latencyMeter follows the video rendition from its first part on.
type latencyMeter struct {
	frames *frameTimes
	rend   rendition
	r      *latencyReport
	end    time.Duration // media time of all parts seen
}

const pollFirst = 10 * time.Millisecond

func (m *latencyMeter) run(ctx context.Context, u *url.URL) error {
	// The first playlists. A server may hold the requests, which is best, or answer 404 until it has something.
	r := &m.rend
	for r.url == nil {
		urls, err := open(ctx, r.f, u)
		if ctx.Err() != nil {
			return fmt.Errorf("no playlist came within the duration: %v", err)
		}
		if err == nil {
			r.url = urls[0]
			m.r.FirstMultivariant = time.Since(m.frames.at(0)).Seconds()
			break
		}
		if st := (statusError{}); !errors.As(err, &st) || st.code != http.StatusNotFound {
			return err
		}
		sleep(ctx, pollFirst)
	}
	for r.pl == nil {
		pl, err := r.reload(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("no media playlist came within the duration: %v", err)
		}
		if err == nil && len(pl.segments) > 0 {
			r.pl = pl
			m.r.FirstPlaylist = time.Since(m.frames.at(0)).Seconds()
			break
		}
		sleep(ctx, pollFirst)
	}
	clear(r.f.stats.errors) // of waiting
	if !r.blocking() {
		return fmt.Errorf("%v offers no parts with blocking reload", r.url)
	}

	// Everything listed now came before anyone asked; it only sets the media time.
	for _, seg := range r.pl.segments {
		m.end += seg.duration
	}
	r.msn, r.n = r.pl.next()
	r.started = true
	for {
		hint, hinted := r.pl.hint, make(chan time.Time, 1)
		go func() {
			defer close(hinted)
			if v, err := resolve(r.url, hint); hint != "" && err == nil {
				ctx, received := arrivals(ctx)
				if _, _, err := r.f.get(ctx, v, false); err == nil {
					hinted <- received()
				}
			}
		}()
		traced, received := arrivals(ctx)
		pl, err := r.reload(traced)
		if ctx.Err() != nil {
			<-hinted
			return nil
		}
		if err != nil {
			return err
		}
		listed := received()
		r.check(r.pl, pl)
		r.pl = pl
		if err := m.parts(ctx, listed, hint, hinted); err != nil {
			return err
		}
		if pl.ended {
			return nil
		}
	}
}

// parts measures the parts that a playlist added.
func (m *latencyMeter) parts(ctx context.Context, listed time.Time, hint string, hinted <-chan time.Time) error {
	r := &m.rend
	for added := 0; ; {
		seg := r.pl.at(r.msn)
		switch {
		case seg == nil && r.msn < r.pl.msn:
			return fmt.Errorf("fell out of the window at %d", r.msn)
		case seg == nil || r.n == len(seg.parts) && seg.uri == "":
			return nil
		case r.n >= len(seg.parts):
			r.msn, r.n = r.msn+1, 0
			continue
		}
		p := seg.parts[r.n]
		r.n++
		m.end += p.duration
		m.r.Parts++
		added++
		v, err := resolve(r.url, p.uri)
		if err != nil {
			return err
		}
		if _, _, err := r.f.get(ctx, v, false); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("listed part %s: %w", p.uri, err)
		}
		fetched := time.Now()
		if p.duration+m.frames.step() <= r.pl.partTarget || added > 1 {
			continue // it ended for another reason, or came while the one before was measured
		}
		m.r.Full++
		wrote := m.frames.await(ctx, m.frames.last(m.end))
		if wrote.IsZero() || listed.Before(wrote) {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("part %s ends at %v of media, which has not been sent: is %v another publication?", p.uri, m.end, r.url)
		}
		m.r.Listed.add(listed.Sub(wrote))
		m.r.Fetched.add(fetched.Sub(wrote))
		if p.uri == hint {
			if t, ok := <-hinted; ok {
				m.r.Hinted.add(t.Sub(wrote))
				if t.Before(listed) {
					t = listed
				}
				m.r.Fetchable.add(t.Sub(wrote))
				continue
			}
		}
		m.r.Fetchable.add(fetched.Sub(wrote)) // it was not where the hint said
	}
}

func (r *latencyReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "first playlist    %.3f s after the first frame (multivariant %.3f s)\n", r.FirstPlaylist, r.FirstMultivariant)
	fmt.Fprintf(&b, "parts             %d, of which %d ended full\n", r.Parts, r.Full)
	fmt.Fprintf(&b, "listed            %v after the last frame\n", r.Listed)
	fmt.Fprintf(&b, "hinted            %v\n", r.Hinted)
	fmt.Fprintf(&b, "fetchable         %v\n", r.Fetchable)
	fmt.Fprintf(&b, "fetched           %v\n", r.Fetched)
	fmt.Fprintf(&b, "echo              %v, of a process that does nothing else\n", r.Echo)
	fmt.Fprintf(&b, "late writes       %v\n", r.Late)
	writeCounts(&b, "error", r.Errors)
	writeCounts(&b, "violation", r.Violations)
	for _, e := range r.Examples {
		fmt.Fprintf(&b, "                  %s\n", e)
	}
	return b.String()
}

// arrivals returns a context for one request, and what says when its answer was received: when the last that was read of it
// came, on a connection that is stamped.
func arrivals(ctx context.Context) (context.Context, func() time.Time) {
	var conn net.Conn
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { conn = i.Conn }})
	return ctx, func() time.Time {
		if c, ok := conn.(interface{ received() time.Time }); ok {
			return c.received()
		}
		return time.Now()
	}
}

// frameTimes knows when each video frame was written, and which frame ends at a media time. wrote is called by one
// goroutine, the rest by another.
type frameTimes struct {
	offsets []time.Duration // of the video frames in a round
	period  time.Duration
	written []atomic.Int64 // Unix ns
}

func newFrameTimes(s *stream, d time.Duration) *frameTimes {
	f := &frameTimes{period: s.period}
	for _, p := range s.packets {
		if p.video {
			f.offsets = append(f.offsets, p.at)
		}
	}
	f.written = make([]atomic.Int64, (int(d/s.period)+2)*len(f.offsets))
	return f
}

func (f *frameTimes) perRound() int { return len(f.offsets) }

// step is the mean time between frames.
func (f *frameTimes) step() time.Duration { return f.period / time.Duration(len(f.offsets)) }

func (f *frameTimes) wrote(n int64, t time.Time) {
	if n < int64(len(f.written)) {
		f.written[n].Store(t.UnixNano())
	}
}

// at returns when frame n was written; zero if it has not been.
func (f *frameTimes) at(n int) time.Time {
	if n < 0 || n >= len(f.written) {
		return time.Time{}
	}
	ns := f.written[n].Load()
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// await is at, but gives the writer time to note what it has written: the answer to a frame may be here before that.
func (f *frameTimes) await(ctx context.Context, n int) time.Time {
	for end := time.Now().Add(writerLag); ; sleep(ctx, time.Millisecond) {
		if t := f.at(n); !t.IsZero() || ctx.Err() != nil || time.Now().After(end) {
			return t
		}
	}
}

// writerLag is how long a written frame may go without a note of when.
const writerLag = time.Second

// last returns the frame that ends at media time t: the last one that begins at least half a frame before it.
func (f *frameTimes) last(t time.Duration) int {
	t -= f.step() / 2
	if t < 0 {
		return 0
	}
	round, rest := int(t/f.period), t%f.period
	return round*len(f.offsets) + sort.Search(len(f.offsets), func(i int) bool { return f.offsets[i] > rest }) - 1
}
