package transcode

import (
	"fmt"
	"strings"
	"testing"

	"headwater/segmenter/media"
)

func video(w, h int) media.Track {
	return media.Track{ID: 1, Kind: media.Video, Timescale: 90000, Width: w, Height: h, Codec: media.Codec{Type: "avc1", Config: []byte{1}}}
}

func audio(channels int) media.Track {
	return media.Track{ID: 2, Kind: media.Audio, Timescale: 48000, Channels: channels, SampleRate: 48000, Codec: media.Codec{Type: "mp4a", Config: []byte{0x11, 0x90}}}
}

func TestPlan(t *testing.T) {
	announced := media.Track{Kind: media.Video}
	hevc := video(1920, 1080)
	hevc.Codec.Type = "hvc1"
	ladder := "1080p 720p 480p 360p audio"
	for _, c := range []struct {
		name   string
		rungs  string
		tracks []media.Track
		want   string // rungs with their sizes, then those left out
	}{
		{"full HD", ladder, []media.Track{video(1920, 1080), audio(2)}, "720p 1280x720, 480p 854x480, 360p 640x360, audio 0x0; not 1080p"},
		{"above", ladder, []media.Track{video(2560, 1440)}, "1080p 1920x1080, 720p 1280x720, 480p 854x480, 360p 640x360; not audio"},
		{"same height", "720p 480p", []media.Track{video(1280, 720)}, "480p 854x480; not 720p"},
		{"two lines more", "720p", []media.Track{video(1280, 722)}, "720p 1276x720"},
		{"lowest", ladder, []media.Track{audio(2), video(640, 360)}, "audio 0x0; not 1080p, 720p, 480p, 360p"},
		{"4:3", "480p 360p", []media.Track{video(960, 720)}, "480p 640x480, 360p 480x360"},
		{"upright", "1080p 720p 360p", []media.Track{video(1080, 1920)}, "720p 720x1280, 360p 360x640; not 1080p"},
		{"cinema", "360p", []media.Track{video(1920, 804)}, "360p 860x360"},
		{"odd source", "360p", []media.Track{video(1279, 719)}, "360p 640x360"},
		{"4K", "360p", []media.Track{video(4096, 2304)}, "360p 640x360"},
		{"too large to be decoded here", "360p audio", []media.Track{video(4096, 2320), audio(2)}, "audio 0x0; not 360p"},
		{"thin", "360p", []media.Track{video(2, 2000)}, "; not 360p"},
		{"audio only", ladder, []media.Track{audio(1)}, "audio 0x0; not 1080p, 720p, 480p, 360p"},
		{"HEVC", "720p audio", []media.Track{hevc, audio(2)}, "audio 0x0; not 720p"},
		{"announced", "720p audio", []media.Track{announced, audio(2)}, "audio 0x0; waiting"},
		{"nothing", "720p", nil, "; not 720p"},
	} {
		var rungs []Rung
		for _, n := range strings.Fields(c.rungs) {
			rungs = append(rungs, preset(t, n))
		}
		p := newPlan(rungs, c.tracks)
		var made, not []string
		for _, r := range p.rungs {
			made = append(made, fmt.Sprintf("%s %dx%d", r.Name, r.width, r.height))
		}
		for _, s := range p.skipped {
			if s.reason == "" {
				t.Errorf("%s: no reason for %s", c.name, s.rung.Name)
			}
			not = append(not, s.rung.Name)
		}
		got := strings.Join(made, ", ")
		if not != nil {
			got += "; not " + strings.Join(not, ", ")
		}
		if p.waiting {
			got += "; waiting"
		}
		if got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
}

// A rung has no higher a bit rate than its source, by what that has announced and its size.
func TestRates(t *testing.T) {
	for _, c := range []struct{ video, audio, want480, wantAudio int }{
		{0, 0, 1_200_000, 96_000},
		{6_000_000, 160_000, 1_200_000, 96_000},
		{1_440_000, 80_000, 960_000, 80_000},
		{5, 5, minRate, minRate},
	} {
		v, a := video(1280, 720), audio(2)
		v.BitRate, a.BitRate = c.video, c.audio
		p := newPlan([]Rung{preset(t, "480p"), preset(t, "audio")}, []media.Track{v, a})
		if p.rungs[0].BitRate != c.want480 || p.rungs[1].BitRate != c.wantAudio {
			t.Errorf("of %d and %d: %+v", c.video, c.audio, p.rungs)
		}
	}
}

func TestArguments(t *testing.T) {
	v := video(1920, 1080)
	v.FrameRate = media.Ratio{Num: 60000, Den: 1001}
	v.PixelAspect = media.Ratio{Num: 4, Den: 3}
	r := preset(t, "720p")
	for _, c := range []struct {
		name      string
		tracks    []media.Track
		has, lack []string
	}{
		{"all", []media.Track{v, audio(6)}, []string{
			"-b:v 2800000 -maxrate 3080000 -bufsize 2800000", "scale=1280:720,setsar=4/3", "tick_rate=120000/1001", "pipe:3",
			"-map 0:a:0 -c:a aac -b:a 96000 -ac 2", "pipe:4", "-force_key_frames source", "-copyts", "-max_pixels 9437184 -f flv -i"}, []string{"pipe:5"}},
		{"stereo", []media.Track{v, audio(2)}, nil, []string{"-ac"}},
		{"no rate", []media.Track{video(1920, 1080)}, []string{"setsar=1 "}, nil},
	} {
		args := strings.Join(newPlan([]Rung{r, preset(t, "audio")}, c.tracks).arguments(), " ")
		for _, s := range c.has {
			if !strings.Contains(args, s) {
				t.Errorf("%s: no %q in %s", c.name, s, args)
			}
		}
		for _, s := range c.lack {
			if strings.Contains(args, s) {
				t.Errorf("%s: %q in %s", c.name, s, args)
			}
		}
	}
}

func TestPreset(t *testing.T) {
	for _, n := range PresetNames() {
		if r, ok := Preset(n); !ok || r.Name != n || r.BitRate == 0 {
			t.Errorf("%s: %+v, %v", n, r, ok)
		}
	}
	if _, ok := Preset("240p"); ok || len(PresetNames()) != 5 {
		t.Error(PresetNames())
	}
}

func TestParseVersion(t *testing.T) {
	for _, c := range []struct{ out, version, err string }{
		{"ffmpeg version 5.1.9-0+deb12u1 Copyright\n", "5.1.9-0+deb12u1", ""},
		{"ffmpeg version n7.1 Copyright\n", "n7.1", ""},
		{"ffmpeg version 10.0 Copyright\n", "10.0", ""},
		{"ffmpeg version 5.0.1 Copyright\n", "5.0.1", "ff is version 5.0.1, older than 5.1: install a newer one or set --ffmpeg"},
		{"ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright\n", "4.4.2-0ubuntu0.22.04.1", "older than 5.1"},
		{"ffmpeg version N-109000-g1 Copyright\nlibavutil      57. 44.100 / 57. 44.100\n", "N-109000-g1", ""},
		{"ffmpeg version git-2022 Copyright\nlibavutil      57. 27.100 / 57. 27.100\n", "git-2022", "older than 5.1"},
		{"avconv version 11\n", "", "is not ffmpeg"},
		{"", "", "is not ffmpeg"},
	} {
		v, err := parseVersion("ff", c.out)
		if v != c.version || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %q, %v", c.out, v, err)
		}
	}
}

func TestCheckEncoders(t *testing.T) {
	const head = "Encoders:\n V..... = Video\n ------\n"
	const x264 = " V....D libx264              libx264 H.264 (codec h264)\n"
	const aac = " A....D aac                  AAC (Advanced Audio Coding)\n"
	for _, c := range []struct{ out, err string }{
		{head + x264 + aac, ""},
		{head + " V....D libx264rgb           libx264 H.264 RGB\n" + aac, "ff 6.0 is built without the encoder libx264: install"},
		{head + x264 + " A....D libfdk_aac           Fraunhofer FDK AAC\n", "the encoder aac: "},
		{"", "the encoder libx264: "},
	} {
		if err := checkEncoders("ff", "6.0", c.out); (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %v", c.out, err)
		}
	}
}
