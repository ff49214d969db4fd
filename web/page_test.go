package web

import (
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
)

// pagesWithout are the pages as they are embedded when nothing was built in, pagesWith the same with an hls.js.
func pagesWithout(t *testing.T) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	err := fs.WalkDir(pageFiles, "page", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(name, "page/vendor/hls") {
			return err
		}
		data, err := fs.ReadFile(pageFiles, name)
		files[name] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func pagesWith(t *testing.T) fstest.MapFS {
	files := pagesWithout(t)
	files["page/"+hlsVendored] = &fstest.MapFile{Data: []byte("var Hls;")}
	files["page/vendor/hls.LICENSE.txt"] = &fstest.MapFile{Data: []byte("a licence")}
	return files
}

func getPage(h http.Handler, method, target string, header ...string) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// assetBase reads from the page where this build's assets are.
func assetBase(t *testing.T, h http.Handler) string {
	t.Helper()
	m := regexp.MustCompile(`href="(/-/page/[0-9a-f]+/)base\.css"`).FindStringSubmatch(bodyOf(t, getPage(h, "GET", "/")))
	if m == nil {
		t.Fatal("the page names no style sheet")
	}
	return m[1]
}

// Who leaves out the slash at the end gets to the page, of which the relative addresses would be wrong without it.
func TestPageRedirect(t *testing.T) {
	s, _ := newLive(t)
	s.Page = PageHandler(0, nil)
	base, _ := listen(t, s)
	for target, want := range map[string]string{
		"/live/demo":           "/live/demo/",
		"/live/demo?muted&t=1": "/live/demo/?muted&t=1",
		"/live/d%c3%a9mo":      "/live/d%c3%a9mo/",
		"/live/demo.m3u8":      "",
		"/live/demo.mp4":       "",
		"/api/demo":            "",
		"/-/demo":              "",
		"/live/demo/":          "",
	} {
		r := ask(t, "GET", base+target)
		if (r.StatusCode == 308) != (want != "") || r.header("Location") != want {
			t.Errorf("%s: %d to %q, want %q", target, r.StatusCode, r.header("Location"), want)
		}
		if want != "" && r.header("Cache-Control") != "public, max-age=10" {
			t.Errorf("%s: %v", target, r.Header)
		}
	}
}

func TestPageHandler(t *testing.T) {
	h := newPageHandler(pagesWith(t), 0, nil)
	base := assetBase(t, h)
	for _, c := range []struct {
		method, target string
		status         int
		contentType    string
		cacheControl   string
	}{
		{"GET", "/", 200, "text/html; charset=utf-8", pageCacheHTML},
		{"HEAD", "/", 200, "text/html; charset=utf-8", pageCacheHTML},
		{"GET", "/live/demo/", 200, "text/html; charset=utf-8", pageCacheHTML},
		{"GET", "/live/demo/?muted", 200, "text/html; charset=utf-8", pageCacheHTML},
		{"GET", base + "base.css", 200, "text/css; charset=utf-8", pageCacheAsset},
		{"GET", base + "player.js", 200, "text/javascript; charset=utf-8", pageCacheAsset},
		{"GET", base + "icon.svg", 200, "image/svg+xml", pageCacheAsset},
		{"GET", base + "vendor/hls.min.js", 200, "text/javascript; charset=utf-8", pageCacheAsset},
		{"GET", base + "vendor/hls.LICENSE.txt", 200, "text/plain; charset=utf-8", pageCacheAsset},

		{"GET", base + "none.js", 404, "text/plain; charset=utf-8", pageCacheNever},
		{"GET", base + "vendor/.gitkeep", 404, "text/plain; charset=utf-8", pageCacheNever},
		{"GET", base + "index.html", 404, "text/plain; charset=utf-8", pageCacheNever}, // its one address is "/"
		{"GET", PagePrefix + "0000000000000000/base.css", 404, "text/plain; charset=utf-8", pageCacheNever},
		{"GET", PagePrefix, 404, "text/plain; charset=utf-8", pageCacheNever},
		{"GET", "/-/page", 404, "text/plain; charset=utf-8", pageCacheMissing},
		{"GET", "/-/demo/", 404, "text/plain; charset=utf-8", pageCacheMissing},
		{"GET", "/live/demo", 308, "text/plain; charset=utf-8", pageCacheHTML},
		{"HEAD", "/live/demo", 308, "text/plain; charset=utf-8", pageCacheHTML},
		{"POST", "/live/demo", 405, "text/plain; charset=utf-8", pageCacheNever},
		{"GET", "/live/demo.m3u8", 404, "text/plain; charset=utf-8", pageCacheMissing},
		{"GET", "/live/s1.m4s", 404, "text/plain; charset=utf-8", pageCacheMissing},
		{"GET", "/live/i0.mp4", 404, "text/plain; charset=utf-8", pageCacheMissing},
		{"GET", "/api/nothing", 404, "text/plain; charset=utf-8", pageCacheMissing},
		{"GET", "/live", 404, "text/plain; charset=utf-8", pageCacheMissing},
		{"GET", "//demo", 404, "text/plain; charset=utf-8", pageCacheMissing},
		{"GET", "/live/demo/x", 404, "text/plain; charset=utf-8", pageCacheMissing},
		{"GET", "/live/", 404, "text/plain; charset=utf-8", pageCacheMissing},
		{"GET", "//demo/", 404, "text/plain; charset=utf-8", pageCacheMissing},
		{"GET", "/live//", 404, "text/plain; charset=utf-8", pageCacheMissing},
		{"GET", "/live/demo/x/", 404, "text/plain; charset=utf-8", pageCacheMissing},
		{"POST", "/", 405, "text/plain; charset=utf-8", pageCacheNever},
	} {
		t.Run(c.method+" "+c.target, func(t *testing.T) {
			r := getPage(h, c.method, c.target)
			if r.StatusCode != c.status {
				t.Errorf("status %d, want %d", r.StatusCode, c.status)
			}
			for key, want := range map[string]string{
				"Content-Type": c.contentType, "Cache-Control": c.cacheControl, "X-Content-Type-Options": "nosniff",
			} {
				if got := r.Header.Get(key); got != want {
					t.Errorf("%s: %q, want %q", key, got, want)
				}
			}
			if body := bodyOf(t, r); (body == "") != (c.method == "HEAD") {
				t.Errorf("%d bytes of body", len(body))
			}
		})
	}
}

func TestPageValidators(t *testing.T) {
	h := newPageHandler(pagesWith(t), 0, nil)
	base := assetBase(t, h)
	plain := getPage(h, "GET", base+"player.css")
	coded := getPage(h, "GET", base+"player.css", "Accept-Encoding", "br, gzip;q=0.8")
	if coded.Header.Get("Content-Encoding") != "gzip" || plain.Header.Get("Content-Encoding") != "" {
		t.Fatal("gzip when asked for, and only then")
	}
	if plain.Header.Get("ETag") == coded.Header.Get("ETag") { // RFC 9110 8.8.3
		t.Error("the codings share an ETag")
	}
	z, err := gzip.NewReader(coded.Body)
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if string(unzipped) != bodyOf(t, plain) {
		t.Error("the codings differ in what they say")
	}
	for _, r := range []*http.Response{plain, coded} {
		if r.Header.Get("Vary") != "Accept-Encoding" {
			t.Error("no Vary")
		}
	}

	etag := plain.Header.Get("ETag")
	for _, c := range []struct {
		ifNoneMatch string
		status      int
	}{{etag, 304}, {"W/" + etag, 304}, {`"other", ` + etag, 304}, {"*", 304}, {`"other"`, 200}, {coded.Header.Get("ETag"), 200}} {
		r := getPage(h, "GET", base+"player.css", "If-None-Match", c.ifNoneMatch)
		if r.StatusCode != c.status {
			t.Errorf("If-None-Match %s: status %d, want %d", c.ifNoneMatch, r.StatusCode, c.status)
		}
		if r.Header.Get("ETag") != etag || r.Header.Get("Cache-Control") != pageCacheAsset {
			t.Errorf("If-None-Match %s: ETag or Cache-Control is missing", c.ifNoneMatch) // RFC 9110 15.4.5
		}
		if body := bodyOf(t, r); (body == "") != (c.status == 304) {
			t.Errorf("If-None-Match %s: %d bytes of body", c.ifNoneMatch, len(body))
		}
	}
}

func TestTakesGzip(t *testing.T) {
	for _, c := range []struct {
		values []string
		want   bool
	}{
		{nil, false}, {[]string{""}, false}, {[]string{"gzip"}, true}, {[]string{"GZIP; q=1"}, true}, {[]string{"br", "gzip"}, true},
		{[]string{"gzip;q=0"}, false}, {[]string{"gzip;q=0, *"}, false}, {[]string{"*"}, true}, {[]string{"*;q=0"}, false},
		{[]string{"identity"}, false}, {[]string{"gzip;q=x"}, false},
	} {
		if got := takesGzip(c.values); got != c.want {
			t.Errorf("%q: %v", c.values, got)
		}
	}
}

// The policy lets in what the player needs and no inline script; the CDN only when hls.js is not built in.
func TestPageCSP(t *testing.T) {
	for _, c := range []struct {
		name  string
		files fs.FS
		cdn   bool
	}{{"built in", pagesWith(t), false}, {"not built in", pagesWithout(t), true}} {
		t.Run(c.name, func(t *testing.T) {
			h := newPageHandler(c.files, 0, nil)
			for _, target := range []string{"/", "/live/demo/"} {
				r := getPage(h, "GET", target)
				csp := r.Header.Get("Content-Security-Policy")
				for _, want := range []string{"default-src 'none'", "media-src 'self' blob:", "worker-src 'self' blob:", "connect-src 'self'", "style-src 'self'"} {
					if !strings.Contains(csp, want) {
						t.Errorf("%s: no %s in %s", target, want, csp)
					}
				}
				if strings.Contains(csp, "unsafe") || strings.Contains(csp, hlsCDN) != c.cdn {
					t.Errorf("%s: %s", target, csp)
				}
				body := bodyOf(t, r)
				if strings.Contains(body, "{{") {
					t.Errorf("%s: something was not filled in", target)
				}
				if regexp.MustCompile(`<script>|<style|\son[a-z]+=|\sstyle=`).MatchString(body) {
					t.Errorf("%s: inline script or style, which the policy forbids", target)
				}
			}
			elsewhere := newPageHandler(c.files, 0, func() []string { return []string{"https://a.test", "http://b.test:81"} })
			csp := getPage(elsewhere, "GET", "/live/demo/").Header.Get("Content-Security-Policy")
			for _, want := range []string{"connect-src 'self' https://a.test http://b.test:81; ", "media-src 'self' https://a.test http://b.test:81 blob:; "} {
				if !strings.Contains(csp, want) {
					t.Errorf("no %s in %s", want, csp)
				}
			}
			player := bodyOf(t, getPage(h, "GET", "/live/demo/"))
			src := regexp.MustCompile(`data-hls-src="([^"]*)" data-hls-integrity="([^"]*)"`).FindStringSubmatch(player)
			if src == nil {
				t.Fatal("the player page does not say where hls.js is")
			}
			want := [2]string{assetBase(t, h) + hlsVendored, ""}
			if c.cdn {
				want = [2]string{hlsCDN + "/npm/hls.js@" + hlsVersion + "/dist/hls.min.js", hlsIntegrity}
			}
			if src[1] != want[0] || src[2] != want[1] {
				t.Errorf("hls.js from %q, integrity %q", src[1], src[2])
			}
		})
	}
}

// The version and the hash of the public copy are those of the locked package.
func TestPageHLSPinned(t *testing.T) {
	var manifest struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	var lock struct {
		Packages map[string]struct {
			Version  string `json:"version"`
			Resolved string `json:"resolved"`
		} `json:"packages"`
	}
	for name, into := range map[string]any{"page/package.json": &manifest, "page/package-lock.json": &lock} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, into); err != nil {
			t.Fatal(name, err)
		}
	}
	if v := manifest.Dependencies["hls.js"]; v != hlsVersion {
		t.Errorf("package.json has hls.js %s, the page %s", v, hlsVersion)
	}
	if v := lock.Packages["node_modules/hls.js"].Version; v != hlsVersion {
		t.Errorf("package-lock.json has hls.js %s, the page %s", v, hlsVersion)
	}
	for name, p := range lock.Packages {
		if p.Resolved != "" {
			t.Errorf("package-lock.json says where %s was fetched: install with --omit-lockfile-registry-resolved", name)
		}
	}

	file, err := os.ReadFile(path.Join("page", hlsVendored))
	if errors.Is(err, fs.ErrNotExist) {
		if os.Getenv("CI") != "" {
			t.Fatal("hls.js is not built in: go generate ./web")
		}
		t.Skip("hls.js is not built in: go generate ./web")
	} else if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum384(file)
	if got := "sha384-" + base64.StdEncoding.EncodeToString(sum[:]); got != hlsIntegrity {
		t.Errorf("vendor/hls.min.js has %s, the page %s", got, hlsIntegrity)
	}
}

// Every module and picture that a page or a module names is there: a name misspelt breaks the page only in a browser.
func TestPageReferences(t *testing.T) {
	h := newPageHandler(pagesWith(t), 0, nil)
	base := assetBase(t, h)
	var pages strings.Builder
	pages.WriteString(bodyOf(t, getPage(h, "GET", "/")))
	pages.WriteString(bodyOf(t, getPage(h, "GET", "/live/demo/")))
	named := regexp.MustCompile(`(?:src|href)="(/-/[^"#]+)"`).FindAllStringSubmatch(pages.String(), -1)
	for target, a := range h.assets {
		if path.Ext(target) == ".js" {
			for _, m := range regexp.MustCompile(`(?m)^import .* from '\./([^']+)'`).FindAllStringSubmatch(string(a.body), -1) {
				named = append(named, []string{"", base + m[1]})
			}
		}
	}
	if len(named) < 10 {
		t.Fatalf("found only %d references", len(named))
	}
	for _, m := range named {
		if r := getPage(h, "GET", m[1]); r.StatusCode != 200 {
			t.Errorf("%s: status %d", m[1], r.StatusCode)
		}
	}
}

func TestPageRTMPPort(t *testing.T) {
	for port, want := range map[int]string{0: "1935", 1936: "1936"} {
		if body := bodyOf(t, getPage(PageHandler(port, nil), "GET", "/")); !strings.Contains(body, `data-rtmp-port="`+want+`"`) {
			t.Errorf("port %d: the page does not say %s", port, want)
		}
	}
}
