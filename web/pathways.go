package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"
)

// The operations port shows the pathways and takes their weights.

const (
	pathwaysPath = apiPrefix + "pathways"
	maxWeighing  = 4 << 10 // bytes of a request
)

var errWeighing = fmt.Errorf(`want {"weight": N}, N from 0 to %d, and perhaps "streams": the pattern that alone is meant, and for a pathway to add "url" and "params"`, MaxWeight)

// A steeringInfo is what /api/pathways says of the streams that have the same pathways.
type steeringInfo struct {
	Streams  string        `json:"streams"` // the pattern of their names; "" is all that no other one has
	TTL      int           `json:"ttl"`     // seconds after which players have seen a change
	Pathways []pathwayInfo `json:"pathways"`
}

type pathwayInfo struct {
	ID     string  `json:"id"`
	URL    string  `json:"url"`
	Weight int     `json:"weight"`
	Share  float64 `json:"share"` // of the viewers, 0 to 1

	CloneOf string   `json:"clone_of,omitempty"` // the pathway that players make its URIs of
	Params  []string `json:"params,omitempty"`   // names of what they add to the queries
}

// A weighing is the body of PUT /api/pathways/<id>.
type weighing struct {
	Weight  *int    `json:"weight"`
	Streams *string `json:"streams"` // nil: wherever there is a pathway of that ID; to add one, everywhere

	// Of a pathway to add.
	URL    string            `json:"url"`
	Params map[string]string `json:"params"` // for the queries of its URIs, not for logs
}

func (s *Server) routePathways(r *mux.Router) {
	r.Path(pathwaysPath).HandlerFunc(s.onlyGet(func(w *response, r *http.Request) { s.showPathways(w, r, "") }))
	r.PathPrefix(pathwaysPath + "/").HandlerFunc(s.servePathway)
}

// isWeighing says whether a request to the operations port has a body of which use is made.
func isWeighing(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, pathwaysPath+"/")
}

// servePathway is GET, PUT and DELETE /api/pathways/<id>. The first two answer with what there is of that pathway; the next manifest that is
// asked for knows it. DELETE, of one that was added, answers with those that are left.
func (s *Server) servePathway(rw http.ResponseWriter, r *http.Request) {
	w := rw.(*response)
	id := strings.TrimPrefix(r.URL.Path, pathwaysPath+"/")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPut:
		err := checkBrowser(r)
		var to weighing
		if err == nil {
			to, err = w.readWeighing(r)
		}
		if err == nil {
			err = s.weigh(id, to, r.RemoteAddr)
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
	case http.MethodDelete:
		err := checkBrowser(r)
		if err == nil && r.ContentLength != 0 {
			err = errClone("say which streams are meant in the query: ?streams=event/*")
		}
		if err == nil {
			err = s.removeClone(id, r)
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
		id = ""
	default:
		w.Header().Set("Allow", allowedPathway)
		s.fail(w, r, errMethod)
		return
	}
	s.showPathways(w, r, id)
}

// checkBrowser refuses a page that a browser has loaded from a name that leads here and is not ours (DNS rebinding): to the browser that is a page
// of this server. Programs that are no browsers send no Origin.
func checkBrowser(r *http.Request) error {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if len(r.Header["Origin"]) > 0 && err != nil && host != "localhost" {
		return errBrowser
	}
	return nil
}

// weigh does what a request asks of the pathway of that ID in every Steering that it means.
func (s *Server) weigh(id string, to weighing, remote string) error {
	return s.change(to.Streams, func(p pathways) (pathways, error) {
		if to.URL != "" {
			return p.cloned(Pathway{id, to.URL, *to.Weight}, to.Params)
		}
		return p.weighed(id, *to.Weight)
	}, "pathway weighed", "pathway", id, "weight", *to.Weight, "url", to.URL, "remote", remote)
}

func (s *Server) removeClone(id string, r *http.Request) error {
	var streams *string
	if q := r.URL.Query(); q.Has("streams") {
		pattern := q.Get("streams")
		streams = &pattern
	}
	return s.change(streams, func(p pathways) (pathways, error) { return p.without(id) }, "pathway removed", "pathway", id, "remote", r.RemoteAddr)
}

// change puts what f makes of them in the place of the pathways of every Steering, or of the one for that pattern, and tells of each. It is all or nothing,
// but for those of which f says that they know nothing of the pathway: that is an error if they all do.
func (s *Server) change(streams *string, f func(pathways) (pathways, error), message string, about ...any) error {
	s.steer.Lock()
	defer s.steer.Unlock()
	why := errUnknown
	next := map[*Steering]pathways{}
	for _, x := range s.Steerings {
		if streams != nil && *streams != x.streams {
			continue
		}
		switch p, err := f(*x.now.Load()); {
		case err == nil:
			next[x] = p
		case err == errNoBase:
			why = err
		case !errors.Is(err, errUnknown):
			return err
		}
	}
	if len(next) == 0 {
		return why
	}
	for _, x := range s.Steerings {
		if p, ok := next[x]; ok {
			x.now.Store(&p)
			s.log.Info(message, append(about, "streams", x.streams)...)
		}
	}
	return nil
}

func (w *response) readWeighing(r *http.Request) (to weighing, err error) {
	w.readDeadline(requestBodyTimeout)
	if r.ContentLength > maxWeighing {
		return to, errBody
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxWeighing+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return to, errBodyLate
	case err != nil:
		return to, errBodyBroken
	case len(body) > maxWeighing:
		return to, errBody
	}
	if w.deadlin != nil {
		_ = w.deadlin.SetReadDeadline(time.Time{})
	}
	return parseWeighing(body)
}

func parseWeighing(body []byte) (to weighing, err error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if d.Decode(&to) != nil || to.Weight == nil || *to.Weight < 0 || *to.Weight > MaxWeight || to.URL == "" && to.Params != nil {
		return weighing{}, errWeighing
	}
	if _, err := d.Token(); err != io.EOF {
		return weighing{}, errWeighing
	}
	return to, nil
}

// showPathways answers with all pathways, or with those of that ID.
func (s *Server) showPathways(w *response, r *http.Request, id string) {
	list := []steeringInfo{}
	for _, x := range s.Steerings {
		info := steeringInfo{Streams: x.streams, TTL: x.seconds()}
		pathways := x.pathways()
		shares := shares(pathways)
		for i, p := range pathways {
			if id != "" && id != p.ID {
				continue
			}
			about := pathwayInfo{ID: p.ID, URL: p.URL, Weight: p.Weight, Share: shares[i]}
			if c := p.clone; c != nil {
				about.CloneOf, about.Params = c.base, slices.Sorted(maps.Keys(c.params))
			}
			info.Pathways = append(info.Pathways, about)
		}
		if len(info.Pathways) > 0 {
			list = append(list, info)
		}
	}
	if id != "" && len(list) == 0 {
		s.fail(w, r, errUnknown)
		return
	}
	body, err := json.Marshal(list)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.class = ClassData
	w.reply(&object{contentType: typeJSON, cache: cacheNever, bytes: body, size: len(body), tag: bodyTag(body)})
}
