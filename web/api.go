package web

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/mux"

	"headwater/playlist"
	"headwater/segmenter"
	"headwater/segmenter/media"
)

// apiPrefix is where the data lies: no stream's application is called "api".
const apiPrefix = "/api/"

const streamsPath = apiPrefix + "streams"

// A streamInfo is what /api/streams says of a stream. Times are seconds unless they are points in time; rates are bits a
// second. Nothing in it is secret: whoever can watch may read it.
type streamInfo struct {
	Name             string      `json:"name"`
	Publishing       bool        `json:"publishing"`
	Since            *time.Time  `json:"since"` // when the publication began, null before the first
	Playlist         string      `json:"playlist"`
	Run              string      `json:"run"`   // "" before the first key frame
	Ready            bool        `json:"ready"` // the run can be played
	Ended            bool        `json:"ended"`
	TargetDuration   int         `json:"targetDuration"`
	PartTarget       float64     `json:"partTarget"`
	KeyframeInterval float64     `json:"keyframeInterval"` // 0 is not known; the time since the last one if that is too long
	LongGOP          string      `json:"longGOP"`          // what is done if it is too long, see segmenter.LongGOP; "" before the first key frame
	Reconnects       int         `json:"reconnects"`
	Discontinuities  int         `json:"discontinuities"`
	Advice           []string    `json:"advice"`
	Inputs           []inputInfo `json:"inputs"`
	Tracks           []trackInfo `json:"tracks"` // of all inputs
}

// An inputInfo is a publication that feeds a stream.
type inputInfo struct {
	Rendition        string    `json:"rendition"` // "" is the only one or the source
	Role             string    `json:"role"`      // primary or backup
	State            string    `json:"state"`     // see segmenter.State
	Alignment        string    `json:"alignment"` // what its place beside the others rests on
	Reason           string    `json:"reason,omitempty"`
	Since            time.Time `json:"since"`
	Switched         *switched `json:"switched,omitempty"` // when the rendition went over to it, if it did
	KeyframeInterval float64   `json:"keyframeInterval"`
	Skew             float64   `json:"skew"` // of its latest key frame against the leader's
	Lag              float64   `json:"lag"`  // by how much later than the leader's that arrived
	Bitrate          int       `json:"bitrate"`
	Declared         int       `json:"declaredBitrate"` // by the encoder; 0 is not known
	Width            int       `json:"width,omitempty"`
	Height           int       `json:"height,omitempty"`
	LastMSN          uint64    `json:"lastMSN,omitempty"`
}

// A switched says when and why a rendition went over to a publication from the other one.
type switched struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"` // see segmenter.Reason
}

type trackInfo struct {
	Kind       string  `json:"kind"`
	Codec      string  `json:"codec"` // RFC 6381
	Language   string  `json:"language,omitempty"`
	Width      int     `json:"width,omitempty"`
	Height     int     `json:"height,omitempty"`
	FrameRate  float64 `json:"frameRate,omitempty"`
	SampleRate int     `json:"sampleRate,omitempty"`
	Channels   int     `json:"channels,omitempty"`

	Bitrate     int    `json:"bitrate"` // measured average; 0 before the first segment is complete
	PeakBitrate int    `json:"peakBitrate"`
	Rendition   string `json:"rendition,omitempty"`
	LastMSN     uint64 `json:"lastMSN,omitempty"`
	Retained    int64  `json:"retainedBytes,omitempty"`
}

func (s *Server) routeAPI(r *mux.Router) {
	r.Path(streamsPath).HandlerFunc(s.serveStreams)
	r.PathPrefix(streamsPath + "/").HandlerFunc(s.serveStream)
	s.routeRecordings(r)
}

// serveStreams is GET /api/streams: a list of streamInfo, in order of name.
func (s *Server) serveStreams(rw http.ResponseWriter, r *http.Request) {
	s.serveJSON(rw.(*response), r, func() ([]byte, string, error) { return s.streams.get(s.allStreams) })
}

// serveStream is GET /api/streams/<app>/<name>: one streamInfo.
func (s *Server) serveStream(rw http.ResponseWriter, r *http.Request) {
	s.serveJSON(rw.(*response), r, func() ([]byte, string, error) {
		st, ok := s.Origin.Stream(strings.TrimPrefix(r.URL.Path, streamsPath+"/"))
		if !ok {
			return nil, "", errUnknown
		}
		body, err := json.Marshal(describe(st))
		return body, bodyTag(body), err
	})
}

func (s *Server) serveJSON(w *response, r *http.Request, get func() ([]byte, string, error)) {
	w.class = ClassData
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.fail(w, r, errMethod)
		return
	}
	body, tag, err := get()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	o := object{contentType: typeJSON, cache: maxAge(ageData), bytes: body, size: len(body), tag: tag}
	w.reply(&o)
}

func bodyTag(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:12])
}

// A memo keeps the list for as long as caches are told to, so that no number of readers makes it more than once a second.
type memo struct {
	mu   sync.Mutex // protects what follows
	body []byte
	tag  string
	at   time.Time
}

func (m *memo) get(render func() ([]byte, error)) ([]byte, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if m.body != nil && now.Sub(m.at) < ageData*time.Second {
		return m.body, m.tag, nil
	}
	body, err := render()
	if err != nil {
		return nil, "", err
	}
	m.body, m.tag, m.at = body, bodyTag(body), now
	return m.body, m.tag, nil
}

func (s *Server) allStreams() ([]byte, error) {
	list := []streamInfo{}
	for _, st := range s.Origin.Streams() {
		list = append(list, describe(st))
	}
	return json.Marshal(list)
}

func describe(st *segmenter.Stream) streamInfo {
	status := st.Status()
	info := streamInfo{
		Name:             st.Name,
		Publishing:       status.Publishing,
		Playlist:         "/" + st.Name + "/" + playlist.Index,
		TargetDuration:   status.TargetDuration,
		KeyframeInterval: status.KeyframeInterval.Seconds(),
		Reconnects:       status.Reconnects,
		Discontinuities:  status.Discontinuities,
		Advice:           []string{},
		Inputs:           []inputInfo{},
		Tracks:           []trackInfo{},
	}
	if !status.Since.IsZero() {
		since := status.Since.UTC().Truncate(time.Millisecond)
		info.Since = &since
	}
	var described []segmenter.Described
	if run := st.Run(); run != nil {
		info.Run, info.Ready, info.Ended = run.ID, run.IsReady(), run.Ended()
		info.TargetDuration = run.TargetDuration()
		info.PartTarget = run.Config.PartTarget.Seconds()
		info.LongGOP = string(run.Config.LongGOP)
		described = run.Presentation().Renditions
	}
	for _, a := range status.Advice {
		info.Advice = append(info.Advice, a.Text)
	}
	for i := range status.Inputs {
		in := &status.Inputs[i]
		out := inputInfo{
			Rendition: in.Rung, Role: in.Role(), State: string(in.State), Alignment: string(in.By), Reason: in.Reason,
			Since: in.Since.UTC().Truncate(time.Millisecond), KeyframeInterval: in.KeyframeInterval.Seconds(), Skew: in.Skew.Seconds(), Lag: in.Lag.Seconds(),
		}
		if w := in.Switched; w.At != 0 {
			out.Switched = &switched{time.Unix(0, w.At).UTC().Truncate(time.Millisecond), string(w.Reason)}
		}
		for j := range in.Tracks {
			t := describeTrack(&in.Tracks[j], in.Renditions[j], described)
			info.Tracks = append(info.Tracks, t)
			out.Declared += in.Tracks[j].BitRate
			out.Bitrate += t.Bitrate
			if in.Tracks[j].Kind == media.Video {
				out.Width, out.Height, out.LastMSN = t.Width, t.Height, t.LastMSN
			}
		}
		info.Inputs = append(info.Inputs, out)
	}
	return info
}

func describeTrack(t *media.Track, rendition string, described []segmenter.Described) trackInfo {
	out := trackInfo{
		Kind: t.Kind.String(), Codec: t.Codec.String, Language: t.Language,
		Width: t.Width, Height: t.Height, FrameRate: t.FrameRate.Float(),
		SampleRate: t.SampleRate, Channels: t.Channels,
	}
	for _, d := range described {
		if d.Rendition.ID != rendition {
			continue
		}
		stats := d.Rendition.Stats()
		out.Bitrate, out.PeakBitrate, out.Retained = stats.Average, stats.Peak, stats.Retained
		out.Rendition, out.LastMSN = d.Rendition.ID, d.Rendition.Window().LastMSN()
		if d.FrameRate > 0 {
			out.FrameRate = d.FrameRate
		}
		break
	}
	return out
}
