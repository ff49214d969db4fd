package flv

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"headwater/ingest"
	"headwater/ingest/amf0"
	"headwater/segmenter/media"
)

// Bodies of multitrack messages (Enhanced RTMP v2, ExVideoTagBody and ExAudioTagBody).

func id(n int) string                 { return fmt.Sprintf("%02x", n) }
func sized(n int, body string) string { return fmt.Sprintf("%02x%06x%s", n, len(body)/2, body) }

const (
	avc1 = "61766331"
	mp4a = "6d703461"
	av01 = "61763031"
)

var errTest = errors.New("test")

// A trackLog is the Writer of one track ID. It writes into what it shares with the others.
type trackLog struct {
	log
	id  int
	all *[]string
	err func(id int) error // of WriteSample
}

func (l *trackLog) flush(err error) error {
	for _, line := range l.lines {
		*l.all = append(*l.all, fmt.Sprintf("#%d %s", l.id, line))
	}
	l.lines = nil
	return err
}

func (l *trackLog) SetTracks(t []media.Track) error { return l.flush(l.log.SetTracks(t)) }
func (l *trackLog) WriteSample(i int, s *media.Sample) error {
	if l.err != nil {
		if err := l.err(l.id); err != nil {
			return err
		}
	}
	return l.flush(l.log.WriteSample(i, s))
}
func (l *trackLog) Close(reason error) error {
	*l.all = append(*l.all, fmt.Sprintf("#%d closed: %v", l.id, reason))
	return nil
}

var multitrack = []struct {
	name     string
	messages []message
	open     func(id int) error
	write    func(id int) error
	want     []string
	stats    Stats
	err      string
}{
	{
		name: "one track in each message, audio beside video under one ID",
		messages: []message{v(0, "1700000000", avcA), v(0, "96", "00", avc1, id(1), avcB), a(0, "af00", ascA), a(0, "95", "00", mp4a, id(1), ascB),
			a(0, "95", "00", mp4a, id(2), ascB), v(0, "1701000000", idr), v(40, "96", "03", avc1, id(1), idr), a(1000, "95", "01", mp4a, id(1), "21"),
			a(1000, "95", "01", mp4a, id(2), "22"), v(80, "96", "01", avc1, id(1), "000050", inter)},
		want: []string{
			"#0 tracks: " + trackA, "open 1", "#1 tracks: " + trackB, "#0 tracks: " + trackA + ", " + soundA, "#1 tracks: " + trackB + ", " + soundB,
			"open 2", "#2 tracks: " + soundB,
			"#0 0: dts 0 cto 0 sync " + idr, "#1 0: dts 3600 cto 0 sync " + idr, "#1 1: dts 44100 cto 0 sync 21", "#2 0: dts 44100 cto 0 sync 22",
			"#1 0: dts 7200 cto 7200 " + inter,
		},
	},
	{
		name: "many tracks of one codec, with a time of nanoseconds",
		messages: []message{a(0, "95", "10", mp4a, sized(0, ascA), sized(1, ascB), sized(15, ascA)),
			a(1000, "97", "02", "07a120", "05", "11", mp4a, sized(15, "21"), sized(0, "22"), sized(1, ""))},
		want: []string{"#0 tracks: " + soundA, "open 1", "#1 tracks: " + soundB, "open 15", "#15 tracks: " + soundA,
			"#15 0: dts 48024 cto 0 sync 21", "#0 0: dts 48024 cto 0 sync 22"},
		stats: Stats{Empty: 1},
	},
	{
		name: "many tracks of many codecs: one that is not taken is left out alone",
		messages: []message{v(0, "96", "20", avc1, sized(0, avcA), av01, sized(1, "00"), avc1, sized(2, avcB)),
			v(0, "96", "23", avc1, sized(0, idr), av01, sized(1, "ff"), avc1, sized(2, idr)), v(0, "96", "20", avc1, sized(1, avcB)),
			a(0, "95", "00", mp4a, id(1), ascA)},
		want: []string{"#0 tracks: " + trackA, "left out 1: video codec AV1 is not supported: set the encoder's video to H.264 or HEVC", "open 2", "#2 tracks: " + trackB,
			"#0 0: dts 0 cto 0 sync " + idr, "#2 0: dts 0 cto 0 sync " + idr, "open 1", "#1 tracks: " + soundA},
		stats: Stats{LeftOut: 1},
	},
	{
		name: "a configuration that is not taken, in a track that was going",
		messages: []message{a(0, "af00", ascA), a(0, "95", "00", mp4a, id(3), ascA), a(0, "95", "00", mp4a, id(3), "0990"), a(0, "95", "01", mp4a, id(3), "21"),
			a(0, "95", "00", mp4a, id(3), ascA), a(0, "af0121")},
		want: []string{"#0 tracks: " + soundA, "open 3", "#3 tracks: " + soundA,
			"#3 closed: AAC profile Main is not supported: set the encoder's audio to AAC-LC or HE-AAC",
			"left out 3: AAC profile Main is not supported: set the encoder's audio to AAC-LC or HE-AAC", "#0 0: dts 0 cto 0 sync 21"},
		stats: Stats{LeftOut: 1},
	},
	{
		name: "a refusal leaves out what has that ID",
		messages: []message{a(0, "95", "10", mp4a, sized(1, ascA), sized(0, ascA)), v(0, "96", "00", avc1, id(1), avcA), a(0, "95", "01", mp4a, id(1), "21"),
			a(0, "95", "00", mp4a, id(2), ascA)},
		open: func(id int) error {
			if id == 1 {
				return ingest.ErrInUse
			}
			return nil
		},
		want:  []string{"open 1", "left out 1: somebody else is publishing under this name", "#0 tracks: " + soundA, "open 2", "#2 tracks: " + soundA},
		stats: Stats{LeftOut: 1},
	},
	{
		name: "a Writer's error leaves out what has that ID, whatever kind of error",
		messages: []message{a(0, "95", "10", mp4a, sized(0, ascA), sized(1, ascA)), a(0, "95", "11", mp4a, sized(1, "21"), sized(0, "22")),
			a(0, "95", "11", mp4a, sized(1, "23"), sized(0, "24"))},
		write: func(id int) error {
			if id == 1 {
				return media.Formatf("store", "is full")
			}
			return nil
		},
		want: []string{"#0 tracks: " + soundA, "open 1", "#1 tracks: " + soundA, "#1 closed: store: is full", "left out 1: store: is full",
			"#0 0: dts 0 cto 0 sync 22", "#0 0: dts 0 cto 0 sync 24"},
		stats: Stats{LeftOut: 1},
	},
	{
		name: "IDs beyond those taken, told of once",
		messages: []message{a(0, "95", "10", mp4a, sized(16, ascA), sized(0, ascA)), a(0, "95", "00", mp4a, id(255), ascA),
			v(0, "96", "00", avc1, id(16), avcA)},
		want:  []string{"left out 16: multitrack: track 16 is not supported: number the tracks from 0 to 15", "#0 tracks: " + soundA},
		stats: Stats{LeftOut: 1},
	},
	{
		name:     "frames before the configuration open nothing",
		messages: []message{a(0, "95", "01", mp4a, id(1), "21"), v(0, "96", "03", avc1, id(1), idr), v(0, "96", "02", avc1, id(1))},
		stats:    Stats{BeforeConfig: 2, EndOfSequence: 1},
	},
	{name: "garbage in one track ends all", messages: []message{v(0, "96", "00", avc1, id(1), "0142c0")}, err: "AVC configuration record"},
	{name: "garbage in a frame of one track ends all", messages: []message{v(0, "96", "00", avc1, id(1), avcA), v(0, "96", "03", avc1, id(1), "000000ff65")},
		want: []string{"open 1", "#1 tracks: " + trackA}, err: "longer than the tag"},
	{
		name: "metadata of tracks names them, and opens none",
		messages: []message{data("@setDataFrame", "onMetaData", amf0.Object{"videocodecid": 7.0, "audiocodecid": 10.0, "audiodatarate": 128.0, "title": "the programme",
			"language": "xx",
			"audioTrackIdInfoMap": amf0.Object{"0": amf0.Object{"lang": "eng"}, "1": amf0.Object{"audiodatarate": 64.0, "language": "de-AT", "title": "Ton\nmit \x00Ä"},
				"17": amf0.Object{"language": "fr"}, "x": 5.0, "3": "no"},
			"videoTrackIdInfoMap": amf0.Object{"2": amf0.Object{"videodatarate": 900.0}}}),
			a(0, "95", "00", mp4a, id(1), ascA), v(0, "96", "00", avc1, id(2), avcA),
			data("onMetaData", amf0.Object{"audioTrackIdInfoMap": amf0.Object{"1": amf0.Object{"lang": "und", "name": "\u202e"}, "2": amf0.Object{"language": "xx\"", "label": "Two"}}}),
			a(0, "95", "00", mp4a, id(2), ascA)},
		want: []string{`#0 tracks: video not ready, audio not ready 128000 eng ""`, "open 1", "#1 tracks: " + soundA + ` 64000 de-AT "Tonmit Ä"`,
			"open 2", "#2 tracks: " + trackA + " 900000", "#2 tracks: " + trackA + ` 900000, audio not ready  "Two"`,
			"#2 tracks: " + trackA + ` 900000, ` + soundA + `  "Two"`},
	},
	{
		name: "a track that is announced and not taken is not waited for",
		messages: []message{data("onMetaData", amf0.Object{"audioTrackIdInfoMap": amf0.Object{"1": amf0.Object{}},
			"videoTrackIdInfoMap": amf0.Object{"1": amf0.Object{}}}),
			v(0, "96", "00", av01, id(1)), a(0, "95", "00", mp4a, id(1), ascA), a(0, "95", "01", mp4a, id(1), "21")},
		want: []string{"left out 1: video codec AV1 is not supported: set the encoder's video to H.264 or HEVC", "open 1", "#1 tracks: " + soundA,
			"#1 0: dts 0 cto 0 sync 21"},
		stats: Stats{LeftOut: 1},
	},
	{
		name: "metadata after the configuration changes a name once",
		messages: []message{a(0, "95", "00", mp4a, id(1), ascA), data("onMetaData", amf0.Object{"audioTrackIdInfoMap": amf0.Object{"1": amf0.Object{"lang": "fra"}}}),
			data("onMetaData", amf0.Object{"audioTrackIdInfoMap": amf0.Object{"1": amf0.Object{"lang": "fra"}}})},
		want: []string{"open 1", "#1 tracks: " + soundA, "#1 tracks: " + soundA + ` fra ""`},
	},
}

func TestMultitrack(t *testing.T) {
	for _, c := range multitrack {
		t.Run(c.name, func(t *testing.T) {
			var all []string
			d := Demuxer{
				W: &trackLog{all: &all},
				Open: func(id int) (ingest.Writer, error) {
					all = append(all, fmt.Sprintf("open %d", id))
					if c.open != nil {
						if err := c.open(id); err != nil {
							return nil, err
						}
					}
					return &trackLog{id: id, all: &all, err: c.write}, nil
				},
				LeftOut: func(id int, reason error) { all = append(all, fmt.Sprintf("left out %d: %v", id, reason)) },
			}
			for i, m := range c.messages {
				err := m.send(&d)
				if i < len(c.messages)-1 || c.err == "" {
					if err != nil {
						t.Fatalf("message %d: %v", i, err)
					}
					continue
				}
				var format *media.FormatError
				if err == nil || !strings.Contains(err.Error(), c.err) || !errors.As(err, &format) {
					t.Errorf("error %T %v, want one that says %q", err, err, c.err)
				}
			}
			if d := cmp.Diff(c.want, all); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(c.stats, d.Stats()); d != "" {
				t.Error(d)
			}
		})
	}
}

// A closer is a Writer whose end counts.
type closer struct {
	discard
	name  string
	order *[]string
	err   error
	panic bool
}

func (c *closer) Close(reason error) error {
	*c.order = append(*c.order, fmt.Sprint(c.name, " ", reason))
	if c.panic {
		panic(c.name)
	}
	return c.err
}

// Close closes all, the first last, also when one panics, and each once.
func TestClose(t *testing.T) {
	var order []string
	wrong := errors.New("wrong")
	d := Demuxer{W: &closer{name: "W", order: &order}, Open: func(id int) (ingest.Writer, error) {
		if id == 4 {
			return nil, errTest
		}
		return &closer{name: fmt.Sprint(id), order: &order, panic: id == 2, err: map[int]error{3: wrong}[id]}, nil
	}}
	for _, m := range []message{a(0, "95", "10", mp4a, sized(1, ascA), sized(2, ascA), sized(3, ascA), sized(4, ascA)),
		a(0, "95", "00", mp4a, id(1), "0990")} {
		if err := m.send(&d); err != nil {
			t.Fatal(err)
		}
	}
	order = order[:0] // 1 has been closed
	func() {
		defer func() {
			if v := recover(); v != "2" {
				t.Errorf("panic %v", v)
			}
		}()
		d.Close(errTest)
	}()
	if d := cmp.Diff([]string{"3 test", "2 test", "W test"}, order); d != "" {
		t.Error(d)
	}
	order, d = nil, Demuxer{W: d.W, Open: d.Open}
	if err := a(0, "95", "00", mp4a, id(3), ascA).send(&d); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(nil); err != wrong {
		t.Errorf("error %v", err)
	}
}
