package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"headwater/ingest"
	"headwater/ingest/rtmp"
	"headwater/ingest/transcode"
	"headwater/segmenter"
	"headwater/web"
)

// serve runs the origin, and for the command demo its publisher too, until ctx ends or a listener fails.
func (m *Main) serve(ctx context.Context, l *Loaded, stdout, stderr io.Writer) error {
	demo := l.Command == "demo"
	s := &l.Settings
	log := s.log(stderr)
	for _, w := range l.Warnings {
		log.Warn(w)
	}
	if demo {
		keepLocal(l)
		if _, err := demoKey(s); err != nil {
			return err
		}
	}
	if err := s.checkLadders(log); err != nil {
		return err
	}
	https, err := newHTTPS(s, log)
	if err != nil {
		return err
	}
	dir, err := openDataDir(l, log)
	if err != nil {
		return err
	}
	if dir != nil {
		defer dir.Close() // when nothing writes any more
	} else if err := s.checkWithoutData(); err != nil {
		return err
	}
	ls, err := listen(s)
	if err != nil {
		return err
	}
	defer ls.close()
	o := newOrigin(s, log)
	defer o.origin.Close()
	lim := newLimits(s, log)
	lim.listen(ls, log)
	o.web.Counters = append(o.web.Counters, lim.counters()...)
	hosts := s.hosts()
	o.web.Page = web.PageHandler(ls.rtmp.Addr().(*net.TCPAddr).Port, func() []string { return append(o.web.CloneHosts(), hosts...) })
	if https != nil {
		https.init(o.web, ls, s, lim)
		defer https.stop()
		o.web.Counters = append(o.web.Counters, https.counters()...)
	}
	o.recover(dir)
	o.keep = s.OnStop == "keep"
	log.Info("listening", ls.attrs()...)
	s.warnOfShards(log)
	if len(s.PublishKeys)+len(s.PublishKeysByName) == 0 {
		log.Info("publishing needs no key: whoever reaches the RTMP address may publish (see publish_keys)")
	}

	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var tasks sync.WaitGroup
	defer tasks.Wait()
	defer cancel(nil)
	task := func(f func() error) {
		tasks.Go(func() {
			if err := f(); err != nil {
				cancel(err)
			}
		})
	}

	publishers := make(chan struct{}) // closed when all publications have been closed
	tasks.Go(func() {
		defer close(publishers)
		var both sync.WaitGroup
		defer both.Wait()
		serve := func(serve func(context.Context, net.Listener) error, ln net.Listener) {
			if ln == nil {
				return
			}
			both.Go(func() {
				if err := serve(run, ln); err != nil {
					cancel(fmt.Errorf("RTMP: %w", err))
				}
			})
		}
		serve(o.rtmp.Serve, ls.rtmp)
		serve(o.rtmp.ServeBackup, ls.rtmpBackup)
	})
	media := o.web.PlainServer(https.challenges(o.web.Handler()))
	lim.http.Limit.Watch(media.HTTP)
	task(func() error { return serveHTTP(media, ls.http, "HTTP") })
	servers := [][]server{{media}}
	if https != nil {
		task(https.serve)
		tasks.Go(func() { https.keep(run) })
		servers[0] = append(servers[0], https.server)
	}
	if ls.ops != nil {
		ops := o.web.HTTPServer(o.web.OpsHandler())
		lim.ops.Limit.Watch(ops)
		task(func() error { return serveHTTP(ops, ls.ops, "operations") })
		servers = append(servers, []server{ops})
	}
	tasks.Go(func() { o.tick(run) })
	ready := func() {
		if m.Ready != nil {
			m.Ready(ls.addrs)
		}
	}
	if demo {
		task(func() error {
			return publishDemo(run, o.origin, s, ls.addrs, log, func(text string) {
				io.WriteString(stdout, text)
				ready()
			})
		})
	} else {
		ready()
	}

	<-run.Done()
	if ctx.Err() != nil {
		log.Info("stopping; once more to stop at once")
	}
	<-publishers
	if !o.ladders.wait() {
		log.Warn("ffmpeg has not ended in time")
	}
	o.drain(servers)
	log.Info("stopped")
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(run)
}

func serveHTTP(srv interface{ Serve(net.Listener) error }, ln net.Listener, what string) error {
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// An origin is the parts of the program, connected.
type origin struct {
	origin  *segmenter.Origin
	gate    *ingest.Gate
	ladders ladders
	rtmp    *rtmp.Server
	web     *web.Server
	log     *slog.Logger
	target  time.Duration // the configured target duration
	keep    bool          // what is live when the program is stopped is left for the next start

	advised  map[string][]segmenter.Advice  // by stream: the advice that has been logged
	switched map[switchKey]segmenter.Switch // the latest ones that have been

	storeFailures int64 // of Keeping, when they were last looked at
	storeFailing  bool  // has been logged
	storeWell     int   // seconds for which none has been failing since
}

func newOrigin(s *Settings, log *slog.Logger) *origin {
	o := &origin{log: log, target: s.TargetDuration, advised: map[string][]segmenter.Advice{}}
	o.origin = &segmenter.Origin{
		Config:      s.segmenterConfig,
		MaxRecorded: int64(s.MaxRecorded) * 1e9,
		Mark:        strings.ToLower(rand.Text()[:6]),
	}
	o.gate = &ingest.Gate{
		Reserved:   []string{"api", "-"}, // web's own paths: data and the pages' assets
		Keys:       s.PublishKeys,
		KeyByName:  s.PublishKeysByName,
		Takeover:   s.Takeover == "takeover",
		Renditions: map[string]ingest.Rendition{},
		Target: func(_ context.Context, name string, req ingest.Request) (ingest.Writer, error) {
			backup := req.Role == ingest.Backup
			p, err := openInput(o.origin, name, req.Rendition, backup)
			if err != nil {
				return nil, err
			}
			if req.Track != "" {
				p.Share(req.Source())
			}
			log.Info("publication began", "stream", name, "rendition", req.Rendition, "role", req.Role, "protocol", req.Protocol, "remote", req.Remote)
			if l := o.ladders[ladderKey{s.stream(name), backup}]; l != nil && req.Rendition == "" {
				return l.Wrap(name, p), nil
			}
			return p, nil
		},
	}
	if s.RenditionSuffix != "" {
		o.gate.Suffix = regexp.MustCompile(s.RenditionSuffix) // has been checked
	}
	for published, as := range s.Renditions {
		stream, rung, _ := strings.Cut(as, ":")
		o.gate.Renditions[published] = ingest.Rendition{Stream: stream, Name: rung}
	}
	o.ladders = newLadders(s, o.gate, o.origin, log)
	o.rtmp = &rtmp.Server{
		Publisher:        o.gate,
		HandshakeTimeout: s.HandshakeTimeout,
		IdleTimeout:      s.IdleTimeout,
		WriteTimeout:     s.WriteTimeout,
		MaxConns:         s.MaxConnections,
		Log:              log,
	}
	o.web = &web.Server{
		Origin:            o.origin,
		Log:               log,
		AccessLog:         s.AccessLog,
		ServerTiming:      s.ServerTiming,
		MaxBlocked:        s.MaxBlocked,
		ReadHeaderTimeout: s.HTTPReadTimeout,
		IdleTimeout:       s.HTTPIdleTimeout,
		Counters:          o.counters(),
	}
	s.steer(o.web)
	o.origin.OnPart = o.web.Metrics().ObservePart
	o.rtmp.Awaited = o.web.Holds
	return o
}

// counters are what ingest counts, for /metrics.
func (o *origin) counters() []web.Counter {
	r := func(f func(rtmp.Stats) int64) func() float64 {
		return func() float64 { return float64(f(o.rtmp.Stats())) }
	}
	g := func(f func(ingest.GateStats) int64) func() float64 {
		return func() float64 { return float64(f(o.gate.Stats())) }
	}
	l := func(f func(transcode.Stats) float64) func() float64 {
		return func() float64 { return f(o.ladders.stats()) }
	}
	kind := func(k string) map[string]string { return map[string]string{"kind": k} }
	reason := func(k string) map[string]string { return map[string]string{"reason": k} }
	const ended = "RTMP connections that ended for an error, by its kind."
	const mended = "What publishers have sent that was passed over or mended, by kind: decode times that did not rise, frames before their configuration, empty messages, frames without a picture, times of day that cannot be read."
	const refused = "Publications refused, by reason."
	return []web.Counter{
		{Name: "headwater_rtmp_connections_total", Help: "RTMP connections accepted.",
			Value: r(func(s rtmp.Stats) int64 { return s.Connections })},
		{Name: "headwater_rtmp_connections", Help: "RTMP connections open now.", Gauge: true,
			Value: r(func(s rtmp.Stats) int64 { return s.Active })},
		{Name: "headwater_rtmp_refused_total", Help: "RTMP connections turned away.",
			Value: r(func(s rtmp.Stats) int64 { return s.Refused })},
		{Name: "headwater_rtmp_received_bytes_total", Help: "Bytes received over RTMP.",
			Value: r(func(s rtmp.Stats) int64 { return s.Bytes })},
		{Name: "headwater_rtmp_messages_total", Help: "RTMP messages received.",
			Value: r(func(s rtmp.Stats) int64 { return s.Messages })},
		{Name: "headwater_rtmp_tracks_left_out_total", Help: "Tracks beside a connection's first that were refused.",
			Value: r(func(s rtmp.Stats) int64 { return int64(s.Tags.LeftOut) })},
		{Name: "headwater_rtmp_errors_total", Help: ended, Labels: kind("format"),
			Value: r(func(s rtmp.Stats) int64 { return s.FormatErrors })},
		{Name: "headwater_rtmp_errors_total", Help: ended, Labels: kind("unsupported"),
			Value: r(func(s rtmp.Stats) int64 { return s.UnsupportedErrors })},
		{Name: "headwater_rtmp_errors_total", Help: ended, Labels: kind("timeout"),
			Value: r(func(s rtmp.Stats) int64 { return s.Timeouts })},
		{Name: "headwater_rtmp_errors_total", Help: ended, Labels: kind("panic"),
			Value: r(func(s rtmp.Stats) int64 { return s.Recovered })},
		{Name: "headwater_rtmp_mended_total", Help: mended, Labels: kind("timestamp"),
			Value: r(func(s rtmp.Stats) int64 { return int64(s.Tags.Raised) })},
		{Name: "headwater_rtmp_mended_total", Help: mended, Labels: kind("before_configuration"),
			Value: r(func(s rtmp.Stats) int64 { return int64(s.Tags.BeforeConfig) })},
		{Name: "headwater_rtmp_mended_total", Help: mended, Labels: kind("empty"),
			Value: r(func(s rtmp.Stats) int64 { return int64(s.Tags.Empty) })},
		{Name: "headwater_rtmp_mended_total", Help: mended, Labels: kind("no_picture"),
			Value: r(func(s rtmp.Stats) int64 { return int64(s.Tags.NoPicture) })},
		{Name: "headwater_rtmp_mended_total", Help: mended, Labels: kind("time_of_day"),
			Value: r(func(s rtmp.Stats) int64 { return int64(s.Tags.BadTime) })},
		{Name: "headwater_publications", Help: "Publications now.", Gauge: true,
			Value: g(func(s ingest.GateStats) int64 { return int64(s.Live) })},
		{Name: "headwater_publications_total", Help: "Publications let through.",
			Value: g(func(s ingest.GateStats) int64 { return s.Admitted })},
		{Name: "headwater_takeovers_total", Help: "Publications that took over from another.",
			Value: g(func(s ingest.GateStats) int64 { return s.Takeovers })},
		{Name: "headwater_publications_refused_total", Help: refused, Labels: reason("name"),
			Value: g(func(s ingest.GateStats) int64 { return s.BadName })},
		{Name: "headwater_publications_refused_total", Help: refused, Labels: reason("key"),
			Value: g(func(s ingest.GateStats) int64 { return s.Denied })},
		{Name: "headwater_publications_refused_total", Help: refused, Labels: reason("in_use"),
			Value: g(func(s ingest.GateStats) int64 { return s.InUse })},
		{Name: "headwater_publications_refused_total", Help: refused, Labels: reason("failed"),
			Value: g(func(s ingest.GateStats) int64 { return s.Failed })},
		{Name: "headwater_ladder_children", Help: "ffmpeg processes that make ladders now.", Gauge: true,
			Value: l(func(s transcode.Stats) float64 { return float64(s.Running) })},
		{Name: "headwater_ladder_restarts_total", Help: "Starts of ffmpeg after a publication's first.",
			Value: l(func(s transcode.Stats) float64 { return float64(s.Restarts) })},
		{Name: "headwater_ladder_failures_total", Help: "ffmpeg processes that ended untold, or could not be started.",
			Value: l(func(s transcode.Stats) float64 { return float64(s.Failures) })},
		{Name: "headwater_ladder_cpu_seconds_total", Help: "User and system time of the ffmpeg processes.",
			Value: l(func(s transcode.Stats) float64 { return s.CPU.Seconds() })},
		{Name: "headwater_ladder_lag_seconds", Help: "By how much the slowest rung is behind its source.", Gauge: true,
			Value: l(func(s transcode.Stats) float64 { return s.Lag.Seconds() })},
		{Name: "headwater_ladder_dropped_frames_total", Help: "Frames that ffmpeg was too slow to be given.",
			Value: l(func(s transcode.Stats) float64 { return float64(s.DroppedFrames) })},
	}
}

// tick drives what needs time, once a second, until ctx ends.
func (o *origin) tick(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			o.origin.Tick(now)
			o.advise()
			o.tellSwitches()
			o.watchStore()
		}
	}
}

// advise logs what encoders' operators should change, when it is about something else than before.
func (o *origin) advise() {
	live := map[string][]segmenter.Advice{}
	for _, s := range o.origin.Streams() {
		advice := s.Status().Advice
		live[s.Name] = advice
		for _, a := range advice {
			if !slices.ContainsFunc(o.advised[s.Name], func(b segmenter.Advice) bool { return a.About == b.About }) {
				o.log.Warn("encoder settings", "stream", s.Name, "advice", a.Text)
			}
		}
	}
	o.advised = live
}

// A server of HTTP can be drained.
type server interface {
	Shutdown(context.Context) error
	Close() error
}

// drain ends what is still served, after the publishers have gone: whoever waits gets the playlist as it ends, or 503 if it is
// left for the next start, and bodies are finished, for three target durations at most. One group of servers ends after the other.
func (o *origin) drain(servers [][]server) {
	target := o.target
	for _, s := range o.origin.Streams() {
		if r := s.Run(); r != nil {
			target = max(target, time.Duration(r.TargetDuration())*time.Second)
		}
	}
	if !o.keep {
		o.origin.End()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*target)
	defer cancel()
	for _, group := range servers {
		var ends sync.WaitGroup
		for _, srv := range group {
			ends.Go(func() {
				if srv.Shutdown(ctx) != nil {
					o.log.Warn("connections cut off that had not finished in time")
					srv.Close()
				}
			})
		}
		ends.Wait()
	}
}

// listeners are the program's sockets.
type listeners struct {
	rtmp, rtmpBackup, http, https, ops net.Listener // rtmpBackup, https and ops may be nil
	http3                              *net.UDPConn // nil without HTTP/3
	addrs                              Addrs
}

func (l *listeners) close() {
	for _, ln := range []net.Listener{l.rtmp, l.rtmpBackup, l.http, l.https, l.ops} {
		if ln != nil {
			ln.Close()
		}
	}
	if l.http3 != nil {
		l.http3.Close()
	}
}

// attrs are the bound addresses for the log.
func (l *listeners) attrs() []any {
	as := []any{"rtmp", l.addrs.RTMP, "http", l.addrs.HTTP, "ops", l.addrs.Ops}
	if l.rtmpBackup != nil {
		as = append(as, "rtmp_backup", l.addrs.RTMPBackup)
	}
	if l.https != nil {
		as = append(as, "https", l.addrs.HTTPS)
	}
	if l.http3 != nil {
		as = append(as, "http3", l.addrs.HTTP3)
	}
	return as
}

func listen(s *Settings) (*listeners, error) {
	l := &listeners{}
	for _, a := range []struct {
		ln    *net.Listener
		bound *string
		addr  string
		flag  string
		what  string
	}{
		{&l.rtmp, &l.addrs.RTMP, s.RTMPAddr, "rtmp-addr", "publishers (RTMP)"},
		{&l.rtmpBackup, &l.addrs.RTMPBackup, s.RTMPBackupAddr, "rtmp-backup-addr", "backup publishers (RTMP)"},
		{&l.http, &l.addrs.HTTP, s.HTTPAddr, "http-addr", "players (HTTP)"},
		{&l.ops, &l.addrs.Ops, s.OpsAddr, "ops-addr", "operations (health, metrics)"},
	} {
		if a.addr == "" {
			continue
		}
		ln, err := net.Listen("tcp", a.addr)
		if err != nil {
			l.close()
			return nil, listenError(err, a.what, a.addr, a.flag)
		}
		*a.ln, *a.bound = ln, ln.Addr().String()
	}
	if s.tls() {
		if err := l.listenTLS(s); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

func listenError(err error, what, addr, flag string) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("the address for %s, %s, is in use by another program; choose another with --%s (port 0 picks a free one)", what, addr, flag)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("the address for %s, %s, needs a privilege that this user does not have; choose a port from 1024 on with --%s", what, addr, flag)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("the address for %s, %s, cannot be used: %w (--%s)", what, addr, err, flag)
}
