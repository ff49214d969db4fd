package transcode

import (
	"fmt"
	"slices"
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
		{"upright", "720p 360p", []media.Track{video(1080, 1920)}, "720p 406x720, 360p 202x360"},
		{"cinema", "360p", []media.Track{video(1920, 804)}, "360p 860x360"},
		{"odd source", "360p", []media.Track{video(1279, 719)}, "360p 640x360"},
		{"thin", "360p", []media.Track{video(2, 2000)}, "360p 2x360"},
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

func TestBox(t *testing.T) {
	src := video(1920, 1080)
	for _, c := range []struct{ w, h, wantW, wantH int }{
		{0, 540, 960, 540},
		{960, 0, 960, 540},
		{960, 720, 960, 540}, // the width decides
		{1600, 540, 960, 540},
		{641, 0, 640, 360}, // even
		{0, 361, 642, 360},
	} {
		w, h := fit(Rung{Width: c.w, Height: c.h}, &src)
		if w != c.wantW || h != c.wantH {
			t.Errorf("into %dx%d: %dx%d, want %dx%d", c.w, c.h, w, h, c.wantW, c.wantH)
		}
	}
	if p := newPlan([]Rung{{Name: "w", Width: 1920, BitRate: 1}}, []media.Track{src}); len(p.rungs) != 0 {
		t.Error("as wide as the source, and made")
	}
}

func TestArguments(t *testing.T) {
	v := video(1920, 1080)
	v.FrameRate = media.Ratio{Num: 60000, Den: 1001}
	v.PixelAspect = media.Ratio{Num: 4, Den: 3}
	r := preset(t, "720p")
	r.FrameRate = 30
	for _, c := range []struct {
		name      string
		tracks    []media.Track
		has, lack []string
	}{
		{"all", []media.Track{v, audio(6)}, []string{
			"-b:v 2800000 -maxrate 3080000 -bufsize 2800000", "scale=1280:720,setsar=4/3", "select=", "tick_rate=60/1", "pipe:3",
			"-map 0:a:0 -c:a aac -b:a 96000 -ac 2", "pipe:4", "-force_key_frames source", "-copyts"}, []string{"pipe:5", "fps="}},
		{"stereo", []media.Track{v, audio(2)}, nil, []string{"-ac"}},
		{"no rate", []media.Track{video(1920, 1080)}, []string{"select=", "setsar=1 "}, nil},
		{"slow enough", []media.Track{func() media.Track { v := v; v.FrameRate = media.Ratio{Num: 25, Den: 1}; return v }()},
			[]string{"tick_rate=50/1"}, []string{"select="}},
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

func TestCheck(t *testing.T) {
	good := Rung{Name: "a", Height: 360, BitRate: 700_000}
	with := func(f func(r *Rung)) []Rung { r := good; f(&r); return []Rung{r} }
	for _, c := range []struct {
		rungs []Rung
		want  string
	}{
		{presets, ""},
		{[]Rung{good}, ""},
		{with(func(r *Rung) { r.Name = "" }), "no name"},
		{[]Rung{good, good}, "two rungs"},
		{with(func(r *Rung) { r.BitRate = 0 }), "bit rate"},
		{with(func(r *Rung) { r.BitRate = 1 << 30 }), "bit rate"},
		{with(func(r *Rung) { r.Height = 0 }), "neither"},
		{with(func(r *Rung) { r.Height = -2 }), "not between"},
		{with(func(r *Rung) { r.Width = 1 << 20 }), "not between"},
		{with(func(r *Rung) { r.FrameRate = 1000 }), "frame rate"},
		{slices.Repeat([]Rung{good}, 17), "more than 16"},
	} {
		err := (&Ladder{Rungs: c.rungs}).Check()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.rungs, err, c.want)
		}
	}
	if _, err := Preset("240p"); err == nil || !strings.Contains(err.Error(), "1080p, 720p, 480p, 360p, audio") {
		t.Error(err)
	}
}

func TestParseVersion(t *testing.T) {
	const x264 = "configuration: --enable-gpl --enable-libx264\n"
	for _, c := range []struct{ out, version, err string }{
		{"ffmpeg version 5.1.9-0+deb12u1 Copyright\n" + x264, "5.1.9-0+deb12u1", ""},
		{"ffmpeg version n7.1 Copyright\n" + x264, "n7.1", ""},
		{"ffmpeg version 10.0 Copyright\n" + x264, "10.0", ""},
		{"ffmpeg version 5.0.1 Copyright\n" + x264, "5.0.1", "ff is version 5.0.1, older than 5.1: install a newer one or set --ffmpeg"},
		{"ffmpeg version 4.4.2-0ubuntu0.22.04.1 Copyright\n" + x264, "4.4.2-0ubuntu0.22.04.1", "older than 5.1"},
		{"ffmpeg version N-109000-g1 Copyright\n" + x264 + "libavutil      57. 44.100 / 57. 44.100\n", "N-109000-g1", ""},
		{"ffmpeg version git-2022 Copyright\n" + x264 + "libavutil      57. 27.100 / 57. 27.100\n", "git-2022", "older than 5.1"},
		{"ffmpeg version 6.0 Copyright\nconfiguration: --disable-gpl\n", "6.0", "without libx264"},
		{"avconv version 11\n", "", "is not ffmpeg"},
		{"", "", "is not ffmpeg"},
	} {
		v, err := parseVersion("ff", c.out)
		if v != c.version || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %q, %v", c.out, v, err)
		}
	}
}
