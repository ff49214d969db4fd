package playlisttest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// MultivariantProblems says how a Multivariant Playlist breaks RFC 8216bis, Apple's authoring specification or the house's
// own rules.
func MultivariantProblems(body []byte) []string {
	if steered(body) {
		return append(commonProblems(string(body)), steeredProblems(body)...)
	}
	out := commonProblems(string(body))
	bad := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	count := map[string]int{}
	groups := map[string][]map[string]string{}
	var streams, iframes []map[string]string
	stable := map[string]bool{}
	renditions := map[string]string{} // URI by STABLE-RENDITION-ID
	pending := false
	for line := range strings.Lines(string(body)) {
		line = strings.TrimSuffix(line, "\n")
		tag, value, _ := strings.Cut(line, ":")
		if !strings.HasPrefix(line, "#") {
			if !pending || strings.ContainsAny(line, "?#\\ ") || strings.HasPrefix(line, "/") {
				bad("URI line %q", line)
			}
			pending = false
			continue
		}
		if pending {
			bad("EXT-X-STREAM-INF without a URI line")
			pending = false
		}
		count[tag]++
		switch tag {
		case "#EXTM3U", "#EXT-X-INDEPENDENT-SEGMENTS":
		case "#EXT-X-VERSION":
			if value != "1" { // EXT-X-MEDIA needs no other (RFC 8216bis 8)
				bad("EXT-X-VERSION is %s, needed is 1", value)
			}
		case "#EXT-X-MEDIA":
			a, problems := attributes(value)
			out = append(out, problems...)
			for _, k := range []string{"TYPE", "GROUP-ID", "NAME", "LANGUAGE", "AUTOSELECT", "STABLE-RENDITION-ID", "CHANNELS", "URI"} {
				if a[k] == "" {
					bad("EXT-X-MEDIA without %s", k)
				}
			}
			groups[a["GROUP-ID"]] = append(groups[a["GROUP-ID"]], a)
			// What has the same URI in several groups is the same rendition (RFC 8216bis 4.4.6.1).
			id := a["STABLE-RENDITION-ID"]
			if u, known := renditions[id]; known && u != a["URI"] || !stableID.MatchString(id) {
				bad("STABLE-RENDITION-ID %q", id)
			}
			renditions[id] = a["URI"]
		case "#EXT-X-I-FRAME-STREAM-INF":
			a, problems := attributes(value)
			out = append(out, problems...)
			out = append(out, iframeProblems(a)...)
			iframes = append(iframes, a)
			if id := a["STABLE-VARIANT-ID"]; stable["v"+id] || !stableID.MatchString(id) {
				bad("STABLE-VARIANT-ID %q", id)
			}
			stable["v"+a["STABLE-VARIANT-ID"]] = true
			if len(streams) == 0 {
				bad("EXT-X-I-FRAME-STREAM-INF before the first variant")
			}
		case "#EXT-X-STREAM-INF":
			a, problems := attributes(value)
			out = append(out, problems...)
			streams = append(streams, a)
			pending = true
			for _, k := range []string{"BANDWIDTH", "AVERAGE-BANDWIDTH", "CODECS", "STABLE-VARIANT-ID", "CLOSED-CAPTIONS"} {
				if a[k] == "" {
					bad("EXT-X-STREAM-INF without %s", k)
				}
			}
			if a["PROGRAM-ID"] != "" {
				bad("PROGRAM-ID")
			}
			if id := a["STABLE-VARIANT-ID"]; stable["v"+id] || !stableID.MatchString(id) {
				bad("STABLE-VARIANT-ID %q", id)
			}
			stable["v"+a["STABLE-VARIANT-ID"]] = true
			if b := seconds(a["BANDWIDTH"]); b < 1000 || b < seconds(a["AVERAGE-BANDWIDTH"]) {
				bad("BANDWIDTH=%s, AVERAGE-BANDWIDTH=%s", a["BANDWIDTH"], a["AVERAGE-BANDWIDTH"])
			}
			video := false
			for c := range strings.SplitSeq(a["CODECS"], ",") {
				if !videoCodec.MatchString(c) && !audioCodec.MatchString(c) {
					bad("codec %q", c)
				}
				video = video || videoCodec.MatchString(c)
			}
			if video != (a["RESOLUTION"] != "") || video != frameRate.MatchString(a["FRAME-RATE"]) {
				bad("RESOLUTION=%s FRAME-RATE=%s of %s", a["RESOLUTION"], a["FRAME-RATE"], a["CODECS"])
			}
		default:
			bad("unexpected line %s", line)
		}
	}
	if pending {
		bad("EXT-X-STREAM-INF without a URI line")
	}
	if count["#EXT-X-VERSION"] != 1 || count["#EXT-X-INDEPENDENT-SEGMENTS"] > 1 {
		bad("EXT-X-VERSION %d times, EXT-X-INDEPENDENT-SEGMENTS %d times", count["#EXT-X-VERSION"], count["#EXT-X-INDEPENDENT-SEGMENTS"])
	}
	members := func(g []map[string]string) (out string) {
		for _, a := range g {
			out += fmt.Sprintln(a["NAME"], a["LANGUAGE"], a["DEFAULT"], a["AUTOSELECT"])
		}
		return out
	}
	for id, g := range groups {
		for other, h := range groups { // RFC 8216bis 4.4.6.1.1
			if members(g) != members(h) {
				bad("groups %s and %s have other members", id, other)
			}
		}
		defaults, names := 0, map[string]bool{}
		for _, a := range g {
			if a["DEFAULT"] == "YES" {
				defaults++
			}
			if names[a["NAME"]] {
				bad("two members %q in group %s", a["NAME"], id)
			}
			names[a["NAME"]] = true
		}
		if defaults > 1 {
			bad("%d defaults in group %s", defaults, id)
		}
	}
	same := func(attr string, list []map[string]string) {
		for _, s := range list {
			if (s[attr] == "") != (list[0][attr] == "") {
				bad("%s on some variants and not on others", attr)
			}
		}
	}
	same("CLOSED-CAPTIONS", streams)
	var video []map[string]string // variants
	pictures := slices.ContainsFunc(streams, func(s map[string]string) bool { return s["RESOLUTION"] != "" })
	for i, s := range streams {
		if s["AUDIO"] != "" && groups[s["AUDIO"]] == nil {
			bad("no audio group %s", s["AUDIO"])
		}
		if s["RESOLUTION"] != "" {
			video = append(video, s)
		} else if i == 0 && pictures {
			bad("a variant of audio alone is the first")
		}
		if i > 1 && seconds(s["BANDWIDTH"]) < seconds(streams[i-1]["BANDWIDTH"]) {
			bad("variants after the first do not ascend")
		}
	}
	same("VIDEO-RANGE", append(video, iframes...))
	// Only a playlist of MPEG-TS variants has an audio-only one beside others, and no groups; only the other has I-frames.
	ts := len(groups) == 0 && len(video) < len(streams) && len(streams) > 1
	if want := len(video); ts && len(iframes) > 0 || len(iframes) > 0 && len(iframes) != want {
		bad("%d I-frame playlists, %d variants with video", len(iframes), want)
	}
	if len(streams) == 0 {
		bad("no variant")
	}
	return out
}

// iframeProblems are those of an EXT-X-I-FRAME-STREAM-INF's attributes (RFC 8216bis 4.4.6.3).
func iframeProblems(a map[string]string) (out []string) {
	bad := func(format string, args ...any) {
		out = append(out, "EXT-X-I-FRAME-STREAM-INF "+fmt.Sprintf(format, args...))
	}
	for _, k := range []string{"BANDWIDTH", "AVERAGE-BANDWIDTH", "CODECS", "RESOLUTION", "STABLE-VARIANT-ID", "URI"} {
		if a[k] == "" {
			bad("without %s", k)
		}
	}
	for _, k := range []string{"FRAME-RATE", "AUDIO", "SUBTITLES", "CLOSED-CAPTIONS", "PROGRAM-ID"} {
		if a[k] != "" {
			bad("with %s", k)
		}
	}
	if b := seconds(a["BANDWIDTH"]); b < 100 || b < seconds(a["AVERAGE-BANDWIDTH"]) {
		bad("BANDWIDTH=%s, AVERAGE-BANDWIDTH=%s", a["BANDWIDTH"], a["AVERAGE-BANDWIDTH"])
	}
	if c := a["CODECS"]; !videoCodec.MatchString(c) {
		bad("CODECS %q", c)
	}
	if u := a["URI"]; strings.ContainsAny(u, "?#\\ ") || strings.HasPrefix(u, "/") {
		bad("URI %q", u)
	}
	return out
}

var (
	stableID   = regexp.MustCompile(`^[A-Za-z0-9+/=._-]+$`)
	videoCodec = regexp.MustCompile(`^(avc1\.[0-9a-f]{6}|hvc1\.[1-9]\d*\.[0-9A-F]{1,8}\.[LH]\d+(\.[0-9A-F]{1,2}){0,6})$`)
	audioCodec = regexp.MustCompile(`^mp4a\.40\.(2|5|29|42)$`)
	frameRate  = regexp.MustCompile(`^\d+\.\d{3}$`)
)
