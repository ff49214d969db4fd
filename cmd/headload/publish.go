package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// clipFlags choose what is pushed.
type clipFlags struct {
	Clip         string        `placeholder:"FILE.flv" help:"Push this recording over and over instead of a synthetic clip. Make one with: ffmpeg -i IN -t 20 -c:v libx264 -bf 0 -g 60 -c:a aac -f flv FILE.flv"`
	VideoBitrate bitrate       `default:"3000k" help:"Of the synthetic clip: bits a second."`
	AudioBitrate bitrate       `default:"128k" help:"Bits a second of AAC; 0 is no audio."`
	AudioTracks  []string      `placeholder:"LANG,LANG" help:"Send an audio track for each of these languages in one connection (Enhanced RTMP multitrack), all with the same sound."`
	FPS          rate          `name:"fps" default:"30" help:"Frames a second: 30, 29.97, 30000/1001."`
	GOP          time.Duration `name:"gop" default:"2s" help:"Time between key frames."`
	Size         string        `default:"1280x720" help:"Picture size."`
	Seed         uint64        `default:"1" help:"The same seed makes the same clip."`
	ChunkSize    int           `default:"4096" help:"RTMP chunk size. 4096 is what OBS sends, ffmpeg 128 to 60000."`
	Coalesce     bool          `help:"Write audio together with the next video frame: fewer packets, as encoders with a send buffer do."`
}

func (f *clipFlags) stream() (*stream, error) {
	var c *clip
	if f.Clip != "" {
		file, err := os.Open(f.Clip)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		if c, err = readFLV(file); err != nil {
			return nil, err
		}
	} else {
		var w, h int
		if n, err := fmt.Sscanf(f.Size, "%dx%d", &w, &h); n != 2 || err != nil {
			return nil, fmt.Errorf("%q is not a picture size such as 1280x720", f.Size)
		}
		var err error
		c, err = synthesize(synthConfig{Width: w, Height: h, FPS: f.FPS, GOP: f.GOP, VideoBitrate: int(f.VideoBitrate),
			AudioBitrate: int(f.AudioBitrate), Seed: f.Seed})
		if err != nil {
			return nil, err
		}
	}
	if err := c.addAudioTracks(f.AudioTracks); err != nil {
		return nil, err
	}
	return newStream(c, f.ChunkSize, f.Coalesce)
}

type publishCmd struct {
	URL         string        `name:"url" default:"rtmp://127.0.0.1:1935/live/load%d" help:"Where to publish; %d becomes 0 to N-1, and is added at the end if it is missing. A publish key goes into the query."`
	Count       int           `default:"1" help:"Publishers."`
	Duration    time.Duration `default:"60s" help:"How long to push, after all have started."`
	Ramp        time.Duration `default:"2s" help:"Spread the starts over this time. One GOP keeps key frames from coming all at once."`
	Settle      time.Duration `default:"3s" help:"Leave out this much after the ramp when measuring the server."`
	Workers     int           `default:"0" help:"Pacing goroutines; 0 is one per 100 publishers, at most one per core."`
	PID         int           `name:"pid" help:"Measure this process and its children: CPU and memory."`
	ServerCmd   string        `placeholder:"CMD" help:"Start this server with sh, wait for it, measure it, and stop it."`
	AllowRemote bool          `help:"Allow targets off this machine."`
	JSON        bool          `name:"json" help:"Report as JSON."`
	clipFlags
}

// Help is what headload publish --help says beyond its flags.
func (*publishCmd) Help() string {
	return `Each publisher is a real RTMP connection that sends video and audio frames at their time. All send the same bytes, made
once, so that a thousand of them cost the tool little. The synthetic clip is H.264 and AAC that players can play (noise).

  headload publish --count 50 --duration 60s --pid $(pidof headwater)
  headload publish --url 'rtmp://127.0.0.1/live/cam%d?key=secret' --count 4 --clip film.flv

It reports bytes, how late the writes were against their absolute deadlines, failures by reason, and with --pid or
--server-cmd the server's CPU seconds per stream-second and resident memory per stream.`
}

// Run pushes and reports.
func (c *publishCmd) Run(ctx context.Context, con *console) error {
	g := guard{c.AllowRemote}
	if err := g.check(ctx, numbered(c.URL, 0)); err != nil {
		return err
	}
	s, err := c.stream()
	if err != nil {
		return err
	}
	l := load{dialer: g.dialer(), url: c.URL, stream: s, count: c.Count, ramp: c.Ramp, settle: c.Settle, workers: c.Workers, pid: c.PID}
	if c.ServerCmd != "" {
		t, err := publication(c.URL, 0)
		if err != nil {
			return err
		}
		cmd := exec.Command("sh", "-c", "exec "+c.ServerCmd)
		cmd.Stdout, cmd.Stderr = con.log, con.log
		srv, err := startServer(ctx, cmd, t.addr)
		if err != nil {
			return err
		}
		defer srv.stop()
		l.pid = srv.pid()
	}
	r, err := l.run(ctx, c.Duration)
	if err != nil {
		return err
	}
	if err := con.report(r, c.JSON); err != nil {
		return err
	}
	if r.Failed > 0 {
		return errFailed
	}
	return nil
}

// A load is a number of publishers on one server.
type load struct {
	dialer       *net.Dialer
	url          string
	stream       *stream
	count        int
	ramp, settle time.Duration
	workers      int
	pid          int                        // the server to measure; 0 is none
	onVideo      func(n int64, t time.Time) // of every publisher; see cursor
	atEnd        func()                     // called when the run is over and the publishers still publish
}

// A publishReport is what a load did and cost.
type publishReport struct {
	Publishers    int            `json:"publishers"`
	Failed        int            `json:"failed"`
	Failures      map[string]int `json:"failures,omitempty"`
	Seconds       float64        `json:"seconds"`
	Bytes         int64          `json:"bytes"`
	StreamBitrate float64        `json:"stream_bits_per_second"`
	Late          *durations     `json:"late_writes"`
	ToolCPU       float64        `json:"tool_cpu_s_per_stream_s"`
	Server        *serverReport  `json:"server,omitempty"`
}

// A serverReport is about the steady part of a run.
type serverReport struct {
	Seconds       float64 `json:"steady_seconds"`
	StreamSeconds float64 `json:"stream_seconds"`
	CPU           float64 `json:"cpu_s_per_stream_s"`
	RSSIdle       int64   `json:"rss_idle"` // before the first publisher
	RSSStart      int64   `json:"rss_start"`
	RSSEnd        int64   `json:"rss_end"`
	RSSPerStream  float64 `json:"rss_per_stream"` // at the end, above idle
}

// numbered replaces %d in a URL.
func numbered(url string, i int) string { return strings.ReplaceAll(url, "%d", strconv.Itoa(i)) }

// publication returns publisher i's target.
func publication(url string, i int) (target, error) {
	if strings.Contains(url, "%d") {
		return parseTarget(numbered(url, i))
	}
	t, err := parseTarget(url)
	name, query, has := strings.Cut(t.name, "?")
	if t.name = name + strconv.Itoa(i); has {
		t.name += "?" + query
	}
	return t, err
}

// run pushes for that long after the ramp. An error is a load that could not begin; publishers that fail are in the report.
func (l *load) run(ctx context.Context, duration time.Duration) (*publishReport, error) {
	if l.count < 1 || duration <= 0 {
		return nil, fmt.Errorf("count and duration must be positive")
	}
	if _, err := publication(l.url, 0); err != nil {
		return nil, err
	}
	r := &publishReport{Publishers: l.count, Failures: map[string]int{}}
	var server serverReport
	if l.pid != 0 {
		u, err := usageOf(l.pid)
		if err != nil {
			return nil, err
		}
		server.RSSIdle = u.rss
	}
	workers := l.workers
	if workers <= 0 {
		workers = min((l.count+99)/100, runtime.GOMAXPROCS(0))
	}

	pushing, stop := context.WithCancel(ctx)
	defer stop()
	pl := newPool(pushing, workers)
	var (
		mu     sync.Mutex // protects r until all have ended
		active atomic.Int64
		ends   sync.WaitGroup
	)
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		r.Failed++
		r.Failures[err.Error()]++
	}
	end := func(p *paced, err error) {
		active.Add(-1)
		if err != nil {
			fail(err)
		}
		mu.Lock()
		r.Bytes += p.bytes
		mu.Unlock()
	}

	begin := time.Now()
	for i := range l.count {
		ends.Go(func() {
			sleep(pushing, l.ramp*time.Duration(i)/time.Duration(l.count))
			t, _ := publication(l.url, i)
			pub, err := dialPublisher(pushing, l.dialer, t, l.stream.prologue)
			if err != nil {
				if pushing.Err() == nil {
					fail(err)
				}
				return
			}
			active.Add(1)
			p := &paced{pub: pub, name: t.name, end: end, cursor: cursor{s: l.stream, out: pub, onVideo: l.onVideo}}
			select {
			case pl.pacers[i%workers].join <- p:
			case <-pushing.Done():
				pub.close(t.name, true)
				active.Add(-1)
			}
		})
	}

	sleep(ctx, l.ramp+min(l.settle, duration/4))
	cpu0, rss0 := l.measure()
	own0, _ := usageOfOne(os.Getpid())
	steady := time.Now()
	streamSeconds := 0.0
	for last := steady; ctx.Err() == nil; {
		left := begin.Add(l.ramp + duration).Sub(last)
		if left <= 0 || (active.Load() == 0 && time.Since(begin) > l.ramp+setupTimeout) {
			break
		}
		sleep(ctx, min(left, 100*time.Millisecond))
		now := time.Now()
		streamSeconds += float64(active.Load()) * now.Sub(last).Seconds()
		last = now
	}
	cpu1, rss1 := l.measure()
	server.Seconds, server.StreamSeconds = time.Since(steady).Seconds(), streamSeconds
	own1, _ := usageOfOne(os.Getpid())
	if l.atEnd != nil {
		l.atEnd()
	}
	stop()
	ends.Wait()
	pl.wg.Wait()

	r.Seconds = time.Since(begin).Seconds()
	r.StreamBitrate = l.stream.clip.bitrate()
	r.Late = pl.late()
	if streamSeconds > 0 {
		r.ToolCPU = (own1.cpu - own0.cpu).Seconds() / streamSeconds
		server.CPU = (cpu1 - cpu0).Seconds() / streamSeconds
	}
	if l.pid != 0 {
		if rss1 == 0 {
			return r, fmt.Errorf("server process %d ended during the run", l.pid)
		}
		server.RSSStart, server.RSSEnd = rss0, rss1
		server.RSSPerStream = float64(rss1-server.RSSIdle) / float64(l.count)
		r.Server = &server
	}
	return r, nil
}

// measure returns the server's CPU time and memory, zero when there is none to be measured.
func (l *load) measure() (time.Duration, int64) {
	if l.pid == 0 {
		return 0, 0
	}
	u, _ := usageOf(l.pid)
	return u.cpu, u.rss
}

func (r *publishReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "publishers        %d of %.0f kb/s, %d failed\n", r.Publishers, r.StreamBitrate/1000, r.Failed)
	fmt.Fprintf(&b, "sent              %.1f MB in %.1f s (%.1f Mb/s)\n", float64(r.Bytes)/1e6, r.Seconds, float64(r.Bytes)*8/1e6/r.Seconds)
	fmt.Fprintf(&b, "late writes       %v\n", r.Late)
	fmt.Fprintf(&b, "tool CPU          %.5f s per stream-second\n", r.ToolCPU)
	if s := r.Server; s != nil {
		fmt.Fprintf(&b, "server CPU        %.5f s per stream-second over %.1f s\n", s.CPU, s.Seconds)
		fmt.Fprintf(&b, "server memory     %.2f MB per stream; %.1f MB idle, %.1f at the start, %.1f at the end\n",
			s.RSSPerStream/1e6, float64(s.RSSIdle)/1e6, float64(s.RSSStart)/1e6, float64(s.RSSEnd)/1e6)
	}
	writeCounts(&b, "failure", r.Failures)
	return b.String()
}

// writeCounts lists what was counted, most frequent first.
func writeCounts(b *strings.Builder, what string, counts map[string]int) {
	keys := make([]string, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y string) int { return cmp.Or(counts[y]-counts[x], cmp.Compare(x, y)) })
	for _, k := range keys[:min(len(keys), 20)] {
		fmt.Fprintf(b, "%-17s %d x %s\n", what, counts[k], k)
	}
}
