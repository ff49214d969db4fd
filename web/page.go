package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
)

// The build step: it installs hls.js by page/package-lock.json and copies the one file that is served, with its licence,
// to page/vendor, which is not committed. Without it everything compiles and the player page asks a public CDN instead.
//
//go:generate npm ci --prefix page --ignore-scripts --no-audit --no-fund
//go:generate node page/vendor.mjs

//go:embed page/*.html page/*.css page/*.js page/*.svg all:page/vendor
var pageFiles embed.FS

// PagePrefix is where the assets of the pages lie, each under the hash of them all: a path that no stream can have as
// long as "-" is not an application.
const PagePrefix = "/-/page/"

// The hls.js that the player page takes from a public CDN when none was built in. The version is that of
// page/package.json; the hash is that of dist/hls.min.js in that package (Subresource Integrity).
const (
	hlsVersion   = "1.7.4"
	hlsIntegrity = "sha384-p9vgU/7IYJWd3I4STrtqxqR/2cAQlhIX7D/HrTnIMEjjcUox165b7se7sxmm3zDg"
	hlsVendored  = "vendor/hls.min.js"
	hlsCDN       = "https://cdn.jsdelivr.net"
)

// Lifetimes. An asset's URL changes with its bytes; the HTML names the assets, so it must not outlive an upgrade for long.
const (
	pageCacheHTML    = "public, max-age=10"
	pageCacheAsset   = "public, max-age=31536000, immutable"
	pageCacheMissing = "public, max-age=1"
	pageCacheNever   = "private, no-store"
)

// pageTypes are the files that are served, by extension; whatever else lies among them (placeholders) is not.
var pageTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",
}

// A pageAsset is one file as it is served. It never changes.
type pageAsset struct {
	body         []byte
	gzipped      func() []byte // made when first asked for
	contentType  string
	cacheControl string
	etag         string // without quotes, of the plain body
}

func newPageAsset(name string, body []byte, cacheControl string) *pageAsset {
	sum := sha256.Sum256(body)
	return &pageAsset{
		body:         body,
		gzipped:      sync.OnceValue(func() []byte { return gzipPage(body) }),
		contentType:  pageTypes[path.Ext(name)],
		cacheControl: cacheControl,
		etag:         hex.EncodeToString(sum[:12]),
	}
}

func gzipPage(body []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	w.Write(body)                                         // a bytes.Buffer does not fail
	w.Close()
	return b.Bytes()
}

type pageHandler struct {
	scripts       string          // script-src
	hosts         func() []string // nil: none
	index, player *pageAsset
	assets        map[string]*pageAsset // by URL path
}

// PageHandler serves the pages: the list of live streams at "/", the player of each at "/<app>/<name>/", for any name,
// because the page waits for streams that are not there yet (without the slash at its end, a redirect to it), and their assets under PagePrefix. What it does not know is
// 404. rtmpPort is where encoders publish, for the instructions on the page; 0 means RTMP's own, 1935. hosts are the origins
// ("https://cdn.example.com") that playlists lead to beside this one now (nil: none): the player may fetch from them.
func PageHandler(rtmpPort int, hosts func() []string) http.Handler {
	return newPageHandler(pageFiles, rtmpPort, hosts)
}

func newPageHandler(embedded fs.FS, rtmpPort int, hosts func() []string) *pageHandler {
	if rtmpPort == 0 {
		rtmpPort = 1935
	}
	files := map[string][]byte{}
	all := sha256.New()
	err := fs.WalkDir(embedded, "page", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || pageTypes[path.Ext(name)] == "" {
			return err
		}
		body, err := fs.ReadFile(embedded, name)
		if err != nil {
			return err
		}
		name = strings.TrimPrefix(name, "page/")
		files[name] = body
		sum := sha256.Sum256(body)
		all.Write([]byte(name + "\x00"))
		all.Write(sum[:])
		return nil
	})
	if err != nil {
		panic("web: embedded pages: " + err.Error()) // only a broken build can do this
	}

	base := PagePrefix + hex.EncodeToString(all.Sum(nil)[:8]) + "/"
	scripts, src, integrity := "'self'", base+hlsVendored, ""
	if files[hlsVendored] == nil {
		scripts, src, integrity = "'self' "+hlsCDN, hlsCDN+"/npm/hls.js@"+hlsVersion+"/dist/hls.min.js", hlsIntegrity
	}
	fill := strings.NewReplacer(
		"{{base}}", base,
		"{{hls-src}}", src,
		"{{hls-integrity}}", integrity,
		"{{rtmp-port}}", strconv.Itoa(rtmpPort),
	)
	h := &pageHandler{
		scripts: scripts, hosts: hosts,
		assets: make(map[string]*pageAsset, len(files)),
	}
	for name, body := range files {
		switch {
		case name == "index.html":
			h.index = newPageAsset(name, []byte(fill.Replace(string(body))), pageCacheHTML)
		case name == "player.html":
			h.player = newPageAsset(name, []byte(fill.Replace(string(body))), pageCacheHTML)
		default:
			h.assets[base+name] = newPageAsset(name, body, pageCacheAsset)
		}
	}
	return h
}

func (h *pageHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		pageReply(w, r, http.StatusMethodNotAllowed, pageCacheNever)
		return
	}
	switch p := r.URL.Path; {
	case p == "/":
		h.servePage(w, r, h.index)
	case strings.HasPrefix(p, PagePrefix):
		// A file of another build is not there, rather than these bytes under its name.
		a := h.assets[p]
		if a == nil {
			pageReply(w, r, http.StatusNotFound, pageCacheNever)
			return
		}
		a.serve(w, r, a.etag)
	case isPlayerPath(p):
		h.servePage(w, r, h.player)
	case isPlayerPath(p+"/") && !strings.HasPrefix(p, apiPrefix) && !isMedia(r, nil):
		to := url.URL{Path: p + "/", RawQuery: r.URL.RawQuery}
		if r.URL.RawPath != "" {
			to.RawPath = r.URL.RawPath + "/"
		}
		w.Header().Set("Location", to.String())
		pageReply(w, r, http.StatusPermanentRedirect, pageCacheHTML)
	default:
		pageReply(w, r, http.StatusNotFound, pageCacheMissing)
	}
}

// isPlayerPath says whether p is "/<app>/<name>/".
func isPlayerPath(p string) bool {
	app, rest, ok := strings.Cut(strings.TrimPrefix(p, "/"), "/")
	if !ok || app == "" || app == "-" {
		return false
	}
	name, rest, ok := strings.Cut(rest, "/")
	return ok && name != "" && rest == ""
}

// csp is the Content-Security-Policy. hls.js feeds the video element from a blob: URL and runs its transmuxer in a worker made of one.
// Who may frame the player is left open: it is meant to be embedded.
func (h *pageHandler) csp() string {
	elsewhere := ""
	if h.hosts != nil {
		for _, host := range h.hosts() {
			elsewhere += " " + host
		}
	}
	return "default-src 'none'; script-src " + h.scripts + "; style-src 'self'; img-src 'self' data:; connect-src 'self'" + elsewhere + "; " +
		"media-src 'self'" + elsewhere + " blob:; worker-src 'self' blob:; base-uri 'none'; form-action 'none'"
}

func (h *pageHandler) servePage(w http.ResponseWriter, r *http.Request, page *pageAsset) {
	csp := h.csp()
	w.Header().Set("Content-Security-Policy", csp)
	w.Header().Set("Referrer-Policy", "no-referrer")
	page.serve(w, r, bodyTag([]byte(page.etag+csp))) // a cache that keeps the page is to keep no other policy with it
}

func (a *pageAsset) serve(w http.ResponseWriter, r *http.Request, tag string) {
	header := w.Header()
	body, etag := a.body, `"`+tag+`"`
	header.Set("Content-Type", a.contentType)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", a.cacheControl)
	header.Set("Vary", "Accept-Encoding")
	if takesGzip(r.Header.Values("Accept-Encoding")) {
		body, etag = a.gzipped(), `"`+tag+`-gzip"`
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("ETag", etag)
	if listsTag(r.Header.Values("If-None-Match"), etag, true) {
		header.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		w.Write(body) // the reader went away: nothing to be done about it
	}
}

// pageReply says the status in words.
func pageReply(w http.ResponseWriter, r *http.Request, status int, cacheControl string) {
	w.Header().Set("Cache-Control", cacheControl)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write([]byte(http.StatusText(status) + "\n"))
	}
}
