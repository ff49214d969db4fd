package main

import (
	"log/slog"

	"headwater/web"
	"headwater/web/conns"
)

// Who may have file descriptors besides the connections of players and edges.
const (
	// opsConnections is for monitoring and for who looks at it.
	opsConnections = 256
	// filesPerPublisher are its socket and the files in memory of its two tracks.
	filesPerPublisher = 3
	// filesElsewhere are listeners, certificates, ffmpeg's pipes, and the connections that are just being turned away.
	filesElsewhere = 512
)

// limits are how many connections there may be, by port. That of the operations port is its own, so that what happens on the
// others can be looked at.
type limits struct {
	http, https, http3, ops *conns.Port
}

// newLimits lowers what is set to what the process may open, and says so once. What publishers need is kept for them: a flood
// of requests must not stop a publisher.
func newLimits(s *Settings, log *slog.Logger) *limits {
	most := s.HTTPMaxConnections
	// The runtime has raised the soft limit to the hard one.
	if files, ok := openFiles(); ok {
		publishers := s.MaxConnections
		if s.DataDir != "" {
			publishers *= 2 // they have as many files again: of both tracks, and a log
		}
		if may := mayConnect(files, publishers); may < most {
			log.Warn("fewer HTTP connections than http_max_connections: the process may not open more files (ulimit -n, LimitNOFILE in systemd)",
				"http_max_connections", most, "connections", may, "files", files, "needed", files+uint64(most-may))
			most = may
		}
	}
	media := &conns.Limit{Max: most}
	port := func() *conns.Port { return &conns.Port{Limit: media} }
	return &limits{http: port(), https: port(), http3: port(), ops: &conns.Port{Limit: &conns.Limit{Max: opsConnections}}}
}

// mayConnect is how many of so many files HTTP may have: at least a quarter, where publishers would take all.
func mayConnect(files uint64, publishers int) int {
	rest := uint64(filesElsewhere+opsConnections) + filesPerPublisher*uint64(publishers)
	quarter := files / 4
	if files < rest+quarter {
		return int(max(quarter, 1))
	}
	return int(min(files-rest, 1<<31-1))
}

// listen puts the limits before the listeners.
func (l *limits) listen(ls *listeners, log *slog.Logger) {
	ls.http = l.http.Listen(ls.http, true, log)
	if ls.https != nil {
		ls.https = l.https.Listen(ls.https, false, log)
	}
	if ls.ops != nil {
		ls.ops = l.ops.Listen(ls.ops, true, log)
	}
}

func (l *limits) counters() []web.Counter {
	var all []web.Counter
	for _, x := range []struct {
		name string
		port *conns.Port
	}{{"http", l.http}, {"https", l.https}, {"http3", l.http3}, {"ops", l.ops}} {
		label := map[string]string{"listener": x.name}
		count := func(f func(conns.Stats) int64) func() float64 {
			return func() float64 { return float64(f(x.port.Stats())) }
		}
		all = append(all,
			web.Counter{Name: "headwater_http_connections", Help: "Connections open now.", Labels: label, Gauge: true,
				Value: count(func(s conns.Stats) int64 { return s.Open })},
			web.Counter{Name: "headwater_http_connections_limit", Help: "Connections that may be open; http, https and http3 share them.", Labels: label, Gauge: true,
				Value: func() float64 { return float64(x.port.Limit.Max) }},
			web.Counter{Name: "headwater_http_connections_refused_total", Help: "Connections turned away because there were too many.", Labels: label,
				Value: count(func(s conns.Stats) int64 { return s.Refused })},
			web.Counter{Name: "headwater_http_connections_idle_closed_total", Help: "Idle connections closed to make room.", Labels: label,
				Value: count(func(s conns.Stats) int64 { return s.IdleClosed })},
			web.Counter{Name: "headwater_http_accept_errors_total", Help: "Connections that could not be accepted: out of file descriptors, most likely.", Labels: label,
				Value: count(func(s conns.Stats) int64 { return s.AcceptErrors })},
		)
	}
	return all
}
