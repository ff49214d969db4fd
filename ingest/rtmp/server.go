// Package rtmp is the RTMP ingest server (Adobe's RTMP 1.0, with the sequences of commands that encoders really use). It
// takes publications and nothing else: play requests, RTMPE and RTMPT are refused with their reason. RTMPS is this server
// on a TLS listener.
//
// One function serves a connection, and calls the publication's Writer. While it publishes, package poll runs it beside the
// others', so a Writer must not block.
package rtmp

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"headwater/ingest"
	"headwater/ingest/flv"
	"headwater/ingest/poll"
	"headwater/segmenter/media"
)

// What a Server uses where its fields are zero.
const (
	DefaultAddr             = ":1935"
	DefaultHandshakeTimeout = 5 * time.Second
	DefaultIdleTimeout      = 10 * time.Second
	DefaultWriteTimeout     = 5 * time.Second
	DefaultMaxConns         = 1000
	// DefaultMaxRate is far more than an encoder sends, also when it catches up with what it has kept back.
	DefaultMaxRate = 64 << 20 // bytes a second
)

// ErrStopping is the reason with which publications end when the server stops.
var ErrStopping = errors.New("the server is stopping")

// A Demuxer takes the bodies of a publication's audio, video and data messages, which it may modify during the call. ts
// is the message's time in milliseconds, unwrapped; arrived is the wall clock of the read that brought its last byte, in
// Unix nanoseconds. An error ends the publication, except that the format of data (metadata) never does.
type Demuxer interface {
	Audio(ts, arrived int64, body []byte) error
	Video(ts, arrived int64, body []byte) error
	Data(ts int64, body []byte) error
	// Close ends the publication, and closes its Writer and all others with that reason. It is called once, and last.
	Close(reason error) error
}

// A Server accepts publications over RTMP. Its fields must not change while it serves.
type Server struct {
	Addr      string           // for ListenAndServe; "" is DefaultAddr
	Publisher ingest.Publisher // decides who may publish what; required

	// Demux makes the Demuxer of a publication that writes to w. nil is a flv.Demuxer, which asks Publisher for more publications
	// when the connection carries several tracks (Enhanced RTMP v2, multitrack; see ingest.Request.Track).
	Demux func(w ingest.Writer) Demuxer

	HandshakeTimeout time.Duration // from the connection to the end of the handshake
	// IdleTimeout is how long a connection may take from the handshake to publishing, and how long a publisher may take
	// for one message: a peer that keeps a message coming byte by byte is idle. It is observed to an eighth.
	IdleTimeout  time.Duration
	WriteTimeout time.Duration // for one reply
	// PollInterval is how often input is looked for when many publish (see package poll); 0 is its default, negative lets
	// each connection wait by itself.
	PollInterval time.Duration
	Awaited      func() bool // whether anybody waits for what comes in (see package poll); nil is that somebody may
	MaxConns     int         // at one time
	// MaxRate is how many bytes a second a connection may send on average over rateSpan: one that sends more is ended. Negative is
	// without limit.
	MaxRate int

	Log *slog.Logger // gets one record where a connection ends; nil discards

	tags  flv.Counters
	stats struct {
		connections, active, refused                   atomic.Int64
		bytes, messages                                atomic.Int64
		formatErrors, unsupported, timeouts, recovered atomic.Int64
	}
}

// Stats are counts since the server was made.
type Stats struct {
	Connections int64 // accepted from the listener
	Active      int64 // open now
	Refused     int64 // turned away: too many, not a publisher, or not allowed to publish
	Bytes       int64 // received
	Messages    int64 // received

	// Connections that ended because of:
	FormatErrors      int64 // a peer that sent garbage
	UnsupportedErrors int64 // something valid that is not handled here
	Timeouts          int64 // a peer that was too slow
	Recovered         int64 // a panic in serving it

	Tags flv.Stats // what was passed over or mended in what publications sent
}

// Stats returns the counts as they are now.
func (s *Server) Stats() Stats {
	return Stats{
		Connections:       s.stats.connections.Load(),
		Active:            s.stats.active.Load(),
		Refused:           s.stats.refused.Load(),
		Bytes:             s.stats.bytes.Load(),
		Messages:          s.stats.messages.Load(),
		FormatErrors:      s.stats.formatErrors.Load(),
		UnsupportedErrors: s.stats.unsupported.Load(),
		Timeouts:          s.stats.timeouts.Load(),
		Recovered:         s.stats.recovered.Load(),
		Tags:              s.tags.Stats(),
	}
}

// ListenAndServe is Serve on a TCP listener at Addr.
func (s *Server) ListenAndServe(ctx context.Context) error {
	addr := s.Addr
	if addr == "" {
		addr = DefaultAddr
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return s.Serve(ctx, ln)
}

// Serve accepts connections until ctx ends, then closes the listener and all connections, waits until their publications
// have been closed with ErrStopping and returns nil. If the listener fails first it does the same and returns that error.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, ingest.Primary)
}

// ServeBackup is Serve for a second address: what is published there is a backup unless it says that it is not.
func (s *Server) ServeBackup(ctx context.Context, ln net.Listener) error {
	return s.serve(ctx, ln, ingest.Backup)
}

func (s *Server) serve(ctx context.Context, ln net.Listener, role string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wrap := func(nc net.Conn) net.Conn { return nc }
	if s.PollInterval >= 0 {
		p := &poll.Pool{Interval: s.PollInterval, Awaited: s.Awaited}
		defer p.Close() // after the last connection
		wrap = p.Wrap
	}
	var conns sync.WaitGroup
	defer conns.Wait()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer func() {
		if stop() {
			ln.Close()
		}
		cancel()
	}()
	var delay time.Duration
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// Out of file descriptors, most likely, which passes: wait, as net/http does, instead of dying or spinning.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.log().Error("rtmp accept", "err", err, "retry", delay)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(delay):
			}
			continue
		}
		delay = 0
		conns.Go(func() { s.serveConn(ctx, wrap(nc), role) })
	}
}

// serveConn serves one connection to its end. What it publishes has that role unless it says otherwise.
func (s *Server) serveConn(ctx context.Context, nc net.Conn, role string) {
	s.stats.connections.Add(1)
	defer s.stats.active.Add(-1)
	if n := s.stats.active.Add(1); n > int64(cmp.Or(s.MaxConns, DefaultMaxConns)) {
		s.stats.refused.Add(1) // before anybody can see the end
		nc.Close()
		s.log().Warn("rtmp connection refused", "remote", remote(nc), "reason", "too many connections")
		return
	}
	c := newConn(s, nc)
	c.role = role
	// The connection's own context ends with a reason, so it is not derived from the one that tells to stop.
	c.ctx, c.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	defer c.cancel(nil)
	defer context.AfterFunc(ctx, func() { c.kick(ErrStopping) })()
	poll.Run(nc, c.serve)
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, nc: nc, start: time.Now(), window: ourWindow, outSize: defaultChunkSize}
	c.chunkReader = chunkReader{
		reader:     reader{src: c, buf: make([]byte, smallBuffer)},
		size:       defaultChunkSize,
		maxMessage: MaxCommand,
	}
	return c
}

func (s *Server) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.New(slog.DiscardHandler)
}

func (s *Server) handshakeTimeout() time.Duration {
	return cmp.Or(s.HandshakeTimeout, DefaultHandshakeTimeout)
}
func (s *Server) idleTimeout() time.Duration  { return cmp.Or(s.IdleTimeout, DefaultIdleTimeout) }
func (s *Server) writeTimeout() time.Duration { return cmp.Or(s.WriteTimeout, DefaultWriteTimeout) }

// rateSpan is for how long input is counted; see MaxRate.
const rateSpan = 5 * time.Second

// maxInSpan is how many bytes a connection may send in a rateSpan.
func (s *Server) maxInSpan() uint64 {
	if s.MaxRate < 0 {
		return math.MaxUint64
	}
	return uint64(cmp.Or(s.MaxRate, DefaultMaxRate)) * uint64(rateSpan/time.Second)
}

// random is where the handshake's padding comes from.
var random io.Reader = rand.Reader

// count files the error with which a connection ended.
func (s *Server) count(err error) {
	var format *media.FormatError
	var unsupported *media.UnsupportedError
	var panicked *panicError
	switch {
	case err == nil:
	case errors.As(err, &panicked):
		s.stats.recovered.Add(1)
	case errors.Is(err, errRefused):
		s.stats.refused.Add(1)
	case errors.As(err, &format):
		s.stats.formatErrors.Add(1)
	case errors.As(err, &unsupported):
		s.stats.unsupported.Add(1)
	case isTimeout(err):
		s.stats.timeouts.Add(1)
	}
}
