package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"headwater/ingest"
	"headwater/ingest/transcode"
	"headwater/segmenter"
)

// Settings are everything that can be set. A field is a flag by its name tag, HEADWATER_<NAME> in the environment and
// <name> with underscores in the YAML file; this struct is the only list of them. See load for who prevails.
type Settings struct {
	RTMPAddr       string `name:"rtmp-addr" default:":1935" group:"addr" help:"Where encoders publish (RTMP)."`
	RTMPBackupAddr string `name:"rtmp-backup-addr" placeholder:":1936" group:"addr" help:"A second address for encoders: what is published there is the backup of the same name at rtmp-addr, as ?role=backup makes it at either. Empty: none."`
	HTTPAddr       string `name:"http-addr" default:":8080" group:"addr" help:"Where players and edges fetch (HTTP/1.1 and h2c)."`
	HTTPSAddr      string `name:"https-addr" placeholder:":8443" group:"addr" help:"Where players fetch by TLS (HTTP/2, HTTP/1.1 and, on UDP, HTTP/3), once there is a certificate: tls-cert or acme-domains."`
	OpsAddr        string `name:"ops-addr" default:"127.0.0.1:8081" group:"addr" help:"Health, readiness and metrics; keep it private. Empty: none."`

	StreamSettings `group:"stream"`

	PublishKeys       []string          `name:"publish-keys" secret:"" sep:"," placeholder:"KEY,..." group:"publish" help:"Keys of which a publisher must show one (rtmp://HOST/live/NAME?key=KEY). None: anybody may publish. Better in the file or the environment, where other users of the machine do not see them."`
	PublishKeysByName map[string]string `name:"publish-keys-by-name" secret:"" mapsep:"," placeholder:"APP/NAME=KEY,..." group:"publish" help:"Keys that open one stream only, with all its renditions, or one published name, beside the general ones."`
	Takeover          string            `name:"takeover" default:"refuse" enum:"refuse,takeover" group:"publish" help:"A second publisher on a live name is refused, or takes over with its first keyframe (refuse, takeover)."`
	RenditionSuffix   string            `name:"rendition-suffix" default:"_[0-9]+p[0-9]*" placeholder:"REGEXP" group:"publish" help:"What at the end of a published name says that it is one rendition of a stream: live/cam_720p is rendition 720p of live/cam. Empty: nothing does; ?rendition=720p always works."`
	Renditions        map[string]string `name:"renditions" mapsep:"," placeholder:"APP/PUBLISHED=APP/NAME:RENDITION,..." group:"publish" help:"Published names that are renditions of a stream, one by one: live/hd=live/cam:1080p."`
	FFmpeg            string            `name:"ffmpeg" default:"ffmpeg" placeholder:"PROGRAM" group:"publish" help:"What makes the renditions of ladder: ffmpeg 5.1 or later with libx264, a name or a path."`
	HandshakeTimeout  time.Duration     `name:"handshake-timeout" default:"5s" group:"publish" help:"For an encoder's RTMP handshake."`
	IdleTimeout       time.Duration     `name:"idle-timeout" default:"10s" group:"publish" help:"A publisher that sends nothing for so long is disconnected."`
	WriteTimeout      time.Duration     `name:"write-timeout" default:"5s" group:"publish" help:"For one RTMP reply to be taken by the encoder."`
	MaxConnections    int               `name:"max-connections" default:"1000" group:"publish" help:"RTMP connections at one time."`

	HTTPReadTimeout time.Duration `name:"http-read-timeout" default:"10s" group:"http" help:"For a request to arrive."`
	HTTPIdleTimeout time.Duration `name:"http-idle-timeout" default:"2m" group:"http" help:"How long an HTTP connection is kept between requests."`
	// HTTPMaxConnections does not hold for ops-addr; see limits.go.
	HTTPMaxConnections int  `name:"http-max-connections" default:"20000" group:"http" help:"HTTP, HTTPS and HTTP/3 connections at one time; those past it get 503. Lowered to what the process may open (ulimit -n)."`
	MaxBlocked         int  `name:"max-blocked" default:"100000" group:"http" help:"HTTP requests held at one time until what they ask for is there; one stream gets half of them."`
	AccessLog          bool `name:"access-log" group:"http" help:"Log one line for each HTTP request."`
	ServerTiming       bool `name:"server-timing" group:"http" help:"Say in each HTTP reply how long it was held and how long it took otherwise (Server-Timing)."`

	TLSCert string `name:"tls-cert" placeholder:"FILE" group:"tls" help:"Certificate and its intermediates, PEM. It is read again when it changes."`
	TLSKey  string `name:"tls-key" placeholder:"FILE" group:"tls" help:"Its private key, PEM."`
	// The names of these two in the environment would otherwise be HTTP_3.
	HTTP3       bool     `name:"http3" env:"HEADWATER_HTTP3" default:"true" negatable:"" group:"tls" help:"Serve HTTP/3 beside HTTPS, on the UDP port of the same number, and announce it (Alt-Svc)."`
	HTTP3Port   int      `name:"http3-port" env:"HEADWATER_HTTP3_PORT" default:"0" placeholder:"PORT" group:"tls" help:"UDP port that is announced, where a router or container maps another one; 0 is that of https-addr."`
	ACMEDomains []string `name:"acme-domains" sep:"," placeholder:"NAME,..." group:"tls" help:"Names for which to get certificates from a CA (ACME), in place of files. To set this is to agree to the CA's terms."`
	ACMEEmail   string   `name:"acme-email" placeholder:"ADDRESS" group:"tls" help:"Where the CA reaches you."`
	ACMECA      string   `name:"acme-ca" placeholder:"URL" group:"tls" help:"Directory of the CA. Empty: Let's Encrypt."`
	ACMECARoots string   `name:"acme-ca-roots" placeholder:"FILE" group:"tls" help:"Certificates, PEM, to trust the CA's own server by. Empty: the system's."`
	ACMEDir     string   `name:"acme-dir" placeholder:"DIR" group:"tls" help:"Where accounts, keys and certificates are kept. Empty: headwater/acme in the platform's folder for state."`

	DataDir     string `name:"data-dir" default:"auto" placeholder:"DIR" group:"run" help:"Where live windows are kept, so that they survive a crash. auto: headwater/data in the platform's folder for state, and for demo none. Empty: memory only."`
	OnStop      string `name:"on-stop" default:"end" enum:"end,keep" group:"run" help:"What SIGTERM and SIGINT do to live streams: end them (EXT-X-ENDLIST), or keep them in data-dir, so that the next start within loss-grace goes on with them: for upgrades (end, keep)."`
	MaxRecorded int    `name:"max-recorded-gb" default:"0" placeholder:"GB" group:"run" help:"What all recordings together may take of data-dir; past that the oldest go. 0 is no limit."`
	LogLevel    string `name:"log-level" default:"info" enum:"debug,info,warn,error" group:"run" help:"Least level that is logged (debug, info, warn, error)."`
	LogFormat   string `name:"log-format" default:"text" enum:"text,json" group:"run" help:"Form of the log on standard error (text, json)."`

	// Streams differ from the above by name. They are in the file only, as "streams".
	Streams []StreamPattern `kong:"-"`
}

// StreamSettings are those that the file can also set for a pattern of names.
type StreamSettings struct {
	TargetDuration time.Duration `name:"target-duration" default:"2s" help:"Target duration of segments, whole seconds, 1s to 10s. Set the encoder's keyframe interval to the same."`
	PartTarget     time.Duration `name:"part-target" default:"334ms" help:"Target duration of low-latency parts, 100ms at least; 0 is ordinary HLS."`
	PartHoldBack   time.Duration `name:"part-hold-back" default:"0" help:"How far behind the live edge players of low latency stay. 0: three part targets, the least, or 3s for a run that begins with several video renditions, so that players have time to change when the network does."`
	WindowSegments int           `name:"window-segments" default:"8" help:"Segments in a playlist, at least."`
	WindowMin      time.Duration `name:"window-min" default:"0" help:"Time in a playlist, at least; 0 is six target durations."`
	DVR            time.Duration `name:"dvr" default:"0" help:"How far back viewers can go: the time in a playlist, which lies in data-dir; 0 is the window alone."`
	Event          bool          `name:"event" help:"Nothing leaves the playlists of a run while it lasts (EXT-X-PLAYLIST-TYPE:EVENT). Needs data-dir."`
	Record         time.Duration `name:"record" default:"0" help:"How long a run is kept in data-dir when it has ended, as a recording with an address of its own; 0 is not at all."`
	LongGOP        string        `name:"long-gop" default:"stretch" enum:"stretch,cut,refuse" help:"When keyframes are further apart than the target: stretch the segments of that run (up to 10s), cut them without a keyframe, or refuse the publication (stretch, cut, refuse)."`
	Expect         []string      `name:"expect-renditions" sep:"," placeholder:"RENDITION,..." help:"Renditions of which a stream's first playlist lists all: it waits for them, three target durations at most."`
	Ladder         []string      `name:"ladder" sep:"," placeholder:"RUNG,..." help:"Lower renditions that ffmpeg makes of each push (1080p, 720p, 480p, 360p, audio), as far as they are lower. None: the origin encodes nothing."`
	LossGrace      time.Duration `name:"loss-grace" default:"90s" help:"How long a stream waits for a publisher that was lost before it ends."`
	OnInputLoss    string        `name:"on-input-loss" default:"hold" enum:"hold,error" help:"What a stream's playlists do when nothing has come in for one and a half target durations: go on with gaps, or answer 503, so that a CDN with a second origin asks that one (hold, error)."`
	BackupReturn   string        `name:"backup-return" default:"auto" enum:"auto,never" help:"When the primary of a backup that has taken over is well again, it gets its place back after three segments, or not before the backup fails (auto, never)."`
	UnpublishGrace time.Duration `name:"unpublish-grace" default:"10s" help:"The same after a publisher has said goodbye."`
	Shards         []string      `name:"shards" sep:"," placeholder:"URL,..." help:"Hosts (https://m1.example.com) among which segments and initialization sections are divided by their paths; parts stay with the playlist. For players that speak HTTP/1.1 only."`
	Pathways       []pathway     `name:"pathways" sep:"," placeholder:"ID:WEIGHT=URL,..." help:"CDNs that each offer everything, between which players are steered by weight; they begin with the first (cdn-a:100=https://a.example.com)."`
	SteeringTTL    time.Duration `name:"steering-ttl" default:"5m" help:"How often players ask for the pathways' order."`
	SteeringURL    string        `name:"steering-url" placeholder:"URL" help:"Where they ask for it (https://steer.example.com), if not where the multivariant playlist is."`
}

// A StreamPattern is what the file's "streams" says of the names that match.
type StreamPattern struct {
	Pattern string // as path.Match has it, for "<app>/<name>": * does not match a slash
	Set     []Entry
	Where   string // "file:line"

	// Settings are the general ones with Set applied. finish fills them in.
	Settings StreamSettings
}

// An Entry is one setting as it is written in the file: a string for a scalar, []any or map[string]any of strings.
type Entry struct {
	Name  string // of the flag
	Value any
	Where string
}

// Limits that playlists or good sense demand.
const (
	minTarget     = time.Second
	maxHoldBack   = time.Minute
	minPartTarget = 100 * time.Millisecond // hardly more than a round trip, and every part is a request
	minSegments   = 6                      // Apple's authoring specification; RFC 8216bis 6.2.2 wants three target durations
	maxSegments   = 10_000
	maxGrace      = 24 * time.Hour
	maxDVR        = 14 * 24 * time.Hour
	maxRecord     = 10 * 365 * 24 * time.Hour
)

// A settingError says what is wrong with the value of a setting.
type settingError struct {
	name string // of the flag
	err  error
}

func (e *settingError) Error() string { return key(e.name) + ": " + e.err.Error() }

func bad(flag, format string, args ...any) error {
	return &settingError{flag, fmt.Errorf(format, args...)}
}

// finish applies the patterns and says what is wrong with the settings.
func (s *Settings) finish() error {
	if err := s.StreamSettings.check(); err != nil {
		return err
	}
	for i := range s.Streams {
		p := &s.Streams[i]
		if _, err := path.Match(p.Pattern, ""); err != nil {
			return fmt.Errorf("%s: streams: %q is not a pattern: %v", p.Where, p.Pattern, err)
		}
		p.Settings = s.StreamSettings
		fields := fieldsOf(&p.Settings)
		for _, e := range p.Set {
			if err := decode(fields[e.Name], e.Value); err != nil {
				return fmt.Errorf("%s: %s: %w", e.Where, key(e.Name), err)
			}
		}
		if err := p.Settings.check(); err != nil {
			return fmt.Errorf("%s: streams: %s: %w", p.Where, p.Pattern, err)
		}
	}
	for _, a := range []struct{ name, addr string }{{"rtmp-addr", s.RTMPAddr}, {"rtmp-backup-addr", s.RTMPBackupAddr}, {"http-addr", s.HTTPAddr}, {"ops-addr", s.OpsAddr}} {
		if a.addr == "" && (a.name == "ops-addr" || a.name == "rtmp-backup-addr") {
			continue
		}
		if _, _, err := net.SplitHostPort(a.addr); err != nil {
			return bad(a.name, "%q is not an address: write host:port or :port", a.addr)
		}
	}
	if err := s.checkHTTPS(); err != nil {
		return err
	}
	for _, k := range s.PublishKeys {
		if err := checkKey(k); err != nil {
			return bad("publish-keys", "%w", err)
		}
	}
	for name, k := range s.PublishKeysByName {
		if err := ingest.CheckName(name); err != nil {
			return bad("publish-keys-by-name", "%q: %w", name, err)
		}
		if err := checkKey(k); err != nil {
			return bad("publish-keys-by-name", "%s: %w", name, err)
		}
	}
	if _, err := regexp.Compile(s.RenditionSuffix); err != nil {
		return bad("rendition-suffix", "%q is not a regular expression: %w", s.RenditionSuffix, err)
	}
	for from, to := range s.Renditions {
		stream, rung, ok := strings.Cut(to, ":")
		if err := errors.Join(ingest.CheckName(from), ingest.CheckName(stream), ingest.CheckRendition(rung)); !ok || err != nil {
			return bad("renditions", "%s=%s: want APP/PUBLISHED=APP/NAME:RENDITION", from, to)
		}
	}
	for _, t := range []struct {
		name string
		d    time.Duration
	}{
		{"handshake-timeout", s.HandshakeTimeout}, {"idle-timeout", s.IdleTimeout}, {"write-timeout", s.WriteTimeout},
		{"http-read-timeout", s.HTTPReadTimeout}, {"http-idle-timeout", s.HTTPIdleTimeout},
	} {
		if t.d < 100*time.Millisecond || t.d > time.Hour {
			return bad(t.name, "%v is not between 100ms and 1h", t.d)
		}
	}
	for _, n := range []struct {
		name string
		n    int
	}{{"max-connections", s.MaxConnections}, {"http-max-connections", s.HTTPMaxConnections}, {"max-blocked", s.MaxBlocked}} {
		if n.n < 1 {
			return bad(n.name, "%d: at least 1", n.n)
		}
	}
	return nil
}

// redacted stands for secrets where settings are printed.
const redacted = "(redacted)"

func checkKey(k string) error {
	switch {
	case k == "":
		return fmt.Errorf("an empty key protects nothing")
	case k == redacted:
		return fmt.Errorf("%s is what `headwater config` prints in place of a key; write the key", redacted)
	}
	return nil
}

func (s *StreamSettings) check() error {
	switch {
	case s.TargetDuration < minTarget || s.TargetDuration > segmenter.MaxTargetDuration:
		return bad("target-duration", "%v is not between %v and %v", s.TargetDuration, minTarget, segmenter.MaxTargetDuration)
	case s.PartTarget != 0 && s.PartTarget < minPartTarget:
		return bad("part-target", "%v is less than %v (0 is ordinary HLS, without parts)", s.PartTarget, minPartTarget)
	case s.PartTarget > s.TargetDuration:
		return bad("part-target", "%v is longer than target_duration, %v", s.PartTarget, s.TargetDuration)
	case s.PartHoldBack != 0 && (s.PartHoldBack < 3*s.PartTarget || s.PartHoldBack > maxHoldBack):
		return bad("part-hold-back", "%v is not between three times part_target, %v, and %v (0 is the least)", s.PartHoldBack, 3*s.PartTarget, maxHoldBack)
	case s.TargetDuration%time.Second != 0:
		return bad("target-duration", "%v is not a whole number of seconds, which is all that a playlist can say", s.TargetDuration)
	case s.WindowSegments < 1 || s.WindowSegments > maxSegments:
		return bad("window-segments", "%d is not between 1 and %d", s.WindowSegments, maxSegments)
	case s.WindowMin < 0 || s.WindowMin > maxGrace:
		return bad("window-min", "%v is not between 0 and %v", s.WindowMin, maxGrace)
	case s.DVR < 0 || s.DVR > maxDVR:
		return bad("dvr", "%v is not between 0 and %v", s.DVR, maxDVR)
	case s.Record < 0 || s.Record > maxRecord:
		return bad("record", "%v is not between 0 and %v", s.Record, maxRecord)
	case s.WindowSegments < minSegments && s.leastWindow() < minSegments*s.longestTarget():
		return bad("window-segments", "%d is less than %d: write at least %[2]d, or a window_min of at least %v",
			s.WindowSegments, minSegments, minSegments*s.longestTarget())
	case len(s.Expect) > segmenter.MaxRenditions:
		return bad("expect-renditions", "%d are more than %d", len(s.Expect), segmenter.MaxRenditions)
	case s.LossGrace <= 0 || s.LossGrace > maxGrace:
		return bad("loss-grace", "%v is not between 0, exclusive, and %v", s.LossGrace, maxGrace)
	case s.UnpublishGrace <= 0 || s.UnpublishGrace > maxGrace:
		return bad("unpublish-grace", "%v is not between 0, exclusive, and %v", s.UnpublishGrace, maxGrace)
	}
	for i, r := range s.Ladder {
		if _, ok := transcode.Preset(r); !ok {
			return bad("ladder", "%q is no rung that can be made; the nearest is %q", r, nearest(r, transcode.PresetNames()))
		}
		if slices.Contains(s.Ladder[:i], r) {
			return bad("ladder", "%s is there twice", r)
		}
	}
	return s.checkDelivery()
}

// leastWindow is the least that a playlist lasts.
func (s *StreamSettings) leastWindow() time.Duration { return cmp.Or(s.WindowMin, 6*s.TargetDuration) }

// longestTarget is the longest target duration that a run may settle on.
func (s *StreamSettings) longestTarget() time.Duration {
	if segmenter.LongGOP(s.LongGOP) == segmenter.Stretch {
		return segmenter.MaxTargetDuration
	}
	return s.TargetDuration
}

// stream returns the settings of the stream of that name, "<app>/<name>": the first pattern that matches decides.
func (s *Settings) stream(name string) *StreamSettings {
	for i := range s.Streams {
		if ok, _ := path.Match(s.Streams[i].Pattern, name); ok {
			return &s.Streams[i].Settings
		}
	}
	return &s.StreamSettings
}

// everyStream returns all that stream may return.
func (s *Settings) everyStream() []*StreamSettings {
	all := []*StreamSettings{&s.StreamSettings}
	for i := range s.Streams {
		all = append(all, &s.Streams[i].Settings)
	}
	return all
}

// segmenterConfig says how the stream of that name is cut.
func (s *Settings) segmenterConfig(name string) segmenter.Config {
	c := s.stream(name)
	return segmenter.Config{
		TargetDuration: c.TargetDuration,
		PartTarget:     c.PartTarget,
		PartHoldBack:   c.PartHoldBack,
		WindowSegments: c.WindowSegments,
		WindowMin:      max(c.WindowMin, c.DVR),
		Event:          c.Event,
		Record:         c.Record,
		LongGOP:        segmenter.LongGOP(c.LongGOP),
		LossGrace:      c.LossGrace,
		FailStarved:    c.OnInputLoss == "error",
		KeepBackup:     c.BackupReturn == "never",
		UnpublishGrace: c.UnpublishGrace,
		Ladder:         c.Expect,
		Delivery:       c.delivery(),
	}
}

// log returns the logger that the settings describe.
func (s *Settings) log(w io.Writer) *slog.Logger {
	var level slog.Level
	level.UnmarshalText([]byte(s.LogLevel)) // the enum has been checked
	o := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "json" {
		// By itself the JSON handler writes durations as numbers, without a unit.
		o.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindDuration {
				a.Value = slog.StringValue(a.Value.Duration().String())
			}
			return a
		}
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// A field is one setting of a struct.
type field struct {
	name  string // of the flag
	tag   reflect.StructTag
	value reflect.Value
}

// secret says whether the setting's values are not to be printed.
func (f field) secret() bool { _, ok := f.tag.Lookup("secret"); return ok }

// fieldsOf returns the settings in the struct that p points to, by name.
func fieldsOf(p any) map[string]field {
	m := map[string]field{}
	for _, f := range fieldList(p) {
		m[f.name] = f
	}
	return m
}

// fieldList returns them in their order.
func fieldList(p any) []field {
	var list []field
	v := reflect.ValueOf(p).Elem()
	for i := range v.NumField() {
		t := v.Type().Field(i)
		if t.Anonymous {
			list = append(list, fieldList(v.Field(i).Addr().Interface())...)
		} else if name := t.Tag.Get("name"); name != "" {
			list = append(list, field{name: name, tag: t.Tag, value: v.Field(i)})
		}
	}
	return list
}

// key is a flag's name in the file.
func key(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// env is a flag's name in the environment.
func env(flag string) string { return envPrefix + strings.ToUpper(key(flag)) }

const envPrefix = "HEADWATER_"

// keys returns the names in the file of the settings in p.
func keys(p any) []string {
	var ks []string
	for _, f := range fieldList(p) {
		ks = append(ks, key(f.name))
	}
	slices.Sort(ks)
	return ks
}
