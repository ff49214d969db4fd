package playlist

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"headwater/playlist/playlisttest"
	"headwater/segmenter"
	"headwater/segmenter/media"
)

var (
	testShards   = []string{"https://m1.example.com", "https://m2.example.com:8443"}
	testPathways = []segmenter.Pathway{{ID: "cdn-a", URL: "https://a.example.com"}, {ID: "cdn-b", URL: "https://b.example.com/headwater"}}
)

func delivered(cfg segmenter.Config, d segmenter.Delivery) *broadcast {
	cfg.Delivery = &d
	b := newBroadcast(cfg)
	b.run.Stream = &segmenter.Stream{Name: "live/demo"}
	return b
}

func sharded(cfg segmenter.Config) *broadcast {
	return delivered(cfg, segmenter.Delivery{Shards: testShards})
}

var withParts = segmenter.Config{PartTarget: segmenter.DefaultPartTarget}

// TestShards: every segment and initialization section is on the host that its path alone says, in every playlist that lists it,
// and everything else is beside the playlist.
func TestShards(t *testing.T) {
	on := map[string]string{} // host by path
	used := map[string]bool{}
	check := func(t *testing.T, base, uri string) {
		u, err := url.Parse(uri)
		if err != nil || u.Host == "" {
			t.Fatalf("%s: %v", uri, err)
		}
		host, path := u.Scheme+"://"+u.Host, u.Path
		if want := base + path[strings.LastIndexByte(path, '/')+1:]; path != want {
			t.Errorf("path %s, want %s", path, want)
		}
		if was, known := on[path]; known && was != host || host != Shard(testShards, path) {
			t.Errorf("%s is on %s, elsewhere on %q, and belongs on %s", path, host, was, Shard(testShards, path))
		}
		on[path], used[host] = host, true
	}
	ll := sharded(withParts).segments(10).parts(2)
	ts := sharded(withParts)
	ts.audio.in = initOf(muxableAudio(), 2)
	ts.cut(true).segments(8)
	tsw, ok := NewTSProgram(ts.audio.r)
	if !ok {
		t.Fatal("no TS program")
	}
	const base = "/live/demo/m1abc/"
	for _, c := range []struct {
		name, base string
		body       []byte
		rendered   *Rendered
		size       int
	}{
		{"sharded", base + "video/", AppendMedia(nil, ll.video.r.Window(), NoSkip), Media(ll.video.r.Window(), NoSkip, Identity), mediaSize(ll.video.r.Window(), NoSkip)},
		{"sharded-delta", base + "video/", AppendMedia(nil, ll.video.r.Window(), SkipYes), Media(ll.video.r.Window(), SkipYes, Identity), mediaSize(ll.video.r.Window(), SkipYes)},
		{"sharded-iframes", base + "video/", AppendIFramesOnly(nil, ll.video.r.Window()), IFramesOnly(ll.video.r.Window(), Identity), iframesSize(ll.video.r.Window())},
		{"sharded-audio", base + "audio/", AppendMedia(nil, ll.audio.r.Window(), NoSkip), Media(ll.audio.r.Window(), NoSkip, Identity), mediaSize(ll.audio.r.Window(), NoSkip)},
		{"sharded-ts", base + "audio/ts/", AppendTS(nil, tsw), TS(tsw, Identity), tsw.list().size(placeBytes(tsw.Main.Rendition))},
	} {
		t.Run(c.name, func(t *testing.T) {
			playlisttest.Check(t, c.body)
			golden(t, c.name, string(c.body))
			if string(c.rendered.Body) != string(c.body) || len(c.body) > c.size {
				t.Errorf("%d bytes rendered, %d appended, %d expected", len(c.rendered.Body), len(c.body), c.size)
			}
			p := playlisttest.Parse(c.body)
			for i := range p.Segments {
				s := &p.Segments[i]
				check(t, c.base, s.URI)
				if s.Map != "" {
					check(t, c.base, s.Map)
				}
				for _, x := range s.Parts {
					if strings.Contains(x.URI, "/") {
						t.Errorf("part %s", x.URI)
					}
				}
			}
			if strings.Contains(p.Hint, "/") {
				t.Errorf("hint %s", p.Hint)
			}
		})
	}
	if len(used) != len(testShards) {
		t.Errorf("used are %v", used)
	}
}

// TestShardStability: a host that comes or goes moves no object between others, as Shard tells it.
func TestShardStability(t *testing.T) {
	more := append([]string{"http://127.0.0.1:1"}, testShards...)
	moved := 0
	for i := range 3000 {
		path := fmt.Sprintf("/live/demo/m1abc/video/%s", SegmentName(uint64(firstMSN+i)))
		was, is := Shard(testShards, path), Shard(more, path)
		if was != is {
			moved++
			if is != more[0] {
				t.Fatalf("%s moves from %s to %s", path, was, is)
			}
		}
	}
	if moved < 900 || moved > 1100 {
		t.Errorf("%d of 3000 are on the third host", moved)
	}
	if got := Shard(nil, "/x"); got != "" {
		t.Errorf("of no hosts: %q", got)
	}
	var many []string
	for i := range MaxShards + 5 {
		many = append(many, fmt.Sprintf("https://m%d", i))
	}
	if got := Shard(many, "/x"); got != Shard(many[:MaxShards], "/x") {
		t.Errorf("of too many hosts: %q", got)
	}
}

// TestShardAllocations: what there is to know for a playlist, in one allocation.
func TestShardAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	dst := make([]byte, 0, 1<<16)
	plain := testing.AllocsPerRun(100, func() { AppendMedia(dst, lowLatencyWindow, NoSkip) })
	got := testing.AllocsPerRun(100, func() { AppendMedia(dst, shardedWindow, NoSkip) })
	if got > plain+2 {
		t.Errorf("%v allocations, without shards %v", got, plain)
	}
}

var (
	lowLatencyWindow = lowLatency().segments(8).parts(2).video.r.Window()
	shardedWindow    = sharded(withParts).segments(8).parts(2).video.r.Window()
)

func BenchmarkShardedMedia(b *testing.B) {
	for _, c := range []struct {
		name string
		w    *segmenter.Window
	}{{"one host", lowLatencyWindow}, {"two shards", shardedWindow}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				AppendMedia(make([]byte, 0, mediaSize(c.w, NoSkip)), c.w, NoSkip)
			}
		})
	}
}

func steeredPresentation(d segmenter.Delivery) *segmenter.Presentation {
	p := present(segmenter.Config{Delivery: &d},
		video("video", 1920, 1080, 5_000_000, 4_000_000, 30), video("video_360p", 640, 360, 600_000, 500_000, 30).rung("360p"),
		audio("audio", "en", "", 6), audio("audio_de", "de", "", 2).rung("de"), audio("audio_360p", "en", "", 2).rung("360p").rates(70_000, 64_000))
	p.Run.Stream = &segmenter.Stream{Name: "live/demo"}
	return p
}

func TestSteeredMultivariant(t *testing.T) {
	for _, c := range []struct {
		name string
		d    segmenter.Delivery
		ts   bool
		has  []string
	}{
		{"multivariant-steered", segmenter.Delivery{Pathways: testPathways}, false, []string{
			"#EXT-X-VERSION:1\n#EXT-X-CONTENT-STEERING:SERVER-URI=\"steering.json\",PATHWAY-ID=\"cdn-a\"\n#EXT-X-MEDIA:",
			`GROUP-ID="cdn-a/audio"`, `URI="https://a.example.com/live/demo/m1abc/audio/index.m3u8"`, `STABLE-RENDITION-ID="audio"`,
			`AUDIO="cdn-a/audio"`, `STABLE-VARIANT-ID="video",PATHWAY-ID="cdn-a"` + "\nhttps://a.example.com/live/demo/m1abc/video/index.m3u8\n",
			`GROUP-ID="cdn-b/audio`, `URI="https://b.example.com/headwater/live/demo/m1abc/audio`, `AUDIO="cdn-b/audio`,
			`STABLE-VARIANT-ID="video",PATHWAY-ID="cdn-b"` + "\nhttps://b.example.com/headwater/live/demo/m1abc/video/index.m3u8\n",
			`URI="https://a.example.com/live/demo/m1abc/video/iframes.m3u8",STABLE-VARIANT-ID="video/iframes",PATHWAY-ID="cdn-a"`,
			`URI="https://b.example.com/headwater/live/demo/m1abc/video/iframes.m3u8",STABLE-VARIANT-ID="video/iframes",PATHWAY-ID="cdn-b"`,
		}},
		{"multivariant-steered-elsewhere", segmenter.Delivery{Pathways: testPathways, SteeringURL: "https://steer.example.com"}, false, []string{
			`#EXT-X-CONTENT-STEERING:SERVER-URI="https://steer.example.com/live/demo/steering.json",PATHWAY-ID="cdn-a"` + "\n"}},
		{"ts-multivariant-steered", segmenter.Delivery{Pathways: testPathways}, true, []string{
			"#EXT-X-CONTENT-STEERING:SERVER-URI=\"../steering.json\",PATHWAY-ID=\"cdn-a\"\n#EXT-X-STREAM-INF:",
			"https://a.example.com/live/demo/m1abc/video/ts/index.m3u8\n", "https://b.example.com/headwater/live/demo/m1abc/video/ts/index.m3u8\n"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := AppendMultivariant
			if c.ts {
				text = AppendTSMultivariant
			}
			p := steeredPresentation(c.d)
			if c.ts { // what MPEG-TS can carry
				for i := range p.Renditions {
					t := &p.Renditions[i].Track
					t.Codec.Config = map[media.Kind][]byte{media.Video: muxableVideo().Codec.Config, media.Audio: muxableAudio().Codec.Config}[t.Kind]
				}
			}
			got := string(text(nil, p))
			playlisttest.Check(t, []byte(got))
			golden(t, c.name, got)
			inOrder(t, got, c.has)
			if again := string(text([]byte("x"), p)); again != "x"+got {
				t.Errorf("not reproducible:\n%s", again)
			}
		})
	}
}

// TestOnePathway is as good as two but for there being no choice.
func TestOnePathway(t *testing.T) {
	p := steeredPresentation(segmenter.Delivery{Pathways: testPathways[:1]})
	playlisttest.Check(t, AppendMultivariant(nil, p))
}
