package flv

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"headwater/segmenter/codec"
	"headwater/segmenter/media"
)

const (
	videoTimescale = 90000

	// maxBackstep is by how much a video frame's decode time may fall short of its predecessor's, ticks, for it to count
	// as jitter and be raised. What steps back further is another timeline, for the segmenter to judge.
	maxBackstep = videoTimescale / 10

	// maxPending bounds the SEI that waits for its picture, bytes.
	maxPending = 64 << 10
)

// Video frame types and codec ids (E.4.3.1).
const (
	frameCommand = 5
	codecAVC     = 7
	codecHEVC    = 12 // of encoders from before there were FourCCs; the tag is like AVC's
)

// AVCPacketType (E.4.3.1).
const (
	avcConfig = 0
	avcNALUs  = 1
	avcEnd    = 2
)

type videoTrack struct {
	slot
	fourCC     uint32 // of the last record
	record     []byte // the last configuration record, as it came
	lengthSize int    // of the samples that come; 0 before the first record
	kind       func(nal []byte) nalKind
	sets       parameters // what holds now, in-band changes included; its length size is that of the samples we make
	describe   func(record []byte) (media.Track, error)
	effective  []byte // sets as a record: that of the track
	timing     codec.PictureTiming
	scratch    []byte // a sample made anew
	pending    []byte // SEI that waits for its picture
	recovers   bool   // there is a recovery point in it
	last       int64  // decode time of the last sample
	started    bool   // last is one
}

// Video takes the body of a video message. ts is its timestamp in milliseconds, unwrapped; arrived is Sample.Arrived. The
// body is modified, and is the caller's again when Video returns. An empty one means nothing.
func (d *Demuxer) Video(ts, arrived int64, body []byte) error {
	if len(body) == 0 {
		d.count().empty.Add(1)
		return nil
	}
	if body[0]&0x80 != 0 {
		return d.enhancedVideo(ts, arrived, body)
	}
	fourCC := uint32(fourCCAVC)
	switch id := body[0] & 0xf; id {
	case codecAVC:
	case codecHEVC:
		fourCC = fourCCHEVC
	default:
		return unsupportedVideo(videoName(id))
	}
	if body[0]>>4 == frameCommand {
		return nil // seeking in a file
	}
	if len(body) < 2 {
		return media.Formatf("AVC tag", "ends before its packet type")
	}
	if body[1] == avcEnd {
		d.count().endOfSequence.Add(1)
		return nil
	}
	if len(body) < 5 {
		return media.Formatf("AVC tag", "ends inside its composition time")
	}
	g := d.first()
	var err error
	switch body[1] {
	case avcConfig:
		err = d.videoConfig(g, fourCC, body[5:])
	case avcNALUs:
		err = d.videoFrame(g, fourCC, ts, 0, si24(body[2:]), arrived, body[5:])
	default:
		err = media.Formatf("AVC tag", "has packet type %d", body[1])
	}
	return d.settle(g, &g.video.slot, err)
}

// si24 reads a signed 24 bit number.
func si24(b []byte) int32 { return int32(b[0])<<24>>8 | int32(b[1])<<8 | int32(b[2]) }

// videoConfig takes a configuration record of a codec. One that repeats the last byte for byte changes nothing, also when
// parameter sets in the stream have changed since: an encoder that repeats its first record for ever would otherwise undo
// them each time.
func (d *Demuxer) videoConfig(g *group, fourCC uint32, record []byte) error {
	v := &g.video
	if v.lengthSize != 0 && fourCC == v.fourCC && bytes.Equal(record, v.record) {
		return nil
	}
	record = bytes.Clone(record)
	next := videoTrack{fourCC: fourCC, record: record}
	at, err := next.parse()
	if err != nil {
		return err
	}
	t, err := next.describe(record)
	if err != nil {
		return err
	}
	// Samples are handed over with lengths of four bytes, whatever they came with: the rest of the house need not know
	// of others, and parameter sets can be taken out without moving what stands before them. The record must then say so.
	t.Codec.Config[at] |= 3
	if v.fourCC != fourCC {
		v.pending, v.recovers = v.pending[:0], false
	}
	v.fourCC, v.record, v.lengthSize, v.kind, v.sets, v.describe = fourCC, record, next.lengthSize, next.kind, next.sets, next.describe
	return d.setVideo(g, t)
}

// parse takes v.record apart, and returns the place of the byte that has the length size in its lowest bits.
func (v *videoTrack) parse() (lengthSizeAt int, err error) {
	if v.fourCC == fourCCHEVC {
		config, err := codec.ParseHEVCConfig(v.record)
		v.lengthSize, config.LengthSize = config.LengthSize, 4
		v.kind, v.sets, v.describe = hevcKind, &config, codec.HEVC
		return 21, err
	}
	config, err := codec.ParseAVCConfig(v.record)
	v.lengthSize, config.LengthSize = config.LengthSize, 4
	v.kind, v.sets, v.describe = avcKind, &config, codec.H264
	return 4, err
}

// setVideo makes t the video track, unless it is that already.
func (d *Demuxer) setVideo(g *group, t media.Track) error {
	v := &g.video
	if v.effective != nil && bytes.Equal(v.effective, t.Codec.Config) {
		return nil
	}
	v.effective, v.timing = t.Codec.Config, codec.PictureTiming{}
	if c, ok := v.sets.(*codec.AVCConfig); ok {
		v.timing, _ = codec.ParsePictureTiming(c.SPS[0]) // what ends early here is fit to be decoded, and tells no time
	}
	return d.put(g, &v.slot, t)
}

// videoFrame hands over one access unit of ts milliseconds and nano nanoseconds; cts is its composition time, ms.
func (d *Demuxer) videoFrame(g *group, fourCC uint32, ts, nano int64, cts int32, arrived int64, data []byte) error {
	v := &g.video
	switch {
	case len(data) == 0:
		d.count().empty.Add(1)
		return nil
	case v.lengthSize == 0, v.fourCC != fourCC:
		d.count().beforeConfig.Add(1)
		return nil
	}
	au, err := v.accessUnit(data)
	if err != nil {
		return err
	}
	if au.changed {
		record, err := v.sets.Append(nil)
		if err != nil {
			return err
		}
		t, err := v.describe(record)
		if err != nil {
			return err
		}
		if err := d.setVideo(g, t); err != nil {
			return err
		}
	}
	if !au.picture {
		d.count().noPicture.Add(1)
		if au.onlySEI && len(v.pending)+len(au.data) <= maxPending {
			v.pending = append(v.pending, au.data...)
			v.recovers = v.recovers || au.recovery
		}
		return nil
	}
	if len(v.pending) > 0 {
		// Some encoders send SEI in a tag of its own. It belongs to the picture that follows (ITU-T H.264, 7.4.1.2.3).
		v.pending = append(v.pending, au.data...)
		au.data, v.pending = v.pending, v.pending[:0]
		au.recovery, v.recovers = au.recovery || v.recovers, false
	}
	dts := media.Rescale(ts, 1000, videoTimescale) + media.Rescale(nano, media.Second, videoTimescale)
	cto := cts * (videoTimescale / 1000)
	if short := v.last - dts; v.started && short >= 0 && short <= maxBackstep {
		d.count().raised.Add(1)
		cto -= int32(short) + 1 // the picture is shown when it was to be
		dts = v.last + 1
	}
	v.last, v.started = dts, true
	d.sample = media.Sample{DTS: dts, CTO: cto, Sync: au.idr, Recovery: au.recovery && !au.idr, Arrived: arrived, Data: au.data}
	if au.idr {
		d.sample.Clock = d.clock(v, au.data, (ts+int64(cts))*1e6+nano)
	}
	return g.write(&v.slot, &d.sample)
}

// An accessUnit is one in sample format, with NAL unit lengths of four bytes.
type accessUnit struct {
	data     []byte
	picture  bool // it has a slice
	idr      bool // it has a slice of an IDR picture
	recovery bool // it has one of a CRA picture, or a recovery point
	onlySEI  bool // it has nothing but SEI
	changed  bool // it had parameter sets other than v.sets, which has them now
}

// accessUnit walks over the NAL units of data and takes out access unit delimiters and parameter sets, which CMAF keeps
// in the sample entry (avc1, hvc1: ISO/IEC 14496-15, 5.4.2.1, 8.4.1). The result lies in data when that has lengths of four bytes,
// else in v.scratch.
func (v *videoTrack) accessUnit(data []byte) (au accessUnit, err error) {
	au.onlySEI = true
	inPlace := v.lengthSize == 4
	v.scratch = v.scratch[:0]
	kept := 0 // bytes of data, when in place
	for at := 0; at < len(data); {
		size, ok := nalSize(data[at:], v.lengthSize)
		start := at + v.lengthSize
		if !ok || size > len(data)-start {
			return au, media.Formatf("AVC tag", "has a NAL unit that is longer than the tag")
		}
		nal := data[start : start+size]
		from := at
		at = start + size
		if size == 0 {
			continue
		}
		switch kind := v.kind(nal); kind {
		case nalLeftOut:
			continue
		case nalParameters:
			changed, err := v.parameterSet(nal)
			if err != nil {
				return au, err
			}
			au.changed = au.changed || changed
			continue
		case nalSEI:
			au.recovery = au.recovery || v.recovery(nal)
		case nalSlice, nalCRA, nalIDR:
			au.picture = true
			au.idr = au.idr || kind == nalIDR
			au.recovery = au.recovery || kind == nalCRA
			fallthrough
		case nalOther:
			au.onlySEI = false
		}
		if !inPlace {
			v.scratch = append(binary.BigEndian.AppendUint32(v.scratch, uint32(size)), nal...)
			continue
		}
		if kept != from {
			copy(data[kept:], data[from:at])
		}
		kept += at - from
	}
	au.data = v.scratch
	if inPlace {
		au.data = data[:kept]
	}
	return au, nil
}

// recovery says whether there is a recovery point in an SEI NAL unit.
func (v *videoTrack) recovery(nal []byte) bool {
	header := 1
	if v.fourCC == fourCCHEVC {
		header = 2
	}
	return len(nal) > header && codec.RecoveryPoint(nal[header:])
}

// nalSize reads the length before a NAL unit.
func nalSize(b []byte, lengthSize int) (size int, ok bool) {
	switch {
	case len(b) < lengthSize:
		return 0, false
	case lengthSize == 1:
		return int(b[0]), true
	case lengthSize == 2:
		return int(binary.BigEndian.Uint16(b)), true
	}
	return int(binary.BigEndian.Uint32(b)), true
}

// parameterSet compares an in-band parameter set with what holds, and takes it over when it differs.
func (v *videoTrack) parameterSet(nal []byte) (changed bool, err error) {
	nal = bytes.TrimRight(nal, "\x00") // trailing_zero_8bits that came from a byte stream
	if len(nal) > 0 && v.sets.Have(nal) {
		return false, nil
	}
	return v.sets.Replace(nal)
}

func unsupportedVideo(name string) error {
	return &media.UnsupportedError{What: "video codec " + name, Hint: "set the encoder's video to H.264 or HEVC"}
}

// videoName names the values of CodecID (E.4.3.1); 13 is what some encoders used before there were FourCCs.
func videoName(id byte) string {
	switch id {
	case 1:
		return "JPEG"
	case 2:
		return "H.263"
	case 3, 6:
		return "Screen Video"
	case 4, 5:
		return "VP6"
	case 13:
		return "AV1"
	}
	return fmt.Sprintf("number %d", id)
}
