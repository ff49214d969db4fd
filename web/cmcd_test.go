package web

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"headwater/segmenter"
)

// noCMCD is the report of a request without CMCD.
var noCMCD = cmcdReport{buffer: -1, latency: -1, throughput: -1, bitRate: -1}

func report(change func(*cmcdReport)) cmcdReport {
	r := noCMCD
	change(&r)
	return r
}

// Dictionaries of CTA-5004, and what players make of them.
var cmcdCases = []struct {
	text string
	want cmcdReport // but for header
}{
	{"", noCMCD},
	{" , ,, ", noCMCD},
	{"sid=\"6e2fb550-c457-11e9-bb97-0800200c9a66\"", report(func(r *cmcdReport) { r.pairs = 1 })},
	{"br=3200,bs,d=4004,mtp=25400,ot=v,rtp=15000,st=l,su,tb=6000", report(func(r *cmcdReport) {
		r.pairs, r.bitRate, r.throughput, r.object, r.kind, r.starved, r.startup = 9, 3200, 25400, 3, 1, true, true
	})},
	{"bl=21300, mtp=25400 ,ot=av, st=v", report(func(r *cmcdReport) {
		r.pairs, r.buffer, r.throughput, r.object, r.kind = 4, 21300, 25400, 4, 2
	})},
	{`nor="..%2F300kbps%2Ftrack.m4v",bl=0,cid="faec5fc2,bl=99,\"mtp=1",ot=m`, report(func(r *cmcdReport) { r.pairs, r.buffer, r.object = 4, 0, 1 })},
	// Version 2: lists by kind of media, booleans spelt out, more keys.
	{`v=2,ts=1700000000000,bl=(2200;v 3100;a),br=(5000;v 320;a),mtp=(6200;v 450;a),ltc=1870,sta=p,st=ll,ot=a,bs=(?1;v),com.example-x=y`,
		report(func(r *cmcdReport) {
			r.pairs, r.buffer, r.bitRate, r.throughput, r.latency, r.kind, r.object, r.starved = 11, 2200, 5000, 6200, 1870, 1, 2, true
		})},
	{"bs=?0,su=false", report(func(r *cmcdReport) { r.pairs = 2 })},
	{"bs=?1,su=true", report(func(r *cmcdReport) { r.pairs, r.starved, r.startup = 2, true, true })},
	{"bl=4100.5", report(func(r *cmcdReport) { r.pairs, r.buffer = 1, 4100 })},
	{"bl=100,bl=200", report(func(r *cmcdReport) { r.pairs, r.buffer = 2, 200 })}, // the last counts (RFC 8941 3.2)
	// What cannot be is left out, and the rest stays.
	{"bl=-1,mtp=99999999999999999999,br=fast,ot=film,st=x,bs=yes,ltc=,bl,su=,mtp=5x,ot=v", report(func(r *cmcdReport) {
		r.pairs, r.malformed, r.object = 11, 10, 3
	})},
	{"=5,bl=100,\"", report(func(r *cmcdReport) { r.pairs, r.malformed, r.buffer = 1, 2, 100 })},
	{"bl=86400000", report(func(r *cmcdReport) { r.pairs, r.buffer = 1, 86_400_000 })},
	{"bl=86400001", report(func(r *cmcdReport) { r.pairs, r.malformed = 1, 1 })},
	{strings.Repeat("k", 65) + "=1", report(func(r *cmcdReport) { r.malformed = 1 })},
	{`sid="` + strings.Repeat("x", 4000) + `",su`, report(func(r *cmcdReport) { r.pairs, r.startup = 2, true })},
}

func asHeader(text string) *http.Request {
	return &http.Request{URL: &url.URL{}, Header: http.Header{"Cmcd-Request": {text}}}
}

func asQuery(text string) *http.Request {
	return &http.Request{URL: &url.URL{RawQuery: "a=b&CMCD=" + url.QueryEscape(text) + "&_HLS_msn=1"}}
}

func TestCMCD(t *testing.T) {
	for _, c := range cmcdCases {
		want := c.want
		var got cmcdReport
		if ok := readCMCD(asQuery(c.text), &got); got != want || ok != (want.pairs+want.malformed > 0) {
			t.Errorf("query %q: %v\n%+v, want\n%+v", c.text, ok, got, want)
		}
		want.header = true
		if readCMCD(asHeader(c.text), &got); got != want {
			t.Errorf("header %q:\n%+v, want\n%+v", c.text, got, want)
		}
	}
	// The four headers are one dictionary, and so is what is in the query beside them.
	r := asQuery("ot=v")
	r.Header = http.Header{"Cmcd-Object": {"br=1000"}, "Cmcd-Request": {"bl=100", "mtp=200"}, "Cmcd-Session": {"st=l"}, "Cmcd-Status": {"bs"}}
	var got cmcdReport
	if readCMCD(r, &got); got != (cmcdReport{header: true, pairs: 6, object: 3, kind: 1, starved: true, buffer: 100, latency: -1, throughput: 200, bitRate: 1000}) {
		t.Errorf("%+v", got)
	}
	// A broken escape ends it; another parameter is none of it.
	for query, want := range map[string]cmcdReport{
		"CMCD=bl%3D100%2Cmtp%zz":       report(func(r *cmcdReport) { r.pairs, r.malformed, r.buffer = 1, 1, 100 }),
		"cmcd=bl%3D100&XCMCD=bl%3D100": noCMCD,
		"%43MCD=bl=100":                report(func(r *cmcdReport) { r.pairs, r.buffer = 1, 100 }),
	} {
		got = cmcdReport{}
		if readCMCD(&http.Request{URL: &url.URL{RawQuery: query}}, &got); got != want {
			t.Errorf("%q: %+v, want %+v", query, got, want)
		}
	}
}

// What is read out of a header and out of a query is the same, and within its limits.
func FuzzCMCD(f *testing.F) {
	for _, c := range cmcdCases {
		f.Add(c.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var a, b cmcdReport
		readCMCD(asHeader(text), &a)
		readCMCD(asQuery(text), &b)
		a.header = false
		if a != b {
			t.Fatalf("%q: header %+v, query %+v", text, a, b)
		}
		if a.buffer > maxCMCDMillis || a.latency > maxCMCDMillis || a.throughput > maxCMCDKbps || a.bitRate > maxCMCDKbps ||
			min(a.buffer, a.latency, a.throughput, a.bitRate) < -1 || a.object >= len(cmcdObjects) || a.kind >= len(cmcdTypes) {
			t.Fatalf("%q: %+v", text, a)
		}
		// Raw, as anybody can send it.
		readCMCD(&http.Request{URL: &url.URL{RawQuery: "CMCD=" + text}}, &a)
		cmcd(&http.Request{URL: &url.URL{RawQuery: "CMCD=" + text}, Header: http.Header{"Cmcd-Status": {text}}})
	})
}

func BenchmarkCMCD(b *testing.B) {
	const text = `bl=2100,br=3200,cid="event-1",d=2002,mtp=25400,nor="p90000.m4s",ot=v,rtp=15000,sf=h,sid="6e2fb550-c457-11e9-bb97-0800200c9a66",st=l`
	for _, c := range []struct {
		name string
		r    *http.Request
	}{
		{"none", &http.Request{URL: &url.URL{RawQuery: "_HLS_msn=1700000000&_HLS_part=3"}, Header: http.Header{"Accept-Encoding": {"gzip"}}}},
		{"query", asQuery(text)},
		{"header", asHeader(text)},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := &Server{Origin: &segmenter.Origin{}}
			w := &response{stream: &segmenter.Stream{Name: "live/demo"}}
			s.countCMCD(w, c.r)
			b.ReportAllocs()
			for b.Loop() {
				s.countCMCD(w, c.r)
			}
		})
	}
}

// Counting takes nothing from the heap.
func TestCMCDAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s := &Server{Origin: &segmenter.Origin{}}
	w := &response{stream: &segmenter.Stream{Name: "live/demo"}}
	for _, r := range []*http.Request{asQuery(cmcdCases[3].text), asHeader(cmcdCases[6].text), {URL: &url.URL{RawQuery: "_HLS_msn=1"}}} {
		if n := testing.AllocsPerRun(100, func() { s.countCMCD(w, r) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

func TestCMCDMetrics(t *testing.T) {
	s, e := newLive(t)
	h, ops := s.Handler(), s.OpsHandler()
	video := e.dir("video")
	for _, c := range []struct{ target, header string }{
		{video + "index.m3u8?CMCD=ot%3Dm%2Cst%3Dl%2Csid%3D%22who%22%2Ccid%3D%22what%22", ""},
		{video + "index.m3u8", `CMCD-Session: sid="who",st=l`},
		{"/live/demo/index.m3u8", "CMCD-Request: ot=m,su"},
		{"/live/demo/index.m3u8", "CMCD-Request: bl=1200,mtp=8000,ot=v,ltc=1800,bs,st=l"},
		{"/live/demo/index.m3u8", "CMCD-Request: bl=300,mtp=2000,br=3000,ot=v,st=ll,bs"},
		{"/live/nothing/index.m3u8", "CMCD-Request: bl=300,ot=v"},
		{"/nothing?CMCD=bl%3Dx", ""},
		{"/live/demo/index.m3u8", ""},
	} {
		call(t.Context(), h, "GET", c.target, c.header)
	}
	r := call(t.Context(), ops, "GET", "/metrics?CMCD=bl%3D1")
	for _, want := range []string{
		`headwater_cmcd_requests_total{carrier="query",object="manifest",type="live"} 1`,
		`headwater_cmcd_requests_total{carrier="query",object="none",type="none"} 1`,
		`headwater_cmcd_requests_total{carrier="header",object="none",type="live"} 1`,
		`headwater_cmcd_requests_total{carrier="header",object="manifest",type="none"} 1`,
		`headwater_cmcd_requests_total{carrier="header",object="video",type="live"} 2`,
		`headwater_cmcd_requests_total{carrier="header",object="video",type="none"} 1`,
		`headwater_cmcd_malformed_total 1`,
		`headwater_cmcd_buffer_seconds_bucket{le="0.25"} 0`,
		`headwater_cmcd_buffer_seconds_bucket{le="0.5"} 2`,
		`headwater_cmcd_buffer_seconds_sum 1.8`,
		`headwater_cmcd_latency_seconds_bucket{le="2"} 1`,
		`headwater_cmcd_throughput_bits_per_second_bucket{le="2e+06"} 1`,
		`headwater_cmcd_throughput_bits_per_second_sum 1e+07`,
		`headwater_cmcd_stream_requests_total{stream="live/demo"} 5`,
		`headwater_cmcd_stream_starved_total{stream="live/demo"} 2`,
		`headwater_cmcd_stream_startup_total{stream="live/demo"} 1`,
		`headwater_cmcd_stream_buffer_seconds_sum{stream="live/demo"} 1.5`,
		`headwater_cmcd_stream_buffer_seconds_count{stream="live/demo"} 2`,
		`headwater_cmcd_stream_latency_seconds_sum{stream="live/demo"} 1.8`,
		`headwater_cmcd_stream_throughput_bits_per_second_count{stream="live/demo"} 2`,
		`headwater_cmcd_stream_encoded_bits_per_second_sum{stream="live/demo"} 3e+06`,
	} {
		if !slices.Contains(strings.Split(r.body, "\n"), want) {
			t.Errorf("no %s", want)
		}
	}
	for _, no := range []string{"live/nothing", "who", "what"} {
		if strings.Contains(r.body, `"`+no+`"`) {
			t.Errorf("%s is in the metrics", no)
		}
	}
	if t.Failed() {
		for line := range strings.Lines(r.body) {
			if strings.HasPrefix(line, "headwater_cmcd") {
				t.Log(line)
			}
		}
	}
}

// What is counted of streams that have ended is let go, however many come and go.
func TestCMCDStreamsEnd(t *testing.T) {
	s := &Server{Origin: &segmenter.Origin{}}
	ops := s.OpsHandler()
	r := asHeader("bl=100")
	const many = 20 * minCMCDRoom
	for i := range many {
		e := publish(t, s.Origin, fmt.Sprintf("live/%d", i))
		s.countCMCD(&response{stream: e.stream}, r)
		if i == many-1 {
			break
		}
		e.pub.Close(nil)
		s.Origin.Tick(time.Now())
		s.Origin.Tick(time.Now().Add(time.Hour))
	}
	kept := 0
	s.cmcd.streams.Range(func(_, _ any) bool { kept++; return true })
	if kept > minCMCDRoom+1 || kept != s.cmcd.size {
		t.Errorf("%d streams are kept, %d counted", kept, s.cmcd.size)
	}
	body := call(t.Context(), ops, "GET", "/metrics").body
	if n := strings.Count(body, "headwater_cmcd_stream_requests_total{"); n != 1 || !strings.Contains(body, fmt.Sprintf(`headwater_cmcd_stream_requests_total{stream="live/%d"} 1`, many-1)) {
		t.Errorf("%d streams are told of", n)
	}
}
