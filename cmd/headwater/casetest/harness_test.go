package casetest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"headwater/ingest"
	"headwater/ingest/rtmp"
	"headwater/segmenter"
	"headwater/segmenter/media"
	"headwater/web"
	"headwater/web/conns"
)

// A harness is an origin with real sockets and a simulated clock. What the origin is told of time comes from the stamps on the
// frames: when they arrive, and with them the ticks of the clock. So a case lasts as long as it takes to push it through, and gives
// the same every time.
type harness struct {
	t    testing.TB
	name string // of the stream, without its application
	rtmp string // address
	base string // URL of the media port
	ops  string // URL of the operations port

	origin *segmenter.Origin
	server *rtmp.Server
	check  *checker
	blind  bool // do not look at playlists at all

	ids  atomic.Uint64 // of the frames that have been sent
	live atomic.Int64  // publications, with those that wait for the place of another

	mu     sync.Mutex
	moved  sync.Cond // something below has changed
	clock  int64     // Unix ns
	ticked int64     // when the origin's clock ticked last
	came   uint64    // id of the last frame that has come from the listener
	done   uint64    // id of the last frame that has been taken
	closed int       // publications that have ended, of those that have been opened
	opened int
	reason error // with which the last one ended

	looking sync.Mutex
	runs    []*segmenter.Run
	seen    map[*segmenter.Rendition]*segmenter.Window
}

// start is when every case begins.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()

const patience = 20 * time.Second // of the test with the origin

// newHarness starts an origin, whose listener is changed as the last arguments say.
func newHarness(t testing.TB, cfg segmenter.Config, set ...func(*rtmp.Server)) *harness {
	t.Helper()
	h := &harness{t: t, name: "a", clock: start, ticked: start, seen: map[*segmenter.Rendition]*segmenter.Window{}}
	h.moved.L = &h.mu
	h.origin = &segmenter.Origin{Config: func(string) segmenter.Config { return cfg }}
	h.origin.OnPart = func(*segmenter.Rendition, *segmenter.Part) { h.look() }
	gate := &ingest.Gate{Takeover: true, Target: func(_ context.Context, name string, req ingest.Request) (ingest.Writer, error) {
		open := h.origin.Open
		if req.Role == ingest.Backup {
			open = h.origin.OpenBackup
		}
		p, err := open(name, req.Rendition, time.Unix(0, h.now()))
		if err != nil {
			return nil, err
		}
		h.mu.Lock()
		h.opened++
		h.mu.Unlock()
		return &writer{p, h}, nil
	}}
	h.server = &rtmp.Server{Publisher: &entrance{gate, h}}
	for _, f := range set {
		f(h.server)
	}
	ws := &web.Server{Origin: h.origin}

	listen := func() net.Listener {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	ctx, stop := context.WithCancel(context.Background())
	var ends sync.WaitGroup
	ln := listen()
	h.rtmp = ln.Addr().String()
	ends.Go(func() { h.server.Serve(ctx, ln) })
	port := &conns.Port{Limit: &conns.Limit{Max: 1000}}
	type server interface {
		Serve(net.Listener) error
		Close() error
	}
	media, ops := ws.PlainServer(ws.Handler()), ws.HTTPServer(ws.OpsHandler())
	for _, s := range []struct {
		url *string
		server
	}{{&h.base, media}, {&h.ops, ops}} {
		ln := listen()
		*s.url = "http://" + ln.Addr().String()
		ends.Go(func() { s.Serve(port.Listen(ln, true, nil)) })
	}
	h.check = newChecker(h.base, "live/"+h.name)
	h.check.sparse = slow
	t.Cleanup(func() {
		stop()
		media.Close()
		ops.Close()
		h.check.client.CloseIdleConnections()
		ends.Wait()
	})
	return h
}

func (h *harness) now() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.clock
}

// An entrance stands between the listener and the gate, and counts what publishes.
type entrance struct {
	gate *ingest.Gate
	h    *harness
}

func (e *entrance) Publish(ctx context.Context, req ingest.Request) (ingest.Writer, error) {
	w, err := e.gate.Publish(ctx, req)
	if err != nil {
		return nil, err
	}
	e.h.live.Add(1)
	return &entered{w, e.h}, nil
}

type entered struct {
	ingest.Writer
	h *harness
}

func (w *entered) WriteSample(track int, s *media.Sample) error {
	st, ok := readStamp(s.Data)
	if !ok {
		return fmt.Errorf("a sample of %d bytes without a stamp", len(s.Data))
	}
	err := w.Writer.WriteSample(track, s)
	w.h.mu.Lock()
	w.h.came = max(w.h.came, st.id)
	w.h.moved.Broadcast()
	w.h.mu.Unlock()
	return err
}

func (w *entered) Close(reason error) error {
	err := w.Writer.Close(reason)
	w.h.live.Add(-1)
	w.h.mu.Lock()
	w.h.moved.Broadcast()
	w.h.mu.Unlock()
	return err
}

// A writer stands between the gate and the segmenter, and tells the latter the simulated time.
type writer struct {
	ingest.Writer
	h *harness
}

func (w *writer) WriteSample(track int, s *media.Sample) error {
	st, _ := readStamp(s.Data)
	w.h.advance(st.arrived)
	s.Arrived = st.arrived
	err := w.Writer.WriteSample(track, s)
	w.h.look()
	w.h.mu.Lock()
	w.h.done = max(w.h.done, st.id)
	w.h.moved.Broadcast()
	w.h.mu.Unlock()
	return err
}

func (w *writer) Close(reason error) error {
	err := w.Writer.Close(reason)
	w.h.look()
	w.h.mu.Lock()
	w.h.closed++
	w.h.reason = reason
	w.h.moved.Broadcast()
	w.h.mu.Unlock()
	return err
}

// advance lets the clock go on to a time, Unix ns, and tick on the way.
func (h *harness) advance(to int64) {
	for {
		h.mu.Lock()
		if h.ticked+int64(time.Second) > to {
			h.clock = max(h.clock, to)
			h.mu.Unlock()
			return
		}
		h.ticked += int64(time.Second)
		h.clock = h.ticked
		now := h.ticked
		h.mu.Unlock()
		h.origin.Tick(time.Unix(0, now))
		h.look()
	}
}

// wait lets the clock go on to a time while nobody publishes.
func (h *harness) wait(to int64) { h.advance(to) }

// until waits for the origin, with a deadline.
func (h *harness) until(what string, ok func() bool) {
	h.t.Helper()
	late := time.AfterFunc(patience, func() {
		h.mu.Lock()
		h.moved.Broadcast()
		h.mu.Unlock()
	})
	defer late.Stop()
	deadline := time.Now().Add(patience)
	h.mu.Lock()
	defer h.mu.Unlock()
	for !ok() {
		if time.Now().After(deadline) {
			h.t.Fatalf("%s: frame %d (%d came) of %d, %d of %d publications ended (%v)", what, h.done, h.came, h.ids.Load(), h.closed, h.opened, h.reason)
		}
		h.moved.Wait()
	}
}

// sync waits until everything that has been sent has been taken.
func (h *harness) sync() {
	h.t.Helper()
	h.until("not taken", func() bool { return h.done == h.ids.Load() || h.over() })
}

// arrive waits until everything that has been sent has come, taken or not.
func (h *harness) arrive() {
	h.t.Helper()
	h.until("not come", func() bool { return h.came == h.ids.Load() })
}

// ending does what ends a publication, and waits until one has ended, or none is left.
func (h *harness) ending(do func()) {
	h.t.Helper()
	h.mu.Lock()
	was := h.closed
	h.mu.Unlock()
	do()
	h.until("not ended", func() bool { return h.closed > was || h.over() })
}

// ended returns how many publications have, and why the last one has.
func (h *harness) ended() (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed, h.reason
}

// over says whether no publication is left.
func (h *harness) over() bool { return h.live.Load() == 0 }

// look has everything checked that is not as it was. It is called by whoever has changed something, while nothing changes.
func (h *harness) look() {
	s, ok := h.origin.Stream("live/" + h.name)
	if !ok || h.blind {
		return
	}
	h.looking.Lock()
	defer h.looking.Unlock()
	if r := s.Run(); r != nil && r.IsReady() && (len(h.runs) == 0 || h.runs[len(h.runs)-1] != r) {
		h.runs = append(h.runs, r)
	}
	for _, r := range h.runs {
		if _, served := s.RunByID(r.ID); !served {
			continue
		}
		more := false // a segment has been completed
		for _, x := range r.Renditions() {
			w := x.Window()
			old := h.seen[x]
			if w == old || len(w.Segments) == 0 || h.check.sparse && old != nil && old.LastMSN() == w.LastMSN() && old.Ended == w.Ended {
				continue
			}
			h.seen[x] = w
			whole := old == nil || old.LastMSN() != w.LastMSN()
			h.check.look(r.ID, x.ID, whole)
			more = more || whole
		}
		if more {
			h.check.lookTS(r.ID)
		}
	}
}

// A told is what /api/streams says of a stream's key frames.
type told struct {
	LongGOP string
	Advice  []string
}

// told asks it.
func (h *harness) told() (got told) {
	h.t.Helper()
	resp, err := http.Get(h.base + "/api/streams/live/" + h.name)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&got); err != nil || resp.StatusCode != http.StatusOK {
		h.t.Fatalf("%s: %v", resp.Status, err)
	}
	return got
}

// metric returns the sum of a metric over the stream's renditions, or what one has whose labels are given with its name.
func (h *harness) metric(name string) (sum float64) {
	h.t.Helper()
	resp, err := http.Get(h.ops + "/metrics")
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	for s := bufio.NewScanner(io.LimitReader(resp.Body, 1<<20)); s.Scan(); {
		if line := s.Text(); strings.HasPrefix(line, name) && len(line) > len(name) && strings.IndexByte(" {", line[len(name)]) >= 0 {
			v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			if err != nil {
				h.t.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}
