//go:build e2e

package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestE2EEdgesSteering asks for steering manifests through each edge. The first is each viewer's own, so that an edge that let one request
// for it through at a time would keep all others waiting; the bucket that it names reaches the origin.
func TestE2EEdgesSteering(t *testing.T) {
	r := startHeadwater(t, append([]string{"--steering-ttl=300s", "--pathways=a:1=https://a.example.com,b:1=https://b.example.com"}, edgeSettings...)...)
	r.publish(t, "live/a", camera)
	r.awaitLive(t, "live/a")
	for _, name := range []string{"nginx", "varnish", "trafficserver"} {
		t.Run(name, func(t *testing.T) { newEdge(t, name, r).steering(t) })
	}
}

func (e *anEdge) steering(t *testing.T) {
	const viewers = 60
	url := e.url("/live/a/steering.json")
	// nginx looks every 0.5 s whether it is a waiting request's turn, Traffic Server every 25 ms. Who makes requests wait for one another
	// does so each time, unlike a machine that is busy with something else for a moment.
	const limit = 1200 * time.Millisecond
	var took time.Duration
	for range 3 {
		if took = e.firstManifests(t, url, viewers); took <= limit {
			break
		}
	}
	if took > limit {
		t.Errorf("three times, %d viewers who come at one time have their manifests too late, at last after %v", viewers, took)
	}
	for _, first := range []string{"a", "b"} {
		for _, id := range []string{"a", "b"} {
			weight := 0
			if id == first {
				weight = 1
			}
			e.origin.weigh(t, id, weight)
		}
		f := fetchFrom(t, url+"?bucket=7&_HLS_pathway=b&_HLS_throughput=5000000")
		if want := `"RELOAD-URI":"steering.json?bucket=7","PATHWAY-PRIORITY":["` + first; !strings.Contains(string(f.body), want) {
			t.Errorf("with all the weight on %s: %s", first, f.body)
		}
		if f.header.Get("Cache-Control") != "private, max-age=150" {
			t.Errorf("Cache-Control: %s", f.header.Get("Cache-Control"))
		}
	}
}

// firstManifests lets so many viewers ask for their first manifests at one time, and returns when all have them.
func (e *anEdge) firstManifests(t *testing.T, url string, viewers int) time.Duration {
	t.Helper()
	began := time.Now()
	given := make([]string, viewers)
	errs := make([]error, viewers)
	var all sync.WaitGroup
	for i := range viewers {
		all.Go(func() {
			f, err := tryFetch(url)
			if err == nil && (f.status != 200 || f.header.Get("Cache-Control") != "private, no-store") {
				err = fmt.Errorf("status %d, %q", f.status, f.header.Get("Cache-Control"))
			}
			given[i], errs[i] = string(f.body), err
		})
	}
	all.Wait()
	took := time.Since(began)
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(given)
	if n := len(slices.Compact(given)); n < viewers*3/4 {
		t.Errorf("%d viewers are given %d buckets", viewers, n)
	}
	return took
}
