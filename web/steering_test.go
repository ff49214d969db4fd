package web

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"headwater/playlist"
)

// steer gives the streams of s two pathways, and live/other none.
func steer(s *Server) *Steering {
	x := NewSteering("live/*", 10*time.Second, []Pathway{{"cdn-a", "https://a.test", 100}, {"cdn-b", "https://b.test", 100}})
	y := NewSteering("event/*", 0, []Pathway{{"cdn-a", "https://a.test", 1}, {"cdn-c", "https://c.test", 0}})
	s.Steerings = []*Steering{x, y}
	s.Steering = func(stream string) *Steering {
		switch {
		case stream == "live/other":
			return nil
		case strings.HasPrefix(stream, "event/"):
			return y
		}
		return x
	}
	return x
}

// A manifest is as RFC 8216bis 7.2 has it.
type manifest struct {
	Version  int      `json:"VERSION"`
	TTL      int      `json:"TTL"`
	Reload   string   `json:"RELOAD-URI"`
	Priority []string `json:"PATHWAY-PRIORITY"`
	Clones   []struct {
		Base string `json:"BASE-ID"`
		ID   string `json:"ID"`
		URI  struct {
			Host   string            `json:"HOST"`
			Params map[string]string `json:"PARAMS"`
		} `json:"URI-REPLACEMENT"`
	} `json:"PATHWAY-CLONES"`
}

func (r *reply) manifest(t *testing.T) (m manifest) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil || r.StatusCode != 200 {
		t.Fatalf("status %d: %v in %q", r.StatusCode, err, r.body)
	}
	return m
}

// TestSteeringManifest over the wire: what it says, under which headers, and to whom not.
func TestSteeringManifest(t *testing.T) {
	s, _ := newLive(t)
	steer(s)
	publish(t, s.Origin, "live/other").run(testGOP)
	base, _ := listen(t, s)
	const path = "/live/demo/steering.json"

	r := ask(t, "GET", base+path+"?bucket=7&_HLS_pathway=cdn-b&_HLS_throughput=5140000")
	m := r.manifest(t)
	slices.Sort(m.Priority)
	if m.Version != 1 || m.TTL != 10 || m.Reload != "steering.json?bucket=7" || fmt.Sprint(m.Priority) != "[cdn-a cdn-b]" {
		t.Errorf("%+v", m)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/vnd.apple.steering-list", "Cache-Control": "private, max-age=5", "Access-Control-Allow-Origin": "*",
		"Content-Length": strconv.Itoa(len(r.body)), "Vary": "", "Set-Cookie": "",
	} {
		if got := r.header(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	// The URL alone decides, and of it only the bucket.
	for _, q := range []string{"bucket=7", "_HLS_throughput=x&bucket=7&CMCD=bl%3D1", "_HLS_pathway=%22cdn-a%22&bucket=7", "&&bucket=7&_HLS_pathway=../&_HLS_pathway=%zz"} {
		if o := ask(t, "GET", base+path+"?"+q); o.body != r.body || o.header("Etag") != r.header("Etag") || o.header("Cache-Control") != r.header("Cache-Control") {
			t.Errorf("%s: %v %s", q, o.Header, o.body)
		}
	}
	if o := ask(t, "GET", base+path+"?bucket=7", "If-None-Match: "+r.header("Etag")); o.StatusCode != 304 {
		t.Errorf("status %d", o.StatusCode)
	}
	if o := ask(t, "HEAD", base+path+"?bucket=7"); o.StatusCode != 200 || o.body != "" || o.header("Content-Length") != r.header("Content-Length") {
		t.Errorf("HEAD: %d %v", o.StatusCode, o.Header)
	}

	// Whoever has no bucket is given one, which nobody else may be given by a cache.
	for _, q := range []string{"", "?_HLS_pathway=cdn-a&_HLS_throughput=1", "?bucket=", "?bucket=-1", "?bucket=1000", "?bucket=07", "?bucket=1e2", "?bucket=+1",
		"?bucket=%31", "?bucket=1&bucket=2", "?bucket=1&bucket=x", "?bucket", "?Bucket=1", "?bucket=99999999999999999999"} {
		given := map[string]bool{}
		for range 20 {
			o := ask(t, "GET", base+path+q)
			m := o.manifest(t)
			if o.header("Cache-Control") != "private, no-store" {
				t.Errorf("%s: Cache-Control %q", q, o.header("Cache-Control"))
			}
			// It is already what the bucket's own manifest says.
			if again := ask(t, "GET", base+"/live/demo/"+m.Reload); again.body != o.body || again.header("Cache-Control") != "private, max-age=5" {
				t.Fatalf("%s: %s, then %s", q, o.body, again.body)
			}
			given[m.Reload] = true
		}
		if len(given) < 15 {
			t.Errorf("%s: only %d buckets in 20 answers", q, len(given))
		}
	}

	for _, c := range []struct {
		method, path string
		status       int
		cache        string
	}{
		{"GET", "/live/nobody/steering.json", 404, "public, max-age=1"},
		{"GET", "/live/nobody/steering.json?bucket=7", 404, "public, max-age=1"},
		{"GET", "/live/other/steering.json?bucket=7", 410, "private, no-store"}, // it has no pathways (any more): RFC 8216bis 7.3
		{"GET", "/live/other/steering.json", 410, "private, no-store"},
		{"GET", "/live/demo/x/steering.json", 404, ""},
		{"GET", "/live/steering.json", 404, ""},
		{"POST", path, 405, "private, no-store"},
		{"PUT", path, 405, "private, no-store"},
		{"OPTIONS", path, 204, "public, max-age=86400"},
	} {
		r := ask(t, c.method, base+c.path)
		if r.StatusCode != c.status || c.cache != "" && r.header("Cache-Control") != c.cache || r.header("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s %s: %d %v", c.method, c.path, r.StatusCode, r.Header)
		}
	}
}

// TestSteeringWeights: shares go by the weights, a weight that falls to nothing puts its pathway last for all, and moves nobody else.
func TestSteeringWeights(t *testing.T) {
	x := NewSteering("", 0, []Pathway{{"cdn-a", "", 60}, {"cdn-b", "", 30}, {"cdn-c", "", 10}})
	order := func(bucket int) []string {
		var m manifest
		if err := json.Unmarshal(x.appendManifest(nil, bucket), &m); err != nil || m.TTL != 300 {
			t.Fatal(err, m)
		}
		return m.Priority
	}
	for i, share := range shares(x.pathways()) {
		if want := []float64{0.6, 0.3, 0.1}[i]; math.Abs(share-want) > 0.04 {
			t.Errorf("%s: %.3f, want %.3f", x.pathways()[i].ID, share, want)
		}
	}
	var before [][]string
	for b := range SteeringBuckets {
		before = append(before, order(b))
	}
	setWeight := func(id string) {
		p, err := x.now.Load().weighed(id, 0)
		if err != nil {
			t.Fatal(err)
		}
		x.now.Store(&p)
	}
	setWeight("cdn-a")
	for b := range SteeringBuckets {
		got := order(b)
		want := append(slices.DeleteFunc(slices.Clone(before[b]), func(id string) bool { return id == "cdn-a" }), "cdn-a")
		if !slices.Equal(got, want) {
			t.Fatalf("bucket %d: %v, then %v", b, before[b], got)
		}
	}
	for _, id := range []string{"cdn-b", "cdn-c"} {
		setWeight(id)
	}
	if share := shares(x.pathways()); min(share[0], share[1], share[2]) < 0.29 {
		t.Errorf("without any weight: %v", share)
	}
}

func put(h http.Handler, target, body string) *reply {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("PUT", target, strings.NewReader(body)))
	return &reply{w.Result(), w.Body.String()}
}

// TestPathwaysAPI: on the operations port only, and seen in the next manifest and in the metrics.
func TestPathwaysAPI(t *testing.T) {
	s, _ := newLive(t)
	steer(s)
	h, ops := s.Handler(), s.OpsHandler()
	list := func(target string) (out []steeringInfo) {
		t.Helper()
		r := call(t.Context(), ops, "GET", target)
		if err := json.Unmarshal([]byte(r.body), &out); err != nil || r.StatusCode != 200 || r.header("Cache-Control") != "private, no-store" ||
			r.header("Content-Type") != "application/json" || r.header("Access-Control-Allow-Origin") != "" {
			t.Fatalf("%s: %v, %d %v %s", target, err, r.StatusCode, r.Header, r.body)
		}
		return out
	}
	all := list("/api/pathways")
	if len(all) != 2 || all[0].Streams != "live/*" || all[0].TTL != 10 || len(all[0].Pathways) != 2 || all[1].TTL != 300 ||
		all[0].Pathways[1].URL != "https://b.test" || math.Abs(all[0].Pathways[0].Share-0.5) > 0.05 || all[1].Pathways[0].Share != 1 {
		t.Errorf("%+v", all)
	}
	weights := func() string {
		var b strings.Builder
		for _, x := range list("/api/pathways") {
			for _, p := range x.Pathways {
				fmt.Fprint(&b, p.Weight, " ")
			}
		}
		return b.String()
	}
	for _, c := range []struct {
		target, body string
		status       int
		weights      string // afterwards
	}{
		{"/api/pathways/cdn-b", `{"weight": 0}`, 200, "100 0 1 0 "},
		{"/api/pathways/cdn-a", `{"weight": 7}`, 200, "7 0 7 0 "},
		{"/api/pathways/cdn-a", ` {"weight":5,"streams":"event/*"} `, 200, "7 0 5 0 "},
		{"/api/pathways/cdn-c", `{"weight": 1000000}`, 200, "7 0 5 1000000 "},
		{"/api/pathways/cdn-c", `{"weight":5,"streams":"live/*"}`, 404, ""},
		{"/api/pathways/cdn-a", `{"weight":5,"streams":"*"}`, 404, ""},
		{"/api/pathways/cdn-x", `{"weight": 1}`, 404, ""},
		{"/api/pathways/", `{"weight": 1}`, 404, ""},
		{"/api/pathways/cdn-a", `{"weight": -1}`, 400, ""},
		{"/api/pathways/cdn-a", `{"weight": 1000001}`, 400, ""},
		{"/api/pathways/cdn-a", `{"weight": 1.5}`, 400, ""},
		{"/api/pathways/cdn-a", `{"weight": "1"}`, 400, ""},
		{"/api/pathways/cdn-a", `{"weight": null}`, 400, ""},
		{"/api/pathways/cdn-a", `{"weight": 1e99}`, 400, ""},
		{"/api/pathways/cdn-a", `{"weight": 1, "wieght": 2}`, 400, ""},
		{"/api/pathways/cdn-a", `{"weight": 1}{}`, 400, ""},
		{"/api/pathways/cdn-a", `{"weight": 1, "params": {"a": "b"}}`, 400, ""}, // of what is in the playlists
		{"/api/pathways/cdn-a", `{}`, 400, ""},
		{"/api/pathways/cdn-a", ``, 400, ""},
		{"/api/pathways/cdn-a", `[1]`, 400, ""},
		{"/api/pathways/cdn-a", `{"weight": 1}` + strings.Repeat(" ", maxWeighing), 413, ""},
	} {
		before := weights()
		r := put(ops, c.target, c.body)
		if c.weights == "" {
			c.weights = before
		}
		if got := weights(); r.StatusCode != c.status || got != c.weights || r.header("Cache-Control") != "private, no-store" && c.status != 404 {
			t.Errorf("PUT %s %.40s: %d %v %s, weights %s, want %d and %s", c.target, c.body, r.StatusCode, r.Header, r.body, got, c.status, c.weights)
		}
	}
	// A body whose length is not told beforehand.
	chunked := httptest.NewRequest("PUT", "/api/pathways/cdn-a", struct{ io.Reader }{strings.NewReader(`{"weight": 1}` + strings.Repeat(" ", maxWeighing))})
	w := httptest.NewRecorder()
	if ops.ServeHTTP(w, chunked); w.Code != 413 || weights() != "7 0 5 1000000 " {
		t.Errorf("too long a body: %d", w.Code)
	}
	if r := put(ops, "/api/pathways/cdn-b", `{"weight": 0}`); !strings.Contains(r.body, `"weight":0`) || strings.Contains(r.body, "cdn-a") {
		t.Errorf("answer to PUT: %s", r.body)
	}
	if r := call(t.Context(), ops, "POST", "/api/pathways/cdn-a"); r.StatusCode != 405 || r.header("Allow") != "GET, HEAD, PUT, DELETE, OPTIONS" {
		t.Errorf("POST: %d %v", r.StatusCode, r.Header)
	}
	if r := put(ops, "/api/pathways", `{"weight": 1}`); r.StatusCode != 405 || r.header("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("PUT of all: %d %v", r.StatusCode, r.Header)
	}
	if r := call(t.Context(), ops, "GET", "/api/pathways/cdn-x"); r.StatusCode != 404 {
		t.Errorf("GET of an unknown one: %d", r.StatusCode)
	}
	for b := range 50 {
		r := call(t.Context(), h, "GET", fmt.Sprintf("/live/demo/steering.json?bucket=%d", b))
		if m := r.manifest(t); fmt.Sprint(m.Priority) != "[cdn-a cdn-b]" {
			t.Errorf("bucket %d: %v", b, m.Priority)
		}
	}
	metrics := call(t.Context(), ops, "GET", "/metrics").body
	for _, want := range []string{
		`headwater_pathway_weight{pathway="cdn-a",streams="live/*"} 7`, `headwater_pathway_weight{pathway="cdn-a",streams="event/*"} 5`,
		`headwater_pathway_weight{pathway="cdn-b",streams="live/*"} 0`, `headwater_http_requests_total{class="steering",status="200"} 50`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s", want)
		}
	}
	// Players and edges neither see nor set weights, and a page of another origin may not set them from the operator's browser.
	if r := call(t.Context(), h, "GET", "/api/pathways"); r.StatusCode != 404 {
		t.Errorf("GET on the media port: %d", r.StatusCode)
	}
	if r := put(h, "/api/pathways/cdn-a", `{"weight": 0}`); r.StatusCode != 404 || weights() != "7 0 5 1000000 " {
		t.Errorf("PUT on the media port: %d", r.StatusCode)
	}
	if r := call(t.Context(), ops, "OPTIONS", "/api/pathways/cdn-a", "Origin: https://evil.test", "Access-Control-Request-Method: PUT"); r.header("Access-Control-Allow-Origin") != "" ||
		strings.Contains(r.header("Access-Control-Allow-Methods"), "PUT") {
		t.Errorf("preflight: %v", r.Header)
	}
}

// TestPathwayClones: a pathway that is added at run time is a clone (RFC 8216bis 7.2) of one that differs from it in the host's name alone.
func TestPathwayClones(t *testing.T) {
	s, _ := newLive(t)
	steer(s)
	s.Steerings[1] = NewSteering("event/*", 0, []Pathway{{"cdn-p", "https://p.test:8443/hls", 1}})
	h, ops := s.Handler(), s.OpsHandler()
	const manifestPath = "/live/demo/steering.json?bucket=7"
	before := call(t.Context(), h, "GET", manifestPath)
	if strings.Contains(before.body, "CLONES") {
		t.Fatal(before.body)
	}
	for _, c := range []struct{ id, body, why string }{
		{"cdn-d", `{"weight": 1, "url": "http://d.test"}`, "host alone"},      // other scheme
		{"cdn-d", `{"weight": 1, "url": "https://d.test:444"}`, "host alone"}, // other port
		{"cdn-d", `{"weight": 1, "url": "https://d.test/x"}`, "host alone"},   // other path
		{"cdn-d", `{"weight": 1, "url": "https://d.test/"}`, "slash at its end"},
		{"cdn-d", `{"weight": 1, "url": "d.test"}`, "like https"},
		{"cdn-d", `{"weight": 1, "url": "https://u:p@d.test"}`, "like https"},
		{"cdn-d", `{"weight": 1, "url": "https://d.test?x=1"}`, "like https"},
		{"cdn-d", `{"weight": 1, "url": "https://d.test;"}`, "like https"},
		{"cdn-a", `{"weight": 1, "url": "https://d.test"}`, "another ID"},
		{"c,d", `{"weight": 1, "url": "https://d.test"}`, "letters, digits"},
		{"constructor", `{"weight": 1, "url": "https://d.test"}`, "JavaScript"},
		{".", `{"weight": 1, "url": "https://d.test"}`, ""},
		{"cdn-d", `{"weight": 1, "url": "https://A.test"}`, "cdn-a already"},
		// What a browser and a Content-Security-Policy would take for something else.
		{"cdn-d", `{"weight": 1, "url": "https://*"}`, "like https"},
		{"cdn-d", `{"weight": 1, "url": "https://*.d.test"}`, "like https"},
		{"cdn-d", `{"weight": 1, "url": "https://[fe80::1%25a%20https:%20b]"}`, "like https"},
		{"cdn-d", `{"weight": 1, "url": "https://[fe80::1%25eth0]"}`, "like https"},
		{"cdn-d", `{"weight": 1, "url": "https://%C3%A9.test"}`, "like https"},
		{"cdn-d", `{"weight": 1, "url": "https://a%25b.test"}`, "like https"},
		{"cdn-d", `{"weight": 1, "url": "https://1.2.3.256"}`, "like https"},
		{"cdn-d", `{"weight": 1, "url": "https://d.test:"}`, "like https"},
		{"cdn-d", `{"weight": 1, "url": "https://[::1]:"}`, "like https"},
		{"cdn-d", `{"weight": 1, "url": "https://` + strings.Repeat("a.", 130) + `test"}`, "like https"},
		{"cdn-d", `{"weight": 1, "url": "https://d.test", "params": {"": "x"}}`, "params"},
		{"cdn-d", `{"weight": 1, "url": "https://d.test", "params": {"_HLS_msn": "1"}}`, "_HLS_"},
		{"cdn-d", `{"weight": 1, "url": "https://d.test", "params": {"a": "` + strings.Repeat("x", maxParam+1) + `"}}`, "256"},
		{"cdn-d", `{"weight": 1, "url": "https://d.test", "params": {"a": 1}}`, "want"},
		{"cdn-d", `{"url": "https://d.test"}`, "want"},
	} {
		r := put(ops, "/api/pathways/"+c.id, c.body)
		if c.why != "" && (r.StatusCode != 400 || !strings.Contains(r.body, c.why)) || r.StatusCode < 300 || strings.Contains(r.body, "u:p") {
			t.Errorf("%s %s: %d %s", c.id, c.body, r.StatusCode, r.body)
		}
	}
	if again := call(t.Context(), h, "GET", manifestPath); again.body != before.body {
		t.Errorf("after what was refused: %s", again.body)
	}

	r := put(ops, "/api/pathways/cdn-d", `{"weight": 1000000, "url": "https://d.test", "params": {"token": "s3cr\"t", "a": "1"}}`)
	if r.StatusCode != 200 || !strings.Contains(r.body, `"clone_of":"cdn-a","params":["a","token"]`) || strings.Contains(r.body, "s3cr") || strings.Contains(r.body, "event/") {
		t.Fatalf("%d %s", r.StatusCode, r.body)
	}
	r = call(t.Context(), h, "GET", manifestPath)
	m := r.manifest(t)
	if len(m.Clones) != 1 || m.Clones[0].Base != "cdn-a" || m.Clones[0].ID != "cdn-d" || m.Clones[0].URI.Host != "d.test" ||
		m.Clones[0].URI.Params["token"] != `s3cr"t` || len(m.Clones[0].URI.Params) != 2 || m.Priority[0] != "cdn-d" || len(m.Priority) != 3 {
		t.Fatalf("%s", r.body)
	}
	if got := s.CloneHosts(); fmt.Sprint(got) != "[https://d.test]" {
		t.Errorf("hosts %q", got)
	}
	for _, body := range []string{`{"weight": 0}`, `{"weight": 0, "url": "https://d.test", "params": {"a": "1", "token": "s3cr\"t"}}`} { // both only weigh it
		if r := put(ops, "/api/pathways/cdn-d", body); r.StatusCode != 200 || !strings.Contains(r.body, `"weight":0`) {
			t.Errorf("%d %s", r.StatusCode, r.body)
		}
	}
	for _, body := range []string{`{"weight": 1, "url": "https://e.test"}`, `{"weight": 1, "url": "https://d.test"}`} {
		if r := put(ops, "/api/pathways/cdn-d", body); r.StatusCode != 400 || !strings.Contains(r.body, "another ID") {
			t.Errorf("%s: %d %s", body, r.StatusCode, r.body)
		}
	}
	if r := put(ops, "/api/pathways/cdn-e", `{"weight": 5, "url": "https://e.test", "streams": "live/*"}`); r.StatusCode != 200 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	if r := put(ops, "/api/pathways/cdn-q", `{"weight": 5, "url": "https://[::1]:8443/hls"}`); r.StatusCode != 200 || !strings.Contains(r.body, `"clone_of":"cdn-p"`) {
		t.Errorf("%d %s", r.StatusCode, r.body)
	} else if m := string(s.Steerings[1].appendManifest(nil, 0)); !strings.Contains(m, `{"BASE-ID":"cdn-p","ID":"cdn-q","URI-REPLACEMENT":{"HOST":"[::1]"}}`) {
		t.Error(m)
	}
	if m := call(t.Context(), h, "GET", manifestPath).manifest(t); len(m.Clones) != 2 || len(m.Priority) != 4 {
		t.Errorf("%+v", m)
	}
	metrics := call(t.Context(), ops, "GET", "/metrics").body
	if !strings.Contains(metrics, `headwater_pathway_weight{pathway="cdn-e",streams="live/*"} 5`) || strings.Contains(metrics, "s3cr") {
		t.Error(metrics)
	}

	// All or nothing: where cdn-d has a parameter it stays as it is, and so it is not added elsewhere either.
	if r := put(ops, "/api/pathways/cdn-d", `{"weight": 9, "url": "https://d.test:8443/hls"}`); r.StatusCode != 400 || strings.Contains(r.body, `"weight":9`) || len(s.Steerings[1].pathways()) != 2 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	for _, c := range []struct {
		id     string
		status int
	}{{"cdn-a", 400}, {"cdn-x", 404}, {"cdn-d?streams=event/*", 404}, {"cdn-d?streams=live/*", 200}, {"cdn-d", 404}, {"cdn-e", 200}, {"cdn-q", 200}} {
		if r := call(t.Context(), ops, "DELETE", "/api/pathways/"+c.id); r.StatusCode != c.status {
			t.Errorf("DELETE %s: %d %s", c.id, r.StatusCode, r.body)
		}
	}
	// Players may still know cdn-e as what it was.
	if r := put(ops, "/api/pathways/cdn-e", `{"weight": 5, "url": "https://f.test"}`); r.StatusCode != 400 || !strings.Contains(r.body, "another ID") {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	if r := put(ops, "/api/pathways/cdn-e", `{"weight": 5, "url": "https://e.test"}`); r.StatusCode != 200 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	body := httptest.NewRequest("DELETE", "/api/pathways/cdn-e", strings.NewReader(`{"streams":"event/*"}`))
	w := httptest.NewRecorder()
	if ops.ServeHTTP(w, body); w.Code != 400 || !strings.Contains(w.Body.String(), "?streams=") {
		t.Errorf("DELETE with a body: %d %s", w.Code, w.Body)
	}
	// A page that a browser has from a name that someone else leads here is no operator.
	for host, status := range map[string]int{"evil.test:8081": 403, "evil.test": 403, "127.0.0.1:8081": 200, "[::1]:8081": 200, "localhost:8081": 200} {
		for _, method := range []string{"PUT", "DELETE"} {
			r := httptest.NewRequest(method, "/api/pathways/cdn-e", nil)
			if method == "PUT" {
				r = httptest.NewRequest(method, "/api/pathways/cdn-e", strings.NewReader(`{"weight": 5, "url": "https://e.test", "streams": "live/*"}`))
			}
			r.Host = host
			r.Header.Set("Origin", "http://"+host)
			w := httptest.NewRecorder()
			if ops.ServeHTTP(w, r); w.Code != status {
				t.Errorf("%s from a page of %s: %d %s", method, host, w.Code, w.Body)
			}
		}
	}
	if r := call(t.Context(), h, "DELETE", "/api/pathways/cdn-a"); r.StatusCode != 405 && r.StatusCode != 404 {
		t.Errorf("DELETE on the media port: %d", r.StatusCode)
	}
	if again := call(t.Context(), h, "GET", manifestPath); again.body != before.body {
		t.Errorf("after all were removed: %s", again.body)
	}
	for i := 2; ; i++ { // until there are too many
		if r := put(ops, fmt.Sprintf("/api/pathways/x%d", i), fmt.Sprintf(`{"weight": 1, "url": "https://x%d.test", "streams": "live/*"}`, i)); r.StatusCode != 200 {
			if i != playlist.MaxPathways || r.StatusCode != 400 {
				t.Errorf("pathway %d: %d %s", i+1, r.StatusCode, r.body)
			}
			break
		}
	}
}

func FuzzBucket(f *testing.F) {
	for _, q := range []string{"", "bucket=0", "bucket=999", "bucket=1000", "bucket=7&bucket=7", "_HLS_pathway=x&bucket=12&", "bucket=00", "&bucket=5&=", "bucket=-0"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		n, ok := parseBucket(query)
		if n < 0 || n >= SteeringBuckets || !ok && n != 0 {
			t.Fatalf("%q: %d %v", query, n, ok)
		}
		// There is one way to write it.
		if found := slices.Contains(strings.Split(query, "&"), fmt.Sprintf("bucket=%d", n)); ok && !found {
			t.Fatalf("%q: %d", query, n)
		}
	})
}

func FuzzWeighing(f *testing.F) {
	for _, b := range []string{`{"weight":1}`, `{"weight":0,"streams":"live/*"}`, `{"weight":1}x`, `{"weight":1,"url":"https://b.test","params":{"a":"b"}}`, `{"weight":{}}`, `null`} {
		f.Add([]byte(b))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		w, err := parseWeighing(body)
		if err != nil {
			return
		}
		x := NewSteering("", 0, []Pathway{{"a", "https://a.test", 1}})
		if w.URL == "" {
			return
		}
		if p, err := x.now.Load().cloned(Pathway{"b", w.URL, *w.Weight}, w.Params); err == nil {
			x.now.Store(&p)
			var m manifest
			if b := x.appendManifest(nil, 0); json.Unmarshal(b, &m) != nil || len(m.Clones) != 1 || strings.ContainsAny(m.Clones[0].URI.Host, " /?#:@") != strings.Contains(w.URL, "[") {
				t.Fatalf("%q: %s", body, b)
			}
		}
		if w.Weight == nil || *w.Weight < 0 || *w.Weight > MaxWeight {
			t.Fatalf("%q: %+v", body, w)
		}
	})
}

func BenchmarkSteeringManifest(b *testing.B) {
	s, _ := newLive(b)
	steer(s)
	h := s.Handler()
	r := httptest.NewRequest("GET", "/live/demo/steering.json?bucket=7&_HLS_pathway=cdn-a&_HLS_throughput=5140000", nil)
	w := newSink()
	b.ReportAllocs()
	for b.Loop() {
		w.reset()
		h.ServeHTTP(w, r)
	}
	if w.status != 200 {
		b.Fatal(w.status)
	}
}
