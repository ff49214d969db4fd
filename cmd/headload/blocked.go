package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A blockedReport is what many requests that wait for one part cost headwater and the bare handler.
type blockedReport struct {
	Requests    int                `json:"requests"` // at one time
	Rounds      int                `json:"rounds"`
	CPU         map[string]float64 `json:"cpu_us_per_answer"`      // by server
	Memory      map[string]float64 `json:"bytes_per_connection"`   // resident, while they wait
	Spread      map[string]float64 `json:"first_to_last_answer_s"` // the median of the rounds
	CPURatio    float64            `json:"cpu_headwater_to_bare"`
	MemoryRatio float64            `json:"memory_headwater_to_bare"`
}

func (b *blockedReport) String() string {
	return fmt.Sprintf("blocked    %d at one time: headwater %.1f us an answer, bare handler %.1f: %.2f x; %.1f KiB a connection, %.1f: %.2f x;\n"+
		"           first to last answer %.0f ms, %.0f\n", b.Requests, b.CPU[serverHeadwater], b.CPU[serverBare], b.CPURatio,
		b.Memory[serverHeadwater]/1024, b.Memory[serverBare]/1024, b.MemoryRatio, b.Spread[serverHeadwater]*1000, b.Spread[serverBare]*1000)
}

// blocked compares headwater and the bare handler, each with that many requests waiting, for several rounds.
func (c *deliveryCmd) blocked(ctx context.Context, con *console, o *origin, www string, r *deliveryReport) error {
	playlist, _, err := o.get(o.path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(www, "index.m3u8"), playlist, 0o644); err != nil {
		return err
	}
	for _, n := range c.Blocked {
		b := &blockedReport{Requests: n, CPU: map[string]float64{}, Memory: map[string]float64{}, Spread: map[string]float64{}}
		cpu, memory, spread := map[string][]float64{}, map[string][]float64{}, map[string][]float64{}
		for range c.Runs {
			bare, addr, err := startBare(ctx, con, www)
			if err != nil {
				return err
			}
			idle, err := usageOf(bare.pid())
			if err != nil {
				bare.stop()
				return err
			}
			for _, w := range []*waiters{
				{name: serverBare, pid: bare.pid(), addr: addr, idle: idle.own, next: func([]byte) (string, error) { return "/index.m3u8?wait", nil }},
				{name: serverHeadwater, pid: o.srv.pid(), addr: o.addr, idle: o.idle, next: func(last []byte) (string, error) { return o.nextPart(last) }},
			} {
				if err = w.measure(ctx, n, c.Duration); err != nil {
					err = fmt.Errorf("%d blocked requests, %s: %w", n, w.name, err)
					break
				}
				b.Rounds += w.rounds
				cpu[w.name] = append(cpu[w.name], w.cpu)
				memory[w.name] = append(memory[w.name], w.memory)
				spread[w.name] = append(spread[w.name], w.spread)
				fmt.Fprintf(con.log, "%-10s %-10s %8.2f us an answer, %.1f KiB a connection, first to last %.0f ms, %d rounds\n",
					fmt.Sprint(n), w.name, w.cpu, w.memory/1024, w.spread*1000, w.rounds)
			}
			bare.stop()
			if err != nil {
				return err
			}
		}
		for k := range cpu {
			b.CPU[k], b.Memory[k], b.Spread[k] = median(cpu[k]), median(memory[k]), median(spread[k])
		}
		b.CPURatio, b.MemoryRatio = b.CPU[serverHeadwater]/b.CPU[serverBare], b.Memory[serverHeadwater]/b.Memory[serverBare]
		r.Blocked = append(r.Blocked, b)
	}
	return nil
}

// nextPart is the request for the playlist that has the part after those in the last playlist.
func (o *origin) nextPart(last []byte) (string, error) {
	if last == nil {
		var err error
		if last, _, err = o.get(o.path); err != nil {
			return "", err
		}
	}
	pl, err := parseMedia(last)
	if err != nil {
		return "", err
	}
	msn, n := pl.next()
	return fmt.Sprintf("%s?_HLS_msn=%d&_HLS_part=%d", o.path, msn, n), nil
}

// waiters are connections that each wait for the same thing, round after round.
type waiters struct {
	name string
	pid  int
	addr string
	idle int64                             // what the process had of its own before anybody waited, bytes
	next func(last []byte) (string, error) // what to ask for, after that answer

	rounds              int
	cpu, memory, spread float64 // us, bytes, s
}

const minRounds = 3

// blockedTick is how often there is an answer: the part target.
const blockedTick = time.Second

// sampleEvery is how often a server's memory is looked at while requests wait for it.
const sampleEvery = 50 * time.Millisecond

// sample keeps the most memory that the server has had, until ctx ends.
func (w *waiters) sample(ctx context.Context, n int) {
	for ; ctx.Err() == nil; sleep(ctx, sampleEvery) {
		if u, err := usageOf(w.pid); err == nil {
			w.memory = max(w.memory, float64(u.own-w.idle)/float64(n))
		}
	}
}

// measure has n connections wait for at least as long as that.
func (w *waiters) measure(ctx context.Context, n int, duration time.Duration) error {
	var sampling sync.WaitGroup
	sampled, stop := context.WithCancel(ctx)
	sampling.Go(func() { w.sample(sampled, n) })
	defer sampling.Wait()
	defer stop()
	conns := make([]*keepAlive, n)
	defer func() {
		for _, k := range conns {
			if k != nil {
				k.conn.Close()
			}
		}
	}()
	d := guard{}.dialer()
	for i := range conns {
		var err error
		if conns[i], err = dialKeepAlive(ctx, d, w.addr); err != nil {
			return err
		}
	}
	var last []byte
	var before usage
	var spreads []float64
	began := time.Now()
	for round := 0; round <= minRounds || time.Since(began) < duration; round++ {
		path, err := w.next(last)
		if err != nil {
			return err
		}
		req := request(w.addr, path)
		var (
			wg         sync.WaitGroup
			body       bytes.Buffer
			first, end time.Time
			failed     error
			mu         sync.Mutex // protects the above
		)
		for i, k := range conns {
			wg.Go(func() {
				var err error
				var a answer
				if i == 0 {
					a, err = k.ask(req, &body)
				} else {
					a, err = k.ask(req, nil)
				}
				now := time.Now()
				if err == nil && a.status != 200 {
					err = statusError{a.status}
				}
				mu.Lock()
				defer mu.Unlock()
				if first.IsZero() {
					first = now
				}
				end = now
				if failed == nil {
					failed = err
				}
			})
		}
		wg.Wait()
		if failed != nil {
			return failed
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		last = body.Bytes()
		if round == 0 { // the connections were new
			if before, err = usageOf(w.pid); err != nil {
				return err
			}
			began = time.Now()
			continue
		}
		w.rounds++
		spreads = append(spreads, end.Sub(first).Seconds())
	}
	after, err := usageOf(w.pid)
	if err != nil {
		return err
	}
	w.cpu = (after.cpu - before.cpu).Seconds() * 1e6 / float64(n*w.rounds)
	w.spread = median(spreads)
	return nil
}
