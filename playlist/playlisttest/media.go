package playlisttest

import (
	"math"
	"regexp"
	"strings"
	"time"
)

var (
	decimals5  = regexp.MustCompile(`^\d+\.\d{5,}$`)
	siblingURI = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)                                                                  // beside the playlist: no folder, no query
	rangeURI   = regexp.MustCompile(`^(?:\.\./\.\./[A-Za-z0-9._-]+/|\.\./\.\./\.\./[A-Za-z0-9._-]+/ts/)[A-Za-z0-9._-]+$`) // of a range's playlist
	reportURI  = regexp.MustCompile(`^\.\./[A-Za-z0-9._~%-]+/index\.m3u8$`)
	firstRange = regexp.MustCompile(`^[1-9]\d*@0$`) // an I-frame that its segment begins with
	onceTags   = []string{"#EXTM3U", "#EXT-X-VERSION", "#EXT-X-TARGETDURATION", "#EXT-X-MEDIA-SEQUENCE", "#EXT-X-DISCONTINUITY-SEQUENCE"}
	atMostOnce = []string{"#EXT-X-SERVER-CONTROL", "#EXT-X-I-FRAMES-ONLY", "#EXT-X-PART-INF", "#EXT-X-INDEPENDENT-SEGMENTS", "#EXT-X-SKIP", "#EXT-X-PRELOAD-HINT", "#EXT-X-ENDLIST", "#EXT-X-PLAYLIST-TYPE", "#EXT-X-START"}
	lowLatency = []string{"#EXT-X-SERVER-CONTROL", "#EXT-X-PART-INF", "#EXT-X-PART", "#EXT-X-PRELOAD-HINT", "#EXT-X-RENDITION-REPORT", "#EXT-X-SKIP"}
)

const (
	frame      = 1.0 / 23 // s, the longest frame that a sum of durations may be off by: films have 23.976 a second
	tick       = 0.0015   // s, the resolution of EXT-X-PROGRAM-DATE-TIME, with rounding
	partsSlack = 0.02     // s by which parts may be removed sooner than three target durations from the end
	slew       = 0.03     // s by which a date may be off that follows the wall clock
)

// MediaProblems says how a Media Playlist breaks RFC 8216bis, Apple's authoring specification or the house's own rules.
func MediaProblems(body []byte) []string { return mediaProblems(body, frame) }

// mediaProblems is MediaProblems where a frame may last so long, s.
func mediaProblems(body []byte, longest float64) []string {
	m := Parse(body)
	m.longest = longest
	m.checkHead()
	m.checkSegments()
	m.checkParts()
	m.checkTail()
	return m.problems
}

// TS says whether m is a playlist of MPEG-TS segments, which have no Media Initialization Section.
func (m *Media) TS() bool { return m.count["#EXT-X-MAP"] == 0 && strings.HasSuffix(m.lastURI(), ".ts") }

func (m *Media) lastURI() string {
	if n := len(m.Segments); n > 0 {
		return m.Segments[n-1].URI
	}
	return ""
}

// plain says whether m is a playlist in which low latency has no place.
func (m *Media) plain() bool { return m.IFrames || m.TS() }

func (m *Media) checkHead() {
	for _, tag := range onceTags {
		if m.count[tag] != 1 {
			m.bad("%s %d times", tag, m.count[tag])
		}
	}
	for _, tag := range atMostOnce {
		if m.count[tag] > 1 {
			m.bad("%s %d times", tag, m.count[tag])
		}
	}
	need := 3
	switch {
	case m.count["#EXT-X-SKIP"] > 0:
		need = 9
	case m.IFrames:
		need = 5
	case m.count["#EXT-X-MAP"] > 0:
		need = 6
	}
	if m.Version != need {
		m.bad("EXT-X-VERSION is %d, needed is %d", m.Version, need)
	}
	if m.Target < 1 {
		m.bad("target duration %d", m.Target)
	}
	if m.MSN < 1 {
		m.bad("media sequence %d: hls.js does not use blocking reload", m.MSN)
	}
	if m.plain() {
		for _, tag := range lowLatency {
			if m.count[tag] > 0 {
				m.bad("%s in a playlist without low latency", tag)
			}
		}
	} else if m.Control["CAN-BLOCK-RELOAD"] != "YES" && m.Type != "VOD" {
		m.bad("no CAN-BLOCK-RELOAD")
	}
	switch m.Type {
	case "", "EVENT":
	case "VOD":
		if !m.End || m.count["#EXT-X-SERVER-CONTROL"] > 0 {
			m.bad("video on demand without an end, or with something to wait for")
		}
	default:
		m.bad("EXT-X-PLAYLIST-TYPE %q", m.Type)
	}
	if m.Start != nil && m.Start["TIME-OFFSET"] == "" {
		m.bad("EXT-X-START without TIME-OFFSET")
	}
	if m.PartInf != nil {
		if m.PartTarget <= 0 {
			m.bad("PART-TARGET %q", m.PartInf["PART-TARGET"])
		}
		if h := seconds(m.Control["PART-HOLD-BACK"]); h < 3*m.PartTarget-1e-9 {
			m.bad("PART-HOLD-BACK %v is less than three part targets", h)
		}
	} else if m.Control["PART-HOLD-BACK"] != "" {
		m.bad("PART-HOLD-BACK without EXT-X-PART-INF")
	}
	if h := m.Control["HOLD-BACK"]; h != "" && seconds(h) < float64(3*m.Target) {
		m.bad("HOLD-BACK %s", h)
	}
	if s := m.Control["CAN-SKIP-UNTIL"]; s != "" && seconds(s) < float64(6*m.Target) {
		m.bad("CAN-SKIP-UNTIL %s is less than six target durations", s)
	} else if s == "" && (m.Control["CAN-SKIP-DATERANGES"] != "" || m.Skipped > 0) {
		m.bad("no CAN-SKIP-UNTIL")
	}
	if m.count["#EXT-X-SKIP"] > 0 {
		if m.Skipped < 1 {
			m.bad("EXT-X-SKIP of nothing")
		}
		if d := m.distance(0); d < seconds(m.Control["CAN-SKIP-UNTIL"]) {
			m.bad("a segment is skipped that ends %v s before the end of the playlist", d)
		}
	}
}

// distance is from the beginning of m.Segments[i] to the end of the playlist, in seconds.
func (m *Media) distance(i int) float64 {
	var d float64
	for _, s := range m.Segments[i:] {
		d += seconds(s.Duration)
	}
	if m.Open != nil {
		d += m.Open.partSum()
	}
	return math.Round(d*1e5) / 1e5
}

func (s *Segment) partSum() float64 {
	var d float64
	for _, p := range s.Parts {
		d += seconds(p.Duration)
	}
	return d
}

func (m *Media) checkSegments() {
	if len(m.Segments) == 0 {
		m.bad("no segment")
	}
	uris := map[string]bool{}
	var prev *Segment
	check := func(s *Segment) {
		if !m.TS() && (s.Map == "" || !m.besides(s.Map)) {
			m.bad("segment %d: EXT-X-MAP URI %q", s.MSN, s.Map)
		}
		at, err := parsePDT(s.PDT)
		if err != nil {
			m.bad("segment %d: EXT-X-PROGRAM-DATE-TIME %q", s.MSN, s.PDT)
		}
		if prev != nil && !s.Discontinuity {
			before, _ := parsePDT(prev.PDT)
			if off := at.Sub(before).Seconds() - seconds(prev.Duration); math.Abs(off) > tick+slew {
				m.bad("segment %d: date is off by %.5f s from the one before and its duration", s.MSN, off)
			}
			if prev.Map != s.Map {
				m.bad("segment %d: EXT-X-MAP changes without EXT-X-DISCONTINUITY", s.MSN)
			}
		} else if prev != nil {
			before, _ := parsePDT(prev.PDT)
			if end := before.Add(time.Duration(seconds(prev.Duration) * 1e9)); end.Sub(at) >= time.Second {
				m.bad("segment %d: date falls back by %v", s.MSN, end.Sub(at))
			}
		}
		prev = s
	}
	for i := range m.Segments {
		s := &m.Segments[i]
		check(s)
		if !decimals5.MatchString(s.Duration) {
			m.bad("segment %d: EXTINF %q", s.MSN, s.Duration)
		}
		if d := seconds(s.Duration); d <= 0 || math.Floor(d+0.5) > float64(m.Target) {
			m.bad("segment %d: duration %s, target %d", s.MSN, s.Duration, m.Target)
		}
		if !m.besides(s.URI) || uris[s.URI] {
			m.bad("segment %d: URI %q", s.MSN, s.URI)
		}
		uris[s.URI] = true
		if ranged := m.IFrames && !s.Gap; ranged && !firstRange.MatchString(s.Range) || !ranged && s.Range != "" {
			m.bad("segment %d: range %q", s.MSN, s.Range)
		}
		if m.TS() != strings.HasSuffix(s.URI, ".ts") {
			m.bad("segment %d: URI %q among others", s.MSN, s.URI)
		}
		if s.Gap && len(s.Parts) > 0 {
			m.bad("segment %d: a gap with parts", s.MSN)
		}
	}
	if m.Open != nil {
		check(m.Open)
	}
}

func (m *Media) checkParts() {
	if m.PartInf == nil {
		if m.count["#EXT-X-PART"]+m.count["#EXT-X-PRELOAD-HINT"] > 0 {
			m.bad("parts without EXT-X-PART-INF")
		}
		return
	}
	uris := map[string]bool{}
	parts := func(s *Segment) {
		for i, p := range s.Parts {
			d := seconds(p.Duration)
			if !decimals5.MatchString(p.Duration) || d <= 0 || d > m.PartTarget {
				m.bad("segment %d part %d: duration %s, part target %v", s.MSN, i, p.Duration, m.PartTarget)
			}
			// The last of a segment may be short; so may one with a key frame. Of an open segment nobody can tell.
			if last := i == len(s.Parts)-1; d < 0.85*m.PartTarget-1e-5 && !last && !p.Independent {
				m.bad("segment %d part %d: duration %s is less than 85 %% of %v", s.MSN, i, p.Duration, m.PartTarget)
			}
			if !siblingURI.MatchString(p.URI) || uris[p.URI] {
				m.bad("segment %d part %d: URI %q", s.MSN, i, p.URI)
			}
			uris[p.URI] = true
		}
		if len(s.Parts) > 0 && m.Independent && !s.Parts[0].Independent {
			m.bad("segment %d begins with a dependent part in spite of EXT-X-INDEPENDENT-SEGMENTS", s.MSN)
		}
	}
	seen := false
	for i := range m.Segments {
		s := &m.Segments[i]
		parts(s)
		toEnd := m.distance(i) - seconds(s.Duration)
		switch {
		case len(s.Parts) > 0:
			seen = true
			if toEnd >= float64(3*m.Target) {
				m.bad("segment %d has parts %v s from the end", s.MSN, toEnd)
			}
			if sum := s.partSum(); math.Abs(sum-seconds(s.Duration)) > m.longest {
				m.bad("segment %d lasts %s s, its parts %v s", s.MSN, s.Duration, sum)
			}
		case !s.Gap && seen:
			m.bad("segment %d has no parts and an earlier one has", s.MSN)
		case !s.Gap && toEnd < float64(3*m.Target)-partsSlack:
			m.bad("segment %d has no parts %v s from the end", s.MSN, toEnd)
		}
	}
	if m.Open != nil {
		parts(m.Open)
	}
	if m.Hint != "" && (uris[m.Hint] || !siblingURI.MatchString(m.Hint)) {
		m.bad("hint of %q", m.Hint)
	}
}

func (m *Media) checkTail() {
	if m.End && (m.Hint != "" || m.Open != nil) {
		m.bad("EXT-X-ENDLIST with something to come")
	}
	// Parts of an open segment mean that the next is being made; a publication that pauses closes its segment first.
	if m.PartInf != nil && m.Open != nil && m.Hint == "" && !m.End {
		m.bad("an open segment without EXT-X-PRELOAD-HINT")
	}
	seen := map[string]bool{}
	for _, r := range m.Reports {
		if u := r["URI"]; !reportURI.MatchString(u) || seen[u] {
			m.bad("rendition report URI %q", u)
		}
		seen[r["URI"]] = true
		if r["LAST-MSN"] == "" || (r["LAST-PART"] != "") != (m.PartInf != nil) {
			m.bad("rendition report %v", r)
		}
	}
}
