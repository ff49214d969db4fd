package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headwater/segmenter"
	"headwater/web"
)

var deliveryFiles = []struct{ text, err string }{ // err "": accepted
	{"shards: [https://m1.test, 'http://[::1]:8080', http://127.0.0.1:1]", ""},
	{"shards: [https://m1.test/]", "without a slash at its end"},
	{"shards: [https://m1.test/live]", "nor any other path"},
	{"shards: [m1.test]", "write it like"},
	{"shards: ['//m1.test']", "write it like"},
	{"shards: ['ftp://m1.test']", "write it like"},
	{"shards: ['https://user@m1.test']", "write it like"},
	{"shards: ['https://m1.test?x=1']", "write it like"},
	{"shards: ['https://m1.test?']", "write it like"},
	{"shards: ['https://m1.test#x']", "write it like"},
	{`shards: ['https://m1.test"']`, "write it like"},
	{"shards: ['https://m1.test;x']", "write it like"},
	{"shards: ['https://:80']", "write it like"},
	{"shards: ['']", "write it like"},
	{"shards: [https://m1.test, https://m1.test]", "https://m1.test is there twice"},
	{"shards: [" + strings.TrimSuffix(numbered("https://m%d.test, ", 17), ", ") + "]", "17 are more than 16"},
	{"shards: [{id: a, url: https://a.test}]", "f.yaml:1: shards: not a single value"},
	{"pathways: [{id: a, url: https://a.test}]", ""},
	{"pathways:\n  - id: a\n    url: https://a.test/base/x\n    weight: 0\n  - {id: B.b_-1, url: https://b.test, weight: 1000000}", ""},
	{"pathways: ['a:5=https://a.test', 'b=https://b.test']", ""},
	{"pathways: []", ""},
	{"pathways:", ""},
	{"pathways: {id: a, url: https://a.test}", "f.yaml:1: pathways: a list is expected"},
	{"pathways: a=https://a.test", "f.yaml:1: pathways: a list is expected"},
	{"pathways: [a]", `f.yaml:1: pathways: "a" is not ID:WEIGHT=URL`},
	{"pathways: [[a]]", "f.yaml:1: not a single value"},
	{"pathways: [{id: a, url: {x: y}}]", "f.yaml:1: not a single value"},
	{"pathways: [{id: a, uri: https://a.test}]", `f.yaml:1: pathways: unknown key "uri"`},
	{"pathways: [{id: a}]", "pathways: \"\": write it like"},
	{"pathways: [{url: https://a.test}]", `pathways: id ""`},
	{"pathways: [{id: 'a b', url: https://a.test}]", `pathways: id "a b"`},
	{"pathways: [{id: 'a:7', url: https://a.test}]", `pathways: id "a:7"`},
	{"pathways: [{id: 'a\"', url: https://a.test}]", `pathways: id "a\""`},
	{"pathways: [{id: ., url: https://a.test}]", `pathways: id "."`},
	{"pathways: [{id: a, url: https://a.test/}]", "pathways: \"https://a.test/\": write it like"},
	{"pathways: [{id: a, url: https://a.test//b}]", "write it like"},
	{"pathways: [{id: a, url: https://a.test, weight: -1}]", "pathways: weight -1 is not between 0 and 1000000"},
	{"pathways: [{id: a, url: https://a.test, weight: 1000001}]", "pathways: weight 1000001 is not between"},
	{"pathways: [{id: a, url: https://a.test, weight: 0.5}]", `pathways: weight "0.5" is not a whole number`},
	{"pathways: [{id: a, url: https://a.test}, {id: a, url: https://b.test}]", "pathways: a is there twice"},
	{"pathways: [" + strings.TrimSuffix(numbered("{id: p%[1]d, url: https://p%[1]d.test}, ", 17), ", ") + "]", "17 are more than 16"},
	{"pathways: [{id: a, url: https://a.test}]\nshards: [https://m1.test]", "set one of the two"},
	{"streams:\n  a/*: {shards: [https://m1.test]}\npathways: [{id: a, url: https://a.test}]", "set one of the two"},
	{"streams:\n  a/*: {shards: [https://m1.test], pathways: []}\npathways: [{id: a, url: https://a.test}]", ""},
	{"steering_ttl: 0", "steering_ttl: 0s is not a whole number"},
	{"steering_ttl: 1500ms", "steering_ttl: 1.5s is not a whole number"},
	{"steering_ttl: 25h", "steering_ttl: 25h0m0s is not"},
	{"steering_url: https://s.test/", "steering_url: "},
}

func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestDeliverySettings(t *testing.T) {
	for _, c := range deliveryFiles {
		_, err := parseFile("f.yaml", []byte(c.text+"\n"))
		if err == nil {
			_, err = load([]string{"--config=" + writeFile(t, c.text+"\n")}, io.Discard, io.Discard)
		}
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: error %v, want %q", c.text, err, c.err)
		}
	}
	for _, arg := range []string{"--pathways=a", "--pathways=a:x=https://a.test", "--pathways=a=https://a.test,a=https://b.test", "--shards=m1"} {
		if _, err := load([]string{arg}, io.Discard, io.Discard); err == nil {
			t.Errorf("%s: no error", arg)
		}
	}
}

// What a pattern says of pathways is its own, with weights of its own; what it does not say is shared with all.
func TestDeliveryByPattern(t *testing.T) {
	s := &mustLoad(t, "--config="+writeFile(t, `
pathways: [{id: a, url: https://a.test, weight: 3}, {id: b, url: https://b.test/base}]
streams:
  "live/plain": {pathways: []}
  "live/sharded": {pathways: [], shards: [https://m1.test, 'http://m2.test:81']}
  "live/own": {pathways: [{id: a, url: https://a2.test}], steering_url: https://steer.test}
  "live/often": {steering_ttl: 10s}
  "live/*": {part_target: 0}
`)).Settings
	general := &segmenter.Delivery{Pathways: []segmenter.Pathway{{ID: "a", URL: "https://a.test"}, {ID: "b", URL: "https://b.test/base"}}}
	var w web.Server
	s.steer(&w)
	for name, want := range map[string]*segmenter.Delivery{
		"other/x":      general,
		"live/x":       general,
		"live/often":   general,
		"live/plain":   nil,
		"live/sharded": {Shards: []string{"https://m1.test", "http://m2.test:81"}},
		"live/own":     {Pathways: []segmenter.Pathway{{ID: "a", URL: "https://a2.test"}}, SteeringURL: "https://steer.test"},
	} {
		got := s.segmenterConfig(name).Delivery
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		if steered := w.Steering(name) != nil; steered != (want != nil && len(want.Pathways) > 0) {
			t.Errorf("%s: steered %v", name, steered)
		}
	}
	if a, b := w.Steering("other/x"), w.Steering("live/x"); a != b || a == w.Steering("live/own") || a == w.Steering("live/often") || len(w.Steerings) != 3 {
		t.Errorf("%d steerings", len(w.Steerings))
	}
	if d := cmp.Diff([]string{"http://m2.test:81", "https://a.test", "https://a2.test", "https://b.test", "https://m1.test", "https://steer.test"}, s.hosts()); d != "" {
		t.Errorf("hosts (-want +got):\n%s", d)
	}
}

// The whole: a weight that is set on the operations port, and what the pages are allowed.
func TestServePathways(t *testing.T) {
	r := startHeadwater(t, "--pathways=cdn-a=https://a.test,cdn-b:0=https://b.test/base")
	req, _ := http.NewRequest(http.MethodPut, "http://"+r.Ops+"/api/pathways/cdn-b", strings.NewReader(`{"weight": 70}`))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	_, list := get(t, "http://"+r.Ops+"/api/pathways")
	_, metrics := get(t, "http://"+r.Ops+"/metrics")
	if resp.StatusCode != 200 || !strings.Contains(list, `"id":"cdn-b","url":"https://b.test/base","weight":70,`) ||
		!strings.Contains(metrics, `headwater_pathway_weight{pathway="cdn-b",streams=""} 70`) {
		t.Errorf("status %d, %s", resp.StatusCode, list)
	}
	page, err := http.Get(r.URL("/live/a/"))
	if err != nil {
		t.Fatal(err)
	}
	page.Body.Close()
	if csp := page.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "connect-src 'self' https://a.test https://b.test;") {
		t.Errorf("%s", csp)
	}
	if strings.Contains(r.Log.String(), "WARN") {
		t.Error("a warning is logged")
	}
}

// TestShardsWarning is logged once.
func TestShardsWarning(t *testing.T) {
	r := startHeadwater(t, "--config="+writeFile(t, "streams:\n  a/*: {shards: [https://m1.test]}\n  b/*: {shards: [https://m1.test]}\n"))
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(r.Log.String(), "level=WARN msg=\"shards: "); n != 1 {
		t.Errorf("logged %d times", n)
	}
}
