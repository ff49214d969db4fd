package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"
)

type playCmd struct {
	URL         string        `name:"url" default:"http://127.0.0.1:8080/live/load%d/index.m3u8" help:"What to play; %d becomes 0 to streams-1, round and round."`
	Players     int           `default:"1" help:"Players."`
	Streams     int           `default:"1" help:"Streams that %d in the URL counts through."`
	Duration    time.Duration `default:"60s" help:"How long to play, from the first start."`
	Ramp        time.Duration `default:"2s" help:"Spread the starts over this time."`
	Wait        time.Duration `default:"10s" help:"A stream that is not there yet (404) is no error for so long."`
	LowLatency  bool          `default:"true" negatable:"" help:"Play parts with blocking reloads where offered; otherwise whole segments."`
	Timeout     time.Duration `default:"20s" help:"Of one request; a blocking one may be held for three target durations."`
	AllowRemote bool          `help:"Allow targets off this machine."`
	JSON        bool          `name:"json" help:"Report as JSON."`
}

// Help is what headload play --help says beyond its flags.
func (*playCmd) Help() string {
	return `Each player reads the multivariant playlist, then video and audio: it reloads by _HLS_msn and _HLS_part, fetches the
preload hint ahead, and takes every part once. It plays nothing, but reckons when a player would have stalled.

  headload publish --count 10 --duration 60s &
  headload play --streams 10 --players 500 --duration 50s

Latency is the time between a part's end by EXT-X-PROGRAM-DATE-TIME and the moment it was fetched; both clocks must
agree, and 0 is usual on one machine: a part is whole when its last frame has come, which is before that frame ends. Gaps, sequence numbers that go back, changed segments, hints that never come and answers that come too early
count as violations. Errors and violations make the exit status 1.`
}

// A playReport is what the players found.
type playReport struct {
	Players      int            `json:"players"`
	Renditions   int            `json:"renditions_started"`
	NeverStarted int            `json:"never_started"`
	Seconds      float64        `json:"seconds"`
	Requests     int64          `json:"requests"`
	Bytes        int64          `json:"bytes"`
	Parts        int64          `json:"parts"`
	Segments     int64          `json:"segments"`
	Latency      *durations     `json:"latency"`
	Reload       *durations     `json:"reload"`
	Stalls       int            `json:"stalls"`
	StallSeconds float64        `json:"stall_seconds"`
	Errors       map[string]int `json:"errors,omitempty"`
	Violations   map[string]int `json:"violations,omitempty"`
	Examples     []string       `json:"examples,omitempty"`
}

// Run plays and reports.
func (c *playCmd) Run(ctx context.Context, con *console) error {
	r, err := c.play(ctx)
	if err != nil {
		return err
	}
	if err := con.report(r, c.JSON); err != nil {
		return err
	}
	if len(r.Errors)+len(r.Violations)+r.NeverStarted > 0 {
		return errFailed
	}
	return nil
}

func (c *playCmd) play(ctx context.Context) (*playReport, error) {
	if c.Players < 1 || c.Streams < 1 || c.Duration <= 0 {
		return nil, fmt.Errorf("players, streams and duration must be positive")
	}
	g := guard{c.AllowRemote}
	if err := g.check(ctx, numbered(c.URL, 0)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	client := newClient(g, c.Players)
	defer client.CloseIdleConnections()
	stats, known := newPlayStats(), newMemo()
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range c.Players {
		u, err := url.Parse(numbered(c.URL, i%c.Streams))
		if err != nil {
			return nil, err
		}
		f := &fetcher{client: client, timeout: c.Timeout, stats: stats, known: known}
		wg.Go(func() {
			sleep(ctx, c.Ramp*time.Duration(i)/time.Duration(c.Players))
			playOne(ctx, f, u, c.Wait, c.LowLatency)
		})
	}
	wg.Wait()
	return &playReport{Players: c.Players, Renditions: stats.playing, NeverStarted: stats.neverStarted, Seconds: time.Since(begin).Seconds(),
		Requests: stats.requests, Bytes: stats.bytes, Parts: stats.parts, Segments: stats.segments,
		Latency: &stats.latency, Reload: &stats.reload, Stalls: stats.stalls, StallSeconds: stats.stalled.Seconds(),
		Errors: stats.errors, Violations: stats.violations, Examples: stats.examples}, nil
}

// playOne plays one stream until ctx ends. It may take that long to appear.
func playOne(ctx context.Context, f *fetcher, u *url.URL, wait time.Duration, lowLatency bool) {
	var urls []*url.URL
	for begin := time.Now(); ; {
		var err error
		f.expect404 = time.Since(begin) < wait
		if urls, err = open(ctx, f, u); err == nil {
			f.expect404 = false
			break
		}
		sleep(ctx, retryAfter)
		if ctx.Err() != nil {
			f.stats.mu.Lock()
			f.stats.neverStarted++
			f.stats.mu.Unlock()
			return
		}
	}
	var wg sync.WaitGroup
	for _, m := range urls[1:] {
		wg.Go(func() { (&rendition{f: f, url: m, lowLatency: lowLatency}).run(ctx) })
	}
	(&rendition{f: f, url: urls[0], lowLatency: lowLatency}).run(ctx)
	wg.Wait()
}

func (r *playReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "players           %d, of which %d never started; %d renditions\n", r.Players, r.NeverStarted, r.Renditions)
	fmt.Fprintf(&b, "requests          %d in %.1f s, %.1f MB\n", r.Requests, r.Seconds, float64(r.Bytes)/1e6)
	fmt.Fprintf(&b, "media             %d parts, %d segments\n", r.Parts, r.Segments)
	fmt.Fprintf(&b, "latency           %v\n", r.Latency)
	fmt.Fprintf(&b, "playlist reload   %v\n", r.Reload)
	fmt.Fprintf(&b, "stalls            %d, %.2f s\n", r.Stalls, r.StallSeconds)
	writeCounts(&b, "error", r.Errors)
	writeCounts(&b, "violation", r.Violations)
	for _, e := range r.Examples {
		fmt.Fprintf(&b, "                  %s\n", e)
	}
	return b.String()
}
