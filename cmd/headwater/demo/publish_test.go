package demo

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"headwater/ingest"
	"headwater/ingest/rtmp"
	"headwater/segmenter/media"
)

// A recorder is a Publisher and its Writer: it notes what arrives.
type recorder struct {
	refuse error

	mu     sync.Mutex // protects what follows
	req    ingest.Request
	tracks []media.Track
	dts    [][]int64 // by track
	at     []time.Time
	closed []error
}

func (r *recorder) Publish(_ context.Context, req ingest.Request) (ingest.Writer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.req = req
	if r.refuse != nil {
		return nil, r.refuse
	}
	return r, nil
}

func (r *recorder) SetTracks(tracks []media.Track) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tracks = append(r.tracks[:0], tracks...)
	for len(r.dts) < len(tracks) {
		r.dts = append(r.dts, nil)
	}
	return nil
}

func (r *recorder) WriteSample(track int, s *media.Sample) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dts[track] = append(r.dts[track], s.DTS)
	r.at = append(r.at, time.Now())
	return nil
}

func (r *recorder) Close(reason error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = append(r.closed, reason)
	return nil
}

// A pipeListener accepts the other ends of pipes, which synctest can follow where it cannot follow sockets.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }
func (l *pipeListener) dial() net.Conn {
	a, b := net.Pipe()
	l.conns <- b
	return a
}

// publish publishes clip to a server of ours for as long as d and returns what arrived there.
func publish(t *testing.T, clip *Clip, name string, r *recorder, idle, d time.Duration) error {
	t.Helper()
	ln := newPipeListener()
	srv := &rtmp.Server{Publisher: r, IdleTimeout: idle}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln) }()

	push, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	err := Publish(push, ln.dial(), "live", name, clip, nil)
	synctest.Wait()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	return err
}

func TestPublishInRealTime(t *testing.T) {
	clip, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		start := time.Now()
		if err := publish(t, clip, "demo?key=a%20b", r, 0, 40*time.Second); err != nil {
			t.Fatal(err)
		}
		if r.req.Name != "live/demo" || r.req.Key != "a b" {
			t.Errorf("published %q with key %q", r.req.Name, r.req.Key)
		}
		if len(r.tracks) != 2 || !r.tracks[0].Ready() || !r.tracks[1].Ready() {
			t.Fatalf("tracks: %+v", r.tracks)
		}
		for i, tr := range r.tracks {
			want := 40 * 30
			if tr.Kind == media.Audio {
				want = 40 * 48000 / 1024
			}
			if n := len(r.dts[i]); n < want-5 || n > want+5 {
				t.Errorf("%v: %d samples in 40 s, want about %d", tr.Kind, n, want)
			}
		}
		if took := r.at[len(r.at)-1].Sub(start); took < 39*time.Second {
			t.Errorf("the last sample came after %v", took)
		}
		if len(r.closed) != 1 || r.closed[0] != nil {
			t.Errorf("closed with %v, want a goodbye", r.closed)
		}
	})
}

// After 4.66 hours RTMP's times need the extended field, after 49.7 days they wrap (RTMP 1.0, 5.3.1.3 and 4).
func TestPublishForMonths(t *testing.T) {
	clip, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	v := clip.Tracks[0]
	// One key frame an hour, with a filler NAL unit (ISO/IEC 14496-10, 7.4.2.7) that makes it take several chunks.
	filler := make([]byte, 3*chunkSize)
	filler[0] = 12
	v.Tags = []Tag{{Time: v.Tags[0].Time, Body: append(binary.BigEndian.AppendUint32(slices.Clone(v.Tags[0].Body), uint32(len(filler))), filler...)}}
	slow := &Clip{Tracks: []Track{v}, Length: uint64(time.Hour / time.Millisecond)}
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		if err := publish(t, slow, "demo", r, 24*time.Hour, 60*24*time.Hour); err != nil {
			t.Fatal(err)
		}
		dts := r.dts[0]
		if len(dts) < 59*24 {
			t.Fatalf("%d samples in 60 days of one an hour", len(dts))
		}
		step := int64(r.tracks[0].Timescale) * 3600
		for i := 1; i < len(dts); i++ {
			if dts[i]-dts[i-1] != step {
				t.Fatalf("sample %d: %d ticks after the last, want %d", i, dts[i]-dts[i-1], step)
			}
		}
	})
}

func TestPublishRefused(t *testing.T) {
	clip, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, refuse := range []error{ingest.ErrDenied, ingest.ErrInUse, ingest.ErrBadName} {
		t.Run(refuse.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				err := publish(t, clip, "demo", &recorder{refuse: refuse}, 0, time.Minute)
				var refused *RefusedError
				if !errors.As(err, &refused) {
					t.Errorf("got error %v, want a RefusedError", err)
				}
			})
		})
	}
}

// A server that says nothing is given up.
func TestPublishToSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		start := time.Now()
		if err := Publish(t.Context(), a, "live", "demo", &Clip{}, nil); err == nil {
			t.Error("no error")
		}
		if d := time.Since(start); d != setupTimeout {
			t.Errorf("gave up after %v, want %v", d, setupTimeout)
		}
	})
}
