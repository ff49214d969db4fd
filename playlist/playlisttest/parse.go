// Package playlisttest checks playlists in tests. It shares nothing with the package that writes them: it has a parser and
// a list of rules of its own, and asks grafov/m3u8, hls.js and m3u8-parser for their opinion.
package playlisttest

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A Media is a parsed Media Playlist.
type Media struct {
	Version, Target  int
	MSN, DiscSeq     uint64 // of the playlist's first segment, skipped or not
	Skipped          int
	Control, PartInf map[string]string
	PartTarget       float64
	Independent, End bool
	IFrames          bool              // EXT-X-I-FRAMES-ONLY
	Type             string            // EXT-X-PLAYLIST-TYPE
	Start            map[string]string // EXT-X-START; nil: none
	Hint             string            // URI of the hinted part
	Reports          []map[string]string
	Segments         []Segment
	Open             *Segment // parts after the last segment; nil when there is none

	longest  float64        // s, that a frame may last
	near     bool           // something lies beside the playlist
	folder   string         // of what lies on other hosts: its path up to the names
	count    map[string]int // lines of each tag
	problems []string
}

// A Segment is one Media Segment with everything that applies to it.
type Segment struct {
	MSN, DiscSeq  uint64
	Discontinuity bool
	Map, PDT      string
	Gap           bool
	Duration, URI string // as written
	Range         string // of EXT-X-BYTERANGE, as written
	Parts         []Part
}

// A Part is one EXT-X-PART.
type Part struct {
	Duration, URI string
	Independent   bool
}

// Seconds of a duration as written.
func seconds(s string) float64 {
	f, _ := strconv.ParseFloat(s, 64)
	return f
}

func (m *Media) bad(format string, args ...any) {
	m.problems = append(m.problems, fmt.Sprintf(format, args...))
}

// commonProblems are those of any playlist's text (RFC 8216bis 4.1).
func commonProblems(text string) []string {
	var out []string
	if !utf8.ValidString(text) || strings.HasPrefix(text, "\ufeff") {
		out = append(out, "not UTF-8 without a byte order mark")
	}
	if !strings.HasPrefix(text, "#EXTM3U\n") {
		out = append(out, "does not begin with #EXTM3U")
	}
	if !strings.HasSuffix(text, "\n") {
		out = append(out, "does not end with a line end")
	}
	for _, r := range text {
		if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 {
			out = append(out, fmt.Sprintf("control character %U", r))
			break
		}
	}
	if strings.Contains(text, "\n\n") {
		out = append(out, "blank line")
	}
	return out
}

// IsMultivariant says which kind of playlist it is.
func IsMultivariant(body []byte) bool { return strings.Contains(string(body), "\n#EXT-X-STREAM-INF:") }

// Parse parses a Media Playlist. Problems says what is wrong with it.
func Parse(body []byte) *Media {
	m := &Media{count: map[string]int{}}
	m.problems = commonProblems(string(body))
	var seg Segment // being collected
	begun := false  // a tag of a segment has been seen, or a segment
	inMap := ""
	disc := uint64(0)
	var msn uint64
	header := func(tag string) {
		if begun {
			m.bad("%s after the first segment's tags", tag)
		}
	}
	apply := func() { // what is in force applies to seg
		seg.Map = inMap
		if seg.MSN == 0 {
			seg.MSN, seg.DiscSeq = msn, disc
		}
	}
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSuffix(line, "\n")
		if !strings.HasPrefix(line, "#") {
			apply()
			seg.URI = line
			if seg.Duration == "" {
				m.bad("%s has no EXTINF", line)
			}
			m.Segments = append(m.Segments, seg)
			seg, begun = Segment{}, true
			msn++
			continue
		}
		tag, value, _ := strings.Cut(line, ":")
		m.count[tag]++
		switch tag {
		case "#EXTM3U":
		case "#EXT-X-VERSION":
			m.Version = m.integer(tag, value)
			header(tag)
		case "#EXT-X-TARGETDURATION":
			m.Target = m.integer(tag, value)
			header(tag)
		case "#EXT-X-MEDIA-SEQUENCE":
			m.MSN = uint64(m.integer(tag, value))
			msn = m.MSN
			header(tag)
		case "#EXT-X-DISCONTINUITY-SEQUENCE":
			m.DiscSeq = uint64(m.integer(tag, value))
			disc = m.DiscSeq
			header(tag)
		case "#EXT-X-SERVER-CONTROL":
			m.Control = m.attributes(tag, value)
			header(tag)
		case "#EXT-X-PART-INF":
			m.PartInf = m.attributes(tag, value)
			m.PartTarget = seconds(m.PartInf["PART-TARGET"])
			header(tag)
		case "#EXT-X-PLAYLIST-TYPE":
			m.Type = value
			header(tag)
		case "#EXT-X-START":
			m.Start = m.attributes(tag, value)
			header(tag)
		case "#EXT-X-INDEPENDENT-SEGMENTS":
			m.Independent = true
			header(tag)
		case "#EXT-X-I-FRAMES-ONLY":
			m.IFrames = true
			header(tag)
		case "#EXT-X-BYTERANGE":
			seg.Range, begun = value, true
		case "#EXT-X-SKIP":
			m.Skipped = m.integer(tag, m.attributes(tag, value)["SKIPPED-SEGMENTS"])
			msn += uint64(m.Skipped)
			header(tag)
		case "#EXT-X-DISCONTINUITY":
			if seg.Map != "" || seg.PDT != "" || len(seg.Parts) > 0 {
				m.bad("EXT-X-DISCONTINUITY amid the tags of segment %d", msn)
			}
			seg.Discontinuity, begun = true, true
			disc++
		case "#EXT-X-MAP":
			if len(seg.Parts) > 0 {
				m.bad("EXT-X-MAP after a part of segment %d", msn)
			}
			inMap, begun = m.attributes(tag, value)["URI"], true
		case "#EXT-X-PROGRAM-DATE-TIME":
			if len(seg.Parts) > 0 {
				m.bad("EXT-X-PROGRAM-DATE-TIME after a part of segment %d", msn)
			}
			seg.PDT, begun = value, true
		case "#EXT-X-GAP":
			seg.Gap, begun = true, true
		case "#EXT-X-PART":
			apply()
			a := m.attributes(tag, value)
			seg.Parts = append(seg.Parts, Part{Duration: a["DURATION"], URI: a["URI"], Independent: a["INDEPENDENT"] == "YES"})
			begun = true
		case "#EXTINF":
			d, title, ok := strings.Cut(value, ",")
			if !ok || title != "" {
				m.bad("EXTINF %q", value)
			}
			seg.Duration, begun = d, true
		case "#EXT-X-PRELOAD-HINT":
			a := m.attributes(tag, value)
			if a["TYPE"] != "PART" {
				m.bad("hint of type %s", a["TYPE"])
			}
			m.Hint = a["URI"]
		case "#EXT-X-RENDITION-REPORT":
			m.Reports = append(m.Reports, m.attributes(tag, value))
		case "#EXT-X-ENDLIST":
			m.End = true
		default:
			m.bad("unexpected line %s", line)
		}
	}
	switch {
	case len(seg.Parts) > 0:
		m.Open = &seg
	case seg.Discontinuity || seg.PDT != "" || seg.Gap || seg.Duration != "":
		m.bad("tags after the last segment that apply to nothing")
	}
	return m
}

// Find returns the listed segment of that number, or the open one.
func (m *Media) Find(msn uint64) *Segment {
	for i := range m.Segments {
		if m.Segments[i].MSN == msn {
			return &m.Segments[i]
		}
	}
	if m.Open != nil && m.Open.MSN == msn {
		return m.Open
	}
	return nil
}

func (m *Media) integer(tag, s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || strconv.Itoa(n) != s {
		m.bad("%s: %q is not a decimal integer", tag, s)
	}
	return n
}

// attributes parses an attribute list (RFC 8216bis 4.2).
func (m *Media) attributes(tag, s string) map[string]string {
	out, problems := attributes(s)
	for _, p := range problems {
		m.bad("%s: %s", tag, p)
	}
	return out
}

func attributes(s string) (out map[string]string, problems []string) {
	out = map[string]string{}
	for rest := s; rest != ""; {
		name, after, ok := strings.Cut(rest, "=")
		value, quoted := "", strings.HasPrefix(after, `"`)
		if quoted {
			var closed bool
			value, after, closed = strings.Cut(after[1:], `"`)
			ok = ok && closed
		} else {
			end := strings.IndexByte(after+",", ',')
			value, after = after[:end], after[end:]
			ok = ok && value != "" && !strings.ContainsAny(value, "\" \t")
		}
		rest, _ = strings.CutPrefix(after, ",")
		ok = ok && (after == "" || rest != after && rest != "")
		if !ok || name == "" || strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
			return out, append(problems, fmt.Sprintf("attribute list %q", s))
		}
		if _, dup := out[name]; dup {
			problems = append(problems, "two attributes "+name)
		}
		out[name] = value
	}
	return out, problems
}

const pdtLayout = "2006-01-02T15:04:05.000Z"

func parsePDT(s string) (time.Time, error) { return time.Parse(pdtLayout, s) }
