package web

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
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

var (
	// pathwayID is what RFC 8216bis 7.2 lets an ID be made of. "." is the ID of what has none (4.4.6.2).
	pathwayID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	hostName  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*$`)
	// prototypes are names that every JavaScript object knows: hls.js takes a pathway of such an ID for one that has failed.
	prototypes = []string{"constructor", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString", "toString", "valueOf",
		"__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__"}

	errID   = errors.New("letters, digits and ._- are allowed, 64 at most, and not . alone, nor a name that all JavaScript objects have")
	errBase = errors.New("write it like https://cdn.example.com, without a slash at its end")
)

const maxHost = 253 // bytes of a DNS name

// Check says what is wrong with a pathway.
func (p Pathway) Check() error {
	switch {
	case !goodID(p.ID):
		return fmt.Errorf("id %q: %w", p.ID, errID)
	case p.Weight < 0 || p.Weight > MaxWeight:
		return fmt.Errorf("weight %d is not between 0 and %d", p.Weight, MaxWeight)
	}
	return CheckBase(p.URL, true)
}

func goodID(id string) bool {
	return pathwayID.MatchString(id) && id != "." && !slices.Contains(prototypes, id)
}

// CheckBase says what is wrong with a URL that paths are put after. It stands in playlists and in a page's headers as it is. With a path of
// its own, objects would have other paths on one host than on another: where path is false, there may be none.
func CheckBase(s string, path bool) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !goodHost(u) || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		strings.HasSuffix(s, "/") || strings.ContainsAny(s, "\"'`;, <>\\#?") || u.Scheme+"://"+u.Host+u.EscapedPath() != s || path && strings.Contains(u.Path, "//") {
		return fmt.Errorf("%q: %w", s, errBase)
	}
	if u.Path != "" && !path {
		return fmt.Errorf("%q: %w, nor any other path", s, errBase)
	}
	return nil
}

// goodHost says whether u's host means the same to browsers and in a Content-Security-Policy: a DNS name, or an address without a zone.
func goodHost(u *url.URL) bool {
	host := u.Hostname()
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Zone() == "" && !strings.HasSuffix(u.Host, ":")
	}
	last := host[strings.LastIndexByte(host, '.')+1:]
	return hostName.MatchString(host) && len(host) <= maxHost && strings.Trim(last, "0123456789") != "" && !strings.HasSuffix(u.Host, ":")
}

// A Steering is the content steering (RFC 8216bis 7) of the streams that have the same pathways. Weights and clones may be changed while it
// is in use; they are gone when the process ends.
type Steering struct {
	streams string // the pattern of names that it is for; "" is all that no other one is for
	ttl     time.Duration
	cache   string // Cache-Control of a manifest

	now atomic.Pointer[pathways]
}

// pathways are those in force at one time. They are never changed: others take their place.
type pathways struct {
	list    []steered
	retired []steered // clones that were taken away, which players may still know
}

// A steered is a Pathway as it is in force.
type steered struct {
	Pathway
	clone *clone // nil: it is in the playlists
}

// NewSteering returns the steering of the streams whose names match the pattern ("": all that have no other), with manifests that are asked for again after
// ttl (whole seconds; 0 is the default).
func NewSteering(streams string, ttl time.Duration, list []Pathway) *Steering {
	if ttl <= 0 {
		ttl = DefaultSteeringTTL
	}
	s := &Steering{streams: streams, ttl: ttl}
	// Whoever asks again after the TTL is to get a new one, from his own cache too. No other cache has a use for it: the
	// query of each viewer differs.
	s.cache = "private, max-age=" + strconv.Itoa(s.seconds()/2)
	now := &pathways{list: make([]steered, len(list))}
	for i, p := range list {
		now.list[i] = steered{Pathway: p}
	}
	s.now.Store(now)
	return s
}

func (s *Steering) seconds() int { return int(s.ttl / time.Second) }

// pathways are those in force, which nobody may change.
func (s *Steering) pathways() []steered { return s.now.Load().list }

func find(list []steered, id string) int {
	return slices.IndexFunc(list, func(x steered) bool { return x.ID == id })
}

// weighed is p with another weight of the pathway with that ID.
func (p pathways) weighed(id string, weight int) (pathways, error) {
	i := find(p.list, id)
	if i < 0 {
		return p, errUnknown
	}
	p.list = slices.Clone(p.list)
	p.list[i].Weight = weight
	return p, nil
}

func nodes(list []steered) []rendezvous.Node {
	nodes := make([]rendezvous.Node, len(list))
	for i, x := range list {
		nodes[i] = rendezvous.Node{ID: x.ID, Weight: x.Weight}
	}
	return nodes
}

// bucketKey is what pathways are ranked for.
func bucketKey(bucket int) rendezvous.Hash { return rendezvous.New(strconv.Itoa(bucket)) }

// appendManifest appends the steering manifest (RFC 8216bis 7.2) of a bucket. It names every pathway, those without weight last:
// they are to be had when all others fail. It is a function of the bucket, the weights and the clones.
func (s *Steering) appendManifest(dst []byte, bucket int) []byte {
	list := s.pathways()
	nodes := nodes(list)
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
	dst = append(dst, ']')
	before := `,"PATHWAY-CLONES":[`
	for _, x := range list {
		if x.clone != nil {
			dst = append(append(dst, before...), x.clone.json...)
			before = ","
		}
	}
	if before == "," {
		dst = append(dst, ']')
	}
	return append(dst, "}\n"...)
}

// shares returns which part of the buckets each of the pathways is first for.
func shares(list []steered) []float64 {
	first := map[string]int{}
	nodes := nodes(list)
	for b := range SteeringBuckets {
		rendezvous.Sort(nodes, bucketKey(b))
		first[nodes[0].ID]++
	}
	out := make([]float64, len(list))
	for i, x := range list {
		out[i] = float64(first[x.ID]) / SteeringBuckets
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
// (RFC 8216bis 7.3) change nothing. A stream without pathways is 410, after which a player that was told of some goes on without asking
// again (RFC 8216bis 7.3). It is never 429, after which hls.js does not ask again either.
func (s *Server) serveSteering(rw http.ResponseWriter, r *http.Request) {
	w := rw.(*response)
	w.class = ClassSteering
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.fail(w, r, errMethod)
		return
	}
	name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/"), steeringSuffix)
	if _, ok := s.Origin.Stream(name); !ok {
		s.fail(w, r, errUnknown)
		return
	}
	var steering *Steering
	if s.Steering != nil {
		steering = s.Steering(name)
	}
	if steering == nil {
		s.fail(w, r, errUnsteered)
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
