package playlist

import (
	"math"
	"strings"
	"testing"

	"headwater/playlist/playlisttest"
	"headwater/segmenter"
	"headwater/segmenter/media"
)

// A described is one rendition of a presentation that is put together by hand, to have exact rates.
type described struct {
	id            string
	track         media.Track
	peak, average int
	fps           float64
	segments      int    // that have been measured
	of            string // rung
}

func (d described) rung(name string) described { d.of = name; return d }

func (d described) rates(peak, average int) described {
	d.peak, d.average = peak, average
	return d
}

func video(id string, w, h, peak, average int, fps float64) described {
	t := videoTrack()
	t.Width, t.Height = w, h
	return described{id, t, peak, average, fps, measuredEnough, ""}
}

func audio(id, lang, label string, channels int) described {
	t := audioTrack()
	t.Language, t.Label, t.Channels = lang, label, channels
	return described{id, t, 131_000, 128_500, 0, measuredEnough, ""}
}

func (d described) with(change func(*media.Track)) described {
	change(&d.track)
	return d
}

// after is d when so many segments have been measured.
func (d described) after(segments int) described {
	d.segments = segments
	return d
}

func present(cfg segmenter.Config, ds ...described) *segmenter.Presentation {
	p := &segmenter.Presentation{Run: segmenter.NewRun("m1abc", nil, cfg, firstMSN, epoch)}
	for _, d := range ds {
		l := newLane(p.Run, d.id, d.track, 30, 1)
		l.r.Rung = d.of
		for range d.segments {
			l.part(60)
			l.cut(false)
		}
		p.Renditions = append(p.Renditions, segmenter.Described{Rendition: l.r, Track: d.track,
			Peak: d.peak, Average: d.average, FrameRate: d.fps,
			IFramePeak: l.r.Stats().IFramePeak, IFrameAverage: l.r.Stats().IFrameAverage})
	}
	return p
}

var multivariantCases = []struct {
	name string
	p    func() *segmenter.Presentation
	has  []string // in this order
	not  []string
}{
	{
		name: "multivariant", p: func() *segmenter.Presentation { return lowLatency().segments(6).run.Presentation() },
		has: []string{"#EXTM3U\n#EXT-X-VERSION:1\n",
			`#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="Audio",DEFAULT=YES,AUTOSELECT=YES,LANGUAGE="und",URI="m1abc/audio/index.m3u8",CHANNELS="2",STABLE-RENDITION-ID="audio"` + "\n",
			`CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=1280x720,AUDIO="audio",CLOSED-CAPTIONS=NONE,FRAME-RATE=30.000,STABLE-VARIANT-ID="video"` + "\nm1abc/video/index.m3u8\n"},
		not: []string{"INDEPENDENT", "VIDEO-RANGE", "PROGRAM-ID", "SCORE"},
	},
	{
		name: "multivariant-video", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, video("video", 640, 360, 801_000, 700_001, 24000.0/1001))
		},
		has: []string{"#EXT-X-VERSION:1\n#EXT-X-STREAM-INF:BANDWIDTH=810000,AVERAGE-BANDWIDTH=710000,CODECS=\"avc1.64001f\",RESOLUTION=640x360,CLOSED-CAPTIONS=NONE,FRAME-RATE=23.976,"},
		not: []string{"AUDIO=", "EXT-X-MEDIA"},
	},
	{
		name: "multivariant-audio", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, audio("audio", "", "", 1).with(func(t *media.Track) { t.Codec.String = "mp4a.40.5" }))
		},
		has: []string{"#EXT-X-VERSION:1\n#EXT-X-STREAM-INF:BANDWIDTH=140000,AVERAGE-BANDWIDTH=130000,CODECS=\"mp4a.40.5\",CLOSED-CAPTIONS=NONE,STABLE-VARIANT-ID=\"audio\"\nm1abc/audio/index.m3u8\n"},
		not: []string{"RESOLUTION", "FRAME-RATE", "EXT-X-MEDIA", "AUDIO="},
	},
	{
		name: "multivariant-languages", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, audio("en", "en", "English", 2), audio("de", "de", "", 6).with(func(t *media.Track) { t.Codec.String = "mp4a.40.5" }))
		},
		has: []string{`NAME="English",DEFAULT=YES`, `NAME="de",DEFAULT=NO,AUTOSELECT=YES,LANGUAGE="de",URI="m1abc/de/index.m3u8",CHANNELS="6"`,
			`BANDWIDTH=140000,`, `CODECS="mp4a.40.2,mp4a.40.5",AUDIO="audio"`, "m1abc/en/index.m3u8"},
	},
	{
		// The start variant, then ascending; the worst of the audio in each; all that may play in CODECS.
		name: "multivariant-ladder", p: func() *segmenter.Presentation {
			return present(segmenter.Config{LongGOP: segmenter.Refuse},
				video("1080p", 1920, 1080, 6_400_000, 5_900_000, 60), video("360p", 640, 360, 800_000, 700_000, 30),
				video("720p", 1280, 720, 2_400_000, 2_100_000, 30), video("240p", 426, 240, 400_000, 350_000, 30),
				audio("audio", "en", "", 2), audio("surround", "en", "", 6).with(func(t *media.Track) { t.Codec.String = "mp4a.40.5"; t.BitRate = 0 }))
		},
		has: []string{"#EXT-X-INDEPENDENT-SEGMENTS\n", `NAME="en"`, `NAME="en (surround)"`,
			"BANDWIDTH=2600000,AVERAGE-BANDWIDTH=2300000,CODECS=\"avc1.64001f,mp4a.40.2,mp4a.40.5\"", "m1abc/720p/", "m1abc/240p/", "m1abc/360p/", "m1abc/1080p/"},
	},
	{
		// Languages are members of every group; a rung that brings an encoding of its own has a group of its own, and what is
		// cheaper than all of these is for the sound alone (RFC 8216bis 4.4.6.1.1).
		name: "multivariant-groups", p: func() *segmenter.Presentation {
			return present(segmenter.Config{},
				audio("audio_de", "de", "", 2).rung("de"), video("video", 1920, 1080, 5_000_000, 4_000_000, 30),
				video("video_360p", 640, 360, 600_000, 500_000, 30).rung("360p"), audio("audio", "en", "", 6),
				audio("audio_360p", "en", "", 2).rung("360p").rates(70_000, 64_000),
				audio("audio_low", "en", "", 6).rung("low").rates(50_000, 48_000), audio("audio_stereo", "en", "", 2).rung("stereo"))
		},
		has: []string{
			`GROUP-ID="audio",NAME="en",DEFAULT=YES,AUTOSELECT=YES,LANGUAGE="en",URI="m1abc/audio/index.m3u8",CHANNELS="6"`,
			`GROUP-ID="audio",NAME="de",DEFAULT=NO,AUTOSELECT=YES,LANGUAGE="de",URI="m1abc/audio_de/index.m3u8",CHANNELS="2"`,
			`GROUP-ID="audio",NAME="en (audio_stereo)",DEFAULT=NO`,
			`AUDIO="audio",CLOSED-CAPTIONS=NONE,FRAME-RATE=30.000,STABLE-VARIANT-ID="video"`,
			`GROUP-ID="audio_low",NAME="en",DEFAULT=YES,AUTOSELECT=YES,LANGUAGE="en",URI="m1abc/audio_low/index.m3u8"`,
			`GROUP-ID="audio_low",NAME="de",DEFAULT=NO,AUTOSELECT=YES,LANGUAGE="de",URI="m1abc/audio_de/index.m3u8"`,
			`GROUP-ID="audio_low",NAME="en (audio_stereo)",DEFAULT=NO`,
			"BANDWIDTH=140000,AVERAGE-BANDWIDTH=130000,CODECS=\"mp4a.40.2\",AUDIO=\"audio_low\",CLOSED-CAPTIONS=NONE,STABLE-VARIANT-ID=\"audio_low\"\nm1abc/audio_low/index.m3u8",
			`GROUP-ID="audio_360p",NAME="en",DEFAULT=YES,AUTOSELECT=YES,LANGUAGE="en",URI="m1abc/audio_360p/index.m3u8",CHANNELS="2"`,
			`GROUP-ID="audio_360p",NAME="de",DEFAULT=NO,AUTOSELECT=YES,LANGUAGE="de",URI="m1abc/audio_de/index.m3u8"`,
			`AUDIO="audio_360p",CLOSED-CAPTIONS=NONE,FRAME-RATE=30.000,STABLE-VARIANT-ID="video_360p"`,
		},
	},
	{
		// Without video every encoding of the sound is a variant, with all languages.
		name: "multivariant-radio", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, audio("audio", "en", "", 2), audio("audio_de", "de", "", 2).rung("de"),
				audio("audio_low", "en", "", 2).rung("low").rates(50_000, 48_000), audio("audio_lower", "en", "", 2).rung("lower").rates(25_000, 24_000),
				audio("audio_de-low", "de", "", 2).rung("de-low").rates(50_000, 48_000))
		},
		has: []string{`GROUP-ID="audio",NAME="en",DEFAULT=YES,AUTOSELECT=YES,LANGUAGE="en",URI="m1abc/audio/index.m3u8"`, `STABLE-VARIANT-ID="audio"`,
			`GROUP-ID="audio_low",NAME="en"`, `GROUP-ID="audio_low",NAME="de",DEFAULT=NO,AUTOSELECT=YES,LANGUAGE="de",URI="m1abc/audio_de-low/index.m3u8"`,
			"BANDWIDTH=50000,AVERAGE-BANDWIDTH=48000,", `STABLE-VARIANT-ID="audio_low"`, `STABLE-VARIANT-ID="audio_lower"`},
	},
	{
		name: "multivariant-hdr", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, video("sdr", 1920, 1080, 5_000_000, 4_000_000, 50),
				video("pq", 1920, 1080, 5_000_000, 4_000_000, 50).with(func(t *media.Track) { t.Color.Transfer = 16 }),
				video("hlg", 1920, 1080, 5_000_000, 4_000_000, 50).with(func(t *media.Track) { t.Color.Transfer = 18 }),
				video("bt2020", 1920, 1080, 5_000_000, 4_000_000, 50).with(func(t *media.Track) { t.Color.Transfer = 14 }))
		},
		has: []string{"VIDEO-RANGE=SDR", "m1abc/sdr/", "VIDEO-RANGE=PQ", "m1abc/pq/", "VIDEO-RANGE=HLG", "m1abc/hlg/", "VIDEO-RANGE=SDR", "m1abc/bt2020/"},
	},
	{
		// RESOLUTION is what to display: 720x576 with pixels of 64:45 is 1024x576.
		name: "multivariant-anamorphic", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, video("video", 720, 576, 2_000_000, 2_000_000, 25).with(func(t *media.Track) { t.PixelAspect = media.Ratio{Num: 64, Den: 45} }))
		},
		has: []string{"RESOLUTION=1024x576"},
	},
	{
		// Nothing has been measured: what the encoder announced and a quarter, or a guess, but never 0 or 1.
		name: "multivariant-announced", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, video("video", 1280, 720, 0, 0, 30).after(0).with(func(t *media.Track) { t.BitRate = 3_000_000 }),
				audio("audio", "", "", 2).with(func(t *media.Track) { t.BitRate = 100_000 }))
		},
		has: []string{"BANDWIDTH=3900000,AVERAGE-BANDWIDTH=3200000"},
	},
	{
		// A first segment at 1 % of what the encoder announced, a title card perhaps, must not be what a player that joins
		// at once goes by for as long as it plays.
		name: "multivariant-quiet", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, video("video", 1280, 720, 30_000, 30_000, 30).after(1).with(func(t *media.Track) { t.BitRate = 3_000_000 }),
				audio("audio", "", "", 2).after(1).with(func(t *media.Track) { t.BitRate = 160_000 }))
		},
		has: []string{"BANDWIDTH=4000000,AVERAGE-BANDWIDTH=3200000"},
	},
	{
		// The same where nothing was announced.
		name: "multivariant-quiet-unknown", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, video("video", 1280, 720, 30_000, 30_000, 30).after(2))
		},
		has: []string{"BANDWIDTH=2000000,AVERAGE-BANDWIDTH=2000000"},
	},
	{
		name: "multivariant-known", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, video("video", 1280, 720, 30_000, 20_000, 30).after(3))
		},
		has: []string{"BANDWIDTH=30000,AVERAGE-BANDWIDTH=20000"},
	},
	{
		// Of a stream that is quiet from the first, the peak stays what may come.
		name: "multivariant-still", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, video("video", 1280, 720, 30_000, 20_000, 30).with(func(t *media.Track) { t.BitRate = 3_000_000 }))
		},
		has: []string{"BANDWIDTH=3000000,AVERAGE-BANDWIDTH=20000"},
	},
	{
		// An encoder that announces too little does not lower what was measured.
		name: "multivariant-understated", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, video("video", 1280, 720, 3_000_000, 2_000_000, 30).after(1).with(func(t *media.Track) { t.BitRate = 200_000 }))
		},
		has: []string{"BANDWIDTH=3000000,AVERAGE-BANDWIDTH=2000000"},
	},
	{
		name: "multivariant-unknown", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, video("video", 1280, 720, 0, 0, 30).after(0))
		},
		has: []string{"BANDWIDTH=2000000,AVERAGE-BANDWIDTH=2000000"},
	},
	{
		// What encoders say of themselves is put between quotes.
		name: "multivariant-hostile", p: func() *segmenter.Presentation {
			return present(segmenter.Config{}, video("video", 1280, 720, 2_000_000, 1_000_000, 30),
				audio("a", "en\"\n#EXT-X-ENDLIST", "\" ,URI=\"http://x/\r\n\x00\u0085\xff", 2),
				audio("b", strings.Repeat("a", 1000), strings.Repeat("Ü", 1000), 2),
				audio("c", "-x", " ", 2), audio("d", "", " ", 2), audio("e", "", "Audio (d)", 2))
		},
		has: []string{`NAME=",URI=http://x/",DEFAULT=YES,AUTOSELECT=YES,LANGUAGE="und"`, `NAME="` + strings.Repeat("Ü", maxNameRunes) + `"`,
			`NAME="Audio"`, `NAME="Audio (d)"`, `NAME="Audio (d) (e)"`},
		not: []string{"ENDLIST"},
	},
}

func TestMultivariant(t *testing.T) {
	for _, c := range multivariantCases {
		t.Run(c.name, func(t *testing.T) {
			got := string(AppendMultivariant(nil, c.p()))
			playlisttest.Check(t, []byte(got))
			golden(t, c.name, got)
			inOrder(t, got, c.has)
			for _, s := range c.not {
				if strings.Contains(got, s) {
					t.Errorf("%q:\n%s", s, got)
				}
			}
			if again := string(AppendMultivariant([]byte("x"), c.p())); again != "x"+got {
				t.Errorf("not reproducible:\n%s", again)
			}
		})
	}
}

// TestStableIDs: the same in every run and whatever the order, so that players recognise a rendition on another origin or
// after a restart (RFC 8216bis 4.4.6.1, 4.4.6.2).
func TestStableIDs(t *testing.T) {
	for _, c := range []struct{ id, want string }{{"720p", "720p"}, {"a b", "a_b"}, {"é\"\n", "___"}, {"A-z.0_9", "A-z.0_9"}} {
		mustEqual(t, c.id, stable(c.id), c.want)
	}
}

func TestRoundUp(t *testing.T) {
	for _, c := range []struct {
		rate int
		want uint32
	}{{0, 0}, {1, 1}, {99, 99}, {101, 110}, {1_000_000, 1_000_000}, {1_000_001, 1_100_000}, {9_910_000, 10_000_000}, {math.MaxInt32, 2_200_000_000}} {
		mustEqual(t, "rounded", roundUp(c.rate), c.want)
	}
	if huge := int64(1 << 40); huge <= math.MaxInt {
		mustEqual(t, "rounded", roundUp(int(huge)), uint32(math.MaxUint32))
	}
}
