package playlist

import (
	"bytes"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/grafov/m3u8"

	"headwater/segmenter"
	"headwater/segmenter/media"
)

const (
	// audioGroup is the GROUP-ID of the first audio group; others are called after the rendition that they are for.
	audioGroup = "audio"
	// startRate is about what the first variant should average: players begin with the first one they can play
	// (Apple's authoring specification recommends some 2 Mb/s).
	startRate = 2_000_000
	// announcedMargin: until enough has been measured, the peak is taken to be this many percent of what the encoder
	// announced, at least.
	announcedMargin = 125
	// measuredEnough is how many segments tell what a stream is like: a whole playlist. measuredSome is how many have to do
	// where the encoder has announced nothing.
	measuredEnough = 6
	measuredSome   = 3
	// Rates to declare, at least, when nothing is known at all.
	unknownVideoRate = 2_000_000
	unknownAudioRate = 128_000

	maxNameRunes = 64 // of a NAME attribute; labels come from encoders
)

// AppendMultivariant appends the Multivariant Playlist of p to dst: a variant for each video rendition, with the audio
// renditions as a group, and beside several one for the audio alone; and then the I-frame playlists, in the same order.
// Beside a single one it would only be one more audio stream to programs that read them all, as ffmpeg does.
func AppendMultivariant(dst []byte, p *segmenter.Presentation) []byte {
	return appendMultivariant(dst, p, pathwaysOf(p, ""), steeringLine(p, ""))
}

func appendMultivariant(dst []byte, p *segmenter.Presentation, paths []pathway, steering string) []byte {
	video, audio := split(p)
	m := m3u8.NewMasterPlaylist()
	// Players do not read this playlist again, so it promises nothing that a change of the encoder's could break
	// (RFC 8216bis 4.4.2.1).
	m.SetIndependentSegments(p.Run.Config.LongGOP == segmenter.Refuse)

	all := variants(video, audio, len(video) != 1)
	// What the library cannot write, for each EXT-X-MEDIA, then each EXT-X-STREAM-INF, then each EXT-X-I-FRAME-STREAM-INF.
	var lacking [][]string
	groups := map[string][]*m3u8.Alternative{}
	for _, path := range paths {
		for _, v := range all {
			params := v.params(ranged(video))
			if g := path.group(v.group); len(g.members) > 1 || len(video) > 0 && len(g.members) > 0 {
				if groups[g.id] == nil { // the library writes it before the first variant that plays it
					for _, d := range g.members {
						lacking = append(lacking, mediaAttributes(d))
					}
					groups[g.id] = alternatives(p, g, path)
				}
				params.Audio, params.Alternatives = g.id, groups[g.id]
			}
			m.Append(path.base+uri(v.main), nil, params)
			lacking = append(lacking, path.attributes(stable(v.id)))
		}
	}
	for _, path := range paths {
		for _, v := range all {
			if d := v.main; d.Rendition.Kind == media.Video {
				m.Append(path.base+folder(d)+IFrames, nil, v.iframeParams(ranged(video)))
				lacking = append(lacking, path.attributes(stableIFrames(d)))
			}
		}
	}
	m.SetVersion(1) // nothing in it needs more, EXT-X-MEDIA neither (RFC 8216bis 8), for which the library has made it 4
	return appendComplete(dst, m.Encode().Bytes(), steering, lacking)
}

// appendComplete appends a playlist of the library's with what it lacks: head, the tags before the first of these; attributes that it
// does not know, in the order of its EXT-X-MEDIA, EXT-X-STREAM-INF and EXT-X-I-FRAME-STREAM-INF lines; and without what it has too much: PROGRAM-ID, which left the standard with
// version 6.
func appendComplete(dst, text []byte, head string, lacking [][]string) []byte {
	for line := range bytes.Lines(text) {
		tag, _, _ := bytes.Cut(line, []byte(":"))
		switch string(tag) {
		case "#EXT-X-MEDIA", "#EXT-X-STREAM-INF", "#EXT-X-I-FRAME-STREAM-INF":
		default:
			dst = append(dst, line...)
			continue
		}
		dst = append(dst, head...)
		head = ""
		line = bytes.Replace(bytes.TrimSuffix(line, []byte("\n")), []byte("PROGRAM-ID=0,"), nil, 1)
		dst = append(dst, line...)
		for _, attribute := range lacking[0] {
			dst = append(append(dst, ','), attribute...)
		}
		lacking = lacking[1:]
		dst = append(dst, '\n')
	}
	return dst
}

func split(p *segmenter.Presentation) (video, audio []*segmenter.Described) {
	for i := range p.Renditions {
		switch d := &p.Renditions[i]; d.Rendition.Kind {
		case media.Video:
			video = append(video, d)
		case media.Audio:
			audio = append(audio, d)
		}
	}
	mainFirst(audio)
	return video, audio
}

// A variant is a Variant Stream: the rendition that its URI names, and what may play along with it.
type variant struct {
	main          *segmenter.Described
	id            string
	group         group
	peak, average int // bits a second, of the worst combination
	codecs        []string
}

// variants returns the start variant and then the others, ascending: one for each video rendition, and those of the sound alone,
// at least one if it is asked for.
func variants(video, audio []*segmenter.Described, sound bool) []variant {
	groups := groupAudio(video, audio)
	var out []variant
	for _, g := range groups.sounds(video, sound) {
		v := newVariant(g.members[0], g)
		if g.id != audioGroup {
			v.id = g.id // its first member may be that of another variant
		}
		out = append(out, v)
	}
	for _, d := range video {
		out = append(out, newVariant(d, groups.of(d)))
	}
	if len(out) == 0 {
		return nil
	}
	slices.SortStableFunc(out, func(a, b variant) int { return a.peak - b.peak })
	start := -1
	for i, v := range out {
		if v.main.Rendition.Kind == media.Audio && len(video) > 0 {
			continue
		}
		if start < 0 || off(v.average) < off(out[start].average) {
			start = i
		}
	}
	v := out[start]
	return slices.Insert(slices.Delete(out, start, start+1), 0, v)
}

func newVariant(d *segmenter.Described, g group) variant {
	v := variant{main: d, id: d.Rendition.ID, group: g}
	if d.Rendition.Kind == media.Video {
		v.peak, v.average = rates(d, unknownVideoRate)
		v.codecs = append(v.codecs, d.Track.Codec.String)
	}
	var peak, average int
	for _, a := range g.members { // one of them plays
		p, m := rates(a, unknownAudioRate)
		peak, average = max(peak, p), max(average, m)
		v.codecs = append(v.codecs, a.Track.Codec.String)
	}
	v.peak, v.average = v.peak+peak, v.average+average
	seen := map[string]bool{"": true}
	v.codecs = slices.DeleteFunc(v.codecs, func(c string) bool {
		was := seen[c]
		seen[c] = true
		return was
	})
	return v
}

// off is how far a rate is from the start variant's, as a ratio.
func off(rate int) float64 { return math.Abs(math.Log(float64(max(rate, 1)) / startRate)) }

// rates returns what was measured of d, and more than that when it may well become more: players do not read this playlist
// again, and a stream may begin with a picture that is still. The peak is never less than what the encoder announced, so
// that even a real one at announcedMargin of it is within what Apple's authoring specification allows of BANDWIDTH, 125 %.
func rates(d *segmenter.Described, unknown int) (peak, average int) {
	s := d.Rendition.Stats()
	measured := s.Segments - s.Gaps
	peak, average = d.Peak, d.Average
	switch announced := d.Track.BitRate; {
	case announced > 0 && measured < measuredEnough:
		peak, average = max(peak, announced*announcedMargin/100), max(average, announced)
	case announced > 0:
		peak = max(peak, announced)
	case measured < measuredSome:
		peak, average = max(peak, unknown), max(average, unknown)
	}
	if average <= 0 {
		average = peak
	}
	return peak, min(average, peak)
}

func (v *variant) params(ranged bool) m3u8.VariantParams {
	t := &v.main.Track
	p := m3u8.VariantParams{
		Bandwidth: roundUp(v.peak), AverageBandwidth: roundUp(v.average),
		Codecs: strings.Join(v.codecs, ","),
		// Captions in the video would be listed; there are none that anybody has declared.
		Captions: "NONE",
	}
	if v.main.Rendition.Kind != media.Video {
		return p
	}
	p.FrameRate = v.main.FrameRate
	if w, h := displaySize(t); w > 0 && h > 0 {
		p.Resolution = fmt.Sprintf("%dx%d", w, h)
	}
	if ranged {
		p.VideoRange = videoRange(t)
	}
	return p
}

// iframeParams are those of v's I-frame playlist, which has neither sound nor a frame rate (RFC 8216bis 4.4.6.3).
func (v *variant) iframeParams(ranged bool) m3u8.VariantParams {
	p := v.params(ranged)
	peak, average := iframeRates(v.main)
	return m3u8.VariantParams{
		Iframe: true, Bandwidth: roundUp(peak), AverageBandwidth: roundUp(average),
		Codecs: v.main.Track.Codec.String, Resolution: p.Resolution, VideoRange: p.VideoRange,
	}
}

// roundUp rounds a rate up to two figures, so that a playlist does not change with every segment.
func roundUp(rate int) uint32 {
	step := 1
	for rate/step >= 100 {
		step *= 10
	}
	return uint32(min(int64((rate+step-1)/step*step), math.MaxUint32)) // int may have 32 bits
}

// displaySize is the size at which t should be displayed, as RESOLUTION states it (RFC 8216bis 4.4.6.2): with square pixels.
func displaySize(t *media.Track) (w, h int) {
	if a := t.PixelAspect.Float(); a > 0 {
		return int(math.Round(float64(t.Width) * a)), t.Height
	}
	return t.Width, t.Height
}

// videoRange is the VIDEO-RANGE of t, from its transfer characteristics (RFC 8216bis 4.4.6.2; ISO/IEC 23091-2).
func videoRange(t *media.Track) string {
	switch t.Color.Transfer {
	case 16:
		return "PQ"
	case 18:
		return "HLG"
	}
	return "SDR"
}

// ranged says whether VIDEO-RANGE is to be written: it may be left out when everything is SDR.
func ranged(video []*segmenter.Described) bool {
	return slices.ContainsFunc(video, func(d *segmenter.Described) bool { return videoRange(&d.Track) != "SDR" })
}

func mediaAttributes(d *segmenter.Described) []string {
	var out []string
	if n := d.Track.Channels; n > 0 {
		out = append(out, quoted("CHANNELS", strconv.Itoa(n)))
	}
	return append(out, quoted("STABLE-RENDITION-ID", stable(d.Rendition.ID)))
}

func quoted(name, value string) string { return name + `="` + value + `"` }

// uri is relative to a pathway's base.
func uri(d *segmenter.Described) string { return folder(d) + Index }

func folder(d *segmenter.Described) string { return url.PathEscape(d.Rendition.ID) + "/" }

// stable is the ID as a stable identifier, which has a narrow alphabet (RFC 8216bis 4.4.6.1). It does not name the run: it
// is the same after a restart and on another origin.
func stable(id string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("+/=.-_", r)) {
			return r
		}
		return '_'
	}, id)
}

// language returns a BCP 47 tag that is safe in a quoted string: what encoders send need not be.
func language(s string) string {
	ok := len(s) >= 2 && len(s) <= 35 && s[0] != '-' && s[len(s)-1] != '-'
	for i := 0; ok && i < len(s); i++ {
		c := s[i]
		ok = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-'
	}
	if !ok {
		return "und"
	}
	return s
}

// uniqueName is a NAME for people that no other member of the group has (RFC 8216bis 4.4.6.1.1).
func uniqueName(d *segmenter.Described, taken map[string]bool) string {
	name := label(d.Track.Label)
	if name == "" {
		if name = language(d.Track.Language); name == "und" {
			name = "Audio"
		}
	}
	for taken[name] {
		name += " (" + stable(d.Rendition.ID) + ")"
	}
	taken[name] = true
	return name
}

// label returns s without what a quoted string or a playlist may not hold.
func label(s string) string {
	n := 0
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || r == '"' || unicode.IsControl(r) || n >= maxNameRunes {
			return -1
		}
		n++
		return r
	}, s)
	return strings.TrimSpace(s)
}
