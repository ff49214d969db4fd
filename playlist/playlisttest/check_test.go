package playlisttest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func golden(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", name+".m3u8"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestProblems spoils good playlists in one place and expects the checker to find it: a checker that finds nothing proves
// nothing.
func TestProblems(t *testing.T) {
	for _, c := range []struct{ golden, old, new, want string }{
		{"video", "#EXTM3U\n", "\ufeff#EXTM3U\n", "byte order mark"},
		{"video", "#EXTM3U\n", "#EXTM3U\r\n", "control character"},
		{"video", "#EXTM3U\n", "#EXTM3U\n\n", "blank line"},
		{"video", "#EXT-X-VERSION:6\n", "#EXT-X-VERSION:6\n#EXT-X-VERSION:6\n", "#EXT-X-VERSION 2 times"},
		{"video", "#EXT-X-VERSION:6", "#EXT-X-VERSION:9", "needed is 6"},
		{"delta", "#EXT-X-VERSION:9", "#EXT-X-VERSION:6", "needed is 9"},
		{"video", "#EXT-X-TARGETDURATION:2", "#EXT-X-TARGETDURATION:2.0", "not a decimal integer"},
		{"video", "#EXT-X-TARGETDURATION:2", "#EXT-X-TARGETDURATION:1", "duration 2.00000, target 1"},
		{"video", "#EXT-X-TARGETDURATION:2", "#EXT-X-TARGETDURATION:3", "CAN-SKIP-UNTIL"},
		{"video", "#EXT-X-MEDIA-SEQUENCE:1764033362", "#EXT-X-MEDIA-SEQUENCE:0", "media sequence 0"},
		{"video", "#EXT-X-DISCONTINUITY-SEQUENCE:0\n", "", "#EXT-X-DISCONTINUITY-SEQUENCE 0 times"},
		{"video", "#EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-MAP:", "#EXT-X-MAP:URI=\"i.mp4\"\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n#EXT-X-MAP:", "after the first segment's tags"},
		{"video", "CAN-BLOCK-RELOAD=YES,", "", "no CAN-BLOCK-RELOAD"},
		{"video", "PART-HOLD-BACK=1.002", "PART-HOLD-BACK=1.001", "less than three part targets"},
		{"video", ",CAN-SKIP-UNTIL=12", ",CAN-SKIP-UNTIL=12,HOLD-BACK=5", "HOLD-BACK 5"},
		{"delta", "CAN-SKIP-UNTIL=12", "CAN-SKIP-UNTIL=14", "is skipped that ends"},
		{"delta", ",CAN-SKIP-UNTIL=12", "", "no CAN-SKIP-UNTIL"},
		{"delta", "SKIPPED-SEGMENTS=2", "SKIPPED-SEGMENTS=0", "SKIP of nothing"},
		{"ordinary", "CAN-BLOCK-RELOAD=YES,", "CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.0,", "PART-HOLD-BACK without"},
		{"video", "#EXT-X-PART-INF:PART-TARGET=0.334\n", "", "parts without EXT-X-PART-INF"},
		{"video", "PART-TARGET=0.334", "PART-TARGET=0.3", "part target 0.3"},
		{"video", "PART-TARGET=0.334", "PART-TARGET=0.500", "85 %"},
		{"video", "#EXT-X-MAP:URI=\"i000000000000000000000001.mp4\"\n", "", "EXT-X-MAP URI"},
		{"video", "i000000000000000000000001.mp4", "../i.mp4", "EXT-X-MAP URI"},
		{"video", "#EXT-X-MAP:URI=\"i000000000000000000000001.mp4\"", "#EXT-X-MAP:URI=i000000000000000000000001.mp4,URI=\"x\"", "two attributes URI"},
		{"video", "URI=\"p1860000.m4s\"", "URI=\"p1860000.m4s", "attribute list"},
		{"video", "TYPE=PART,URI", "TYPE=PART,,URI", "attribute list"},
		{"video", "TYPE=PART,URI", "TYPE=,URI", "attribute list"},
		{"video", "TYPE=PART,URI", "type=PART,URI", "attribute list"},
		{"video", "LAST-PART=0", "LAST-PART=0,", "attribute list"},
		{"video", "#EXT-X-PROGRAM-DATE-TIME:2025-11-25T01:16:06.123Z\n", "", "EXT-X-PROGRAM-DATE-TIME \"\""},
		{"video", "01:16:06.123Z", "01:16:06.203Z", "date is off"},
		{"video", "01:16:06.123Z", "01:16:06Z", "EXT-X-PROGRAM-DATE-TIME"},
		{"discontinuity", "01:16:06.790Z", "01:16:05.123Z", "falls back"},
		{"discontinuity", "#EXT-X-DISCONTINUITY\n", "", "changes without EXT-X-DISCONTINUITY"},
		{"discontinuity", "#EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"i000000000000000000000007.mp4\"\n", "#EXT-X-MAP:URI=\"i000000000000000000000007.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:2025-11-25T01:16:06.790Z\n#EXT-X-DISCONTINUITY\n", "amid the tags"},
		{"discontinuity", "#EXT-X-PART:DURATION=0.33333,INDEPENDENT=YES,URI=\"p1140000.m4s\"\n", "", "apply to nothing"},
		{"video", "#EXTINF:2.00000,", "#EXTINF:2.00,", "EXTINF \"2.00\""},
		{"video", "#EXTINF:2.00000,", "#EXTINF:2.00000,title", "EXTINF"},
		{"video", "#EXTINF:2.00000,\n", "", "has no EXTINF"},
		{"video", "s1764033363.m4s", "s1764033362.m4s", "URI"},
		{"video", "s1764033363.m4s", "s1764033363.m4s?token=1", "URI"},
		{"video", "#EXT-X-PROGRAM-DATE-TIME:2025-11-25T01:16:20.123Z\n#EXT-X-PART:DURATION=0.33333,INDEPENDENT=YES,URI=\"p1800000.m4s\"\n", "#EXT-X-PART:DURATION=0.33333,INDEPENDENT=YES,URI=\"p1800000.m4s\"\n#EXT-X-PROGRAM-DATE-TIME:2025-11-25T01:16:20.123Z\n", "after a part"},
		{"video", ",INDEPENDENT=YES", "", "begins with a dependent part"},
		{"video", "p1830000.m4s", "p1800000.m4s", "part 1: URI"},
		{"video", "#EXT-X-PART:DURATION=0.33334,URI=\"p1650000.m4s\"\n", "", "its parts"},
		{"video", "DURATION=0.33334,URI=\"p1650000.m4s\"", "DURATION=0.28400,URI=\"p1650000.m4s\"", "its parts"},
		{"video", "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p1860000.m4s\"\n", "", "without EXT-X-PRELOAD-HINT"},
		{"video", "#EXTINF:2.00000,\ns1764033364.m4s", "#EXT-X-PART:DURATION=0.33334,INDEPENDENT=YES,URI=\"p1.m4s\"\n#EXTINF:2.00000,\ns1764033364.m4s", "from the end"},
		{"gap", "#EXT-X-GAP\n", "#EXT-X-GAP\n#EXT-X-PART:DURATION=0.3333,URI=\"p1.m4s\"\n", "a gap with parts"},
		{"gap", "#EXT-X-GAP\n", "", "has no parts"},
		{"video", "TYPE=PART,URI=\"p1860000.m4s\"", "TYPE=PART,URI=\"p1830000.m4s\"", "hint of"},
		{"video", "TYPE=PART,", "TYPE=MAP,", "hint of type"},
		{"video", "#EXT-X-PRELOAD-HINT:", "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p2.m4s\"\n#EXT-X-PRELOAD-HINT:", "#EXT-X-PRELOAD-HINT 2 times"},
		{"video", "../audio/index.m3u8", "../audio/index.m3u8?x=1", "rendition report URI"},
		{"video", ",LAST-PART=0", "", "rendition report"},
		{"ended", "#EXT-X-ENDLIST\n", "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p9.m4s\"\n#EXT-X-ENDLIST\n", "something to come"},
		{"video", "#EXT-X-PART-INF", "#EXT-X-PLAYLIST-TYPE:LIVE\n#EXT-X-PART-INF", "EXT-X-PLAYLIST-TYPE"},
		{"video", "#EXT-X-PART-INF", "#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-PART-INF", "video on demand without an end"},
		{"video", "#EXT-X-PART-INF", "#EXT-X-START:PRECISE=YES\n#EXT-X-PART-INF", "without TIME-OFFSET"},
		{"video", "s1764033363.m4s", "../../video/s1764033363.m4s", "URI"},
		{"video", "#EXT-X-PART-INF", "#EXT-X-STREAM-INF:BANDWIDTH=1\n#EXT-X-PART-INF", "unexpected line"},

		{"multivariant", "#EXT-X-VERSION:1\n", "", "EXT-X-VERSION 0 times"},
		{"multivariant", "#EXT-X-VERSION:1\n", "#EXT-X-VERSION:4\n", "EXT-X-VERSION is 4"},
		{"multivariant", "BANDWIDTH=68000,", "BANDWIDTH=1,", "BANDWIDTH=1,"},
		{"multivariant", ",mp4a.40.2", ",mp4a.40.02", "codec"},
		{"multivariant", "avc1.64001f", "avc1.100.31", "codec"},
		{"multivariant", ",RESOLUTION=1280x720", "", "RESOLUTION"},
		{"multivariant", "30.000", "30", "FRAME-RATE=30 "},
		{"multivariant", "INF:", "INF:PROGRAM-ID=0,", "PROGRAM-ID"},
		{"multivariant", "AUDIO=\"audio\"", "AUDIO=\"sound\"", "no audio group"},
		{"multivariant", "CHANNELS=\"2\",", "", "without CHANNELS"},
		{"multivariant", "m1abc/video/index.m3u8\n", "", "without a URI line"},
		{"multivariant", "m1abc/video/index.m3u8\n", "m1abc/video/index.m3u8\n#EXT-X-TARGETDURATION:2\n", "unexpected line"},
		{"multivariant-languages", "DEFAULT=NO", "DEFAULT=YES", "2 defaults"},
		{"multivariant-languages", "NAME=\"de\"", "NAME=\"English\"", "two members"},
		{"multivariant-languages", "STABLE-RENDITION-ID=\"de\"", "STABLE-RENDITION-ID=\"en\"", "STABLE-RENDITION-ID"},
		{"multivariant-ladder", "BANDWIDTH=540000,", "BANDWIDTH=1540000,", "do not ascend"},
		{"multivariant-hdr", "VIDEO-RANGE=SDR,", "", "VIDEO-RANGE on some"},
		{"multivariant-ladder", "CLOSED-CAPTIONS=NONE,", "", "CLOSED-CAPTIONS"},

		{"sharded", "/s1764033363.m4s", "/s1764033362.m4s", "segment 1764033363: URI"},
		{"sharded", "https://m2.example.com:8443/live/demo/m1abc/video/s1764033363.m4s", "https://m2.example.com:8443/x/video/s1764033363.m4s", "URI"},
		{"sharded", "video/s1764033363.m4s", "video/s1764033363.m4s?host=m1", "URI"},
		{"sharded", "URI=\"p1260000.m4s\"", "URI=\"https://m1.example.com/live/demo/m1abc/video/p1260000.m4s\"", "part 0: URI"},
		{"sharded", "URI=\"p1860000.m4s\"", "URI=\"https://m1.example.com/live/demo/m1abc/video/p1860000.m4s\"", "hint of"},

		{"multivariant-steered", "#EXT-X-CONTENT-STEERING:SERVER-URI=\"steering.json\",PATHWAY-ID=\"cdn-a\"\n", "", "EXT-X-CONTENT-STEERING 0 times"},
		{"multivariant-steered", "PATHWAY-ID=\"cdn-a\"\n#EXT-X-MEDIA", "PATHWAY-ID=\"cdn-c\"\n#EXT-X-MEDIA", "first pathway \"cdn-c\""},
		{"multivariant-steered", "SERVER-URI=\"steering.json\",", "", "#EXT-X-CONTENT-STEERING:PATHWAY-ID"},
		{"multivariant-steered", "BANDWIDTH=5200000", "BANDWIDTH=5300000", "offers"},
		{"multivariant-steered", "https://b.example.com/headwater/live/demo/m1abc/video/index.m3u8", "https://b.example.com/live/demo/m1abc/video/index.m3u8", "lies under"},
		{"multivariant-steered", "https://b.example.com/headwater/live/demo/m1abc/video/index.m3u8", "m1abc/video/index.m3u8", "URI"},
		{"multivariant-steered", "AUDIO=\"cdn-b/audio\"", "AUDIO=\"cdn-a/audio\"", "is of pathways"},
		{"multivariant-steered", ",STABLE-VARIANT-ID=\"video\",PATHWAY-ID=\"cdn-b\"", ",STABLE-VARIANT-ID=\"b\",PATHWAY-ID=\"cdn-b\"", "offers"},
		{"multivariant-steered", ",STABLE-VARIANT-ID=\"video/iframes\",PATHWAY-ID=\"cdn-b\"", ",STABLE-VARIANT-ID=\"video/iframes\"", "PATHWAY-ID \"\""},
		{"multivariant-steered", "NAME=\"en\"", "NAME=\"en\",PATHWAY-ID=\"cdn-a\"", "PATHWAY-ID in EXT-X-MEDIA"},
	} {
		good := golden(t, c.golden)
		if p := Problems([]byte(good)); len(p) > 0 {
			t.Fatalf("%s: %q", c.golden, p)
		}
		n := 1
		if c.old == ",INDEPENDENT=YES" || c.old == "#EXT-X-DISCONTINUITY\n" {
			n = -1
		}
		bad := strings.Replace(good, c.old, c.new, n)
		if bad == good {
			t.Errorf("%s has no %q", c.golden, c.old)
		}
		if p := strings.Join(Problems([]byte(bad)), "\n"); !strings.Contains(p, c.want) {
			t.Errorf("%s with %q for %q: got %q, want %q", c.golden, c.new, c.old, p, c.want)
		}
	}
}

// TestReportProblems: only whoever asks knows how many renditions there are.
func TestReportProblems(t *testing.T) {
	body := []byte(golden(t, "video"))
	for n, want := range []bool{false, true, false} {
		if p := ReportProblems(body, n); (len(p) == 0) != want {
			t.Errorf("%d reports expected: %q", n, p)
		}
	}
}

// TestSuccessionProblems does the same with two versions.
func TestSuccessionProblems(t *testing.T) {
	const part = "#EXT-X-PART:DURATION=0.33333,URI=\"p1860000.m4s\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p1890000.m4s\"\n"
	const hint = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p1860000.m4s\"\n"
	older := golden(t, "video")
	newer := strings.Replace(older, hint, part, 1)
	if p := SuccessionProblems([]byte(older), []byte(newer)); newer == older || len(p) > 0 {
		t.Fatalf("%q", p)
	}
	if p := SuccessionProblems([]byte(older), []byte(golden(t, "delta"))); len(p) > 0 {
		t.Fatalf("%q", p)
	}
	for _, c := range []struct{ old, new, want string }{
		{"#EXT-X-TARGETDURATION:2", "#EXT-X-TARGETDURATION:3", "target duration"},
		{"PART-TARGET=0.334", "PART-TARGET=0.335", "target duration"},
		{"#EXT-X-PART-INF", "#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-PART-INF", "type or start changed"},
		{"#EXT-X-PART-INF", "#EXT-X-START:TIME-OFFSET=0\n#EXT-X-PART-INF", "type or start changed"},
		{"CAN-SKIP-UNTIL=12", "CAN-SKIP-UNTIL=13", "server control"},
		{"#EXT-X-MEDIA-SEQUENCE:1764033362", "#EXT-X-MEDIA-SEQUENCE:1764033361", "a counter fell"},
		{"#EXT-X-MEDIA-SEQUENCE:1764033362", "#EXT-X-MEDIA-SEQUENCE:1764033363", "changed"},
		{"#EXT-X-DISCONTINUITY-SEQUENCE:0", "#EXT-X-DISCONTINUITY-SEQUENCE:1", "changed"},
		{"#EXTINF:2.00000,\ns1764033365", "#EXTINF:2.00001,\ns1764033365", "segment 1764033365 changed"},
		{"s1764033365.m4s", "s1764033399.m4s", "segment 1764033365 changed"},
		{"01:16:12.123Z", "01:16:12.124Z", "changed"},
		{"000001.mp4", "000002.mp4", "changed"},
		{"#EXTINF:2.00000,\ns1764033365", "#EXT-X-GAP\n#EXTINF:2.00000,\ns1764033365", "changed"},
		{"p1650000.m4s", "p1650001.m4s", "parts of segment 1764033369 changed"},
		{"DURATION=0.33334,URI=\"p1830000.m4s\"", "DURATION=0.33333,URI=\"p1830000.m4s\"", "parts of segment 1764033370 changed"},
		{part, "#EXT-X-PART:DURATION=0.33333,URI=\"p1860001.m4s\"\n", "p1860000.m4s was hinted"},
		{"#EXT-X-PART:DURATION=0.33334,URI=\"p1830000.m4s\"\n" + part, hint, "lost parts"},
	} {
		bad := strings.Replace(newer, c.old, c.new, 1)
		if bad == newer {
			t.Errorf("no %q", c.old)
		}
		if p := strings.Join(SuccessionProblems([]byte(older), []byte(bad)), "\n"); !strings.Contains(p, c.want) {
			t.Errorf("%q for %q: got %q, want %q", c.new, c.old, p, c.want)
		}
	}
	ended := golden(t, "ended")
	if p := strings.Join(SuccessionProblems([]byte(ended), []byte(strings.Replace(ended, "#EXT-X-ENDLIST\n", "", 1))), "\n"); !strings.Contains(p, "follows EXT-X-ENDLIST") {
		t.Errorf("got %q", p)
	}
	event := strings.Replace(ended, "#EXT-X-SERVER-CONTROL", "#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-SERVER-CONTROL", 1)
	shorter := strings.Replace(event, "#EXT-X-MEDIA-SEQUENCE:1764033360", "#EXT-X-MEDIA-SEQUENCE:1764033361", 1)
	if p := strings.Join(SuccessionProblems([]byte(event), []byte(shorter)), "\n"); !strings.Contains(p, "of type EVENT") {
		t.Errorf("an event that loses its beginning: got %q", p)
	}
	if p := strings.Join(SuccessionProblems([]byte(newer), []byte(older)), "\n"); !strings.Contains(p, "lost parts") {
		t.Errorf("backwards: got %q", p)
	}
	if p := strings.Join(SuccessionProblems([]byte(golden(t, "first")), []byte(golden(t, "delta"))), "\n"); !strings.Contains(p, "is not in the older playlist") {
		t.Errorf("a delta update of something unknown: got %q", p)
	}
}

// TestForeignParsersObject: the foreign parsers are really asked.
func TestForeignParsersObject(t *testing.T) {
	RequirePeers(t)
	p, err := theParsers()
	if err != nil {
		t.Fatal(err)
	}
	good := golden(t, "video")
	for _, c := range []struct{ old, new, want string }{
		{"", "", ""},
		{"#EXT-X-VERSION:6\n", "#EXT-X-VERSION:6\n#EXT-X-VERSION:6\n", "hls.js"},
		{"#EXT-X-SERVER-CONTROL:", "#EXT-X-SERVER-CONTROL:HOLD-BACK=1,", "m3u8-parser"},
		{"DURATION=0.33334,URI=\"p1830000.m4s\"", "DURATION=0.33334", "m3u8-parser"},
	} {
		problems, err := p.ask([]byte(strings.Replace(good, c.old, c.new, 1)))
		if got := strings.Join(problems, "\n"); err != nil || !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%q for %q: %q, %v", c.new, c.old, got, err)
		}
	}
	if g := grafovProblems([]byte(strings.Replace(good, "#EXTM3U\n", "", 1))); len(g) == 0 {
		t.Error("grafov/m3u8 does not miss #EXTM3U")
	}
}
