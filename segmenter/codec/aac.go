package codec

import (
	"fmt"
	"slices"

	"headwater/segmenter/media"
)

// Audio object types (ISO/IEC 14496-3, table 1.17).
const (
	aotLC  = 2
	aotSBR = 5
	aotPS  = 29
)

const (
	// maxASC is the longest AudioSpecificConfig accepted, bytes: one program config element with its longest comment is
	// about 330.
	maxASC = 512

	minSamplingRate = 7350 // Hz: the lowest and the highest of AAC (ISO/IEC 14496-3, table 1.18)
	maxSamplingRate = 96000

	syncSBR = 0x2b7 // syncExtensionType (ISO/IEC 14496-3, 1.6.2.1)
	syncPS  = 0x548
)

// samplingRates is table 1.18 of ISO/IEC 14496-3, by samplingFrequencyIndex.
var samplingRates = [...]int{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}

// channelCounts is table 1.19 of ISO/IEC 14496-3, by channelConfiguration; 0 is defined elsewhere or reserved.
var channelCounts = [16]int{1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 8, 11: 7, 12: 8, 13: 24, 14: 8}

// AAC describes the track of an AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1): AAC-LC, alone or as the core of HE-AAC
// and HE-AAC v2. Its Config is a copy of asc.
//
// The timescale is the sampling rate of the AAC-LC core, so that a frame lasts FrameSamples ticks exactly, whatever SBR
// makes of it. HE-AAC is known by its signalling only, either kind of it; whether an encoder that signals none has SBR
// in its frames is for decoders to find out, who do (1.6.5.3).
func AAC(asc []byte) (media.Track, error) {
	const where = "AudioSpecificConfig"
	if len(asc) < 2 || len(asc) > maxASC {
		return media.Track{}, media.Formatf(where, "is %d bytes long, not 2 to %d", len(asc), maxASC)
	}
	var a audioConfig
	if err := decode(where, asc, a.read); err != nil {
		return media.Track{}, err
	}
	t := media.Track{
		ID:   audioID,
		Kind: media.Audio,
		Codec: media.Codec{
			Type:   "mp4a",
			Config: slices.Clone(asc),
		},
		Timescale:    uint32(a.rate),
		SampleRate:   a.rate,
		Channels:     a.channels,
		FrameSamples: a.frame,
	}
	object := aotLC
	if a.sbr {
		object = aotSBR
		t.SampleRate = a.outRate
	}
	if a.ps {
		object = aotPS
		t.Channels = 2
	}
	t.Codec.String = fmt.Sprintf("mp4a.40.%d", object)
	return t, nil
}

// An audioConfig is what is wanted of an AudioSpecificConfig.
type audioConfig struct {
	rate, outRate int // Hz, of the core and of SBR's output
	channels      int // of the core
	frame         int // samples of the core
	sbr, ps       bool
}

func (a *audioConfig) read(r reader) (err error) {
	object := objectType(r)
	if a.rate, err = samplingRate(r); err != nil {
		return err
	}
	config := r.u(4)
	explicit := object == aotSBR || object == aotPS
	if explicit {
		a.sbr, a.ps = true, object == aotPS
		if a.outRate, err = samplingRate(r); err != nil {
			return err
		}
		object = objectType(r)
	}
	if object != aotLC {
		return &media.UnsupportedError{What: "AAC profile " + objectName(object),
			Hint: "set the encoder's audio to AAC-LC or HE-AAC"}
	}
	// GASpecificConfig (4.4.1).
	a.frame = 1024
	if r.flag() {
		a.frame = 960
	}
	if r.flag() {
		r.u(14) // coreCoderDelay
	}
	r.flag() // extensionFlag: for other object types
	if a.channels = channelCounts[config]; config == 0 {
		if a.channels, err = programConfig(r); err != nil {
			return err
		}
	} else if a.channels == 0 {
		return media.Formatf("AudioSpecificConfig", "has the reserved channel configuration %d", config)
	}
	// The backward compatible signalling of SBR and PS.
	if !explicit && r.left() >= 16 && r.u(11) == syncSBR && objectType(r) == aotSBR && r.left() >= 1 && r.flag() {
		a.sbr = true
		if a.outRate, err = samplingRate(r); err != nil {
			return err
		}
		a.ps = r.left() >= 12 && r.u(11) == syncPS && r.flag()
	}
	if a.sbr && a.outRate != a.rate && a.outRate != 2*a.rate {
		return media.Formatf("AudioSpecificConfig", "has SBR from %d to %d Hz", a.rate, a.outRate)
	}
	// Parametric stereo makes two channels of one; encoders that state the two are understood.
	if a.ps && a.channels > 2 {
		return media.Formatf("AudioSpecificConfig", "has parametric stereo over %d channels", a.channels)
	}
	return nil
}

// objectType reads GetAudioObjectType (1.6.2.1).
func objectType(r reader) int {
	object := int(r.u(5))
	if object == 31 {
		object = 32 + int(r.u(6))
	}
	return object
}

// samplingRate reads a samplingFrequencyIndex and the rate that follows its escape value.
func samplingRate(r reader) (int, error) {
	i := int(r.u(4))
	rate := 0
	switch {
	case i < len(samplingRates):
		return samplingRates[i], nil
	case i == 15:
		rate = int(r.u(24))
	}
	if rate < minSamplingRate || rate > maxSamplingRate {
		return 0, media.Formatf("AudioSpecificConfig", "has a sampling rate of %d Hz, index %d", rate, i)
	}
	return rate, nil
}

// programConfig reads program_config_element (4.4.1.1) and returns its number of channels.
func programConfig(r reader) (int, error) {
	r.u(10) // element_instance_tag, object_type, sampling_frequency_index
	front, side, back := r.u(4), r.u(4), r.u(4)
	lfe, data, coupling := r.u(2), r.u(3), r.u(4)
	for _, bits := range [...]int{4, 4, 3} { // mono, stereo and matrix mixdown
		if r.flag() {
			r.u(bits)
		}
	}
	channels := int(lfe)
	for range front + side + back {
		channels++
		if r.flag() { // a channel pair
			channels++
		}
		r.u(4)
	}
	for range lfe + data {
		r.u(4)
	}
	for range coupling {
		r.u(5)
	}
	if over := r.pos() % 8; over != 0 {
		r.u(8 - over) // byte_alignment, from the start of the AudioSpecificConfig
	}
	for range r.u(8) {
		r.u(8) // comment_field_data
	}
	if channels == 0 {
		return 0, media.Formatf("AudioSpecificConfig", "has a program without channels")
	}
	return channels, nil
}

// objectName names the object types that encoders are known to offer.
func objectName(object int) string {
	switch object {
	case 1:
		return "Main"
	case 3:
		return "SSR"
	case 4:
		return "LTP"
	case 23:
		return "LD"
	case 39:
		return "ELD"
	case 42:
		return "xHE-AAC"
	}
	return fmt.Sprintf("of object type %d", object)
}
