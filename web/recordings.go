package web

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/mux"

	"headwater/playlist"
	"headwater/segmenter"
)

const recordingsPath = apiPrefix + "recordings"

// A recordingInfo is what /api/recordings says of one.
type recordingInfo struct {
	Stream   string    `json:"stream"`
	Run      string    `json:"run"`
	Playlist string    `json:"playlist"` // the whole of it, multivariant
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	Bytes    int64     `json:"bytes"`
}

func (s *Server) routeRecordings(r *mux.Router) {
	r.Path(recordingsPath).HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s.serveJSON(rw.(*response), r, func() ([]byte, string, error) { return s.recordings.get(s.allRecordings) })
	})
}

// routeRemoval is of the operations port: DELETE /api/recordings/<app>/<name>/<run>.
func (s *Server) routeRemoval(r *mux.Router) {
	r.PathPrefix(recordingsPath + "/").HandlerFunc(s.removeRecording)
}

// allRecordings is GET /api/recordings: a list of recordingInfo, the oldest first.
func (s *Server) allRecordings() ([]byte, error) {
	list := []recordingInfo{}
	for _, v := range s.Origin.Recordings("") {
		list = append(list, recordingInfo{
			Stream: v.Stream, Run: v.Run, Playlist: "/" + v.Stream + "/" + v.Run + "/" + span{}.String() + "/" + playlist.Index,
			Began: v.Began.UTC().Truncate(time.Millisecond), Ended: v.Ended.UTC().Truncate(time.Millisecond), Bytes: v.Bytes,
		})
	}
	return json.Marshal(list)
}

func (s *Server) removeRecording(rw http.ResponseWriter, r *http.Request) {
	w := rw.(*response)
	if r.Method != http.MethodDelete {
		w.Header().Set("Allow", http.MethodDelete)
		s.fail(w, r, errMethod)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, recordingsPath+"/")
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		s.fail(w, r, errUnknown)
		return
	}
	err := s.Origin.RemoveRecording(name[:i], name[i+1:])
	if err != nil {
		if err != segmenter.ErrNotFound {
			s.log.Error("a recording could not be removed", "stream", name[:i], "run", name[i+1:], "err", err)
		}
		s.fail(w, r, err)
		return
	}
	s.log.Info("recording removed", "stream", name[:i], "run", name[i+1:], "remote", r.RemoteAddr)
	w.Header().Set("Cache-Control", cacheNever)
	w.WriteHeader(http.StatusNoContent)
}
