package web

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"

	"headwater/playlist"
	"headwater/playlist/rendezvous"
)

const (
	// SteeringBuckets is into how many parts viewers are divided: with a thousand, a pathway's share of them is within a few
	// percent of what its weight says, and each is still too many people to know one of them by it.
	SteeringBuckets = 1000
	// MaxWeight bounds a pathway's weight.
	MaxWeight = 1_000_000
	// DefaultSteeringTTL is what RFC 8216bis 7.2 recommends.
	DefaultSteeringTTL = 300 * time.Second

	steeringSuffix = "/" + playlist.Steering
	bucketParam    = "bucket"
)

// A Pathway is one of several places that offer a stream.
type Pathway struct {
	ID, URL string
	Weight  int // 0 to MaxWeight: what share of the viewers it is to get, against the others
}

// A Steering is the content steering (RFC 8216bis 7) of the streams that have the same pathways. Weights may be changed while it
// is in use; they are gone when the process ends.
type Steering struct {
	streams  string // the pattern of names that it is for; "" is all that no other one is for
	ttl      time.Duration
	cache    []string // Cache-Control of a manifest
	pathways []steered
}

type steered struct {
	id, url string
	weight  atomic.Int64
}

// NewSteering returns the steering of the streams whose names match the pattern ("": all that have no other), with manifests that are asked for again after
// ttl (whole seconds; 0 is the default).
func NewSteering(streams string, ttl time.Duration, pathways []Pathway) *Steering {
	if ttl <= 0 {
		ttl = DefaultSteeringTTL
	}
	s := &Steering{streams: streams, ttl: ttl, pathways: make([]steered, len(pathways))}
	// Whoever asks again after the TTL is to get a new one, from his own cache too. No other cache has a use for it: the
	// query of each viewer differs.
	s.cache = []string{"private, max-age=" + strconv.Itoa(s.seconds()/2)}
	for i, p := range pathways {
		x := &s.pathways[i]
		x.id, x.url = p.ID, p.URL
		x.weight.Store(int64(p.Weight))
	}
	return s
}

func (s *Steering) seconds() int { return int(s.ttl / time.Second) }

// setWeight sets the weight of the pathway with that ID. It says false if there is none.
func (s *Steering) setWeight(id string, weight int) bool {
	for i := range s.pathways {
		if x := &s.pathways[i]; x.id == id {
			x.weight.Store(int64(weight))
			return true
		}
	}
	return false
}

func (s *Steering) nodes() []rendezvous.Node {
	nodes := make([]rendezvous.Node, len(s.pathways))
	for i := range s.pathways {
		x := &s.pathways[i]
		nodes[i] = rendezvous.Node{ID: x.id, Weight: int(x.weight.Load())}
	}
	return nodes
}

// bucketKey is what pathways are ranked for.
func bucketKey(bucket int) rendezvous.Hash { return rendezvous.New(strconv.Itoa(bucket)) }

// appendManifest appends the steering manifest (RFC 8216bis 7.2) of a bucket. It names every pathway, those without weight last:
// they are to be had when all others fail. It is a function of the bucket and the weights.
func (s *Steering) appendManifest(dst []byte, bucket int) []byte {
	nodes := s.nodes()
	rendezvous.Sort(nodes, bucketKey(bucket))
	dst = append(dst, `{"VERSION":1,"TTL":`...)
	dst = strconv.AppendInt(dst, int64(s.seconds()), 10)
	dst = append(dst, `,"RELOAD-URI":"`+playlist.Steering+`?`+bucketParam+`=`...)
	dst = strconv.AppendInt(dst, int64(bucket), 10)
	dst = append(dst, `","PATHWAY-PRIORITY":[`...)
	for i, n := range nodes {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), n.ID...), '"') // pathway IDs need no escapes
	}
	return append(dst, "]}\n"...)
}

// shares returns which part of the buckets each pathway is first for now.
func (s *Steering) shares() []float64 {
	first := map[string]int{}
	nodes := s.nodes()
	for b := range SteeringBuckets {
		rendezvous.Sort(nodes, bucketKey(b))
		first[nodes[0].ID]++
	}
	out := make([]float64, len(s.pathways))
	for i := range s.pathways {
		out[i] = float64(first[s.pathways[i].id]) / SteeringBuckets
	}
	return out
}

// Counters are the weights, for Server.Counters.
func (s *Steering) Counters() (out []Counter) {
	for i := range s.pathways {
		x := &s.pathways[i]
		out = append(out, Counter{
			Name: "headwater_pathway_weight", Help: "Weight of a pathway of content steering, by the pattern of streams that it is set for.",
			Labels: map[string]string{"streams": s.streams, "pathway": x.id}, Gauge: true,
			Value: func() float64 { return float64(x.weight.Load()) },
		})
	}
	return out
}

// isSteering matches the paths of steering manifests: /<app>/<name>/steering.json.
func isSteering(r *http.Request, _ *mux.RouteMatch) bool {
	p := r.URL.Path
	return strings.HasSuffix(p, steeringSuffix) && strings.Count(p, "/") == 3 && !strings.HasPrefix(p, PagePrefix) && !strings.HasPrefix(p, apiPrefix)
}

// serveSteering answers with the steering manifest of a bucket. Whoever names none, because he comes from the multivariant playlist,
// is given one at random, which is the one answer here that two who ask alike may get differently, so no
// cache may keep it; from then on what he gets depends on the URL and the weights, not on him. _HLS_pathway and _HLS_throughput
// (RFC 8216bis 7.3) change nothing. It is never 429, after which hls.js does not ask again.
func (s *Server) serveSteering(rw http.ResponseWriter, r *http.Request) {
	w := rw.(*response)
	w.class = ClassSteering
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.fail(w, r, errMethod)
		return
	}
	name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/"), steeringSuffix)
	var steering *Steering
	if _, ok := s.Origin.Stream(name); ok && s.Steering != nil {
		steering = s.Steering(name)
	}
	if steering == nil {
		s.fail(w, r, errUnknown)
		return
	}
	bucket, ok := parseBucket(r.URL.RawQuery)
	o := object{contentType: typeSteering, cache: steering.cache}
	if !ok {
		bucket, o.cache = rand.IntN(SteeringBuckets), cacheNever
	}
	o.bytes = steering.appendManifest(nil, bucket)
	o.size, o.tag = len(o.bytes), bodyTag(o.bytes)
	w.reply(&o)
}

// parseBucket returns the bucket that a raw query names. What is not as the manifest writes it, or there twice, is no bucket: a player
// whose URL something on the way has spoiled gets a new one, where an error would leave him unsteered for ever.
func parseBucket(query string) (bucket int, ok bool) {
	for len(query) > 0 {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		value, found := strings.CutPrefix(pair, bucketParam+"=")
		if !found {
			continue
		}
		n, err := strconv.Atoi(value)
		if ok || err != nil || n < 0 || n >= SteeringBuckets || strconv.Itoa(n) != value {
			return 0, false
		}
		bucket, ok = n, true
	}
	return bucket, ok
}
