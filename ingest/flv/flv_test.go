package flv

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headwater/ingest/amf0"
	"headwater/segmenter/media"
)

// Configuration records made by ffmpeg 5.1 with libx264 and its aac encoder; package codec's tests say how.
const (
	avcA = "0142c00dffe100186742c00dd90141fb011000000300100000030320f142a48001000568cb83cb20" // 320x240
	spsA = "6742c00dd90141fb011000000300100000030320f142a480"
	ppsA = "68cb83cb20"
	avcB = "0142c02affe1001b6742c02ada01e0089f97016e122012800001f48000ea60078c195001000468ce0fc8" // 1920x1080
	spsB = "6742c02ada01e0089f97016e122012800001f48000ea60078c1950"
	ppsB = "68ce0fc8"
	ascA = "1190"       // 48 kHz, stereo
	ascB = "120856e500" // 44.1 kHz, mono

	avcA1 = "0142c00dfce100186742c00dd90141fb011000000300100000030320f142a48001000568cb83cb20" // length size 1
	avcA2 = "0142c00dfde100186742c00dd90141fb011000000300100000030320f142a48001000568cb83cb20" // 2
	avcA3 = "0142c00dfee100186742c00dd90141fb011000000300100000030320f142a48001000568cb83cb20" // 3

	hvc1 = "68766331"
	// What x265 makes of 320x180 and of 1920x1080 in ten bits.
	hvcA = "0101600000009000000000003cf000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003003c959009a10001002b42010101600000030090000003000003003ca00a080c1f3e595912930bc05a020000030002000003003c10a2000100064401c073c189"
	vpsH = "40010c01ffff01600000030090000003000003003c959009"
	spsH = "42010101600000030090000003000003003ca00a080c1f3e595912930bc05a020000030002000003003c10"
	ppsH = "4401c073c189"
	vpsI = "40010c01ffff02200000030090000003000003007b959409"
	spsI = "42010102200000030090000003000003007ba003c0801107cad965654a4c2f016a122012080000030008000003019040"

	idrH   = "000000042601af08"
	craH   = "000000042a01af08"
	interH = "000000030201d0"
	seiH   = "000000044e010580"

	idr   = "00000003658888"
	inter = "00000002419a"
	sei   = "000000020601"

	point  = "000000050606010480" // recovery_frame_cnt 0
	pointH = "000000064e0106010480"
)

// A message is one call of the Demuxer.
type message struct {
	kind byte // 'v', 'a' or 'd'
	ts   int64
	body string // hexadecimal
}

func v(ts int64, body ...string) message { return message{'v', ts, strings.Join(body, "")} }
func a(ts int64, body ...string) message { return message{'a', ts, strings.Join(body, "")} }
func data(values ...any) message {
	var b []byte
	for _, v := range values {
		b = amf0.Append(b, v)
	}
	return message{'d', 0, hex.EncodeToString(b)}
}

// nal is a NAL unit with a length of four bytes.
func nal(h string) string { return fmt.Sprintf("%08x%s", len(h)/2, h) }

const (
	trackA  = "video avc1.42c00d 320x240"
	trackB  = "video avc1.42c02a 1920x1080"
	trackH  = "video hvc1.1.6.L60.90 320x180"
	trackI  = "video hvc1.2.4.L123.90 1920x1080"
	soundA  = "audio mp4a.40.2 48000 Hz 2"
	soundB  = "audio mp4a.40.2 44100 Hz 1"
	tracksA = "tracks: " + trackA
)

var cases = []struct {
	name     string
	messages []message
	want     []string // what the Writer was told
	stats    Stats
	err      string // part of the text of the last message's error
	unsup    bool   // it is an UnsupportedError, not a FormatError
}{
	{
		name:     "enhanced HEVC",
		messages: []message{v(0, "90", hvc1, hvcA), v(40, "91", hvc1, "000050", idrH), v(80, "a1", hvc1, "fffff0", interH), v(120, "a3", hvc1, interH), v(160, "92", hvc1)},
		want:     []string{"tracks: " + trackH, "0: dts 3600 cto 7200 sync " + idrH, "0: dts 7200 cto -1440 " + interH, "0: dts 10800 cto 0 " + interH},
		stats:    Stats{EndOfSequence: 1},
	},
	{
		name:     "legacy HEVC",
		messages: []message{v(0, "1c00000000", hvcA), v(40, "1c01000050", idrH), v(80, "2c01000000", craH)},
		want:     []string{"tracks: " + trackH, "0: dts 3600 cto 7200 sync " + idrH, "0: dts 7200 cto 0 recovery " + craH}, // an open GOP
	},
	{
		name: "HEVC with parameter sets and delimiters in the stream",
		messages: []message{v(0, "90", hvc1, hvcA), v(40, "91", hvc1, "000000", nal("460150"), nal(vpsH), nal(spsH), nal(ppsH), seiH, idrH),
			v(80, "91", hvc1, "000000", nal(vpsI), nal(spsI), idrH)},
		want: []string{"tracks: " + trackH, "0: dts 3600 cto 0 sync " + seiH + idrH, "tracks: " + trackI, "0: dts 7200 cto 0 sync " + idrH},
	},
	{
		name: "H.264, HEVC and H.264 again",
		messages: []message{v(0, "1700000000", avcA), v(40, "1701000000", idr), v(80, "91", hvc1, "000000", idrH), v(80, "90", hvc1, hvcA),
			v(80, "91", hvc1, "000000", idrH), v(120, "1700000000", avcA), v(120, "91", hvc1, "000000", idrH), v(120, "1701000000", idr)},
		want: []string{tracksA, "0: dts 3600 cto 0 sync " + idr, "tracks: " + trackH, "0: dts 7200 cto 0 sync " + idrH, tracksA,
			"0: dts 10800 cto 0 sync " + idr},
		stats: Stats{BeforeConfig: 2},
	},
	{
		name: "legacy video and audio",
		messages: []message{v(0, "1700000000", avcA), a(0, "af00", ascA), v(40, "1701000050", idr), a(43, "af01", "2110"),
			v(80, "2701fffff0", inter)},
		want: []string{tracksA, "tracks: " + trackA + ", " + soundA,
			"0: dts 3600 cto 7200 sync " + idr, "1: dts 2064 cto 0 sync 2110", "0: dts 7200 cto -1440 " + inter},
	},
	{
		name: "audio first has index 0",
		messages: []message{a(0, "af00", ascB), v(0, "1700000000", avcA), a(1000, "af01ff"),
			v(1<<33, "1701000000", idr)},
		want: []string{"tracks: " + soundB, "tracks: " + soundB + ", " + trackA, "0: dts 44100 cto 0 sync ff",
			"1: dts 773094113280 cto 0 sync " + idr},
	},
	{
		name: "enhanced avc1 and mp4a",
		messages: []message{v(0, "9061766331", avcA), a(0, "906d703461", ascA), v(0, "9161766331000050", idr), v(40, "a361766331", inter),
			a(1000, "916d703461", "2110"), v(0, "9461766331", "0102"), a(0, "946d703461", "0102"), v(0, "d000"), v(0, "9261766331"), a(0, "926d703461")},
		want: []string{tracksA, "tracks: " + trackA + ", " + soundA, "0: dts 0 cto 7200 sync " + idr, "0: dts 3600 cto 0 " + inter,
			"1: dts 48000 cto 0 sync 2110"},
		stats: Stats{EndOfSequence: 2},
	},
	{
		// ModEx twice: an unknown one of 256 bytes, then a timestamp offset of 500,000 ns.
		name: "enhanced modifiers",
		messages: []message{v(0, "9061766331", avcA), v(0, "97", "ff00ff", strings.Repeat("aa", 256), "f7", "02", "07a120", "03", "61766331", inter),
			a(0, "906d703461", ascA), a(10, "97", "02", "07a120", "01", "6d703461", "2110"), v(20, "97", "02ffffff03", "61766331", inter)},
		want: []string{tracksA, "0: dts 45 cto 0 " + inter, "tracks: " + trackA + ", " + soundA, "1: dts 504 cto 0 sync 2110",
			"0: dts 1890 cto 0 " + inter},
	},
	{
		name:     "enhanced multitrack with one track, number 0",
		messages: []message{v(0, "96", "00", "61766331", "00", avcA), v(0, "96", "03", "61766331", "00", idr), a(0, "95", "00", "6d703461", "00", ascA)},
		want:     []string{tracksA, "0: dts 0 cto 0 sync " + idr, "tracks: " + trackA + ", " + soundA},
	},
	{name: "enhanced multitrack, track 1", messages: []message{v(0, "96", "00", "61766331", "01", avcA)}, err: "track 1", unsup: true},
	{
		name:     "enhanced multitrack, many, of which there is one",
		messages: []message{a(0, "95", "10", "6d703461", "00000002", ascA), a(0, "95", "21", "6d703461", "00000002", "2110")},
		want:     []string{"tracks: " + soundA, "0: dts 0 cto 0 sync 2110"},
	},
	{name: "enhanced multitrack, many", messages: []message{a(0, "95", "10", "6d703461", "00000002", ascA, "01000002", ascA)},
		want: []string{"tracks: " + soundA}, err: "track 1", unsup: true},
	{name: "enhanced ModEx inside of multitrack", messages: []message{a(0, "95", "07", "6d703461", "00")}, err: "packet type 7 in a multitrack message"},
	{name: "enhanced multitrack of type 3", messages: []message{a(0, "95", "30", "6d703461", "00")}, err: "multitrack type 3", unsup: true},
	{name: "enhanced multitrack, many, of none", messages: []message{a(0, "95", "10", "6d703461")}, err: "inside its header"},
	{name: "enhanced multitrack, many, without size", messages: []message{v(0, "96", "10", "61766331", "000000")}, err: "inside its header"},
	{name: "enhanced multitrack, many, too long", messages: []message{v(0, "96", "10", "61766331", "00000002", "00")}, err: "2 bytes of track 0 with 1 left"},
	{name: "enhanced multitrack, many, more that is none", messages: []message{v(0, "96", "12", "61766331", "00000000", "00")}, err: "inside its header",
		stats: Stats{EndOfSequence: 1}},
	{name: "enhanced multitrack of many codecs without one", messages: []message{v(0, "96", "20", "617663")}, err: "inside its header"},
	{name: "enhanced multitrack in multitrack", messages: []message{v(0, "96", "06", "61766331")}, err: "packet type 6"},
	{name: "enhanced video without FourCC", messages: []message{v(0, "91617663")}, err: "inside its header"},
	{name: "enhanced video of one byte", messages: []message{v(0, "90")}, err: "inside its header"},
	{name: "enhanced modifier that ends early", messages: []message{v(0, "9705aa")}, err: "inside its header"},
	{name: "enhanced modifier that ends at once", messages: []message{a(0, "97")}, err: "inside its header"},
	{name: "enhanced long modifier that ends at once", messages: []message{a(0, "97ff00")}, err: "inside its header"},
	{name: "enhanced multitrack that ends at once", messages: []message{v(0, "96")}, err: "inside its header"},
	{name: "enhanced multitrack without number", messages: []message{v(0, "960061766331")}, err: "inside its header"},
	{name: "enhanced composition time cut", messages: []message{v(0, "91617663310000")}, err: "composition time"},
	{name: "enhanced packet type 9", messages: []message{v(0, "9961766331")}, err: "packet type 9", unsup: true},
	{name: "enhanced audio packet type 6", messages: []message{a(0, "966d703461")}, err: "packet type 6", unsup: true},
	{
		name: "an identical configuration is ignored, another takes the same index",
		messages: []message{v(0, "1700000000", avcA), a(0, "af00", ascA), v(0, "1700000000", avcA), a(0, "af00", ascA),
			v(0, "1700000000", avcB), a(0, "af00", ascB), v(40, "1701000000", idr), a(1000, "af0121")},
		want: []string{tracksA, "tracks: " + trackA + ", " + soundA, "tracks: " + trackB + ", " + soundA, "tracks: " + trackB + ", " + soundB,
			"0: dts 3600 cto 0 sync " + idr, "1: dts 44100 cto 0 sync 21"},
	},
	{
		name:     "the frame type is not trusted",
		messages: []message{v(0, "1700000000", avcA), v(0, "1701000000", inter), v(40, "2701000000", sei, idr)},
		want:     []string{tracksA, "0: dts 0 cto 0 " + inter, "0: dts 3600 cto 0 sync " + sei + idr},
	},
	{
		name: "empty messages are silence",
		messages: []message{v(0), a(0), {'d', 0, ""}, v(0, "1700000000", avcA), a(0, "af00", ascA), a(0, "af01"), v(0, "1701000000"),
			v(0, "1702000000"), v(0, "1702"), v(0, "5701")},
		want:  []string{tracksA, "tracks: " + trackA + ", " + soundA},
		stats: Stats{Empty: 5, EndOfSequence: 2},
	},
	{
		name:     "frames before their configuration",
		messages: []message{v(0, "1701000000", idr), a(0, "af01", "2110"), a(0, "af00", ascA), v(0, "2701000000", inter), a(0, "af01", "2110")},
		want:     []string{"tracks: " + soundA, "0: dts 0 cto 0 sync 2110"},
		stats:    Stats{BeforeConfig: 3},
	},
	{
		name: "delimiters and parameter sets are taken out, SEI stays",
		messages: []message{v(0, "1700000000", avcA), v(0, "1701000000", nal("09f0"), nal(spsA), nal(ppsA+"0000"), sei, idr, nal("09f0"), inter),
			v(40, "2701000000", sei, nal("09f0"), inter)},
		want: []string{tracksA, "0: dts 0 cto 0 sync " + sei + idr + inter, "0: dts 3600 cto 0 " + sei + inter},
	},
	{
		name:     "NAL units of no bytes",
		messages: []message{v(0, "1700000000", avcA), v(0, "1701000000", "00000000", idr, "00000000"), v(40, "1701000000", "00000000")},
		want:     []string{tracksA, "0: dts 0 cto 0 sync " + idr},
		stats:    Stats{NoPicture: 1},
	},
	{
		name: "in-band parameter sets that differ become the configuration",
		messages: []message{v(0, "1700000000", avcA), v(0, "1701000000", nal(spsB), nal(ppsB), idr), v(40, "1701000000", nal(spsB), nal(ppsB), idr),
			v(80, "1700000000", avcA), v(80, "1700000000", avcB), v(80, "1701000000", idr)},
		want: []string{tracksA, "tracks: " + trackB, "0: dts 0 cto 0 sync " + idr, "0: dts 3600 cto 0 sync " + idr, "0: dts 7200 cto 0 sync " + idr},
	},
	{
		name:     "in-band parameter sets in a tag of their own",
		messages: []message{v(0, "1700000000", avcA), v(0, "1701000000", nal(spsB), nal(ppsB)), v(0, "1701000000", idr)},
		want:     []string{tracksA, "tracks: " + trackB, "0: dts 0 cto 0 sync " + idr},
		stats:    Stats{NoPicture: 1},
	},
	{
		name:     "another in-band PPS is added",
		messages: []message{v(0, "1700000000", avcA), v(0, "1701000000", nal("6840"), idr)},
		want:     []string{tracksA, tracksA, "0: dts 0 cto 0 sync " + idr},
	},
	{name: "in-band SPS that is garbage", messages: []message{v(0, "1700000000", avcA), v(0, "1701000000", nal("67ffff"))}, want: []string{tracksA}, err: "SPS"},
	{name: "in-band SPS that is zeros", messages: []message{v(0, "1700000000", avcA), v(0, "1701000000", nal("6700000000"))}, want: []string{tracksA}, err: "SPS"},
	{
		name: "recovery points, in SEI with the picture and before it, but not at an IDR picture",
		messages: []message{v(0, "1700000000", avcA), v(0, "1701000000", point, idr), v(40, "1701000000", point, inter), v(80, "2701000000", inter),
			v(120, "1701000000", point), v(120, "1701000000", inter), v(160, "2701000000", inter)},
		want: []string{tracksA, "0: dts 0 cto 0 sync " + point + idr, "0: dts 3600 cto 0 recovery " + point + inter, "0: dts 7200 cto 0 " + inter,
			"0: dts 10800 cto 0 recovery " + point + inter, "0: dts 14400 cto 0 " + inter},
		stats: Stats{NoPicture: 1},
	},
	{
		name:     "a recovery point of HEVC",
		messages: []message{v(0, "1c00000000", hvcA), v(40, "1c01000000", idrH), v(80, "2c01000000", pointH, interH)},
		want:     []string{"tracks: " + trackH, "0: dts 3600 cto 0 sync " + idrH, "0: dts 7200 cto 0 recovery " + pointH + interH},
	},
	{
		name: "SEI in a tag of its own goes with the next picture",
		messages: []message{v(0, "1700000000", avcA), v(0, "1701000000", nal("09f0"), sei), v(0, "1701000000", idr),
			v(40, "2701000000", nal("0cff")), v(40, "2701000000", inter)},
		want:  []string{tracksA, "0: dts 0 cto 0 sync " + sei + idr, "0: dts 3600 cto 0 " + inter},
		stats: Stats{NoPicture: 2},
	},
	{
		name:     "length size 1",
		messages: []message{v(0, "1700000000", avcA1), v(0, "1701000000", "0209f0", "03658888", "00", "02419a")},
		want:     []string{tracksA, "0: dts 0 cto 0 sync " + idr + inter},
	},
	{
		name:     "length size 2, then 4",
		messages: []message{v(0, "1700000000", avcA2), v(0, "1701000000", "000209f0", "0003658888"), v(0, "1700000000", avcA), v(40, "1701000000", idr)},
		want:     []string{tracksA, "0: dts 0 cto 0 sync " + idr, "0: dts 3600 cto 0 sync " + idr},
	},
	{name: "length size 3", messages: []message{v(0, "1700000000", avcA3)}, err: "length size of 3"},
	{
		name: "decode times that stand or step back a little are raised, the picture stays",
		messages: []message{v(0, "1700000000", avcA), v(1000, "1701000000", idr), v(1000, "2701000028", inter), v(960, "2701000000", inter),
			v(1033, "2701000000", inter), v(500, "2701000000", inter)},
		want: []string{tracksA, "0: dts 90000 cto 0 sync " + idr, "0: dts 90001 cto 3599 " + inter, "0: dts 90002 cto -3602 " + inter,
			"0: dts 92970 cto 0 " + inter, "0: dts 45000 cto 0 " + inter},
		stats: Stats{Raised: 2},
	},
	{name: "NAL unit past the tag", messages: []message{v(0, "1700000000", avcA), v(0, "1701000000", "00000004658888")}, want: []string{tracksA}, err: "longer than the tag"},
	{name: "NAL unit of 4 GB", messages: []message{v(0, "1700000000", avcA), v(0, "1701000000", "ffffffff658888")}, want: []string{tracksA}, err: "longer than the tag"},
	{name: "length cut", messages: []message{v(0, "1700000000", avcA), v(0, "1701000000", idr, "0000")}, want: []string{tracksA}, err: "longer than the tag"},
	{name: "length size 1, past the tag", messages: []message{v(0, "1700000000", avcA1), v(0, "1701000000", "04658888")}, want: []string{tracksA}, err: "longer than the tag"},
	{name: "length size 2, cut", messages: []message{v(0, "1700000000", avcA2), v(0, "1701000000", "0002658800")}, want: []string{tracksA}, err: "longer than the tag"},
	{name: "avcC of 0 bytes", messages: []message{v(0, "1700000000")}, err: "AVC configuration record: is 0 bytes"},
	{name: "short avcC", messages: []message{v(0, "1700000000", "0142c0")}, err: "AVC configuration record: is 3 bytes"},
	{name: "AudioSpecificConfig of 0 bytes", messages: []message{a(0, "af00")}, err: "AudioSpecificConfig: is 0 bytes"},
	{name: "AudioSpecificConfig of 1 byte", messages: []message{a(0, "af0011")}, err: "AudioSpecificConfig: is 1 bytes"},
	{name: "AVC tag of 1 byte", messages: []message{v(0, "17")}, err: "before its packet type"},
	{name: "AVC tag of 4 bytes", messages: []message{v(0, "17010000")}, err: "composition time"},
	{name: "AVC packet type 3", messages: []message{v(0, "1703000000")}, err: "packet type 3"},
	{name: "AAC tag of 1 byte", messages: []message{a(0, "af")}, err: "before its packet type"},
	{name: "AAC packet type 2", messages: []message{a(0, "af02")}, err: "packet type 2"},
	{name: "H.263", messages: []message{v(0, "2200")}, err: "H.263", unsup: true},
	{name: "VP6", messages: []message{v(0, "2400")}, err: "VP6", unsup: true},
	{name: "legacy HEVC without a record", messages: []message{v(0, "1c00000000")}, err: "HEVC configuration record: is 0 bytes"},
	{name: "legacy AV1", messages: []message{v(0, "1d00000000")}, err: "video codec AV1 is not supported: set the encoder's video to H.264 or HEVC", unsup: true},
	{name: "unknown video codec", messages: []message{v(0, "1f00000000")}, err: "number 15", unsup: true},
	{name: "enhanced HEVC without a record", messages: []message{v(0, "9068766331")}, err: "HEVC configuration record: is 0 bytes"},
	{name: "enhanced AV1", messages: []message{v(0, "9061763031")}, err: "AV1", unsup: true},
	{name: "enhanced VP9", messages: []message{v(0, "9076703039")}, err: "VP9", unsup: true},
	{name: "enhanced unknown", messages: []message{v(0, "9000ff6162")}, err: `"\x00\xffab"`, unsup: true},
	{name: "PCM", messages: []message{a(0, "3f00")}, err: "PCM", unsup: true},
	{name: "MP3", messages: []message{a(0, "2f00")}, err: "audio codec MP3 is not supported: set the encoder's audio to AAC", unsup: true},
	{name: "Speex", messages: []message{a(0, "b200")}, err: "Speex", unsup: true},
	{name: "legacy Opus", messages: []message{a(0, "df00")}, err: "Opus", unsup: true},
	{name: "Nellymoser", messages: []message{a(0, "6f00")}, err: "Nellymoser", unsup: true},
	{name: "enhanced Opus", messages: []message{a(0, "904f707573")}, err: "Opus", unsup: true},
	{name: "AAC Main", messages: []message{a(0, "af000990")}, err: "Main", unsup: true},
	{
		name: "metadata announces, configuration describes",
		messages: []message{data("@setDataFrame", "onMetaData", amf0.Object{"videocodecid": 7.0, "audiocodecid": "mp4a", "width": 9.0,
			"videodatarate": 2500.0, "audiodatarate": 160.0}), a(0, "af00", ascA), v(0, "1700000000", avcA)},
		want: []string{"tracks: video not ready 2500000, audio not ready 160000", "tracks: video not ready 2500000, " + soundA + " 160000",
			"tracks: " + trackA + " 2500000, " + soundA + " 160000"},
	},
	{
		name: "metadata after the configuration adds bit rates only, once",
		messages: []message{v(0, "1700000000", avcA), data("onMetaData", amf0.Object{"videocodecid": 7.0, "width": 9.0, "height": 9.0, "videodatarate": 100.0}),
			data("onMetaData", amf0.Object{"videocodecid": 7.0, "videodatarate": 100.0}), data("onMetaData", amf0.Object{})},
		want: []string{tracksA, tracksA + " 100000"},
	},
	{
		name: "metadata that announces nothing, or nonsense",
		messages: []message{data("onMetaData", amf0.Object{"videocodecid": 0.0, "audiocodecid": nil, "videodatarate": math.Inf(1), "audiodatarate": math.NaN()}),
			data("onMetaData", amf0.Object{"videocodecid": 7.0, "hasVideo": false}), data("onMetaData", 5.0), data("onMetaData"), data("onTextData", "x"),
			data("@setDataFrame"), data("@setDataFrame", "onMetaData"), data("@clearDataFrame", "onMetaData")},
	},
	{name: "data without a name", messages: []message{data(5.0)}, err: "does not begin with a name"},
	{name: "data with an object for a name", messages: []message{data("@setDataFrame", amf0.Object{})}, err: "does not begin with a name"},
	{name: "data string longer than its message", messages: []message{{'d', 0, "02ffff61"}}, err: "amf0"},
	{name: "metadata cut", messages: []message{{'d', 0, "02000a6f6e4d65746144617461" + "0300"}}, err: "amf0"},
}

// A log is a Writer that writes down what it is told.
type log struct {
	lines []string
	times []int64 // Clock of key frames
}

func (l *log) SetTracks(tracks []media.Track) error {
	var s []string
	for _, t := range tracks {
		d := t.Kind.String()
		switch {
		case !t.Ready():
			d += " not ready"
		case t.Kind == media.Video:
			d += fmt.Sprintf(" %s %dx%d", t.Codec.String, t.Width, t.Height)
			if size := lengthSize(&t); size != 4 {
				d += fmt.Sprintf(" length size %d", size)
			}
		default:
			d += fmt.Sprintf(" %s %d Hz %d", t.Codec.String, t.SampleRate, t.Channels)
		}
		if t.BitRate != 0 {
			d += fmt.Sprint(" ", t.BitRate)
		}
		if t.Language != "" || t.Label != "" {
			d += fmt.Sprintf(" %s %q", t.Language, t.Label)
		}
		s = append(s, d)
	}
	clear(tracks) // they are ours
	l.lines = append(l.lines, "tracks: "+strings.Join(s, ", "))
	return nil
}

func (l *log) WriteSample(track int, s *media.Sample) error {
	d := fmt.Sprintf("%d: dts %d cto %d ", track, s.DTS, s.CTO)
	if s.Sync {
		d += "sync "
		l.times = append(l.times, s.Clock)
	} else if s.Clock != 0 {
		d += "time "
	}
	if s.Recovery {
		d += "recovery "
	}
	if s.Arrived != 99 || s.Lost {
		d += "arrived wrongly "
	}
	l.lines = append(l.lines, d+hex.EncodeToString(s.Data))
	return nil
}

func (l *log) Close(error) error { return nil }

func (m message) send(d *Demuxer) error {
	body, err := hex.DecodeString(m.body)
	if err != nil {
		panic(err)
	}
	switch m.kind {
	case 'v':
		return d.Video(m.ts, 99, body)
	case 'a':
		return d.Audio(m.ts, 99, body)
	}
	return d.Data(m.ts, body)
}

func TestDemuxer(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var l log
			d := Demuxer{W: &l}
			for i, m := range c.messages {
				err := m.send(&d)
				if i < len(c.messages)-1 || c.err == "" {
					if err != nil {
						t.Fatalf("message %d: %v", i, err)
					}
					continue
				}
				var format *media.FormatError
				var unsupported *media.UnsupportedError
				if err == nil || !strings.Contains(err.Error(), c.err) || c.unsup && !errors.As(err, &unsupported) || !c.unsup && !errors.As(err, &format) {
					t.Errorf("error %T %v, want one that says %q", err, err, c.err)
				}
			}
			if d := cmp.Diff(c.want, l.lines); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(c.stats, d.Stats()); d != "" {
				t.Error(d)
			}
		})
	}
}

// failing is a Writer that refuses.
type failing struct{ err error }

func (f failing) SetTracks([]media.Track) error        { return f.err }
func (f failing) WriteSample(int, *media.Sample) error { return f.err }
func (f failing) Close(error) error                    { return nil }

// TestWriterErrors has the Writer's errors come back as they are.
func TestWriterErrors(t *testing.T) {
	wrong := errors.New("enough")
	d := Demuxer{W: failing{wrong}}
	for _, m := range []message{v(0, "1700000000", avcA), v(0, "1701000000", idr), v(0, "1701000000", nal(spsB), idr), a(0, "af00", ascA), a(0, "af0121"),
		data("onMetaData", amf0.Object{"videodatarate": 1.0})} {
		if err := m.send(&d); err != wrong {
			t.Errorf("%v: %v", m, err)
		}
	}
}
