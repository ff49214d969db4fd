package playlisttest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/grafov/m3u8"
)

// Problems says how a playlist of either kind breaks the rules, by this package's own parser alone. It is cheap.
func Problems(body []byte) []string { return problems(body, frame) }

// problems is Problems where a frame may last so long, s.
func problems(body []byte, longest float64) []string {
	if IsMultivariant(body) {
		return MultivariantProblems(body)
	}
	return mediaProblems(body, longest)
}

// ReportProblems says whether a Media Playlist has not that many EXT-X-RENDITION-REPORTs: one for each of the other
// renditions (Apple's low-latency rules ask for all), which its text alone does not tell.
func ReportProblems(body []byte, n int) []string {
	if got := len(Parse(body).Reports); got != n {
		return []string{fmt.Sprintf("%d rendition reports of %d", got, n)}
	}
	return nil
}

// CheckReports fails t if a Media Playlist has not that many EXT-X-RENDITION-REPORTs.
func CheckReports(t testing.TB, body []byte, n int) {
	t.Helper()
	if p := ReportProblems(body, n); len(p) > 0 {
		t.Errorf("%q\n%s", p, body)
	}
}

// Check fails t if a playlist of either kind breaks a rule, or if grafov/m3u8, hls.js or m3u8-parser objects to it or
// understands something else by it. Where node is missing it does without the latter two; see RequirePeers.
func Check(t testing.TB, body []byte) {
	t.Helper()
	check(t, body, frame)
}

// CheckDropping is Check for what an encoder sends that leaves frames out when the machine is busy: the frame before them lasts longer
// than what is left of its part, whose duration is bounded, and the media of the next segment begins that much sooner.
func CheckDropping(t testing.TB, body []byte) {
	t.Helper()
	check(t, body, 2*frame)
}

func check(t testing.TB, body []byte, longest float64) {
	t.Helper()
	if problems := append(problems(body, longest), ForeignProblems(body)...); len(problems) > 0 {
		t.Errorf("%q\n%s", problems, body)
	}
}

// ForeignProblems is what grafov/m3u8, hls.js and m3u8-parser object to in a playlist of either kind, or understand otherwise. Where node is
// missing it does without the latter two; see RequirePeers.
func ForeignProblems(body []byte) []string {
	problems := grafovProblems(body)
	p, err := theParsers()
	if err == nil {
		var more []string
		more, err = p.ask(body)
		problems = append(problems, more...)
	} else if !required() {
		return problems
	}
	if err != nil {
		problems = append(problems, err.Error())
	}
	return problems
}

// RequirePeers skips t, or with CI or HEADWATER_PEERS=required in the environment fails it, when the foreign parsers that
// run on node are missing. "npm ci" in this package's folder installs them.
func RequirePeers(t testing.TB) {
	t.Helper()
	if _, err := theParsers(); err != nil {
		if required() {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

func required() bool {
	return os.Getenv("CI") != "" || os.Getenv("HEADWATER_PEERS") == "required"
}

// grafovProblems is what grafov/m3u8 thinks. It knows no low-latency tag, takes EXT-X-SKIP for a
// comment, and raises the target duration to the longest segment's, rounded up.
func grafovProblems(body []byte) []string {
	var out []string
	bad := func(format string, args ...any) { out = append(out, "grafov/m3u8: "+fmt.Sprintf(format, args...)) }
	p, kind, err := m3u8.DecodeFrom(bytes.NewReader(body), true)
	switch {
	case err != nil:
		bad("%v", err)
	case IsMultivariant(body) != (kind == m3u8.MASTER):
		bad("takes it for the other kind of playlist")
	case kind == m3u8.MASTER:
		if n := strings.Count(string(body), "STREAM-INF:"); len(p.(*m3u8.MasterPlaylist).Variants) != n {
			bad("%d variants of %d", len(p.(*m3u8.MasterPlaylist).Variants), n)
		}
	default:
		ours, theirs := Parse(body), p.(*m3u8.MediaPlaylist)
		if theirs.Iframe != ours.IFrames {
			bad("I-frames only: %v", theirs.Iframe)
		}
		if theirs.SeqNo != ours.MSN || theirs.DiscontinuitySeq != ours.DiscSeq || theirs.Closed != ours.End {
			bad("media sequence %d, discontinuity sequence %d, closed %v", theirs.SeqNo, theirs.DiscontinuitySeq, theirs.Closed)
		}
		if int(theirs.Count()) != len(ours.Segments) {
			bad("%d segments of %d", theirs.Count(), len(ours.Segments))
			break
		}
		for i, s := range ours.Segments {
			if g := theirs.Segments[i]; g.URI != s.URI || math.Abs(g.Duration-seconds(s.Duration)) > 1e-9 || g.Discontinuity != s.Discontinuity ||
				s.Range != "" && fmt.Sprintf("%d@%d", g.Limit, g.Offset) != s.Range {
				bad("segment %d is %s of %v s, discontinuity %v, range %d@%d", s.MSN, g.URI, g.Duration, g.Discontinuity, g.Limit, g.Offset)
			}
		}
	}
	return out
}

// parsers is a node process that reads playlists for as long as the test binary runs: it ends when its input does.
type parsers struct {
	mu  sync.Mutex // one playlist at a time
	in  *json.Encoder
	out *bufio.Reader
}

var theParsers = sync.OnceValues(startParsers)

func startParsers() (*parsers, error) {
	dir, err := home()
	if err != nil {
		return nil, err
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, errors.New("playlist parsers are missing: no node in PATH")
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "hls.js")); err != nil {
		return nil, fmt.Errorf("playlist parsers are missing: run npm ci in %s", dir)
	}
	cmd := exec.Command(node, "parse.mjs")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &parsers{in: json.NewEncoder(in), out: bufio.NewReader(out)}, nil
}

// home finds this package's folder from wherever in the module a test runs.
func home() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "playlist", "playlisttest"), nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = up
	}
}

type answer struct {
	Errors []string
	Facts  struct {
		HLS struct {
			StartSN, StartCC      uint64
			Skipped, Target       int
			Live, Block           bool
			PartTarget, SkipUntil float64
			PartHoldBack          float64
			Hint                  string
			Reports               int
			Fragments             []struct {
				SN, CC   uint64
				URI, Map string
				Duration float64
				Gap      bool
				PDT      float64
				Range    string
			}
			Parts []struct {
				URI         string
				Duration    float64
				Independent bool
				SN          uint64
				Index       int
			}
			Levels []struct{ URL, Pathway string }
			// Of EXT-X-CONTENT-STEERING.
			Steering *struct{ URI, Pathway string }

			Audio []struct{ URL, Name string }

			IFrames []struct{ URL string }
		}
		Videojs struct {
			Segments []struct {
				URI, Map string
				Duration float64
				Range    string
			}
			Playlists, IFrames []string
			Pathways           []string // of Playlists
			Steering           *struct{ URI, Pathway string }
			Ended, IFramesOnly bool
		}
	}
}

// ask returns what the parsers object to, and where they understand something else than Parse does.
func (p *parsers) ask(body []byte) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.in.Encode(map[string]string{"text": string(body)}); err != nil {
		return nil, fmt.Errorf("playlist parsers: %w", err)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("playlist parsers: %w", err)
	}
	var a answer
	if err := json.Unmarshal(line, &a); err != nil {
		return nil, fmt.Errorf("playlist parsers: %w", err)
	}
	out := a.Errors
	bad := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if IsMultivariant(body) {
		streams := strings.Count(string(body), "\n#EXT-X-STREAM-INF:")
		media := strings.Count(string(body), "\n#EXT-X-MEDIA:")
		iframes := strings.Count(string(body), "\n#EXT-X-I-FRAME-STREAM-INF:")
		if len(a.Facts.HLS.Levels) != streams || len(a.Facts.Videojs.Playlists) != streams {
			bad("hls.js: %d variants, m3u8-parser: %d of %d", len(a.Facts.HLS.Levels), len(a.Facts.Videojs.Playlists), streams)
			return out, nil
		}
		if h := &a.Facts.HLS; len(h.Levels) != streams || len(h.Audio) != media || len(h.IFrames) != iframes {
			bad("hls.js: %d variants, %d audio renditions and %d I-frame playlists of %d, %d and %d",
				len(h.Levels), len(h.Audio), len(h.IFrames), streams, media, iframes)
		}
		if v := &a.Facts.Videojs; len(v.Playlists) != streams || len(v.IFrames) != iframes {
			bad("m3u8-parser: %d variants and %d I-frame playlists of %d and %d", len(v.Playlists), len(v.IFrames), streams, iframes)
		}
		steering, pathways := pathwaysOf(body)
		for i, id := range pathways {
			if a.Facts.HLS.Levels[i].Pathway != id || a.Facts.Videojs.Pathways[i] != id {
				bad("variant %d of pathway %q is hls.js' of %q, m3u8-parser's of %q", i, id, a.Facts.HLS.Levels[i].Pathway, a.Facts.Videojs.Pathways[i])
			}
		}
		h, v := a.Facts.HLS.Steering, a.Facts.Videojs.Steering
		if (h == nil) != (steering == nil) || (v == nil) != (steering == nil) {
			bad("steering %v is hls.js' %v, m3u8-parser's %v", steering, h, v)
		} else if h != nil && (!strings.HasSuffix(h.URI, strings.TrimPrefix(steering["SERVER-URI"], "..")) || h.Pathway != steering["PATHWAY-ID"] ||
			v.URI != steering["SERVER-URI"] || v.Pathway != steering["PATHWAY-ID"]) {
			bad("steering %v is hls.js' %v, m3u8-parser's %v", steering, *h, *v)
		}
		return out, nil
	}
	m := Parse(body)
	h := &a.Facts.HLS
	if h.StartSN != m.MSN || h.StartCC != m.DiscSeq || h.Skipped != m.Skipped || h.Live == m.End || h.Target != m.Target ||
		h.PartTarget != m.PartTarget || h.Block == m.plain() || h.Hint != m.Hint || h.Reports != len(m.Reports) ||
		h.SkipUntil != seconds(m.Control["CAN-SKIP-UNTIL"]) || h.PartHoldBack != seconds(m.Control["PART-HOLD-BACK"]) {
		bad("hls.js read another head or tail: %+v", *h)
	}
	v := &a.Facts.Videojs
	if v.Ended != m.End || v.IFramesOnly != m.IFrames {
		bad("m3u8-parser: ended %v, I-frames only %v", v.Ended, v.IFramesOnly)
	}
	// Both append a fragment for the parts of the open segment: hls.js beside its fragments, m3u8-parser to its segments.
	if len(h.Fragments) != len(m.Segments) || len(v.Segments) < len(m.Segments) {
		bad("hls.js: %d segments, m3u8-parser: %d of %d", len(h.Fragments), len(v.Segments), len(m.Segments))
		return out, nil
	}
	var parts []Part
	var of []Segment
	for i, s := range m.Segments {
		at, _ := parsePDT(s.PDT)
		if f := h.Fragments[i]; f.SN != s.MSN || f.CC != s.DiscSeq || f.URI != s.URI || f.Map != s.Map || f.Range != s.Range || f.Gap != s.Gap ||
			math.Abs(f.Duration-seconds(s.Duration)) > 1e-9 || f.PDT != float64(at.UnixMilli()) {
			bad("hls.js: segment %+v is %+v", s, f)
		}
		if f := v.Segments[i]; f.URI != s.URI || f.Map != s.Map || f.Range != s.Range || math.Abs(f.Duration-seconds(s.Duration)) > 1e-9 {
			bad("m3u8-parser: segment %+v is %+v", s, f)
		}
		for range s.Parts {
			of = append(of, s)
		}
		parts = append(parts, s.Parts...)
	}
	if m.Open != nil {
		for range m.Open.Parts {
			of = append(of, *m.Open)
		}
		parts = append(parts, m.Open.Parts...)
	}
	if len(h.Parts) != len(parts) {
		bad("hls.js: %d parts of %d", len(h.Parts), len(parts))
		return out, nil
	}
	for i, p := range parts {
		if f := h.Parts[i]; f.URI != p.URI || f.Independent != p.Independent || math.Abs(f.Duration-seconds(p.Duration)) > 1e-9 || f.SN != of[i].MSN {
			bad("hls.js: part %+v of segment %d is %+v", p, of[i].MSN, f)
		}
	}
	return out, nil
}
