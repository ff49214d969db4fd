package rtmp

import "testing"

func TestPublication(t *testing.T) {
	for _, c := range []struct{ app, tcURL, publish, name, key string }{
		{"live", "rtmp://h/live", "demo", "live/demo", ""},
		{"live", "rtmp://h/live", "demo?key=Ab", "live/demo", "Ab"},
		{"live?key=Ab", "rtmp://h/live?key=Ab", "demo", "live/demo", "Ab"},
		{"live", "rtmp://h/live?key=Ab", "demo", "live/demo", "Ab"},
		{"live?key=app", "rtmp://h/live?key=tc", "demo?key=pub", "live/demo", "pub"},
		{"live?key=app", "rtmp://h/live?key=tc", "demo?key=", "live/demo", "app"},
		{"live?key=app", "rtmp://h/live?key=tc", "demo?other=x", "live/demo", "app"},
		{"live", "rtmp://h/live", "demo?a=b&key=k&c=d", "live/demo", "k"},
		{"live", "rtmp://h/live", "demo?monkey=k", "live/demo", ""},
		{"live", "rtmp://h/live", "demo?key=a%2Fb+c", "live/demo", "a/b+c"},
		{"live", "rtmp://h/live", "demo?key=a%zz", "live/demo", "a%zz"},
		{"/live/", "", "/demo/", "live/demo", ""},
		{"live/demo", "rtmp://h/live/demo", "", "live/demo", ""},
		{"", "rtmp://h:1935/live/", "demo", "live/demo", ""},
		{"", "", "live/demo", "live/demo", ""},
		{"", "rtmp://h", "", "", ""},
		{"Live", "rtmp://h/live", "Demo", "Live/Demo", ""},
		{"live", "rtmp://h/live", "../x", "live/../x", ""}, // for the Publisher to refuse
		{"live", "rtmp://h/live", "%2e%2e", "live/%2e%2e", ""},
	} {
		if got := publication(c.app, c.tcURL, c.publish); got.Name != c.name || got.Key != c.key {
			t.Errorf("%q %q %q: %q %q, want %q %q", c.app, c.tcURL, c.publish, got.Name, got.Key, c.name, c.key)
		}
	}
	if got := publication("live?role=primary", "", "cam?role=backup"); got.Role != "backup" {
		t.Errorf("%+v", got)
	}
	got := publication("live?language=en", "rtmp://h/live?label=x", "cam?rendition=de&language=de&label=Deutsch%20(Stadion)")
	if got.Name != "live/cam" || got.Rendition != "de" || got.Language != "de" || got.Label != "Deutsch (Stadion)" || got.Protocol != "rtmp" {
		t.Errorf("%+v", got)
	}
}

func TestClock(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []uint32
		want []int64
	}{
		{"plain", []uint32{0, 33, 66}, []int64{0, 33, 66}},
		{"not from zero", []uint32{0xf0000000, 0xf0000021}, []int64{0xf0000000, 0xf0000021}},
		{"back a little", []uint32{100, 60, 120}, []int64{100, 60, 120}},
		{"wrap", []uint32{0xfffffff0, 0xffffffff, 0x10}, []int64{0xfffffff0, 0xffffffff, 0x100000010}},
		{"the other stream lags behind the wrap", []uint32{0xfffffff0, 5, 0xfffffff8, 38}, []int64{0xfffffff0, 0x100000005, 0xfffffff8, 0x100000026}},
		{"back below zero", []uint32{5, 0xffffffff}, []int64{5, -1}},
		{"twice around", []uint32{0, 0x70000000, 0xe0000000, 0x50000000, 0xc0000000, 0x30000000},
			[]int64{0, 0x70000000, 0xe0000000, 0x150000000, 0x1c0000000, 0x230000000}},
	} {
		var k clock
		for i, ts := range c.in {
			if got := k.unwrap(ts); got != c.want[i] {
				t.Errorf("%s: %#x is %#x, want %#x", c.name, ts, got, c.want[i])
			}
		}
	}
}
