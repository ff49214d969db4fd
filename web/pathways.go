package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
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
		weigh, err := w.readWeighing(r)
		if err == nil {
			err = s.weigh(id, weigh, r.RemoteAddr)
		}
		if err != nil {
			s.fail(w, r, err)
			return
		}
	case http.MethodDelete:
		if err := s.removeClone(id, r.RemoteAddr); err != nil {
			s.fail(w, r, err)
			return
		}
		id = ""
	default:
		w.Header()["Allow"] = allowedPathway
		s.fail(w, r, errMethod)
		return
	}
	s.showPathways(w, r, id)
}

// weigh does what a request asks of the pathway of that ID in every Steering that it means and that can.
func (s *Server) weigh(id string, to weighing, remote string) error {
	return s.each(func(x *Steering) error {
		if to.Streams != nil && *to.Streams != x.streams {
			return errUnknown
		}
		var err error
		if to.URL != "" {
			err = x.addClone(Pathway{id, to.URL, *to.Weight}, to.Params)
		} else {
			err = x.setWeight(id, *to.Weight)
		}
		if err == nil {
			s.log.Info("pathway weighed", "pathway", id, "streams", x.streams, "weight", *to.Weight, "url", to.URL, "remote", remote)
		}
		return err
	})
}

func (s *Server) removeClone(id, remote string) error {
	return s.each(func(x *Steering) error {
		err := x.removeClone(id)
		if err == nil {
			s.log.Info("pathway removed", "pathway", id, "streams", x.streams, "remote", remote)
		}
		return err
	})
}

// each calls f with every Steering. If none could do it, that is an error.
func (s *Server) each(f func(*Steering) error) error {
	done, why := false, errUnknown
	for _, x := range s.Steerings {
		switch err := f(x); {
		case err == nil:
			done = true
		case why == errUnknown, !errors.Is(err, errUnknown) && err != errNoBase:
			why = err
		}
	}
	if done {
		return nil
	}
	return why
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
