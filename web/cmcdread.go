package web

import (
	"bytes"
	"net/http"
	"strings"
)

// Limits of what is believed of a player (CTA-5004 3.2). What is beyond them is counted as malformed: one absurd value would
// otherwise outweigh all others in a sum.
const (
	maxCMCDMillis = 24 * 60 * 60 * 1000 // a buffer or a latency
	maxCMCDKbps   = 100_000_000         // 100 Gb/s
	maxCMCDKey    = 64                  // letters of a key; custom keys are reversed domain names
	maxCMCDValue  = 32                  // bytes of a value that are looked at; the values that are counted are shorter
)

// cmcdObjects are the object types as a label, the tokens of CTA-5004 beside them. The first is of a request that gives none, or
// one that is not known.
var cmcdObjects = [...]struct{ token, label string }{
	{"", "none"}, {"m", "manifest"}, {"a", "audio"}, {"v", "video"}, {"av", "muxed"}, {"i", "init"}, {"c", "caption"},
	{"tt", "timed_text"}, {"k", "key"}, {"o", "other"},
}

// cmcdTypes are the stream types as a label. Low-latency live, "ll" in version 2, is live.
var cmcdTypes = [...]string{"none", "live", "vod"}

var cmcdCarriers = [...]string{"query", "header"}

// A cmcdReport is what one request's CMCD says, as far as it is counted. Numbers that are not given are -1.
type cmcdReport struct {
	header    bool // it came in headers, at least in part
	pairs     int
	malformed int // pairs that are no pair, or whose value cannot be true
	object    int // index in cmcdObjects
	kind      int // index in cmcdTypes
	starved   bool
	startup   bool

	buffer, latency     int64 // bl, ltc: milliseconds
	throughput, bitRate int64 // mtp, br: kilobits a second
}

// readCMCD reads a request's CMCD. It says false, and has cost next to nothing, when there is none.
func readCMCD(r *http.Request, out *cmcdReport) bool {
	if !mayHaveCMCD(r) {
		return false
	}
	*out = cmcdReport{buffer: -1, latency: -1, throughput: -1, bitRate: -1}
	var scan cmcdScan
	for _, h := range cmcdHeaders {
		for _, v := range r.Header[h] {
			out.header = true
			for i := range len(v) {
				scan.add(v[i], out)
			}
			scan.end(out)
		}
	}
	for query := r.URL.RawQuery; query != ""; {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		if !sameUnescaped(name, "CMCD") {
			continue
		}
		for value != "" {
			c, rest, ok := unescape(value)
			if !ok {
				out.malformed++
				scan = cmcdScan{}
				break
			}
			scan.add(c, out)
			value = rest
		}
		scan.end(out)
	}
	return out.pairs+out.malformed > 0
}

// mayHaveCMCD says whether the query or a header may hold any: most requests have none, and this is all that they pay.
func mayHaveCMCD(r *http.Request) bool {
	if q := r.URL.RawQuery; strings.Contains(q, "CMCD") || strings.IndexByte(q, '%') >= 0 {
		return true
	}
	for _, h := range cmcdHeaders {
		if len(r.Header[h]) > 0 {
			return true
		}
	}
	return false
}

// A cmcdScan reads a dictionary of key-value pairs (CTA-5004 2.2; RFC 8941 3.2) byte by byte, so that nothing of it has to be
// kept.
type cmcdScan struct {
	key             [maxCMCDKey]byte
	value           [maxCMCDValue]byte
	keyLen, valLen  int // as they came; more than there is room for is not kept
	valued          bool
	quoted, escaped bool
}

func (s *cmcdScan) add(c byte, out *cmcdReport) {
	switch {
	case s.escaped:
		s.escaped = false
	case s.quoted && c == '\\':
		s.escaped = true
	case c == '"':
		s.quoted = !s.quoted
	case s.quoted:
	case c == ',':
		s.end(out)
		return
	case c == '=' && !s.valued:
		s.valued = true
		return
	}
	if !s.valued {
		if c != ' ' && c != '\t' {
			if s.keyLen < len(s.key) {
				s.key[s.keyLen] = c
			}
			s.keyLen++
		}
		return
	}
	if s.valLen == 0 && (c == ' ' || c == '\t') {
		return
	}
	if s.valLen < len(s.value) {
		s.value[s.valLen] = c
	}
	s.valLen++
}

// end ends a pair.
func (s *cmcdScan) end(out *cmcdReport) {
	switch {
	case s.keyLen == 0 && !s.valued: // nothing between two commas
	case s.keyLen == 0, s.keyLen > len(s.key), s.quoted:
		out.malformed++
	default:
		out.pairs++
		value := bytes.TrimRight(s.value[:min(s.valLen, len(s.value))], " \t")
		if !out.take(s.key[:s.keyLen], value, s.valued) {
			out.malformed++
		}
	}
	*s = cmcdScan{}
}

// take notes a pair. It says false when the value cannot be what the key says; keys that are not counted are not looked at.
func (out *cmcdReport) take(key, value []byte, valued bool) (ok bool) {
	switch string(key) {
	case "ot":
		for i := 1; i < len(cmcdObjects); i++ {
			if string(value) == cmcdObjects[i].token {
				out.object = i
				return true
			}
		}
		return false
	case "st":
		switch string(value) {
		case "l", "ll":
			out.kind, ok = 1, true
		case "v":
			out.kind, ok = 2, true
		}
	case "bs":
		out.starved, ok = isSet(value, valued)
	case "su":
		out.startup, ok = isSet(value, valued)
	case "bl":
		ok = number(value, maxCMCDMillis, &out.buffer)
	case "ltc":
		ok = number(value, maxCMCDMillis, &out.latency)
	case "mtp":
		ok = number(value, maxCMCDKbps, &out.throughput)
	case "br":
		ok = number(value, maxCMCDKbps, &out.bitRate)
	default:
		ok = true
	}
	return ok
}

// isSet reads a boolean: a key without a value is true; version 2 lists one for each kind of media, and the first stands for all.
func isSet(value []byte, valued bool) (is, ok bool) {
	if len(value) > 0 && value[0] == '(' {
		value = value[1:min(len(value), 3)]
	}
	switch string(value) {
	case "":
		return !valued, !valued
	case "?1", "true":
		return true, true
	case "?0", "false":
		return false, true
	}
	return false, false
}

// number reads an integer of at most limit. Version 2 has lists of one for each kind of media, "(2200;v 3100;a)": the first is
// taken, which is the picture's.
func number(value []byte, limit int64, to *int64) bool {
	if len(value) > 0 && value[0] == '(' {
		value = value[1:]
	}
	n, i := int64(0), 0
	for ; i < len(value) && value[i] >= '0' && value[i] <= '9'; i++ {
		if n = n*10 + int64(value[i]-'0'); n > limit {
			return false
		}
	}
	if i == 0 {
		return false
	}
	if i < len(value) {
		switch value[i] {
		case ';', ' ', ')', '.': // a parameter, the next of a list, its end; a fraction, which some players send
		default:
			return false
		}
	}
	*to = n
	return true
}
