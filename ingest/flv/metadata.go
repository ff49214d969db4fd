package flv

import (
	"headwater/ingest/amf0"
	"headwater/segmenter/media"
)

// maxBitRate bounds what metadata may announce, bits a second; what lies above is taken for nonsense.
const maxBitRate = 1e9

// Data takes the body of a data message: AMF 0 values, of which onMetaData is looked at, with or without @setDataFrame
// before it. Metadata is a hint. It announces the tracks to come and their bit rates; what they are like is for their
// configuration to say.
func (d *Demuxer) Data(body []byte) error {
	if len(body) == 0 {
		d.count.empty.Add(1)
		return nil
	}
	name, rest, err := amf0.Decode(body)
	if err == nil && name == "@setDataFrame" && len(rest) > 0 {
		name, rest, err = amf0.Decode(rest)
	}
	if err != nil {
		return err
	}
	if _, ok := name.(string); !ok {
		return media.Formatf("data message", "does not begin with a name")
	}
	if name != "onMetaData" || len(rest) == 0 {
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
	changed := d.announce(&d.video.slot, media.Track{ID: 1, Kind: media.Video, Timescale: videoTimescale},
		meta, "videocodecid", "hasVideo", "videodatarate")
	if d.announce(&d.audio.slot, media.Track{ID: 2, Kind: media.Audio}, meta, "audiocodecid", "hasAudio", "audiodatarate") {
		changed = true
	}
	if !changed {
		return nil
	}
	return d.tell()
}

// announce takes one kind of track's hints out of meta. It says whether that changed d.tracks.
func (d *Demuxer) announce(s *slot, t media.Track, meta amf0.Object, codecID, has, dataRate string) (changed bool) {
	if rate, ok := meta.Number(dataRate); ok && rate > 0 && rate*1000 <= maxBitRate {
		s.bitRate = int(rate * 1000)
	}
	if s.announced {
		changed = d.tracks[s.index].BitRate != s.bitRate
		d.tracks[s.index].BitRate = s.bitRate
		return changed
	}
	if no, ok := meta[has].(bool); ok && !no {
		return false
	}
	// A number or the FourCC's characters; 0 is what those send who have no such track.
	number, ok := meta.Number(codecID)
	if !ok && meta.String(codecID) == "" || ok && number == 0 {
		return false
	}
	t.BitRate = s.bitRate
	s.announced, s.index = true, len(d.tracks)
	d.tracks = append(d.tracks, t)
	return true
}
