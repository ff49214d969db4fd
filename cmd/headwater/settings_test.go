package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"headwater/segmenter"
)

// A sample is a value of a setting that is not its default, as it is written on the command line and in the environment,
// and in the file where that differs.
type sample struct{ flag, yaml string }

func (s sample) file() string {
	if s.yaml != "" {
		return s.yaml
	}
	return s.flag
}

var samples = map[string]sample{
	"rtmp-addr":            {"127.0.0.1:7001", ""},
	"rtmp-backup-addr":     {":7003", `":7003"`},
	"backup-return":        {"never", ""},
	"on-input-loss":        {"error", ""},
	"http-addr":            {":7002", `":7002"`},
	"https-addr":           {":7443", `":7443"`},
	"ops-addr":             {"", `""`},
	"tls-cert":             {"/etc/tls/origin.pem", ""},
	"tls-key":              {"/etc/tls/origin.key", ""},
	"http3":                {"false", ""},
	"http3-port":           {"443", ""},
	"acme-domains":         {"a.test,b.test", "[a.test, b.test]"},
	"acme-email":           {"ops@a.test", ""},
	"acme-ca":              {"https://ca.test/directory", ""},
	"acme-ca-roots":        {"/etc/tls/ca.pem", ""},
	"acme-dir":             {"/var/lib/origin", ""},
	"target-duration":      {"3s", ""},
	"part-target":          {"0", ""},
	"part-hold-back":       {"3s", ""},
	"window-segments":      {"11", ""},
	"window-min":           {"1m", ""},
	"dvr":                  {"4h", ""},
	"event":                {"true", ""},
	"record":               {"168h", ""},
	"max-recorded-gb":      {"500", ""},
	"long-gop":             {"cut", ""},
	"loss-grace":           {"45s", ""},
	"unpublish-grace":      {"3s", ""},
	"shards":               {"http://m1.test,https://m2.test:8443", "['http://m1.test', 'https://m2.test:8443']"},
	"pathways":             {"cdn-a=https://a.test,cdn-b:0=https://b.test/live", "[{id: cdn-a, url: 'https://a.test'}, {id: cdn-b, url: 'https://b.test/live', weight: 0}]"},
	"steering-ttl":         {"30s", ""},
	"steering-url":         {"https://steer.test", ""},
	"publish-keys":         {"a,b", "[a, b]"},
	"publish-keys-by-name": {"live/a=1,live/b=x=y", "{live/a: 1, live/b: x=y}"},
	"takeover":             {"takeover", ""},
	"expect-renditions":    {"1080p,720p", "[1080p, 720p]"},
	"ladder":               {"720p,audio", "[720p, audio]"},
	"ffmpeg":               {"/opt/ffmpeg/bin/ffmpeg", ""},
	"rendition-suffix":     {"-[a-z]+", `"-[a-z]+"`},
	"renditions":           {"live/hd=live/a:1080p", "{live/hd: 'live/a:1080p'}"},
	"handshake-timeout":    {"7s", ""},
	"idle-timeout":         {"1m", ""},
	"write-timeout":        {"750ms", ""},
	"max-connections":      {"12", ""},
	"http-read-timeout":    {"4s", ""},
	"http-idle-timeout":    {"1h", ""},
	"http-max-connections": {"500", ""},
	"max-blocked":          {"40000", ""},
	"access-log":           {"true", ""},
	"server-timing":        {"true", ""},
	"data-dir":             {"/tmp/x", ""},
	"on-stop":              {"keep", ""},
	"log-level":            {"debug", ""},
	"log-format":           {"json", ""},
}

// value is the text of the named setting as `headwater config` prints it.
func value(t *testing.T, l *Loaded, name string) any {
	t.Helper()
	f, ok := fieldsOf(&l.Settings)[name]
	if !ok {
		t.Fatalf("no setting %s", name)
	}
	return f.value.Interface()
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "headwater.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func mustLoad(t *testing.T, args ...string) *Loaded {
	t.Helper()
	l, err := load(args, io.Discard, io.Discard)
	if err != nil {
		t.Fatalf("load(%q): %v", args, err)
	}
	return l
}

// Every setting there is can be set by flag, by environment and in the file, and they prevail in this order, over the
// default. There is one definition: a new field is found here and only lacks its sample.
func TestEverySettingHasThreeForms(t *testing.T) {
	defaults := mustLoad(t)
	list := fieldList(&Settings{})
	if len(list) != len(samples) {
		t.Errorf("%d settings, %d samples", len(list), len(samples))
	}
	for _, f := range list {
		t.Run(f.name, func(t *testing.T) {
			s, ok := samples[f.name]
			if !ok {
				t.Fatal("no sample")
			}
			file := "--config=" + writeFile(t, key(f.name)+": "+s.file()+"\n")
			flag := "--" + f.name + "=" + s.flag
			byFlag := mustLoad(t, flag)
			want := value(t, byFlag, f.name)
			if reflect.DeepEqual(want, value(t, defaults, f.name)) {
				t.Errorf("the sample %v is the default", want)
			}
			byFile := mustLoad(t, file)
			if d := cmp.Diff(want, value(t, byFile, f.name)); d != "" {
				t.Errorf("in the file (-flag +file):\n%s", d)
			}
			if from := byFlag.From[f.name] + " " + byFile.From[f.name]; from != "flag file" {
				t.Errorf("said to come from %s", from)
			}
			t.Setenv(env(f.name), s.flag)
			byEnv := mustLoad(t)
			if d := cmp.Diff(want, value(t, byEnv, f.name)); d != "" {
				t.Errorf("in the environment (-flag +environment):\n%s", d)
			}
			if from := byEnv.From[f.name]; from != "environment" {
				t.Errorf("said to come from %s", from)
			}
		})
	}
}

func TestPrecedence(t *testing.T) {
	for _, tt := range []struct {
		name            string
		flag, env, file string
		want            time.Duration
		from            string
	}{
		{"default", "", "", "", 2 * time.Second, ""},
		{"file", "", "", "3s", 3 * time.Second, "file"},
		{"environment", "", "4s", "", 4 * time.Second, "environment"},
		{"flag", "5s", "", "", 5 * time.Second, "flag"},
		{"environment over file", "", "4s", "3s", 4 * time.Second, "environment"},
		{"flag over file", "5s", "", "3s", 5 * time.Second, "flag"},
		{"flag over environment", "5s", "4s", "", 5 * time.Second, "flag"},
		{"flag over all", "5s", "4s", "3s", 5 * time.Second, "flag"},
		{"flag equal to default over all", "2s", "4s", "3s", 2 * time.Second, "flag"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"serve"}
			if tt.flag != "" {
				args = append(args, "--target-duration", tt.flag)
			}
			if tt.env != "" {
				t.Setenv("HEADWATER_TARGET_DURATION", tt.env)
			}
			if tt.file != "" {
				t.Setenv("HEADWATER_CONFIG", writeFile(t, "target_duration: "+tt.file))
			}
			l := mustLoad(t, args...)
			if got := l.Settings.TargetDuration; got != tt.want || l.From["target-duration"] != tt.from {
				t.Errorf("%v from %q, want %v from %q", got, l.From["target-duration"], tt.want, tt.from)
			}
		})
	}
}

// The defaults are those of the packages that they are for.
func TestDefaults(t *testing.T) {
	s := &mustLoad(t).Settings
	want := segmenter.Config{
		TargetDuration: segmenter.DefaultTargetDuration,
		PartTarget:     segmenter.DefaultPartTarget,
		WindowSegments: segmenter.DefaultWindowSegments,
		LongGOP:        segmenter.Stretch,
		LossGrace:      segmenter.DefaultLossGrace,
		UnpublishGrace: segmenter.DefaultUnpublishGrace,
	}
	if d := cmp.Diff(want, s.segmenterConfig("live/a")); d != "" {
		t.Errorf("-segmenter +flags:\n%s", d)
	}
}

// What is printed, read again, means the same.
func TestConfigRoundTrip(t *testing.T) {
	var text strings.Builder
	for name, s := range samples {
		switch name {
		case "publish-keys", "publish-keys-by-name", "shards": // redacted; refused with pathways
		default:
			text.WriteString(key(name) + ": " + s.file() + "\n")
		}
	}
	text.WriteString(`streams:
  "*/a: b": {part_target: 200ms}
  "*/sharded": {pathways: [], shards: ['https://m1.test']}
  "*/steered": {pathways: [{id: x, url: 'https://x.test', weight: 7}, {id: y, url: 'https://y.test'}]}
  "live/[a-c]*": {}
  live/x:
    long_gop: refuse
    window_min: 0
`)
	first := mustLoad(t, "--config="+writeFile(t, text.String()))
	var printed bytes.Buffer
	if err := printConfig(&printed, first); err != nil {
		t.Fatal(err)
	}
	second := mustLoad(t, "--config="+writeFile(t, printed.String()))
	for i := range second.Settings.Streams {
		first.Settings.Streams[i].Where, second.Settings.Streams[i].Where = "", ""
		for j := range second.Settings.Streams[i].Set {
			first.Settings.Streams[i].Set[j], second.Settings.Streams[i].Set[j] = Entry{}, Entry{} // spelling
		}
	}
	empty := cmp.Transformer("empty", func(k []string) []string { return append([]string{}, k...) })
	noMap := cmp.Transformer("noMap", func(m map[string]string) int { return len(m) })
	if d := cmp.Diff(first.Settings, second.Settings, empty, noMap); d != "" {
		t.Errorf("-printed +read:\n%s\n%s", d, printed.String())
	}
}

// The first pattern that matches decides, and what it does not set is as in general, by flag too.
func TestStreamPatterns(t *testing.T) {
	l := mustLoad(t, "--part-target=500ms", "--config="+writeFile(t, `
target_duration: 4s
part_target: 250ms
streams:
  "live/radio-*": {part_target: 0, target_duration: 6s}
  "live/*": {window_segments: 20}
  "*/radio-late": {part_target: 200ms}
  event/final: {long_gop: refuse, loss_grace: 5m, unpublish_grace: 1m, window_min: 30s}
`))
	general := segmenter.Config{TargetDuration: 4 * time.Second, PartTarget: 500 * time.Millisecond, WindowSegments: 8,
		LongGOP: segmenter.Stretch, LossGrace: 90 * time.Second, UnpublishGrace: 10 * time.Second}
	with := func(f func(*segmenter.Config)) segmenter.Config { c := general; f(&c); return c }
	for name, want := range map[string]segmenter.Config{
		"other/a":         general,
		"live/radio-one":  with(func(c *segmenter.Config) { c.PartTarget, c.TargetDuration = 0, 6*time.Second }),
		"live/radio-late": with(func(c *segmenter.Config) { c.PartTarget, c.TargetDuration = 0, 6*time.Second }),
		"live/tv":         with(func(c *segmenter.Config) { c.WindowSegments = 20 }),
		"vod/radio-late":  with(func(c *segmenter.Config) { c.PartTarget = 200 * time.Millisecond }),
		"event/final": with(func(c *segmenter.Config) {
			c.LongGOP, c.LossGrace, c.UnpublishGrace, c.WindowMin = segmenter.Refuse, 5*time.Minute, time.Minute, 30*time.Second
		}),
	} {
		if d := cmp.Diff(want, l.Settings.segmenterConfig(name)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

var files = []struct{ name, text, err string }{ // err "": accepted
	{"empty", "", ""},
	{"comment", "# nothing\n", ""},
	{"marker", "---\nlog_level: debug\n", ""},
	{"address without quotes", "http_addr: :8080\n", ""},
	{"number", "window_segments: 12\n", ""},
	{"zero duration", "part_target: 0\n", ""},
	{"flow", "{http_addr: ':1', access_log: true}\n", ""},
	{"list", "publish_keys:\n  - a\n  - 007\n", ""},
	{"mapping", "publish_keys_by_name:\n  live/a: x\n  live/b: y\n", ""},
	{"one key mapping", "publish_keys_by_name:\n  live/a: x\n", ""},
	{"null list", "publish_keys:\n", ""},
	{"null streams", "streams:\n", ""},
	{"typo", "\nhttp_adr: :1\n", `f.yaml:2: unknown key "http_adr"; the nearest valid key is "http_addr"`},
	{"transposed", "acces_slog: true\n", `f.yaml:1: unknown key "acces_slog"; the nearest valid key is "access_log"`},
	{"flag's spelling", "http-addr: :1\n", `f.yaml:1: unknown key "http-addr"; the nearest valid key is "http_addr"`},
	{"plural", "stream:\n", `f.yaml:1: unknown key "stream"; the nearest valid key is "streams"`},
	{"in streams", "streams:\n  a/*:\n    part_targt: 0\n", `f.yaml:3: unknown key "part_targt"; the nearest valid key is "part_target"`},
	{"twice", "http_addr: :1\nhttp_addr: :2\n", `f.yaml:2: `},
	{"not settings", "- a\n", `f.yaml:1: not a list of settings`},
	{"text", "hello\n", `f.yaml:1: not a list of settings`},
	{"second document", "log_level: debug\n---\nlog_level: info\n", `f.yaml:3: a second document`},
	{"list for one", "http_addr: [a]\n", `f.yaml:1: http_addr: a single value is expected`},
	{"one for list", "publish_keys: a\n", `f.yaml:1: publish_keys: a list is expected`},
	{"list for mapping", "publish_keys_by_name: [a]\n", `f.yaml:1: publish_keys_by_name: a mapping is expected`},
	{"mapping for list", "publish_keys: {a: b}\n", `f.yaml:1: publish_keys: a list is expected`},
	{"nested", "publish_keys: [[a]]\n", `f.yaml:1: not a single value`},
	{"duration", "loss_grace: 90\n", `f.yaml:1: loss_grace: "90" is not a duration`},
	{"integer", "window_segments: 1.5\n", `f.yaml:1: window_segments: "1.5" is not a whole number`},
	{"bool", "access_log: yes\n", `f.yaml:1: access_log: "yes" is neither true nor false`},
	{"enum", "takeover: never\n", `f.yaml:1: takeover: "never" is none of refuse, takeover`},
	{"unterminated", "http_addr: [\n", `f.yaml:1: `},
	{"bad indent", "a:\n b: 1\n  c: 2\n", `f.yaml:`},
	{"tab", "streams:\n\ta: b\n", `f.yaml:`},
	{"alias", "rtmp_addr: &a :1\nhttp_addr: *a\n", `f.yaml:1: anchors, aliases and tags`},
	{"merge", "streams:\n  <<: {}\n", `f.yaml:2: merge keys`},
	{"streams list", "streams: [a]\n", `f.yaml:1: streams: settings are to stand below it`},
	{"pattern without settings", "streams:\n  a/*: 5\n", `f.yaml:2: streams: a/*: settings are to stand below it`},
}

func TestParseFile(t *testing.T) {
	for _, tt := range files {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseFile("f.yaml", []byte(tt.text))
			switch {
			case tt.err == "" && err != nil:
				t.Errorf("error %v", err)
			case tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)):
				t.Errorf("error %v, want %s...", err, tt.err)
			case err != nil && strings.Contains(err.Error(), "\n"):
				t.Errorf("more than a line: %v", err)
			}
		})
	}
}

func FuzzParseFile(f *testing.F) {
	for _, tt := range files {
		f.Add([]byte(tt.text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := parseFile("f.yaml", b); err != nil && !strings.HasPrefix(err.Error(), "f.yaml:") {
			t.Errorf("error without its place: %v", err)
		}
	})
}

// Values that cannot be, by themselves or together. That of the file is told with its line.
func TestCheck(t *testing.T) {
	for _, tt := range []struct{ file, err string }{
		{"target_duration: 999ms", "target_duration: 999ms is not between 1s and 10s"},
		{"target_duration: 10500ms", "target_duration: 10.5s is not between 1s and 10s"},
		{"part_target: 99ms", "part_target: 99ms is less than 100ms"},
		{"part_target: -1s", "part_target: -1s is less than 100ms"},
		{"part_target: 2001ms", "part_target: 2.001s is longer than target_duration, 2s"},
		{"target_duration: 2500ms", "target_duration: 2.5s is not a whole number of seconds"},
		{"window_segments: 5", "window_segments: 5 is less than 6"},
		{"window_segments: 0", "window_segments: 0 is not between 1"},
		{"{window_segments: 3, window_min: 59s}", "window_segments: 3 is less than 6: write at least 6, or a window_min of at least 1m0s"},
		{"{window_segments: 3, window_min: 11s, long_gop: cut}", "window_segments: 3 is less than 6: write at least 6, or a window_min of at least 12s"},
		{"streams: {a/b: {window_segments: 3}}", "streams: a/b: window_segments: 3 is less than 6"},
		{"window_min: -1s", "window_min: "},
		{"loss_grace: 0", "loss_grace: "},
		{"unpublish_grace: 48h", "unpublish_grace: "},
		{"idle_timeout: 0", "idle_timeout: 0s is not between"},
		{"max_connections: 0", "max_connections: 0: at least 1"},
		{"http_max_connections: 0", "http_max_connections: 0: at least 1"},
		{"max_blocked: 0", "max_blocked: 0: at least 1"},
		{"ladder: [480p, 720]", `ladder: "720" is no rung that can be made; the nearest is "720p"`},
		{"ladder: [adio]", `ladder: "adio" is no rung that can be made; the nearest is "audio"`},
		{"ladder: [480p, 480p]", "ladder: 480p is there twice"},
		{"streams: {a/b: {ladder: [x]}}", `streams: a/b: ladder: "x" is no rung`},
		{"publish_keys:", "publish_keys: given, but holds no key"},
		{"publish_keys: []", "publish_keys: given, but holds no key"},
		{"publish_keys_by_name:", "publish_keys_by_name: given, but holds no key"},
		{"publish_keys_by_name: {}", "publish_keys_by_name: given, but holds no key"},
		{"rtmp_addr: localhost", "rtmp_addr: "},
		{`http_addr: ""`, "http_addr: "},
		{`publish_keys: [""]`, "publish_keys: an empty key"},
		{"publish_keys_by_name: {demo: x}", `publish_keys_by_name: "demo": `},
		{`publish_keys_by_name: {live/demo: ""}`, "publish_keys_by_name: live/demo: an empty key"},
		{`streams: {"[": {}}`, `streams: "[" is not a pattern`},
		{"streams: {a/b: {target_duration: 20s}}", "streams: a/b: target_duration: 20s is not"},
	} {
		name := writeFile(t, "# line 1\n"+tt.file+"\n")
		_, err := load([]string{"--config=" + name}, io.Discard, io.Discard)
		if want := name + ":2: " + tt.err; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: error %v, want %s...", tt.file, err, want)
		}
	}
	for _, file := range []string{"target_duration: 10s", "target_duration: 1s", "part_target: 100ms", "part_target: 2s",
		"window_segments: 6", "{window_segments: 3, window_min: 60s}", "{window_segments: 3, long_gop: cut}",
		"{window_segments: 3, window_min: 12s, long_gop: refuse}", `ops_addr: ""`, "rtmp_addr: '[::1]:0'"} {
		mustLoad(t, "--config="+writeFile(t, file))
	}
}

// A list of keys that is empty by mistake must not open the origin to everybody; nor one under a name that is mistyped.
func TestKeysDoNotFailOpen(t *testing.T) {
	for _, tt := range []struct {
		args []string
		env  string // NAME=value
		err  string // "": accepted
	}{
		{args: []string{"--publish-keys="}, err: "publish_keys: given, but holds no key"},
		{args: []string{"--publish-keys-by-name="}, err: "publish_keys_by_name: given, but holds no key"},
		{args: []string{"--publish-keys=,"}, err: "publish_keys: an empty key protects nothing"},
		{env: "HEADWATER_PUBLISH_KEYS=", err: "publish_keys: given, but holds no key"},
		{env: "HEADWATER_PUBLISH_KEYS_BY_NAME=", err: "publish_keys_by_name: given, but holds no key"},
		{args: []string{"--config=" + writeFile(t, "publish_keys: [a]")}, env: "HEADWATER_PUBLISH_KEYS=", err: "publish_keys: given, but holds no key"},
		{args: []string{"--config=" + writeFile(t, "publish_keys:")}, env: "HEADWATER_PUBLISH_KEYS=a"},
		{env: "HEADWATER_PUBLISH_KEY=hidden", err: "environment variable HEADWATER_PUBLISH_KEY is no setting; HEADWATER_PUBLISH_KEYS is"},
		{env: "HEADWATER_PUBLSIH_KESY=hidden", err: "environment variable HEADWATER_PUBLSIH_KESY is no setting; HEADWATER_PUBLISH_KEYS is"},
		{env: "HEADWATER_PUBLISH_KEYS_BY_NAMES=hidden", err: "environment variable HEADWATER_PUBLISH_KEYS_BY_NAMES is no setting"},
		{env: "HEADWATER_HTTP_ADR=:1", err: "environment variable HEADWATER_HTTP_ADR is no setting; HEADWATER_HTTP_ADDR is"},
		{env: "HEADWATER_SERVICE_HOST=hidden"}, // as an orchestrator may set it
		{env: "HEADWATER_PUBLISH_KEYS=hidden"},
	} {
		t.Run(strings.Join(append(tt.args, tt.env), " "), func(t *testing.T) {
			if name, v, ok := strings.Cut(tt.env, "="); ok {
				t.Setenv(name, v)
			}
			_, err := load(tt.args, io.Discard, io.Discard)
			if (err == nil) != (tt.err == "") || err != nil && !strings.HasPrefix(err.Error(), tt.err) {
				t.Errorf("error %v, want %s...", err, tt.err)
			}
			if err != nil && strings.Contains(err.Error(), "hidden") {
				t.Errorf("a value, which may be a secret, is in %v", err)
			}
		})
	}
}

// A value that cannot be read is told in the same words wherever it comes from.
func TestUnreadableValues(t *testing.T) {
	const want = `"abc" is not a duration: write it like 2s or 334ms`
	if _, err := load([]string{"--target-duration", "abc"}, io.Discard, io.Discard); err == nil || err.Error() != "--target-duration: "+want {
		t.Errorf("flag: error %v", err)
	}
	if _, err := load([]string{"--config=" + writeFile(t, "target_duration: abc")}, io.Discard, io.Discard); err == nil || !strings.HasSuffix(err.Error(), ":1: target_duration: "+want) {
		t.Errorf("file: error %v", err)
	}
	t.Setenv("HEADWATER_TARGET_DURATION", "abc")
	if _, err := load(nil, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("environment: error %v", err)
	}
}

// What the page tells people to publish is not what the demo holds.
func TestGuideName(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "web", "page", "guide.js"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^const name = '([a-z]+)';$`).FindSubmatch(b)
	if m == nil || string(m[1]) == demoStream {
		t.Fatalf("the guide's name is %q", m)
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "web", "page", "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(page, []byte("<code>"+string(m[1])+"</code>")) || bytes.Contains(page, []byte("<code>"+demoStream)) {
		t.Error("the page has another name than its guide")
	}
}

func TestEditDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "abd", 1}, {"abc", "ab", 1}, {"ab", "ba", 1},
		{"http_adr", "http_addr", 1}, {"kitten", "sitting", 3}, {"ca", "abc", 3},
	} {
		if d := editDistance(tt.a, tt.b); d != tt.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tt.a, tt.b, d, tt.want)
		}
	}
}

func TestUnknownVariables(t *testing.T) {
	got, err := unknownVariables([]string{"PATH=/bin", "HEADWATER_HTTP_ADDR=:1", "HEADWATER_CONFIG=x", "HEADWATER_HTTP_ADDRESS=:1", "HEADWATERX=1"})
	if err != nil || len(got) != 1 || !strings.Contains(got[0], "HEADWATER_HTTP_ADDRESS ") || !strings.Contains(got[0], "HEADWATER_HTTP_ADDR") {
		t.Errorf("warnings: %q", got)
	}
	if strings.Contains(strings.Join(got, ""), ":1") {
		t.Error("a value, which may be a secret, is in the warning")
	}
}

func TestLog(t *testing.T) {
	var b bytes.Buffer
	l := mustLoad(t, "--log-level=warn", "--log-format=json")
	log := l.Settings.log(&b)
	log.Info("unheard")
	log.Warn("heard", "n", 1)
	log.Warn("timed", "took", 1500*time.Millisecond)
	if s := b.String(); !strings.Contains(s, `"took":"1.5s"`) {
		t.Errorf("a duration without a unit: %s", s)
	}
	if s := b.String(); strings.Contains(s, "unheard") || !strings.HasPrefix(s, "{") || !strings.Contains(s, `"n":1`) {
		t.Errorf("log: %s", s)
	}
	if !log.Enabled(t.Context(), slog.LevelError) {
		t.Error("errors are not logged")
	}
}

func TestHelpIsNoError(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"serve", "-h"}, {"config", "--help", "--target-duration=99s"}} {
		var out bytes.Buffer
		if err := (&Main{}).Run(t.Context(), args, &out, io.Discard); err != nil || out.Len() == 0 {
			t.Errorf("%q: error %v, %d bytes of help", args, err, out.Len())
		}
	}
}

func TestConfigPrintFails(t *testing.T) {
	want := errors.New("disk full")
	if err := printConfig(failingWriter{want}, mustLoad(t)); !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// An error about keys does not print them.
func TestMalformedKeysAreNotPrinted(t *testing.T) {
	t.Setenv("HEADWATER_PUBLISH_KEYS_BY_NAME", "correct-horse")
	var out, log strings.Builder
	err := (&Main{}).Run(t.Context(), []string{"config"}, &out, &log)
	if err == nil || strings.Contains(err.Error()+out.String()+log.String(), "correct-horse") {
		t.Errorf("%v %s %s", err, out.String(), log.String())
	}
}
