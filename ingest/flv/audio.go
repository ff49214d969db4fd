package flv

import (
	"bytes"

	"headwater/segmenter/codec"
	"headwater/segmenter/media"
)

type audioTrack struct {
	slot
	config    []byte // the last AudioSpecificConfig
	timescale uint32 // 0 before the first
}

// SoundFormat (E.4.2.1; Enhanced RTMP v2, "Enhanced Audio").
const (
	soundEnhanced = 9
	soundAAC      = 10
)

// AACPacketType (E.4.2.2).
const (
	aacConfig = 0
	aacRaw    = 1
)

// Audio takes the body of an audio message. ts is its timestamp in milliseconds, unwrapped; arrived is Sample.Arrived.
// The body is the caller's again when Audio returns. An empty one means silence.
func (d *Demuxer) Audio(ts, arrived int64, body []byte) error {
	if len(body) == 0 {
		d.count().empty.Add(1)
		return nil
	}
	switch format := body[0] >> 4; format {
	case soundAAC:
	case soundEnhanced:
		return d.enhancedAudio(ts, arrived, body)
	default:
		return unsupportedAudio(soundName(format))
	}
	if len(body) < 2 {
		return media.Formatf("AAC tag", "ends before its packet type")
	}
	g := d.first()
	var err error
	switch body[1] {
	case aacConfig:
		err = d.audioConfig(g, body[2:])
	case aacRaw:
		err = d.audioFrame(g, ts, 0, arrived, body[2:])
	default:
		err = media.Formatf("AAC tag", "has packet type %d", body[1])
	}
	return d.settle(g, &g.audio.slot, err)
}

func (d *Demuxer) audioConfig(g *group, asc []byte) error {
	a := &g.audio
	if a.timescale != 0 && bytes.Equal(asc, a.config) {
		return nil
	}
	t, err := codec.AAC(asc)
	if err != nil {
		return err
	}
	a.config, a.timescale = t.Codec.Config, t.Timescale
	return d.put(g, &a.slot, t)
}

// audioFrame hands over one frame of ts milliseconds and nano nanoseconds.
func (d *Demuxer) audioFrame(g *group, ts, nano, arrived int64, data []byte) error {
	a := &g.audio
	switch {
	case len(data) == 0:
		d.count().empty.Add(1)
		return nil
	case a.timescale == 0:
		d.count().beforeConfig.Add(1)
		return nil
	}
	d.sample = media.Sample{
		DTS:     media.Rescale(ts, 1000, a.timescale) + media.Rescale(nano, media.Second, a.timescale),
		Sync:    true,
		Arrived: arrived,
		Data:    data,
	}
	return g.write(&a.slot, &d.sample)
}

func unsupportedAudio(name string) error {
	return &media.UnsupportedError{What: "audio codec " + name, Hint: "set the encoder's audio to AAC"}
}

// soundName names the values of SoundFormat (E.4.2.1); 13 is what some encoders used for Opus before there were FourCCs.
func soundName(format byte) string {
	switch format {
	case 0, 3:
		return "PCM"
	case 1:
		return "ADPCM"
	case 2, 14:
		return "MP3"
	case 4, 5, 6:
		return "Nellymoser"
	case 7:
		return "G.711 A-law"
	case 8:
		return "G.711 mu-law"
	case 11:
		return "Speex"
	case 13:
		return "Opus"
	}
	return "of the device"
}
