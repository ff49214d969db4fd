package flv

import (
	"cmp"
	"strconv"
	"strings"

	"headwater/ingest"
	"headwater/ingest/amf0"
	"headwater/segmenter/media"
)

// maxBitRate bounds what metadata may announce, bits a second; what lies above is taken for nonsense.
const maxBitRate = 1e9

// A hint is what metadata says of a track.
type hint struct {
	bitRate         int // bits a second
	language, label string
}

// Data takes the body of a data message: AMF 0 values, of which onMetaData and onFI are looked at, with or without @setDataFrame
// before it. ts is its timestamp in milliseconds, unwrapped as those of media are. Metadata is a hint. It announces the tracks to
// come and their bit rates; what they are like is for their configuration to say.
func (d *Demuxer) Data(ts int64, body []byte) error {
	if len(body) == 0 {
		d.count().empty.Add(1)
		return nil
	}
	name, rest, err := amf0.Decode(body)
	if err == nil && name == "@setDataFrame" && len(rest) > 0 {
		name, rest, err = amf0.Decode(rest)
	}
	if err != nil {
		return err
	}
	event, ok := name.(string)
	switch {
	case !ok:
		return media.Formatf("data message", "does not begin with a name")
	case strings.EqualFold(event, "onFI"): // FMLE writes onFI, others onFi
		value, _, _ := amf0.Decode(rest)
		d.onFI(ts, value)
		return nil
	case event != "onMetaData" || len(rest) == 0:
		return nil // sparse data of others: text, cue points
	}
	value, _, err := amf0.Decode(rest)
	if err != nil {
		return err
	}
	meta, ok := value.(amf0.Object)
	if !ok {
		return nil
	}
	for id := range MaxTracks {
		if id > 0 && d.Open == nil {
			break
		}
		g, changed := d.announce(id, meta)
		if !changed {
			continue
		}
		if err := d.settle(g, &g.video.slot, g.tell()); err != nil {
			return err
		}
	}
	return nil
}

var (
	announcedVideo = media.Track{ID: 1, Kind: media.Video, Timescale: videoTimescale}
	announcedAudio = media.Track{ID: 2, Kind: media.Audio}
)

// announces says whether metadata has a codec of a kind: a number or the FourCC's characters; 0 is what those send who have no
// such track.
func announces(meta amf0.Object, codecID, has string) bool {
	if no, ok := meta[has].(bool); ok && !no {
		return false
	}
	number, ok := meta.Number(codecID)
	return ok && number != 0 || meta.String(codecID) != ""
}

// announce takes what metadata says of one track ID. It says whether that changed the group's tracks.
func (d *Demuxer) announce(id int, meta amf0.Object) (g *group, changed bool) {
	// Enhanced RTMP v2, "Enhancing onMetaData": the maps tell where a track differs from the default one.
	key := strconv.Itoa(id)
	video, audio := meta.Object("videoTrackIdInfoMap").Object(key), meta.Object("audioTrackIdInfoMap").Object(key)
	if id != 0 && video == nil && audio == nil {
		return nil, false
	}
	g, err := d.group(id)
	if err != nil || g.out {
		return nil, false
	}
	v, a := &g.video.slot, &g.audio.slot
	if id == 0 {
		v.hint.rate(meta, "videodatarate")
		a.hint.rate(meta, "audiodatarate")
	}
	v.hint.read(video, "videodatarate")
	a.hint.read(audio, "audiodatarate")
	if g.announce(v, announcedVideo, video != nil || id == 0 && announces(meta, "videocodecid", "hasVideo")) {
		changed = true
	}
	if g.announce(a, announcedAudio, audio != nil || id == 0 && announces(meta, "audiocodecid", "hasAudio")) {
		changed = true
	}
	return g, changed
}

// announce gives a track of g the hints on it, after it has been added if it is new and there is one. It says whether that changed
// anything.
func (g *group) announce(s *slot, t media.Track, there bool) (changed bool) {
	if s.out || !s.announced && !there {
		return false
	}
	if !s.announced {
		s.announced, s.index, changed = true, len(g.tracks), true
		g.tracks = append(g.tracks, t)
	}
	return s.hint.apply(&g.tracks[s.index]) || changed
}

// apply adds the hint to what the bitstream says of a track, and says whether that changed it.
func (h *hint) apply(t *media.Track) bool {
	was := hint{t.BitRate, t.Language, t.Label}
	t.BitRate, t.Language, t.Label = h.bitRate, h.language, h.label
	return was != *h
}

func (h *hint) rate(o amf0.Object, key string) {
	if rate, ok := o.Number(key); ok && rate > 0 && rate*1000 <= maxBitRate {
		h.bitRate = int(rate * 1000)
	}
}

// read reads the entry of one track. The standard names none but the data rate of these; the others are the names that muxers use
// for tracks elsewhere.
func (h *hint) read(o amf0.Object, rate string) {
	h.rate(o, rate)
	h.language = cmp.Or(ingest.CleanLanguage(cmp.Or(o.String("language"), o.String("lang"))), h.language)
	h.label = cmp.Or(ingest.CleanLabel(cmp.Or(o.String("title"), o.String("label"), o.String("name"))), h.label)
}
