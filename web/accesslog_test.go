package web

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A line of the access log has what an edge's operator compares with his own log, and nothing that opens a door.
func TestAccessLogLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines bytes.Buffer
		s, e := newLive(t)
		s.Log, s.AccessLog = slog.New(slog.NewJSONHandler(&lines, nil)), true
		h := s.Handler()
		read := func() map[string]any {
			t.Helper()
			m := map[string]any{}
			if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
				t.Fatalf("%v: %q", err, lines.String())
			}
			for _, secret := range []string{"secret", "Basic", "cookie"} {
				if strings.Contains(lines.String(), secret) {
					t.Errorf("%s is in %s", secret, lines.String())
				}
			}
			lines.Reset()
			return m
		}
		w := e.video().Window()
		index := e.dir("video") + "index.m3u8"
		query := edgeQuery(w, 1) + "&token=secret&_HLS_skip=YES&key=secret&_HLS_else=secret"
		p := begin(h, index+query, "Host: live.example", "Accept-Encoding: br", "User-Agent: edge/1.0", "Via: 1.1 edge-7", "X-Forwarded-For: 192.0.2.7, 192.0.2.8",
			"X-Request-Id: 4711", "Referer: https://user:secret@player.example/secret?token=secret#secret", "Authorization: Basic secret", "Cookie: cookie=secret")
		if !p.held() {
			t.Fatal("not held")
		}
		time.Sleep(250 * time.Millisecond) // the bubble's
		e.part()
		r := p.answer(t, 200, "public, max-age=12")
		if v := r.header("Server-Timing"); v != "" {
			t.Errorf("Server-Timing: %q", v)
		}
		m := read()
		delete(m, "time")
		want := map[string]any{
			"level": "INFO", "msg": "request", "method": "GET", "path": index, "status": 200.0, "bytes": float64(len(r.body)),
			"duration_ms": 250.0, "held_ms": 250.0, "first_byte_ms": 250.0, "remote": "192.0.2.1:1234", "protocol": "HTTP/1.1", "scheme": "http",
			"host": "example.com", "class": "playlist", "cache": "public, max-age=12", "etag": r.header("Etag"), "encoding": "br",
			"directives": strings.TrimPrefix(edgeQuery(w, 1), "?") + "&_HLS_skip=YES", "user_agent": "edge/1.0", "via": "1.1 edge-7",
			"forwarded_for": "192.0.2.7, 192.0.2.8", "request_id": "4711", "referer": "https://player.example",
		}
		if !maps.Equal(m, want) {
			for _, k := range slices.Sorted(maps.Keys(want)) {
				if m[k] != want[k] {
					t.Errorf("%s: %v, want %v", k, m[k], want[k])
				}
				delete(m, k)
			}
			t.Errorf("and also %v", m)
		}

		// Edges have names for a request of their own.
		for header, id := range map[string]string{"X-Amz-Cf-Id": "a==", "Cf-Ray": "b-FRA", "Traceparent": "00-c-d-01"} {
			call(t.Context(), h, "GET", "/live/demo/index.m3u8", header+": "+id)
			if m := read(); m["request_id"] != id {
				t.Errorf("%s: %v", header, m["request_id"])
			}
		}
		// What a player asks for next is logged, its query is not, whether that came escaped or not (CTA-5004, nor).
		for cmcd, want := range map[string]string{
			`nor="p1.m4s%3Ftoken%3Dsecret",bl=1`:                `nor="p1.m4s",bl=1`,
			`bl=1, nor="..%2Fp1.m4s?token=secret"`:              `bl=1,nor="..%2Fp1.m4s"`,
			`nor=("a.m4s?secret" "b.m4s%253fsecret";r="0-9")`:   `nor=("a.m4s" "b.m4s";r="0-9")`,
			`url="https://a.example/b.m4s?token=secret",nor=""`: `url="https://a.example/b.m4s",nor=""`,
		} {
			call(t.Context(), h, "GET", "/live/demo/index.m3u8", "CMCD-Request: "+cmcd)
			if m := read(); m["cmcd"] != want {
				t.Errorf("%s is logged as %v", cmcd, m["cmcd"])
			}
			call(t.Context(), h, "GET", "/live/demo/index.m3u8?CMCD="+url.QueryEscape(cmcd))
			if m := read(); m["cmcd"] != want {
				t.Errorf("%s in the query is logged as %v", cmcd, m["cmcd"])
			}
		}
		// What was not changed, and what nobody waited for.
		call(t.Context(), h, "GET", index+"?_HLS_msn=1", "If-None-Match: *")
		if m := read(); m["status"] != 304.0 || m["bytes"] != 0.0 || m["etag"] == nil || m["directives"] != "_HLS_msn=1" {
			t.Errorf("%v", m)
		}
		p = begin(h, index+edgeQuery(e.video().Window(), 1))
		if !p.held() {
			t.Fatal("not held")
		}
		p.cancel()
		<-p.done
		if m := read(); m["status"] != 499.0 || m["first_byte_ms"] != nil {
			t.Errorf("%v", m)
		}

		// However much a client sends, a line stays a line: nothing in it is longer than it may be, or begins another.
		long := strings.Repeat("x\n\"", 5000)
		req, err := http.NewRequest("GET", "/live/demo/index.m3u8?_HLS_msn="+strings.Repeat("1", 9000)+strings.Repeat("&_HLS_part=22", 500), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = long
		for _, k := range []string{"Range", "User-Agent", "Via", "X-Forwarded-For", "X-Request-Id", "Cmcd-Session"} {
			req.Header[k] = []string{long, long}
		}
		req.Header["Referer"] = []string{"https://" + long}
		h.ServeHTTP(newSink(), req)
		if n := strings.Count(lines.String(), "\n"); n != 1 {
			t.Errorf("%d lines", n)
		}
		for k, v := range read() {
			if v, ok := v.(string); ok && len(v) > maxLogged+maxDirective+20 {
				t.Errorf("%s has %d bytes", k, len(v))
			}
		}
	})
}
