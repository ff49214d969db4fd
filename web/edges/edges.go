// Package edges writes configurations of cache servers and CDNs that fetch from an origin: for each, what this origin's
// playlists and media ask of it, with the figures that follow from the origin's settings.
package edges

import (
	"bytes"
	"embed"
	"fmt"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// The edges that there are configurations for.
const (
	Nginx         = "nginx"
	Varnish       = "varnish"
	TrafficServer = "trafficserver"
	CloudFront    = "cloudfront"
	Fastly        = "fastly"
)

// Names are all of them.
var Names = []string{Nginx, Varnish, TrafficServer, CloudFront, Fastly}

// margin is what a time-out at the edge exceeds the origin's own by, so that it is the origin that answers (503).
const margin = 5 * time.Second

// Limits of what can be asked for. A CDN that waits less than the origin holds is of no use, and says so itself.
const (
	maxFastlyWait     = 60 * time.Second  // between the machines of a cluster
	maxCloudFrontWait = 120 * time.Second // 60 s without a raised quota
)

// A Config is what a configuration is made for.
type Config struct {
	Origin    string        // where the edge fetches: host:port, or http://host[:port], https://host[:port]
	Listen    string        // where nginx, Varnish and Traffic Server serve: host:port or :port
	CacheDir  string        // where nginx and Traffic Server keep what they have
	CacheSize int           // of it, MiB
	Hold      time.Duration // how long, at most, the origin holds a request
	Streams   []Stream      // what the figures come from, for those who read them
}

// A Stream is what the settings say of streams of some names.
type Stream struct {
	Pattern string // of names; "" is all others
	Target  time.Duration
	Part    time.Duration // 0: no parts
	Stretch bool          // segments may be longer than Target
}

// A File is one file of a configuration.
type File struct {
	Name string // without a folder
	Text string
}

//go:embed templates
var templates embed.FS

var texts = template.Must(template.New("").Option("missingkey=error").ParseFS(templates, "templates/*.*", "templates/trafficserver/*"))

// files are the names of the templates of each edge, the most important one first.
var files = map[string][]string{
	Nginx:         {"nginx.conf"},
	Varnish:       {"varnish.vcl"},
	TrafficServer: {"records.config", "remap.config", "headwater.lua", "storage.config", "ip_allow.yaml", "plugin.config"},
	CloudFront:    {"cloudfront.json"},
	Fastly:        {"fastly.vcl"},
}

// values are what the templates use.
type values struct {
	Config
	Host, Port, Scheme string // of the origin
	ListenHost         string // "" is every address
	ListenPort         string
	Wait               int // seconds that the edge waits for the origin
	Retries            int // of Traffic Server: how often it looks within Wait
	RetryTime          int // milliseconds between two looks
}

// retryTime is how often Traffic Server looks whether what somebody else fetches has come. It adds to a part's latency, and
// thousands of waiting requests look as often.
const retryTime = 25 * time.Millisecond

// Render writes the configuration of the edge of that name. It fails for an edge that is not in Names, and for what that edge
// cannot do.
func Render(edge string, c Config) ([]File, error) {
	names, ok := files[edge]
	if !ok {
		return nil, fmt.Errorf("no edge %q: there are %s", edge, strings.Join(Names, ", "))
	}
	v := values{Config: c}
	var err error
	if v.Scheme, v.Host, v.Port, err = splitOrigin(c.Origin); err != nil {
		return nil, err
	}
	if v.ListenHost, v.ListenPort, err = net.SplitHostPort(c.Listen); err != nil || !isHost(v.ListenHost) || !isPort(v.ListenPort) {
		return nil, fmt.Errorf("%q is not an address: write host:port or :port", c.Listen)
	}
	if c.Hold <= 0 {
		return nil, fmt.Errorf("the origin holds requests for %v", c.Hold)
	}
	if c.CacheSize < 1 {
		return nil, fmt.Errorf("a cache of %d MiB holds nothing", c.CacheSize)
	}
	if !path.IsAbs(c.CacheDir) || strings.ContainsFunc(c.CacheDir, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`"';{}$#\`, r) }) {
		return nil, fmt.Errorf("%q is not a folder that every edge can be told: write an absolute path without spaces and quotes", c.CacheDir)
	}
	wait := c.Hold + margin
	switch {
	case edge == Varnish && v.Scheme == "https":
		return nil, fmt.Errorf("this Varnish has no TLS to its backends: let it fetch from http-addr")
	case edge == CloudFront && net.ParseIP(v.Host) != nil:
		return nil, fmt.Errorf("CloudFront knows origins by their names, and %s is an address", v.Host)
	case edge == Fastly && wait > maxFastlyWait:
		return nil, fmt.Errorf("the origin may hold a request for %v, and Fastly waits no longer than %v", c.Hold, maxFastlyWait)
	case edge == CloudFront && wait > maxCloudFrontWait:
		return nil, fmt.Errorf("the origin may hold a request for %v, and CloudFront waits no longer than %v", c.Hold, maxCloudFrontWait)
	}
	v.Wait = int((wait + time.Second - 1) / time.Second)
	v.RetryTime = int(retryTime / time.Millisecond)
	v.Retries = int(time.Duration(v.Wait) * time.Second / retryTime)
	var out []File
	for _, name := range names {
		var b bytes.Buffer
		if err := texts.ExecuteTemplate(&b, name, v); err != nil {
			return nil, err
		}
		out = append(out, File{Name: name, Text: b.String()})
	}
	return out, nil
}

// splitOrigin takes an origin's address apart.
func splitOrigin(s string) (scheme, host, port string, err error) {
	bad := fmt.Errorf("%q is not an origin: write HOST:PORT, http://HOST or https://HOST", s)
	scheme = "http"
	if strings.Contains(s, "://") {
		u, perr := url.Parse(s)
		if perr != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
			return "", "", "", bad
		}
		scheme, host, port = u.Scheme, u.Hostname(), u.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443"}[scheme]
		}
	} else if host, port, err = net.SplitHostPort(s); err != nil {
		return "", "", "", bad
	}
	if host == "" || !isHost(host) || !isPort(port) {
		return "", "", "", bad
	}
	return scheme, host, port, nil
}

// isHost says whether s is a name or an address, or empty: what every configuration can hold without quoting.
func isHost(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_:", r))
	})
}

// isPort says whether s is the number of a port.
func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// Bracketed is the origin's host as it is written before a port.
func (v values) Bracketed() string {
	if strings.Contains(v.Host, ":") {
		return "[" + v.Host + "]"
	}
	return v.Host
}

// ListenAt is the address to serve at, for varnishd.
func (v values) ListenAt() string { return net.JoinHostPort(v.ListenHost, v.ListenPort) }

// ListenOn are the addresses to serve at, for nginx, to which a port alone is IPv4's.
func (v values) ListenOn() []string {
	switch {
	case v.ListenHost == "":
		return []string{v.ListenPort, "[::]:" + v.ListenPort}
	case net.ParseIP(v.ListenHost).Equal(net.IPv6unspecified):
		return []string{v.ListenAt() + " ipv6only=off"} // IPv4 too, as elsewhere
	}
	return []string{v.ListenAt()}
}

// ServerPorts are the same for Traffic Server, which does not look up names and wants brackets, as a colon divides its options.
func (v values) ServerPorts() string {
	switch host := v.ListenHost; {
	case host == "", net.ParseIP(host).Equal(net.IPv6unspecified):
		return v.ListenPort + " " + v.ListenPort + ":ipv6"
	case host == "localhost":
		return v.ListenPort + ":ip-in=127.0.0.1"
	case strings.Contains(host, ":"):
		return v.ListenPort + ":ip-in=[" + host + "]"
	default:
		return v.ListenPort + ":ip-in=" + host
	}
}

// Comment describes, line by line and each with the prefix, what the figures were made from.
func (v values) Comment(prefix string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, prefix+format+"\n", args...) }
	line("Made by headwater edge-config from the settings of an origin; make it anew when these change:")
	for _, s := range v.Streams {
		line("  %s", s)
	}
	line("The origin holds a request for %v at most, three target durations (RFC 8216bis 6.2.5.2) or until a stream", v.Hold)
	line("has started; this edge waits %d s, so that it is the origin that answers.", v.Wait)
	return strings.TrimSuffix(b.String(), "\n")
}

// String tells what the settings are, in one line.
func (s Stream) String() string {
	name, parts, stretch := s.Pattern, "no parts", ""
	if name == "" {
		name = "streams"
	}
	if s.Part > 0 {
		parts = fmt.Sprintf("parts of %v", s.Part)
	}
	if s.Stretch {
		stretch = ", longer where keyframes are further apart"
	}
	// What is in quotes in the settings' file may hold anything.
	name = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, name)
	return fmt.Sprintf("%s: target duration %v%s, %s", name, s.Target, stretch, parts)
}

// A Behavior is what CloudFront does with paths of one kind.
type Behavior struct{ Pattern, Policy string }

// Behaviors are those beside CloudFront's default. Its patterns' * matches slashes, too.
func (v values) Behaviors() []Behavior {
	return []Behavior{{"*.m3u8", "PlaylistPolicy"}, {"*.m4s", "MediaPolicy"}, {"*.mp4", "MediaPolicy"}, {"*.ts", "MediaPolicy"}}
}

// Errors are the statuses that CloudFront would keep for a time of its own.
func (v values) Errors() []int {
	return []int{400, 403, 404, 405, 414, 416, 500, 501, 502, 503, 504}
}

// RAM is how much of Traffic Server's cache is in memory, in bytes: live streams are read again and again while they are new.
func (v values) RAM() int { return min(v.CacheSize/2+1, 1024) << 20 }
