package playlisttest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var (
	pathwayID   = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	absoluteURI = regexp.MustCompile(`^https?://[^/]+/`)
	shardURI    = regexp.MustCompile(`^https?://[A-Za-z0-9.:\[\]-]+((?:/[A-Za-z0-9._~-]+)+/)([A-Za-z0-9._-]+)$`)
)

// steered says whether a Multivariant Playlist is of content steering.
func steered(body []byte) bool {
	return strings.Contains(string(body), "#EXT-X-CONTENT-STEERING") || strings.Contains(string(body), "PATHWAY-ID=")
}

// steeredProblems takes a playlist with pathways apart (RFC 8216bis 4.4.6.6, 7.1): each pathway, without what makes it one, has to be a
// good playlist, and all have to be the same.
func steeredProblems(body []byte) (out []string) {
	bad := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	var ids []string               // in the order of their variants
	groups := map[string]string{}  // pathway by GROUP-ID that a variant plays
	bases := map[string]string{}   // of URIs, by pathway
	texts := map[string][]string{} // lines by pathway
	first, steering, uris := "", 0, map[string]bool{}

	relative := func(id, uri string) string {
		rest := strings.Split(uri, "/")
		n := len(rest) - 3 // <run>/<rendition>/index.m3u8
		if strings.HasSuffix(uri, "/ts/index.m3u8") {
			n--
		}
		if !absoluteURI.MatchString(uri) || n < 3 {
			bad("pathway %s: URI %q", id, uri)
			return uri
		}
		base := strings.Join(rest[:n], "/")
		if b, known := bases[id]; known && b != base {
			bad("pathway %s lies under %s and %s", id, b, base)
		}
		bases[id] = base
		return strings.Join(rest[n:], "/")
	}
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	for _, line := range lines {
		if tag, value, _ := strings.Cut(line, ":"); tag == "#EXT-X-STREAM-INF" {
			a, _ := attributes(value)
			id := a["PATHWAY-ID"]
			if !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
			if g := a["AUDIO"]; g != "" {
				if other, known := groups[g]; known && other != id {
					bad("group %s is of pathways %s and %s", g, other, id)
				}
				groups[g] = id
				if !strings.HasPrefix(g, id+"/") {
					bad("group %s of pathway %s", g, id)
				}
			}
		}
	}
	current := ""
	for _, line := range lines {
		tag, value, _ := strings.Cut(line, ":")
		a := map[string]string{}
		if strings.HasPrefix(tag, "#EXT-X-") {
			a, _ = attributes(value)
		}
		id := a["PATHWAY-ID"]
		switch tag {
		case "#EXT-X-CONTENT-STEERING":
			steering++
			if first = id; a["SERVER-URI"] == "" || len(a) != 2 || len(texts[""]) > 3 {
				bad("%s after %d lines", line, len(texts[""]))
			}
			continue
		case "#EXT-X-MEDIA":
			if id != "" {
				bad("PATHWAY-ID in EXT-X-MEDIA")
			}
			if id = groups[a["GROUP-ID"]]; id == "" {
				bad("group %s is of no pathway", a["GROUP-ID"])
			}
		case "#EXT-X-STREAM-INF", "#EXT-X-I-FRAME-STREAM-INF":
			if !pathwayID.MatchString(id) || !slices.Contains(ids, id) {
				bad("PATHWAY-ID %q in %s", id, tag)
			}
			current = id
		default:
			if !strings.HasPrefix(line, "#") {
				if uris[line] {
					bad("URI %s twice", line)
				}
				uris[line] = true
				texts[current] = append(texts[current], relative(current, line))
				continue
			}
			texts[""] = append(texts[""], line)
			continue
		}
		line = strings.Replace(line, `,PATHWAY-ID="`+id+`"`, "", 1)
		line = strings.Replace(line, `GROUP-ID="`+id+"/", `GROUP-ID="`, 1)
		line = strings.Replace(line, `AUDIO="`+id+"/", `AUDIO="`, 1)
		if u := a["URI"]; u != "" {
			line = strings.Replace(line, `"`+u+`"`, `"`+relative(id, u)+`"`, 1)
		}
		texts[id] = append(texts[id], line)
	}
	if steering != 1 || !slices.Contains(ids, first) {
		bad("EXT-X-CONTENT-STEERING %d times, first pathway %q of %q", steering, first, ids)
	}
	text := func(id string) string {
		return strings.Join(append(slices.Clone(texts[""]), texts[id]...), "\n") + "\n"
	}
	hosts := map[string]string{}
	for _, id := range ids {
		if other, taken := hosts[bases[id]]; taken {
			bad("pathways %s and %s are the same", other, id)
		}
		hosts[bases[id]] = id
		if text(id) != text(ids[0]) {
			bad("pathway %s offers\n%snot\n%s", id, text(id), text(ids[0]))
		}
	}
	if len(ids) > 0 {
		out = append(out, MultivariantProblems([]byte(text(ids[0])))...)
	}
	return out
}

// pathwaysOf returns the EXT-X-CONTENT-STEERING of a playlist, and the pathway of each variant.
func pathwaysOf(body []byte) (steering map[string]string, ids []string) {
	for line := range strings.Lines(string(body)) {
		switch tag, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":"); tag {
		case "#EXT-X-CONTENT-STEERING":
			steering, _ = attributes(value)
		case "#EXT-X-STREAM-INF":
			a, _ := attributes(value)
			ids = append(ids, a["PATHWAY-ID"])
		}
	}
	return steering, ids
}

// besides says whether an object's URI is a name beside the playlist, or in the rendition's folder as it is from that of a range, or
// that on some other host: its path there is that of all others.
func (m *Media) besides(uri string) bool {
	if siblingURI.MatchString(uri) {
		m.near = true
		return !strings.HasPrefix(m.folder, "..")
	}
	if rangeURI.MatchString(uri) {
		folder := uri[:strings.LastIndexByte(uri, '/')]
		if m.folder == "" {
			m.folder = folder
		}
		return m.folder == folder && !m.near
	}
	parts := shardURI.FindStringSubmatch(uri)
	if parts == nil || m.folder != "" && m.folder != parts[1] {
		return false
	}
	m.folder = parts[1]
	return true
}
