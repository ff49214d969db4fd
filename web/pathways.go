package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gorilla/mux"
)

// The operations port shows the pathways and takes their weights.

const (
	pathwaysPath = apiPrefix + "pathways"
	maxWeighing  = 4 << 10 // bytes of a request
)

var errWeighing = fmt.Errorf(`want {"weight": N}, N from 0 to %d, and perhaps "streams": the pattern that alone is meant`, MaxWeight)

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
}

// A weighing is the body of PUT /api/pathways/<id>.
type weighing struct {
	Weight  *int    `json:"weight"`
	Streams *string `json:"streams"` // nil: wherever there is a pathway of that ID
}

func (s *Server) routePathways(r *mux.Router) {
	r.Path(pathwaysPath).HandlerFunc(s.onlyGet(func(w *response, r *http.Request) { s.showPathways(w, r, "") }))
	r.PathPrefix(pathwaysPath + "/").HandlerFunc(s.servePathway)
}

// isWeighing says whether a request to the operations port has a body of which use is made.
func isWeighing(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, pathwaysPath+"/")
}

// servePathway is GET and PUT /api/pathways/<id>. Both answer with what there is of that pathway; the next manifest that is
// asked for knows it.
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
	default:
		w.Header()["Allow"] = allowedPut
		s.fail(w, r, errMethod)
		return
	}
	s.showPathways(w, r, id)
}

func (s *Server) weigh(id string, to weighing, remote string) error {
	found := false
	for _, x := range s.Steerings {
		if to.Streams == nil || *to.Streams == x.streams {
			if x.setWeight(id, *to.Weight) {
				found = true
				s.log.Info("pathway weighed", "pathway", id, "streams", x.streams, "weight", *to.Weight, "remote", remote)
			}
		}
	}
	if !found {
		return errUnknown
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
	if d.Decode(&to) != nil || to.Weight == nil || *to.Weight < 0 || *to.Weight > MaxWeight {
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
		shares := x.shares()
		for i := range x.pathways {
			p := &x.pathways[i]
			if id == "" || id == p.id {
				info.Pathways = append(info.Pathways, pathwayInfo{p.id, p.url, int(p.weight.Load()), shares[i]})
			}
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
