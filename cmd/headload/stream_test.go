package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Eyevinn/mp4ff/avc"
)

func needPeer(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing", program)
		}
		t.Skipf("%s is missing", program)
	}
	return path
}

var testConfig = synthConfig{Width: 640, Height: 360, FPS: rate{30, 1}, GOP: time.Second, VideoBitrate: 800_000, AudioBitrate: 96_000, Seed: 7}

func mustSynthesize(t testing.TB, c synthConfig) *clip {
	t.Helper()
	cl, err := synthesize(c)
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

func TestSynthesize(t *testing.T) {
	for _, tt := range []struct {
		name  string
		edit  func(*synthConfig)
		round time.Duration // 0: not checked
	}{
		{"as is", func(*synthConfig) {}, 8 * time.Second},
		{"load", func(c *synthConfig) {
			c.Width, c.Height, c.GOP, c.VideoBitrate, c.AudioBitrate = 1280, 720, 2*time.Second, 3_000_000, 128_000
		}, 8 * time.Second},
		{"no audio", func(c *synthConfig) { c.AudioBitrate = 0 }, time.Second},
		{"29.97", func(c *synthConfig) { c.FPS, c.GOP = rate{30000, 1001}, 2*time.Second }, 0},
		{"23.976", func(c *synthConfig) { c.FPS, c.GOP = rate{24000, 1001}, 2*time.Second }, 0},
		{"60, 1080 lines", func(c *synthConfig) { c.FPS, c.Width, c.Height, c.VideoBitrate = rate{60, 1}, 1920, 1080, 6_000_000 }, 8 * time.Second},
		{"odd crop", func(c *synthConfig) { c.Width, c.Height = 426, 242 }, 8 * time.Second},
		{"one frame a GOP", func(c *synthConfig) { c.GOP = 33 * time.Millisecond }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := testConfig
			tt.edit(&c)
			cl := mustSynthesize(t, c)
			if tt.round != 0 && cl.period != tt.round {
				t.Errorf("a round lasts %v, want %v", cl.period, tt.round)
			}
			if got := float64(cl.videoBytes) * 8 / cl.period.Seconds(); got < float64(c.VideoBitrate)*0.98 || got > float64(c.VideoBitrate)*1.02 {
				t.Errorf("%.0f b/s of video, want %d", got, c.VideoBitrate)
			}
			if got := float64(cl.audioBytes) * 8 / cl.period.Seconds(); got < float64(c.AudioBitrate)*0.99 || got > float64(c.AudioBitrate)*1.03 {
				t.Errorf("%.0f b/s of audio, want %d", got, c.AudioBitrate)
			}
			conf, err := avc.DecodeAVCDecConfRec(cl.videoHeader[5:])
			if err != nil {
				t.Fatal(err)
			}
			sps, err := avc.ParseSPSNALUnit(conf.SPSnalus[0], true)
			if err != nil {
				t.Fatal(err)
			}
			if int(sps.Width) != c.Width || int(sps.Height) != c.Height {
				t.Errorf("parameter sets say %dx%d", sps.Width, sps.Height)
			}
			if sps.VUI == nil || int(sps.VUI.TimeScale)*c.FPS.den != 2*c.FPS.num*int(sps.VUI.NumUnitsInTick) {
				t.Errorf("parameter sets say another frame rate: %+v", sps.VUI)
			}
			if _, err := avc.ParsePPSNALUnit(conf.PPSnalus[0], map[uint32]*avc.SPS{0: sps}); err != nil {
				t.Error(err)
			}
			for i, m := range cl.messages {
				if m.kind != kindVideo {
					continue
				}
				nal := m.body[9:]
				if n := binary.BigEndian.Uint32(m.body[5:]); int(n) != len(nal) {
					t.Fatalf("message %d: NAL length %d of %d", i, n, len(nal))
				}
				if key := nal[0]&0x1F == 5; key != m.key || key != (m.body[0] == 0x17) {
					t.Fatalf("message %d: NAL type %d, key %v, frame type %#x", i, nal[0]&0x1F, m.key, m.body[0])
				}
				for _, code := range []string{"\x00\x00\x00", "\x00\x00\x01", "\x00\x00\x02"} {
					if bytes.Contains(nal, []byte(code)) {
						t.Fatalf("message %d holds a start code", i)
					}
				}
			}
			if again := mustSynthesize(t, c); !bytes.Equal(again.messages[len(again.messages)-1].body, cl.messages[len(cl.messages)-1].body) {
				t.Error("the same settings made another clip")
			}
		})
	}
}

func TestSynthesizeRefuses(t *testing.T) {
	for name, edit := range map[string]func(*synthConfig){
		"bit rate beyond the picture": func(c *synthConfig) { c.VideoBitrate = 200e6 },
		"odd width":                   func(c *synthConfig) { c.Width = 641 },
		"tiny":                        func(c *synthConfig) { c.Width = 8 },
		"GOP of nothing":              func(c *synthConfig) { c.GOP = 0 },
		"GOP of an hour":              func(c *synthConfig) { c.GOP = time.Hour },
		"no frame rate":               func(c *synthConfig) { c.FPS = rate{} },
		"thin audio":                  func(c *synthConfig) { c.AudioBitrate = 100 },
	} {
		c := testConfig
		edit(&c)
		if _, err := synthesize(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// flv is the clip as a file.
func (c *clip) flv(rounds int) []byte {
	b := []byte{'F', 'L', 'V', 1, 5, 0, 0, 0, 9, 0, 0, 0, 0}
	tag := func(kind byte, at time.Duration, body []byte) {
		ms := uint32((at + time.Millisecond/2) / time.Millisecond)
		n := len(body)
		b = append(b, kind, byte(n>>16), byte(n>>8), byte(n), byte(ms>>16), byte(ms>>8), byte(ms), byte(ms>>24), 0, 0, 0)
		b = append(b, body...)
		b = binary.BigEndian.AppendUint32(b, uint32(n+11))
	}
	tag(kindData, 0, appendAMF0(nil, "onMetaData", c.meta))
	if c.videoHeader != nil {
		tag(kindVideo, 0, c.videoHeader)
	}
	if c.audioHeader != nil {
		tag(kindAudio, 0, c.audioHeader)
	}
	for r := range rounds {
		for _, m := range c.messages {
			tag(m.kind, m.at+time.Duration(r)*c.period, m.body)
		}
	}
	return b
}

// The synthetic clip is H.264 and AAC that a decoder takes without a word.
func TestSyntheticClipDecodes(t *testing.T) {
	ffmpeg := needPeer(t, "ffmpeg")
	for _, rates := range []rate{{30, 1}, {30000, 1001}} {
		c := testConfig
		c.FPS = rates
		cl := mustSynthesize(t, c)
		path := filepath.Join(t.TempDir(), "clip.flv")
		if err := os.WriteFile(path, cl.flv(1), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), ffmpeg, "-hide_banner", "-v", "warning", "-xerror", "-err_detect", "explode",
			"-threads", "1", "-t", "4", "-i", path, "-f", "null", "-").CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%v fps: %v\n%s", rates, err, out)
		}
	}
}

func TestReadFLV(t *testing.T) {
	made := mustSynthesize(t, testConfig)
	file := made.flv(1)
	c, err := readFLV(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(c.videoHeader, made.videoHeader) || !bytes.Equal(c.audioHeader, made.audioHeader) {
		t.Error("sequence headers differ")
	}
	if len(c.messages) != len(made.messages) || (c.period-made.period).Abs() > 2*time.Millisecond {
		t.Errorf("%d messages in %v, want %d in %v", len(c.messages), c.period, len(made.messages), made.period)
	}
	if c, err = readFLV(bytes.NewReader(file[:len(file)/2])); err != nil || len(c.messages) < len(made.messages)/3 {
		t.Errorf("a recording that was cut off: %v", err)
	}
	for name, b := range map[string][]byte{
		"empty": nil, "not FLV": []byte("hello, this is no clip"), "header only": file[:13],
		"header points out": append([]byte("FLV\x01\x05\xff\xff\xff\xff"), make([]byte, 9)...),
		"no pictures":       (&clip{audioHeader: []byte{0xAF, 0, 0x11, 0x90}, messages: []message{{kind: kindAudio, body: []byte{0xAF, 1, 2}}}}).flv(1),
	} {
		if _, err := readFLV(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzReadFLV(f *testing.F) {
	c := testConfig
	c.Width, c.Height, c.VideoBitrate = 64, 64, 50_000
	file := mustSynthesize(f, c).flv(1)
	f.Add(file[:4000])
	f.Add([]byte("FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := readFLV(bytes.NewReader(b)); err == nil {
			newStream(c, 4096, true)
		}
	})
}

// chunkTimes plays a publisher's bytes back through an independent state machine: the absolute times and bodies by type.
func chunkTimes(t *testing.T, b []byte, chunkSize int) (times map[byte][]int64, bodies map[byte][][]byte) {
	t.Helper()
	times, bodies = map[byte][]int64{}, map[byte][][]byte{}
	type state struct {
		at   int64
		n    int
		kind byte
		body []byte
	}
	states := map[byte]*state{}
	size := 128
	for len(b) > 0 {
		format, csid := b[0]>>6, b[0]&0x3F
		s := states[csid]
		if s == nil {
			if format != 0 {
				t.Fatalf("chunk stream %d begins with a header of type %d", csid, format)
			}
			s = &state{}
			states[csid] = s
		}
		b = b[1:]
		if format < 2 {
			if s.body != nil {
				t.Fatal("a message begins inside another")
			}
			v := int64(b[0])<<16 | int64(b[1])<<8 | int64(b[2])
			s.n, s.kind = int(b[3])<<16|int(b[4])<<8|int(b[5]), b[6]
			if b = b[7:]; format == 0 {
				s.at = v
				if id := binary.LittleEndian.Uint32(b); s.kind != 1 && id != 5 {
					t.Fatalf("message stream %d, want 5", id)
				}
				b = b[4:]
			} else {
				s.at += v
			}
			s.body = []byte{}
		} else if s.body == nil || format != 3 {
			t.Fatalf("unexpected header of type %d", format)
		}
		n := min(size, s.n-len(s.body))
		s.body, b = append(s.body, b[:n]...), b[n:]
		if len(s.body) == s.n {
			if s.kind == 1 {
				size = int(binary.BigEndian.Uint32(s.body))
				if size != chunkSize {
					t.Fatalf("chunk size %d", size)
				}
			}
			times[s.kind], bodies[s.kind] = append(times[s.kind], s.at), append(bodies[s.kind], s.body)
			s.body = nil
		}
	}
	return times, bodies
}

// Rounds follow each other without a seam in the time stamps, for every rate and way of writing.
func TestStreamTimestamps(t *testing.T) {
	for _, fps := range []rate{{24000, 1001}, {25, 1}, {30, 1}, {60000, 1001}} {
		for _, coalesce := range []bool{false, true} {
			for _, chunkSize := range []int{128, 4096, 1 << 20} {
				t.Run(fmt.Sprint(fps, coalesce, chunkSize), func(t *testing.T) {
					c := testConfig
					c.FPS, c.Width, c.Height, c.VideoBitrate = fps, 64, 64, 60_000
					cl := mustSynthesize(t, c)
					s, err := newStream(cl, chunkSize, coalesce)
					if err != nil {
						t.Fatal(err)
					}
					const rounds = 3
					b := s.prologue(5)
					for range rounds {
						for _, p := range s.packets {
							b = append(b, p.bytes...)
						}
					}
					times, bodies := chunkTimes(t, b, chunkSize)
					if len(times[kindData]) != 1 {
						t.Errorf("%d data messages", len(times[kindData]))
					}
					sent := map[byte][]message{}
					for _, m := range cl.messages {
						sent[m.kind] = append(sent[m.kind], m)
					}
					zero := times[kindVideo][1] // the first picture
					for _, kind := range []byte{kindVideo, kindAudio} {
						n := len(sent[kind])
						if got := len(times[kind]); got != 1+rounds*n {
							t.Fatalf("%d messages of type %d, want %d", got, kind, 1+rounds*n)
						}
						for i, at := range times[kind][1:] {
							want := float64(sent[kind][i%n].at+time.Duration(i/n)*cl.period) / 1e6
							if d := float64(at-zero) - want; d > 1.5 || d < -1.5 {
								t.Fatalf("message %d of type %d is at %d ms, want %.2f", i, kind, at-zero, want)
							}
							if !bytes.Equal(bodies[kind][1+i], sent[kind][i%n].body) {
								t.Fatalf("message %d of type %d has another body", i, kind)
							}
						}
					}
					video := 0
					for _, p := range s.packets {
						if p.video {
							video++
						}
					}
					if video < len(sent[kindVideo]) || !coalesce && len(s.packets) != len(cl.messages) || coalesce && len(s.packets) != len(sent[kindVideo]) {
						t.Errorf("%d packets, %d of video, for %d messages", len(s.packets), video, len(cl.messages))
					}
				})
			}
		}
	}
}

func TestFlagValues(t *testing.T) {
	for in, want := range map[string]rate{"30": {30, 1}, "29.97": {30000, 1001}, "24000/1001": {24000, 1001}, "12.5": {12500, 1000}} {
		var r rate
		if err := r.UnmarshalText([]byte(in)); err != nil || r != want {
			t.Errorf("rate %s is %v, %v", in, r, err)
		}
	}
	for in, want := range map[string]bitrate{"3000k": 3e6, "3M": 3e6, "128000": 128000, "0": 0, "2.5M": 2.5e6} {
		var b bitrate
		if err := b.UnmarshalText([]byte(in)); err != nil || b != want {
			t.Errorf("bit rate %s is %v, %v", in, b, err)
		}
	}
	for _, in := range []string{"", "x", "-1", "0/1", "30/0", "NaN", "1e300"} {
		var r rate
		if r.UnmarshalText([]byte(in)) == nil {
			t.Errorf("rate %q accepted as %v", in, r)
		}
	}
	for _, in := range []string{"", "fast", "-3k", "NaN", "9999999M"} {
		var b bitrate
		if b.UnmarshalText([]byte(in)) == nil {
			t.Errorf("bit rate %q accepted as %v", in, b)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for in, want := range map[string]target{
		"rtmp://127.0.0.1/live/a":             {"127.0.0.1:1935", "live", "a", "rtmp://127.0.0.1/live"},
		"rtmp://localhost:99/live/x/y?key=k1": {"localhost:99", "live/x", "y?key=k1", "rtmp://localhost:99/live/x"},
		"rtmp://[::1]/live/a":                 {"[::1]:1935", "live", "a", "rtmp://[::1]/live"},
	} {
		if got, err := parseTarget(in); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "rtmp://127.0.0.1/live", "http://127.0.0.1/live/a", "rtmp:///live/a", "://"} {
		if _, err := parseTarget(in); err == nil {
			t.Errorf("%q accepted", in)
		}
	}
	for in, want := range map[string]string{"rtmp://h/live/load%d?k=1": "load7?k=1", "rtmp://h/live/load": "load7", "rtmp://h/live/load?k=1": "load7?k=1"} {
		if got, err := publication(in, 7); err != nil || got.name != want {
			t.Errorf("%s: %q, %v", in, got.name, err)
		}
	}
}

func TestAMF0(t *testing.T) {
	b := appendAMF0(nil, "connect", 1.0, nil, true, amfObject{{"app", "live"}, {"n", 2.0}}, map[string]float64{"b": 2, "a": 1})
	v, err := parseAMF0(b)
	if got := fmt.Sprint(v); err != nil || got != "[connect 1 <nil> true map[app:live n:2] map[a:1 b:2]]" {
		t.Errorf("%s, %v", got, err)
	}
	for n := range b {
		parseAMF0(b[:n]) // cut short anywhere, it must not panic
	}
	deep := strings.Repeat("\x03\x00\x01a", 100)
	if _, err := parseAMF0([]byte(deep)); err == nil {
		t.Error("100 nested objects accepted")
	}
}

// FuzzReplies reads what a hostile server might send.
func FuzzReplies(f *testing.F) {
	f.Add(appendChunks(nil, 3, 0, 0, 20, 0, appendAMF0(nil, "_result", 1.0, nil, amfObject{{"code", "x"}}), 128))
	f.Add(appendChunks(nil, 2, 0, 0, 4, 0, []byte{0, 6, 0, 0, 0, 1}, 128))
	f.Add(appendChunks(nil, 2, 0, 0, 1, 0, []byte{0, 0, 0, 0}, 128))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := newChunkReader(bytes.NewReader(b))
		var p publisher
		for {
			name, values, err := p.nextCommand(r)
			if err != nil {
				return
			}
			refusal(name, values)
		}
	})
}
