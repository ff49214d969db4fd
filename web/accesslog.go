package web

import (
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxLogged bounds what a client can put into a log line, in each of its fields.
const maxLogged = 512

// maxDirective bounds a directive's value in the log: a 64-bit number has 20 digits, and an escape takes three letters.
const maxDirective = 60

func clip(s string) string { return clipTo(s, maxLogged) }

func clipTo(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// milliseconds is d for a log: a Duration's form depends on the handler, and in JSON it is a number without a unit.
func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// timed notes that the header is about to be written, and tells the client how long that took if it should
// (W3C Server Timing): what it was held for something that was not there yet, and everything else.
func (w *response) timed() {
	s := w.server
	if !s.AccessLog && !s.ServerTiming {
		return
	}
	w.first = time.Now()
	if !s.ServerTiming {
		return
	}
	var buf [64]byte
	b := append(buf[:0], "hold;dur="...)
	b = strconv.AppendFloat(b, milliseconds(w.held), 'f', -1, 64)
	b = append(b, ", render;dur="...)
	b = strconv.AppendFloat(b, milliseconds(max(w.first.Sub(w.began)-w.held, 0)), 'f', -1, 64)
	w.Header()["Server-Timing"] = []string{string(b)}
}

// loggedHeaders are request headers that go into the log as they are, and under which names.
var loggedHeaders = [...]struct{ header, as string }{
	{"Range", "range"},
	{"User-Agent", "user_agent"},
	{"X-Forwarded-For", "forwarded_for"}, // what the edge says, for people: nothing is decided by it
	{"Via", "via"},
}

// requestIDs are the headers by which edges and players name a request, the first that is there is logged.
var requestIDs = [...]string{"X-Request-Id", "X-Amz-Cf-Id", "Cf-Ray", "Traceparent"}

// logAccess writes one line. Of the query only the delivery directives and CMCD are in it, of the referrer only the site, and of
// the headers neither Authorization nor cookies: the rest may hold a viewer's token.
func (s *Server) logAccess(w *response, r *http.Request) {
	now, h := time.Now(), w.Header()
	attrs := make([]slog.Attr, 0, 28)
	text := func(name, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(name, clip(value)))
		}
	}
	attrs = append(attrs,
		slog.String("method", clip(r.Method)),
		slog.String("path", clip(r.URL.Path)),
		slog.Int("status", w.status),
		slog.Int64("bytes", w.sent),
		slog.Float64("duration_ms", milliseconds(now.Sub(w.began))),
		slog.Float64("held_ms", milliseconds(w.held)),
		slog.String("remote", r.RemoteAddr),
		slog.String("protocol", r.Proto),
		slog.String("class", w.class.String()),
		slog.String("cache", first(h["Cache-Control"])),
	)
	if !w.first.IsZero() {
		attrs = append(attrs, slog.Float64("first_byte_ms", milliseconds(w.first.Sub(w.began))))
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	text("scheme", scheme)
	text("host", r.Host)
	text("directives", loggedDirectives(r.URL.RawQuery))
	text("etag", first(h["Etag"]))
	text("encoding", first(h["Content-Encoding"]))
	for _, l := range loggedHeaders {
		text(l.as, strings.Join(r.Header[l.header], ", "))
	}
	for _, name := range requestIDs {
		if id := first(r.Header[name]); id != "" {
			text("request_id", id)
			break
		}
	}
	text("referer", site(first(r.Header["Referer"])))
	text("cmcd", cmcd(r))
	if w.failed != nil {
		text("error", w.failed.Error())
	}
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "request", attrs...)
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// loggedDirectives are the delivery directives of a raw query, as they were written and in their order.
func loggedDirectives(query string) string {
	var b strings.Builder
	for query != "" && b.Len() < maxLogged {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		for _, d := range [...]string{"_HLS_msn", "_HLS_part", "_HLS_skip"} {
			if !sameUnescaped(name, d) {
				continue
			}
			if b.Len() > 0 {
				b.WriteByte('&')
			}
			b.WriteString(d + "=" + clipTo(value, maxDirective))
		}
	}
	return b.String()
}

// site is the scheme and host of a URL, "" if it has none.
func site(referrer string) string {
	u, err := url.Parse(clip(referrer))
	if err != nil || u.Host == "" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
