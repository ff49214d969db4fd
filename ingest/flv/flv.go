// Package flv turns the bodies of FLV tags, which are also those of RTMP's audio, video and data messages, into tracks
// and samples (Adobe Flash Video File Format 10.1, annex E; Enhanced RTMP v2). It takes H.264 and AAC, in the original
// tags and in enhanced ones with the FourCCs avc1 and mp4a; every other codec is refused by its name. It knows neither files
// nor connections.
package flv

import (
	"bytes"
	"slices"
	"sync/atomic"

	"headwater/ingest"
	"headwater/segmenter/codec"
	"headwater/segmenter/media"
)

// A Demuxer demuxes one publication. Its methods but Stats are called from one goroutine. Every error ends the
// publication: a *media.FormatError or *media.UnsupportedError, or what W returned.
type Demuxer struct {
	// W receives the tracks and samples. Tracks get their indices in the order in which they are announced, by metadata
	// or by their configuration.
	W ingest.Writer

	tracks []media.Track
	video  videoTrack
	audio  audioTrack
	sample media.Sample // handed to W again and again
	count  counters
}

// Stats counts what was passed over without ending the publication.
type Stats struct {
	BeforeConfig  uint64 // coded frames before their track's configuration
	Empty         uint64 // messages and frames without content: silence, not an end
	EndOfSequence uint64 // messages that say that a sequence ends
	NoPicture     uint64 // access units without a coded slice; their SEI goes to the next one
	Raised        uint64 // video frames whose decode time did not rise and was raised
}

type counters struct {
	beforeConfig, empty, endOfSequence, noPicture, raised atomic.Uint64
}

// Stats may be called by any goroutine.
func (d *Demuxer) Stats() Stats {
	return Stats{
		BeforeConfig:  d.count.beforeConfig.Load(),
		Empty:         d.count.empty.Load(),
		EndOfSequence: d.count.endOfSequence.Load(),
		NoPicture:     d.count.noPicture.Load(),
		Raised:        d.count.raised.Load(),
	}
}

// A slot is a track's place in Demuxer.tracks, from its announcement on.
type slot struct {
	announced bool
	index     int
	bitRate   int // as metadata announced it, bits a second
}

// put makes t the track of s and tells W.
func (d *Demuxer) put(s *slot, t media.Track) error {
	t.BitRate = s.bitRate
	if s.announced {
		d.tracks[s.index] = t
	} else {
		s.announced, s.index = true, len(d.tracks)
		d.tracks = append(d.tracks, t)
	}
	return d.tell()
}

// tell gives W a list of its own.
func (d *Demuxer) tell() error { return d.W.SetTracks(slices.Clone(d.tracks)) }

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
		d.count.empty.Add(1)
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
	switch body[1] {
	case aacConfig:
		return d.audioConfig(body[2:])
	case aacRaw:
		return d.audioFrame(ts, 0, arrived, body[2:])
	}
	return media.Formatf("AAC tag", "has packet type %d", body[1])
}

func (d *Demuxer) audioConfig(asc []byte) error {
	a := &d.audio
	if a.timescale != 0 && bytes.Equal(asc, a.config) {
		return nil
	}
	t, err := codec.AAC(asc)
	if err != nil {
		return err
	}
	a.config, a.timescale = t.Codec.Config, t.Timescale
	return d.put(&a.slot, t)
}

// audioFrame hands over one frame of ts milliseconds and nano nanoseconds.
func (d *Demuxer) audioFrame(ts, nano, arrived int64, data []byte) error {
	a := &d.audio
	switch {
	case len(data) == 0:
		d.count.empty.Add(1)
		return nil
	case a.timescale == 0:
		d.count.beforeConfig.Add(1)
		return nil
	}
	d.sample = media.Sample{
		DTS:     media.Rescale(ts, 1000, a.timescale) + media.Rescale(nano, media.Second, a.timescale),
		Sync:    true,
		Arrived: arrived,
		Data:    data,
	}
	return d.W.WriteSample(a.index, &d.sample)
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
