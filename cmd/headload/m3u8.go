package main

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// What a player needs of playlists (RFC 8216bis 4.4), and no more.

const (
	maxPlaylist      = 4 << 20 // bytes
	maxPlaylistLines = 100_000
)

// A mediaPlaylist is a Media Playlist. Durations are exact to a microsecond.
type mediaPlaylist struct {
	target      time.Duration // EXT-X-TARGETDURATION
	partTarget  time.Duration // 0: no parts
	holdBack    time.Duration // how far behind the end to play; of parts when there are any
	canBlock    bool
	ended       bool
	msn         uint64 // of segments[0]
	init        string
	segments    []segment // the last one is open (uri "") when parts follow the last whole segment
	hint        string    // the part that comes next
	independent bool
}

type segment struct {
	uri      string
	duration time.Duration // of the whole segment, or of the parts so far when it is open
	start    time.Time     // EXT-X-PROGRAM-DATE-TIME, or reckoned from the segment before
	parts    []part
	gap      bool
}

type part struct {
	uri      string
	duration time.Duration
	gap      bool
}

// next returns what comes after everything listed, as a blocking request names it: RFC 8216bis 6.2.5.2.
func (p *mediaPlaylist) next() (msn uint64, n int) {
	msn = p.msn + uint64(len(p.segments))
	if k := len(p.segments); k > 0 && p.segments[k-1].uri == "" {
		return msn - 1, len(p.segments[k-1].parts)
	}
	return msn, 0
}

// at returns the segment with that number, nil when it is not listed.
func (p *mediaPlaylist) at(msn uint64) *segment {
	if msn < p.msn || msn-p.msn >= uint64(len(p.segments)) {
		return nil
	}
	return &p.segments[msn-p.msn]
}

func parseMedia(b []byte) (*mediaPlaylist, error) {
	if len(b) > maxPlaylist {
		return nil, fmt.Errorf("playlist is larger than %d MB", maxPlaylist>>20)
	}
	p := &mediaPlaylist{}
	var cur segment
	var next time.Time // where the segment before ended
	var haveStart, open bool
	for n, line := range lines(b) {
		if n == 0 && line != "#EXTM3U" {
			return nil, fmt.Errorf("playlist does not begin with #EXTM3U")
		}
		if n == maxPlaylistLines {
			return nil, fmt.Errorf("playlist has more than %d lines", maxPlaylistLines)
		}
		if line == "" {
			continue
		}
		if line[0] != '#' {
			cur.uri = line
			if !haveStart {
				cur.start = next
			}
			if !cur.start.IsZero() {
				next = cur.start.Add(cur.duration)
			}
			p.segments = append(p.segments, cur)
			cur, haveStart, open = segment{}, false, false
			continue
		}
		tag, value, _ := strings.Cut(line, ":")
		var err error
		switch tag {
		case "#EXT-X-TARGETDURATION":
			p.target, err = seconds(value)
		case "#EXT-X-MEDIA-SEQUENCE":
			p.msn, err = strconv.ParseUint(value, 10, 64)
		case "#EXT-X-SERVER-CONTROL":
			a := attributes(value)
			p.canBlock = a["CAN-BLOCK-RELOAD"] == "YES"
			for _, name := range []string{"HOLD-BACK", "PART-HOLD-BACK"} { // the second wins
				if v, ok := a[name]; ok && err == nil {
					p.holdBack, err = seconds(v)
				}
			}
		case "#EXT-X-PART-INF":
			p.partTarget, err = seconds(attributes(value)["PART-TARGET"])
		case "#EXT-X-INDEPENDENT-SEGMENTS":
			p.independent = true
		case "#EXT-X-MAP":
			p.init = attributes(value)["URI"]
		case "#EXT-X-PROGRAM-DATE-TIME":
			cur.start, err = time.Parse("2006-01-02T15:04:05.999999999Z07:00", value)
			haveStart = true
		case "#EXT-X-GAP":
			cur.gap = true
		case "#EXTINF":
			d, _, _ := strings.Cut(value, ",")
			cur.duration, err = seconds(d)
		case "#EXT-X-PART":
			a := attributes(value)
			pt := part{uri: a["URI"], gap: a["GAP"] == "YES"}
			if pt.duration, err = seconds(a["DURATION"]); err == nil && pt.uri == "" {
				err = fmt.Errorf("no URI")
			}
			cur.parts = append(cur.parts, pt)
			open = true
		case "#EXT-X-PRELOAD-HINT":
			if a := attributes(value); a["TYPE"] == "PART" {
				p.hint = a["URI"]
			}
		case "#EXT-X-SKIP":
			err = fmt.Errorf("a delta update was not asked for")
		case "#EXT-X-STREAM-INF":
			err = fmt.Errorf("a multivariant playlist where a media playlist is expected")
		case "#EXT-X-ENDLIST":
			p.ended = true
		}
		if err != nil {
			return nil, fmt.Errorf("playlist line %d, %s: %w", n+1, tag, err)
		}
	}
	if p.target <= 0 {
		return nil, fmt.Errorf("playlist has no #EXT-X-TARGETDURATION")
	}
	if open {
		if !haveStart {
			cur.start = next
		}
		for _, pt := range cur.parts {
			cur.duration += pt.duration
		}
		p.segments = append(p.segments, cur)
	}
	if p.holdBack == 0 {
		p.holdBack = 3 * p.target
	}
	return p, nil
}

// A variant is the first variant stream of a Multivariant Playlist: its video, or whatever it has, and its audio.
type variant struct {
	uri, audio string // audio is "" when it is in the variant
}

// parseMultivariant returns the first variant. media says that b is a Media Playlist instead.
func parseMultivariant(b []byte) (v variant, media bool, err error) {
	groups := map[string]string{}
	var group string
	wanted := false
	for n, line := range lines(b) {
		if n == 0 && line != "#EXTM3U" {
			return v, false, fmt.Errorf("playlist does not begin with #EXTM3U")
		}
		if n == maxPlaylistLines {
			break
		}
		tag, value, _ := strings.Cut(line, ":")
		switch {
		case tag == "#EXT-X-TARGETDURATION":
			return v, true, nil
		case tag == "#EXT-X-MEDIA":
			if a := attributes(value); a["TYPE"] == "AUDIO" && groups[a["GROUP-ID"]] == "" {
				groups[a["GROUP-ID"]] = a["URI"]
			}
		case tag == "#EXT-X-STREAM-INF" && v.uri == "":
			group, wanted = attributes(value)["AUDIO"], true
		case line != "" && line[0] != '#' && wanted:
			v.uri, wanted = line, false
		}
	}
	if v.uri == "" {
		return v, false, fmt.Errorf("multivariant playlist has no variant")
	}
	if v.audio = groups[group]; v.audio == v.uri { // audio alone
		v.audio = ""
	}
	return v, false, nil
}

// lines yields the lines of b without their ends, numbered from 0.
func lines(b []byte) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		sc := bufio.NewScanner(bytes.NewReader(b))
		sc.Buffer(nil, maxPlaylist+1)
		for n := 0; sc.Scan(); n++ {
			if !yield(n, strings.TrimRight(sc.Text(), "\r")) {
				return
			}
		}
	}
}

// attributes reads an attribute list (RFC 8216bis 4.2); quotes are taken off.
func attributes(s string) map[string]string {
	m := map[string]string{}
	for s != "" {
		name, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		var value string
		if strings.HasPrefix(rest, `"`) {
			value, rest, _ = strings.Cut(rest[1:], `"`)
			rest = strings.TrimPrefix(rest, ",")
		} else {
			value, rest, _ = strings.Cut(rest, ",")
		}
		m[strings.TrimSpace(name)] = value
		s = rest
	}
	return m
}

// seconds reads a decimal number of seconds, to the nearest microsecond.
func seconds(s string) (time.Duration, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f < 1e6) {
		return 0, fmt.Errorf("%q is not a number of seconds", s)
	}
	return time.Duration(math.Round(f*1e6)) * time.Microsecond, nil
}

// resolve makes ref absolute.
func resolve(base *url.URL, ref string) (*url.URL, error) {
	u, err := base.Parse(ref)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not an HTTP URL", ref)
	}
	return u, nil
}
