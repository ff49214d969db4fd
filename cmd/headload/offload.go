package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

type offloadCmd struct {
	URL         string        `name:"url" default:"http://127.0.0.1:8000/live/load0/index.m3u8" help:"What to play, at the edge."`
	Metrics     string        `default:"http://127.0.0.1:8081/metrics" placeholder:"URL" help:"The origin's metrics."`
	Players     []int         `default:"100,1000" help:"Players of each kind: one run for each of these numbers."`
	Kinds       []string      `default:"both" enum:"low-latency,ordinary,both" help:"What they play: parts with blocking reloads (low-latency), whole segments (ordinary), or as many of each at the same time (both)."`
	Duration    time.Duration `default:"60s" help:"Of one run."`
	Ramp        time.Duration `default:"4s" help:"Spread the starts of a run over this time. One target duration, after which ordinary players reload, has them ask at all times."`
	Timeout     time.Duration `default:"20s" help:"Of one request."`
	Label       string        `default:"edge" help:"What the table calls the edge."`
	Within      float64       `default:"0.05" help:"By how much a run's origin requests may differ from those of the first run of its kind."`
	AllowRemote bool          `help:"Allow targets off this machine."`
	JSON        bool          `name:"json" help:"Report as JSON."`
}

// Help is what headload offload --help says beyond its flags.
func (*offloadCmd) Help() string {
	return `Players play one stream through an edge, first few and then many, and the origin's own count says how many requests each run
cost it. An edge that does its work makes that a property of the stream: the same for any number of players.

  headwater edge-config nginx --origin 127.0.0.1:8080 --listen 127.0.0.1:8000 > nginx.conf
  headload publish --count 1 --duration 5m &
  headload offload --label nginx --players 100,1000

Two players play for a moment before, so that all runs find the edge alike. Nobody else may use the origin meanwhile. Stalls,
errors, violations and a difference larger than --within make the exit status 1.`
}

const (
	warmUp = 3 * time.Second
	// atEnds is by how many requests two runs may differ whatever their length: when they begin and end within a part, and within
	// the time for which a playlist is kept, is chance.
	atEnds = 4
)

// An offloadRow is one run.
type offloadRow struct {
	Edge    string         `json:"edge"`
	Kind    string         `json:"kind"`
	Players int            `json:"players"` // of each kind, when both play
	Seconds float64        `json:"seconds"`
	AtEdge  int64          `json:"edge_requests"`
	Origin  float64        `json:"origin_requests"`
	Stalls  int            `json:"stalls"`
	Reports []*playReport  `json:"reports"`
	Faults  map[string]int `json:"faults,omitempty"` // errors and violations, and what is wrong with the origin's count
}

type offloadReport struct {
	Rows []offloadRow `json:"rows"`
}

// Run plays and prints the table.
func (c *offloadCmd) Run(ctx context.Context, con *console) error {
	if c.Duration <= c.Ramp || len(c.Players) == 0 {
		return errors.New("the duration must be longer than the ramp, and players be given")
	}
	for _, u := range []string{c.URL, c.Metrics} {
		if err := (guard{c.AllowRemote}).check(ctx, u); err != nil {
			return err
		}
	}
	r := &offloadReport{}
	failed := false
	if _, err := c.run(ctx, "both", 1, warmUp); err != nil {
		return err
	}
	for _, kind := range c.Kinds {
		var first offloadRow
		for i, n := range c.Players {
			row, err := c.run(ctx, kind, n, c.Duration)
			if err != nil {
				return err
			}
			if i == 0 {
				first = *row
			}
			if !alike(&first, row, c.Within) {
				row.Faults[fmt.Sprintf("%.0f origin requests, and %.0f for %d players", row.Origin, first.Origin, first.Players)]++
			}
			failed = failed || row.Stalls > 0 || len(row.Faults) > 0
			r.Rows = append(r.Rows, *row)
		}
	}
	if err := con.report(r, c.JSON); err != nil {
		return err
	}
	if failed {
		return errFailed
	}
	return nil
}

// alike says whether two runs have cost the origin the same.
func alike(a, b *offloadRow, within float64) bool {
	want := a.Origin * b.Seconds / a.Seconds
	return math.Abs(b.Origin-want) <= max(within*want, atEnds)
}

// run is one run.
func (c *offloadCmd) run(ctx context.Context, kind string, players int, d time.Duration) (*offloadRow, error) {
	lowLatency := []bool{kind != "ordinary"}
	if kind == "both" {
		lowLatency = []bool{true, false}
	}
	row := &offloadRow{Edge: c.Label, Kind: kind, Players: players, Faults: map[string]int{}, Reports: make([]*playReport, len(lowLatency))}
	before, err := c.count(ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	errs := make([]error, len(lowLatency))
	var wg sync.WaitGroup
	for i, ll := range lowLatency {
		p := &playCmd{URL: c.URL, Players: players, Streams: 1, Duration: d, Ramp: min(c.Ramp, d/2), LowLatency: ll, Timeout: c.Timeout, AllowRemote: c.AllowRemote}
		wg.Go(func() { row.Reports[i], errs[i] = p.play(ctx) })
	}
	wg.Wait()
	row.Seconds = time.Since(began).Seconds()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	after, err := c.count(ctx)
	if err != nil {
		return nil, err
	}
	row.Origin = after - before
	for _, r := range row.Reports {
		row.AtEdge += r.Requests
		row.Stalls += r.Stalls
		for _, m := range []map[string]int{r.Errors, r.Violations} {
			for k, n := range m {
				row.Faults[k] += n
			}
		}
		if r.NeverStarted > 0 {
			row.Faults["never started"] += r.NeverStarted
		}
	}
	return row, nil
}

// maxMetrics bounds what is read of the origin's metrics, in bytes.
const maxMetrics = 8 << 20

// count is how many requests the origin has answered.
func (c *offloadCmd) count(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Metrics, nil)
	if err != nil {
		return 0, err
	}
	client := newClient(guard{c.AllowRemote}, 1)
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("the origin's metrics: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("the origin's metrics: %w", statusError{resp.StatusCode})
	}
	return sumRequests(io.LimitReader(resp.Body, maxMetrics))
}

// sumRequests adds up the origin's counters of requests, which have one line for each class and status.
func sumRequests(r io.Reader) (sum float64, err error) {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		if !strings.HasPrefix(sc.Text(), "headwater_http_requests_total{") {
			continue
		}
		_, value, ok := strings.Cut(sc.Text(), "} ")
		if !ok {
			return 0, fmt.Errorf("the origin's metrics: %q has no value", sc.Text())
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("the origin's metrics: %w", err)
		}
		sum += n
	}
	return sum, sc.Err()
}

// String is the offload table, in the form that README has it.
func (r *offloadReport) String() string {
	var b strings.Builder
	b.WriteString("| edge | players | time | edge requests | origin requests | ratio | stalls |\n|---|---|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		players := fmt.Sprintf("%d %s", row.Players, row.Kind)
		if row.Kind == "both" {
			players = fmt.Sprintf("%d low-latency + %[1]d ordinary", row.Players)
		}
		ratio := "-"
		if row.Origin > 0 {
			ratio = fmt.Sprintf("%.0f : 1", float64(row.AtEdge)/row.Origin)
		}
		fmt.Fprintf(&b, "| %s | %s | %.0f s | %d | %.0f | %s | %d |\n", row.Edge, players, row.Seconds, row.AtEdge, row.Origin, ratio, row.Stalls)
	}
	for _, row := range r.Rows {
		if len(row.Faults) > 0 {
			fmt.Fprintf(&b, "\n%s, %d %s:\n", row.Edge, row.Players, row.Kind)
			writeCounts(&b, "fault", row.Faults)
		}
		for _, rep := range row.Reports {
			for _, e := range rep.Examples {
				fmt.Fprintf(&b, "                  %s\n", e)
			}
		}
	}
	return b.String()
}
