package edges

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func config() Config {
	return Config{
		Origin: "origin.internal:8080", Listen: ":80", CacheDir: "/var/cache/headwater", CacheSize: 512, Hold: 30 * time.Second,
		Streams: []Stream{{Target: 2 * time.Second, Part: 334 * time.Millisecond, Stretch: true}, {Pattern: "live/radio-*", Target: 6 * time.Second}},
	}
}

// render returns the files by name, and all of them as one text under "".
func render(t *testing.T, edge string, c Config) map[string]string {
	t.Helper()
	files, err := Render(edge, c)
	if err != nil {
		t.Fatalf("%s: %v", edge, err)
	}
	all := map[string]string{}
	for _, f := range files {
		all[f.Name] = f.Text
		all[""] += f.Text
	}
	return all
}

// Comments are for those who read; what the edge is told is the rest.
var comment = regexp.MustCompile(`(?m)(^|[ \t])(#|--)( .*)?$`)

func code(text string) string { return comment.ReplaceAllString(text, "") }

// Each configuration waits for longer than the origin holds, and says from what it was made.
func TestEveryEdge(t *testing.T) {
	waits := map[string][]string{
		Nginx:         {"proxy_read_timeout %ds;", "proxy_cache_lock_timeout %ds;", "proxy_cache_lock_age %ds;"},
		Varnish:       {".first_byte_timeout = %ds;"},
		TrafficServer: {"transaction_no_activity_timeout_out INT %d\n", "transaction_no_activity_timeout_in INT %d\n", "connect_attempts_timeout INT %d\n"},
		CloudFront:    {`"OriginReadTimeout": %d,`},
		Fastly:        {".first_byte_timeout = %ds;"},
	}
	for _, edge := range Names {
		for _, hold := range []time.Duration{30 * time.Second, 6 * time.Second, 6500 * time.Millisecond} {
			c := config()
			c.Hold = hold
			text := render(t, edge, c)[""]
			for _, w := range waits[edge] {
				seconds := int((hold + margin + time.Second - 1) / time.Second)
				if want := fmt.Sprintf(w, seconds); !strings.Contains(code(text), want) {
					t.Errorf("%s, hold %v: no %q", edge, hold, want)
				}
			}
		}
		text := render(t, edge, config())[""]
		for _, want := range []string{"origin.internal", "8080", "target duration 2s, longer where keyframes are further apart, parts of 334ms", "live/radio-*: target duration 6s, no parts",
			"_HLS_msn", "_HLS_part", "_HLS_skip", "start", "end", "RFC 8216bis 6.2.5.2"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q", edge, want)
			}
		}
		if strings.Contains(text, "{{") || strings.Contains(text, "no value") || strings.Contains(text, "%!") {
			t.Errorf("%s:\n%s", edge, text)
		}
		if edge != TrafficServer && strings.Count(text, "{") != strings.Count(text, "}") {
			t.Errorf("%s: braces do not match", edge)
		}
		if again := render(t, edge, config())[""]; again != text {
			t.Errorf("%s: made twice, it differs", edge)
		}
	}
}

// What each edge is told beside that, as a table: the values are its own ways of saying the same.
func TestWhatEdgesAreTold(t *testing.T) {
	for edge, wants := range map[string][]string{
		Nginx: {
			"proxy_http_version 1.1;", `proxy_set_header Connection "";`, "keepalive 256;", "keepalive_timeout 60s;", // keep-alive, for less than the origin's two minutes
			"proxy_cache_lock on;", "proxy_cache_use_stale off;", "proxy_cache_background_update off;",
			"proxy_cache_key $hw_path$hw_query|$hw_coding$hw_second;", "proxy_pass_header Date;", "server origin.internal:8080 max_fails=0;", "listen 80 ", "listen [::]:80 ",
			"max_size=512m", "/var/cache/headwater/cache",
			// While one request renews a multivariant playlist others take what there is, however old: what has not been asked for is gone.
			"proxy_cache_use_stale updating;", "proxy_cache headwater_index;", "keys_zone=headwater_index:4m max_size=256m inactive=60s",
		},
		Varnish: {
			`.host = "origin.internal";`, `.port = "8080";`, "set req.grace = 0s;", "hash_data(req.url);", "beresp.uncacheable = true;", "return (restart);",
		},
		TrafficServer: {
			"cache.open_write_fail_action INT 5\n", "cache.enable_read_while_writer INT 1\n", "cache.required_headers INT 2\n", "negative_caching_enabled INT 0\n",
			"cache.max_stale_age INT 0\n", "normalize_ae INT 2\n", "keep_alive_no_activity_timeout_out INT 60\n", "http.server_ports STRING 80 80:ipv6\n",
			"map / http://origin.internal:8080/ @plugin=tslua.so", "/var/cache/headwater 512M",
		},
		Fastly: {
			`.host = "origin.internal";`, `.port = "8080";`, "set req.hash += req.url;", "set beresp.stale_while_revalidate = 0s;", "set beresp.cacheable = false;", "querystring.sort(req.url)",
			"#FASTLY recv", "#FASTLY hash", "#FASTLY hit", "#FASTLY miss", "#FASTLY pass", "#FASTLY fetch", "#FASTLY error", "#FASTLY deliver", "#FASTLY log",
		},
	} {
		text := render(t, edge, config())[""]
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q", edge, want)
			}
		}
	}
	// nginx forgets the server's headers in a location that sets one of its own.
	_, locations, _ := strings.Cut(render(t, Nginx, config())[""], "location ")
	if strings.Contains(locations, "proxy_set_header") {
		t.Error("nginx: a location sets a header")
	}
	if strings.Contains(code(render(t, Nginx, config())[""]), "proxy_cache_valid") {
		t.Error("nginx: Cache-Control is not the only word")
	}
	// Retries of Traffic Server's cover the wait.
	if v := (values{}); v.RAM() < 1<<20 {
		t.Error("no memory")
	}
	text := render(t, TrafficServer, config())["records.config"]
	var every, times int
	for line := range strings.Lines(text) {
		fmt.Sscanf(line, "CONFIG proxy.config.http.cache.open_read_retry_time INT %d", &every)
		fmt.Sscanf(line, "CONFIG proxy.config.http.cache.max_open_read_retries INT %d", &times)
	}
	if d := time.Duration(every*times) * time.Millisecond; d < 35*time.Second {
		t.Errorf("Traffic Server looks for what is being fetched for %v", d)
	}
}

// Where they listen: on every address, of one family, or on one.
func TestListen(t *testing.T) {
	for listen, wants := range map[string][2]string{
		":80":            {"listen 80 backlog=4096;\n        listen [::]:80 backlog=4096;", "STRING 80 80:ipv6\n"},
		"[::]:80":        {"listen [::]:80 ipv6only=off backlog=4096;", "STRING 80 80:ipv6\n"},
		"0.0.0.0:80":     {"listen 0.0.0.0:80 backlog=4096;", "STRING 80:ip-in=0.0.0.0\n"},
		"[::1]:80":       {"listen [::1]:80 backlog=4096;", "STRING 80:ip-in=[::1]\n"},
		"localhost:8000": {"listen localhost:8000 backlog=4096;", "STRING 8000:ip-in=127.0.0.1\n"},
	} {
		c := config()
		c.Listen = listen
		for i, edge := range []string{Nginx, TrafficServer} {
			if text := render(t, edge, c)[""]; !strings.Contains(text, wants[i]) || strings.Count(text, " backlog=") > strings.Count(wants[i], " backlog=") {
				t.Errorf("%s, %s: no %q", listen, edge, wants[i])
			}
		}
	}
}

// No player waits for another's steering manifest, which cannot be kept. CloudFront does that by itself, for private and no-store with a
// Minimum TTL of 0.
func TestSteeringIsNotCollapsed(t *testing.T) {
	for edge, want := range map[string]string{
		Nginx:         "location ~ ^/[^/]+/[^/]+/steering\\.json$ {\n            proxy_cache off;\n",
		Varnish:       `if (req.url ~ "^/[^/]+/[^/]+/steering\.json(\?|$)") {` + "\n        return (pass);",
		TrafficServer: "if path:match('^/[^/]+/[^/]+/steering%.json$') then\n        ts.http.config_int_set(TS_LUA_CONFIG_HTTP_CACHE_HTTP, 0)",
		Fastly:        `if (req.url.path ~ "^/[^/]+/[^/]+/steering\.json$") {` + "\n        return (pass);",
	} {
		if !strings.Contains(render(t, edge, config())[""], want) {
			t.Errorf("%s: no %q", edge, want)
		}
	}
}

// Fastly has no hit-for-pass of what is not there yet: that would last for two minutes.
func TestFastlyDoesNotPass(t *testing.T) {
	text := render(t, Fastly, config())[""]
	_, fetch, _ := strings.Cut(text, "sub vcl_fetch {")
	fetch, _, _ = strings.Cut(fetch, "\n}\n")
	if strings.Contains(code(fetch), "return (pass)") || strings.Contains(code(fetch), "return(pass)") {
		t.Errorf("vcl_fetch passes:\n%s", fetch)
	}
}

func TestCloudFront(t *testing.T) {
	type policy struct {
		MinTTL, DefaultTTL, MaxTTL               int
		ParametersInCacheKeyAndForwardedToOrigin struct {
			EnableAcceptEncodingGzip, EnableAcceptEncodingBrotli bool
			CookiesConfig                                        struct{ CookieBehavior string }
			HeadersConfig                                        struct{ HeaderBehavior string }
			QueryStringsConfig                                   struct {
				QueryStringBehavior string
				QueryStrings        []string
			}
		}
	}
	type behavior struct {
		PathPattern, TargetOriginId string
		Compress                    bool
		CachePolicyId               struct{ Ref string }
		OriginRequestPolicyId       any
	}
	var doc struct {
		AWSTemplateFormatVersion, Description string
		Resources                             map[string]struct {
			Type       string
			Properties struct {
				CachePolicyConfig  policy
				DistributionConfig struct {
					Origins []struct {
						Id, DomainName     string
						CustomOriginConfig struct {
							OriginProtocolPolicy                                           string
							HTTPPort, HTTPSPort, OriginReadTimeout, OriginKeepaliveTimeout int
						}
					}
					DefaultCacheBehavior behavior
					CacheBehaviors       []behavior
					CustomErrorResponses []struct{ ErrorCode, ErrorCachingMinTTL int }
				}
			}
		}
	}
	c := config()
	c.Origin = "https://origin.example.com:8443"
	text := render(t, CloudFront, c)["cloudfront.json"]
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if len(doc.Description) > 1024 || doc.AWSTemplateFormatVersion != "2010-09-09" {
		t.Errorf("description of %d bytes, version %q", len(doc.Description), doc.AWSTemplateFormatVersion)
	}
	// The minimum TTL prevails over no-store, and so does that of errors.
	for name, playlists := range map[string]bool{"PlaylistPolicy": true, "MediaPolicy": false} {
		p := doc.Resources[name].Properties.CachePolicyConfig
		k := p.ParametersInCacheKeyAndForwardedToOrigin
		if p.MinTTL != 0 || p.DefaultTTL != 0 || p.MaxTTL < 3600 {
			t.Errorf("%s: TTL %d, %d, %d", name, p.MinTTL, p.DefaultTTL, p.MaxTTL)
		}
		if k.CookiesConfig.CookieBehavior != "none" || k.HeadersConfig.HeaderBehavior != "none" || k.EnableAcceptEncodingGzip != playlists || k.EnableAcceptEncodingBrotli != playlists {
			t.Errorf("%s: %+v", name, k)
		}
		q := k.QueryStringsConfig
		if playlists && (q.QueryStringBehavior != "whitelist" || !slices.Equal(q.QueryStrings, []string{"_HLS_msn", "_HLS_part", "_HLS_skip", "start", "end"})) ||
			!playlists && (q.QueryStringBehavior != "none" || len(q.QueryStrings) > 0) {
			t.Errorf("%s: query %+v", name, q)
		}
	}
	// A steering manifest's query says which part of the viewers it is for (RFC 8216bis 7.2, RELOAD-URI).
	rest := doc.Resources[doc.Resources["Distribution"].Properties.DistributionConfig.DefaultCacheBehavior.CachePolicyId.Ref].Properties.CachePolicyConfig
	if q := rest.ParametersInCacheKeyAndForwardedToOrigin.QueryStringsConfig; q.QueryStringBehavior != "all" || rest.MinTTL != 0 || rest.DefaultTTL != 0 {
		t.Errorf("what is neither playlist nor media: %+v", rest)
	}
	if doc.Resources["MediaPolicy"].Properties.CachePolicyConfig.MaxTTL != 31536000 {
		t.Error("media is not kept for a year")
	}
	d := doc.Resources["Distribution"].Properties.DistributionConfig
	o := d.Origins[0]
	if o.DomainName != "origin.example.com" || o.CustomOriginConfig.HTTPSPort != 8443 || o.CustomOriginConfig.OriginProtocolPolicy != "https-only" ||
		o.CustomOriginConfig.OriginReadTimeout != 35 || o.CustomOriginConfig.OriginKeepaliveTimeout >= 120 {
		t.Errorf("origin %+v", o)
	}
	for pattern, policy := range map[string]string{"*.m3u8": "PlaylistPolicy", "*.m4s": "MediaPolicy", "*.mp4": "MediaPolicy", "*.ts": "MediaPolicy"} {
		i := slices.IndexFunc(d.CacheBehaviors, func(b behavior) bool { return b.PathPattern == pattern })
		if i < 0 || d.CacheBehaviors[i].CachePolicyId.Ref != policy || d.CacheBehaviors[i].TargetOriginId != o.Id {
			t.Errorf("%s: %+v", pattern, d.CacheBehaviors)
		}
	}
	for _, b := range append(d.CacheBehaviors, d.DefaultCacheBehavior) {
		if b.Compress || b.OriginRequestPolicyId != nil {
			t.Errorf("behaviour %+v", b)
		}
	}
	for _, status := range []int{400, 403, 404, 405, 414, 416, 500, 501, 502, 503, 504} {
		if !slices.Contains(d.CustomErrorResponses, struct{ ErrorCode, ErrorCachingMinTTL int }{status, 0}) {
			t.Errorf("status %d is kept for CloudFront's own time", status)
		}
	}
}

func TestOrigins(t *testing.T) {
	for _, tt := range []struct {
		origin, scheme, host, port string // port "" is an error
	}{
		{"10.0.0.5:8080", "http", "10.0.0.5", "8080"},
		{"[2001:db8::1]:8080", "http", "2001:db8::1", "8080"},
		{"origin.example.com:80", "http", "origin.example.com", "80"},
		{"http://origin.example.com", "http", "origin.example.com", "80"},
		{"https://origin.example.com/", "https", "origin.example.com", "443"},
		{"https://origin.example.com:8443", "https", "origin.example.com", "8443"},
		{"origin.example.com", "", "", ""},
		{":8080", "", "", ""},
		{"host:0", "", "", ""},
		{"host:http", "", "", ""},
		{"host:70000", "", "", ""},
		{"https://user:secret@host", "", "", ""},
		{"https://host/path", "", "", ""},
		{"https://host?x", "", "", ""},
		{"ftp://host", "", "", ""},
		{`a"; evil:80`, "", "", ""},
		{"a\nb:80", "", "", ""},
		{"a}{b:80", "", "", ""},
	} {
		scheme, host, port, err := splitOrigin(tt.origin)
		if scheme != tt.scheme || host != tt.host || port != tt.port || (err != nil) != (tt.port == "") {
			t.Errorf("%q: %q %q %q %v", tt.origin, scheme, host, port, err)
		}
	}
}

func TestMistakes(t *testing.T) {
	for name, tt := range map[string]struct {
		edge   string
		change func(*Config)
	}{
		"no such edge":            {"squid", func(*Config) {}},
		"no origin":               {Nginx, func(c *Config) { c.Origin = "" }},
		"no address":              {Nginx, func(c *Config) { c.Listen = "80" }},
		"an address that is none": {Varnish, func(c *Config) { c.Listen = "a;b:80" }},
		"no port":                 {Nginx, func(c *Config) { c.Listen = ":http" }},
		"a folder with a quote":   {Nginx, func(c *Config) { c.CacheDir = `/a"b` }},
		"a folder with a brace":   {TrafficServer, func(c *Config) { c.CacheDir = "/a;b" }},
		"a relative folder":       {Nginx, func(c *Config) { c.CacheDir = "cache" }},
		"no cache":                {Varnish, func(c *Config) { c.CacheSize = 0 }},
		"no hold":                 {Varnish, func(c *Config) { c.Hold = 0 }},
		"TLS of Varnish's":        {Varnish, func(c *Config) { c.Origin = "https://origin.example.com" }},
		"longer than Fastly":      {Fastly, func(c *Config) { c.Hold = time.Minute }},
		"CloudFront by address":   {CloudFront, func(c *Config) { c.Origin = "https://[2001:db8::1]" }},
		"longer than CloudFront":  {CloudFront, func(c *Config) { c.Hold = 2 * time.Minute }},
	} {
		c := config()
		tt.change(&c)
		if files, err := Render(tt.edge, c); err == nil || len(files) > 0 {
			t.Errorf("%s: %d files, %v", name, len(files), err)
		}
	}
}

// By TLS the origin's Alt-Svc, which is about its own port, goes no further, and its certificate is checked.
func TestTLSToTheOrigin(t *testing.T) {
	c := config()
	c.Origin = "https://origin.example.com"
	for edge, wants := range map[string][]string{
		Nginx:         {"proxy_hide_header Alt-Svc;", "proxy_pass https://headwater$hw_path;", "proxy_ssl_name origin.example.com;", "proxy_ssl_verify on;", "proxy_ssl_trusted_certificate "},
		TrafficServer: {"['Alt-Svc'] = nil", "https://origin.example.com:443/", "verify.server.policy STRING ENFORCED\n", "CA.cert.filename STRING ca-certificates.crt\n"},
		Fastly:        {"unset beresp.http.Alt-Svc;", `.ssl_cert_hostname = "origin.example.com";`},
	} {
		text := render(t, edge, c)[""]
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q", edge, want)
			}
		}
		if strings.Contains(render(t, edge, config())[""], "verify") {
			t.Errorf("%s: there is something to verify without TLS", edge)
		}
	}
}

// A pattern in the settings' file may hold anything; none of it leaves the comment that it is in.
func TestPatternsStayInComments(t *testing.T) {
	c := config()
	c.Streams = append(c.Streams, Stream{Pattern: "a\"\n}evil{\\", Target: time.Second})
	for _, edge := range Names {
		for name, text := range render(t, edge, c) {
			for line := range strings.Lines(text) {
				if strings.Contains(line, "evil") && !strings.HasPrefix(line, "# ") && edge != CloudFront {
					t.Errorf("%s, %s: %s", edge, name, line)
				}
			}
			if edge == CloudFront && !json.Valid([]byte(text)) {
				t.Errorf("not JSON:\n%s", text)
			}
		}
	}
}
