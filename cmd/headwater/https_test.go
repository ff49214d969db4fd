package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/quic-go/quic-go/http3"
)

// writePair writes a certificate of its own signing for 127.0.0.1 and its key into dir.
func writePair(dir string) (cert, key string, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "origin.test"},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		return "", "", err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return "", "", err
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return "", "", err
	}
	return cert, key, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600)
}

// trusting is what trusts the certificates in a file.
func trusting(cert string) (*tls.Config, error) {
	text, err := os.ReadFile(cert)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{RootCAs: x509.NewCertPool()}
	c.RootCAs.AppendCertsFromPEM(text)
	return c, nil
}

// startTLS is startHeadwater with HTTPS and HTTP/3; it returns a client for each protocol, and the base of its URLs.
func startTLS(t *testing.T, args ...string) (r *running, clients map[string]*http.Client, bases map[string]string) {
	t.Helper()
	cert, key, err := writePair(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r = startHeadwater(t, append(args, "--https-addr=127.0.0.1:0", "--tls-cert="+cert, "--tls-key="+key)...)
	config, err := trusting(cert)
	if err != nil {
		t.Fatal(err)
	}
	h2 := &http.Transport{TLSClientConfig: config, Protocols: new(http.Protocols), DisableCompression: true}
	h2.Protocols.SetHTTP2(true)
	h3 := &http3.Transport{TLSClientConfig: config.Clone(), DisableCompression: true}
	plain := &http.Transport{DisableCompression: true}
	t.Cleanup(func() { h2.CloseIdleConnections(); plain.CloseIdleConnections(); h3.Close() })
	return r,
		map[string]*http.Client{"HTTP/1.1": {Transport: plain}, "HTTP/2.0": {Transport: h2}, "HTTP/3.0": {Transport: h3}},
		map[string]string{"HTTP/1.1": "http://" + r.HTTP, "HTTP/2.0": "https://" + r.HTTPS, "HTTP/3.0": "https://" + r.HTTP3}
}

// An answer is what a client is given.
type answer struct {
	Status string
	Header http.Header
	Body   string
}

func ask(t testing.TB, c *http.Client, proto, method, url string, header http.Header) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s: %v", proto, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", proto, err)
	}
	if resp.Proto != proto {
		t.Errorf("%s: answered in %s", proto, resp.Proto)
	}
	return answer{resp.Status, resp.Header, string(b)}
}

// Over HTTP/2 and HTTP/3 everything is as it is over plain HTTP/1.1, but for Alt-Svc, which only HTTPS has and which is always
// the same; held requests are held, and at the end get the playlist that ends.
func TestTLS(t *testing.T) {
	r, clients, bases := startTLS(t, "demo")
	plain := clients["HTTP/1.1"]
	dir := "/live/demo/"
	mv := ask(t, plain, "HTTP/1.1", "GET", r.URL(dir+"index.m3u8"), nil)
	media := dir + regexp.MustCompile(`(?m)^[^#\n].*$`).FindString(mv.Body)
	pl := ask(t, plain, "HTTP/1.1", "GET", r.URL(media), nil)
	folder := media[:strings.LastIndexByte(media, '/')+1]
	part := regexp.MustCompile(`EXT-X-PART:.*URI="([^"]+)"`).FindStringSubmatch(pl.Body)
	initial := regexp.MustCompile(`EXT-X-MAP:.*URI="([^"]+)"`).FindStringSubmatch(pl.Body)
	if part == nil || initial == nil {
		t.Fatalf("playlist:\n%s", pl.Body)
	}
	etag := ask(t, plain, "HTTP/1.1", "GET", r.URL(folder+part[1]), nil).Header["Etag"]
	if len(etag) != 1 {
		t.Fatalf("ETag %q", etag)
	}

	_, port, _ := net.SplitHostPort(r.HTTP3)
	altSvc := []string{`h3=":` + port + `"; ma=86400`}
	for _, tt := range []struct {
		method, path string
		header       http.Header
		status       string
	}{
		{"GET", dir + "index.m3u8", nil, "200 OK"},
		{"GET", folder + part[1], nil, "200 OK"},
		{"HEAD", folder + part[1], nil, "200 OK"},
		{"GET", folder + part[1], http.Header{"Range": {"bytes=100-299"}}, "206 Partial Content"},
		{"HEAD", folder + part[1], http.Header{"Range": {"bytes=100-299"}}, ""},
		{"GET", folder + part[1], http.Header{"Range": {"bytes=99999999-"}}, "416 Requested Range Not Satisfiable"},
		{"GET", folder + part[1], http.Header{"If-None-Match": etag}, "304 Not Modified"},
		{"GET", folder + initial[1], nil, "200 OK"},
		{"GET", folder + "s1.m4s", nil, "404 Not Found"},
		{"GET", "/live/none/index.m3u8", nil, "404 Not Found"},
		{"POST", media, nil, "405 Method Not Allowed"},
		{"OPTIONS", media, nil, "204 No Content"},
		{"GET", dir, nil, "200 OK"},
	} {
		name := fmt.Sprint(tt.method, " ", tt.path, " ", tt.header)
		want := ask(t, plain, "HTTP/1.1", tt.method, r.URL(tt.path), tt.header)
		if tt.status != "" && want.Status != tt.status {
			t.Errorf("%s: %s, want %s", name, want.Status, tt.status)
		}
		if _, ok := want.Header["Alt-Svc"]; ok {
			t.Errorf("%s: plain HTTP announces HTTP/3", name)
		}
		for _, proto := range []string{"HTTP/2.0", "HTTP/3.0"} {
			got := ask(t, clients[proto], proto, tt.method, bases[proto]+tt.path, tt.header)
			if d := cmp.Diff(altSvc, got.Header["Alt-Svc"]); d != "" {
				t.Errorf("%s, %s: Alt-Svc:\n%s", name, proto, d)
			}
			for _, h := range []http.Header{want.Header, got.Header} {
				delete(h, "Alt-Svc")
				delete(h, "Date")
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s (-plain +%s):\n%s", name, proto, d)
			}
		}
	}

	// Blocking Playlist Reload (RFC 8216bis 6.2.5.2).
	held := make(chan string, 2)
	var next uint64
	for _, proto := range []string{"HTTP/2.0", "HTTP/3.0"} {
		next = lastMSN(ask(t, clients[proto], proto, "GET", bases[proto]+media, nil).Body) + 1
		got := ask(t, clients[proto], proto, "GET", fmt.Sprintf("%s%s?_HLS_msn=%d", bases[proto], media, next), nil)
		if lastMSN(got.Body) < next {
			t.Errorf("%s: not held until %d:\n%s", proto, next, got.Body)
		}
	}
	for _, proto := range []string{"HTTP/2.0", "HTTP/3.0"} {
		go func() {
			resp, err := clients[proto].Get(fmt.Sprintf("%s%s?_HLS_msn=%d", bases[proto], media, next+2))
			if err != nil {
				held <- err.Error()
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			held <- fmt.Sprint(string(b), err)
		}()
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		_, m := get(t, "http://"+r.Ops+"/metrics")
		if strings.Contains(m, "headwater_http_blocked_requests 2\n") {
			if !regexp.MustCompile(`(?m)^headwater_tls_certificate_expires_seconds 1\.\d+e\+09$`).MatchString(m) {
				t.Error("no metric of when the certificate expires")
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the requests are not held")
		}
	}
	began := time.Now()
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 6*time.Second {
		t.Errorf("stopping took %v, more than three target durations", d)
	}
	for range 2 {
		if body := <-held; !strings.Contains(body, "#EXT-X-ENDLIST") {
			t.Errorf("a held request got:\n%s", body)
		}
	}
	log := r.Log.String()
	if !strings.Contains(log, "https="+r.HTTPS) || !strings.Contains(log, "http3="+r.HTTP3) {
		t.Errorf("the bound addresses are not in the log:\n%s", log)
	}
	if strings.Contains(log, "level=WARN msg=\"connections cut off") {
		t.Errorf("connections were cut off:\n%s", log)
	}
}

// lastMSN is the Media Sequence Number of a playlist's last whole segment.
func lastMSN(playlist string) (msn uint64) {
	for line := range strings.Lines(playlist) {
		fmt.Sscanf(line, "#EXT-X-MEDIA-SEQUENCE:%d", &msn)
		if strings.HasPrefix(line, "#EXTINF") {
			msn++
		}
	}
	return msn - 1
}

// HTTP/3 can be left out, and its port can be another to the world.
func TestHTTP3Settings(t *testing.T) {
	for _, tt := range []struct {
		flag string
		want []string
		udp  bool
	}{
		{"--no-http3", nil, false},
		{"--http3-port=443", []string{`h3=":443"; ma=86400`}, true},
	} {
		r, clients, bases := startTLS(t, tt.flag)
		got := ask(t, clients["HTTP/2.0"], "HTTP/2.0", "GET", bases["HTTP/2.0"]+"/", nil)
		if d := cmp.Diff(tt.want, got.Header["Alt-Svc"]); d != "" {
			t.Errorf("%s: Alt-Svc:\n%s", tt.flag, d)
		}
		if (r.HTTP3 != "") != tt.udp {
			t.Errorf("%s: bound to %q", tt.flag, r.HTTP3)
		}
	}
}

func TestHTTPSSettings(t *testing.T) {
	dir := t.TempDir()
	cert, key, err := writePair(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args string
		want string
	}{
		{"", ""},
		{"--tls-cert=" + cert + " --tls-key=" + key, ""},
		{"--acme-domains=a.test --acme-dir=" + filepath.Join(dir, "new", "acme"), ""},
		{"--https-addr=:8443", "https_addr: HTTPS needs a certificate: set tls_cert and tls_key, or acme_domains"},
		{"--tls-cert=" + cert, "tls_key: tls_cert needs its key; set both"},
		{"--tls-key=" + key, "tls_cert: tls_key needs its certificate; set both"},
		{"--tls-cert=" + cert + " --tls-key=" + key + " --acme-domains=a.test", "acme_domains: tls_cert has a certificate already"},
		{"--tls-cert=" + file + " --tls-key=" + key, "tls_cert: " + file + ": "},
		{"--tls-cert=" + cert + " --tls-key=" + file, "tls_key: " + file + ": "},
		{"--tls-cert=" + cert + " --tls-key=" + file + ".missing", "tls_key: " + file + ".missing: no such file"},
		{"--acme-domains=a.test --acme-dir=" + filepath.Join(file, "acme"), "acme_dir: mkdir " + file + ": not a directory; choose a folder"},
		{"--acme-domains=a.test --acme-dir=" + dir + " --acme-ca-roots=" + file, "acme_ca_roots: " + file + ": there is no certificate"},
		{"--acme-domains=a.test --acme-dir=" + dir + " --acme-ca-roots=" + file + ".missing", "acme_ca_roots: open " + file + ".missing: no such file"},
		{"--https-addr=8443", "https_addr: \"8443\" is not an address"},
		{"--http3-port=70000", "http3_port: 70000 is not a port"},
		{"--acme-domains=*.a.test", "acme_domains: \"*.a.test\": a wildcard needs a challenge by DNS"},
		{"--acme-domains=https://a.test/", "acme_domains: \"https://a.test/\" is neither"},
		{"--acme-ca=http://ca.test/directory", "acme_ca: \"http://ca.test/directory\" is not the https:// URL"},
	} {
		l, err := load(strings.Fields(tt.args), io.Discard, io.Discard)
		var h *https
		if err == nil {
			h, err = newHTTPS(&l.Settings, slog.New(slog.DiscardHandler))
		}
		switch {
		case tt.want == "" && (err != nil || (h != nil) != (tt.args != "")):
			t.Errorf("%q: %v, %v", tt.args, h, err)
		case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%q: %v, want %s", tt.args, err, tt.want)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "new", "acme")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("ACME's folder: %v, %v", info, err)
	}
}

func TestACMEDir(t *testing.T) {
	for _, tt := range []struct{ set, systemd, xdg, home, want string }{
		{"/set", "/var/lib/headwater", "/state", "/home/u", "/set"},
		{"", "/var/lib/headwater:/var/lib/other", "/state", "/home/u", "/var/lib/headwater/acme"},
		{"", "", "/state", "/home/u", "/state/headwater/acme"},
		{"", "", "relative", "/home/u", "/home/u/.local/state/headwater/acme"}, // the specification ignores those
		{"", "", "", "/home/u", "/home/u/.local/state/headwater/acme"},
		{"", "", "", "", ""},
	} {
		t.Setenv("STATE_DIRECTORY", tt.systemd)
		t.Setenv("XDG_STATE_HOME", tt.xdg)
		t.Setenv("HOME", tt.home)
		if got, err := acmeDir(tt.set); got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%+v: %q, %v", tt, got, err)
		}
	}
}

// The CA's questions are answered on the plain port and nobody else's business; what looks like one but is none is as
// unknown as anything.
func TestACMEWiring(t *testing.T) {
	r := startHeadwater(t, "--https-addr=127.0.0.1:0", "--acme-domains=127.0.0.1", "--acme-dir="+t.TempDir(),
		"--acme-ca=https://127.0.0.1:9/directory") // nobody is there
	eventually := time.Now().Add(20 * time.Second)
	for !strings.Contains(r.Log.String(), "no TLS certificate from the CA") {
		if time.Now().After(eventually) {
			t.Fatal("that the CA cannot be reached is not logged")
		}
		time.Sleep(10 * time.Millisecond)
	}
	code, _ := get(t, r.URL("/.well-known/acme-challenge/token"))
	if code != 404 {
		t.Errorf("status %d", code)
	}
	// A handshake fails without a certificate, and for the CA's protocol too, as long as there is no challenge.
	for _, proto := range []string{"h2", "acme-tls/1"} {
		conn, err := tls.Dial("tcp", r.HTTPS, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{proto}})
		if err == nil {
			conn.Close()
			t.Errorf("%s: a certificate from nowhere", proto)
		}
	}
	if _, m := get(t, "http://"+r.Ops+"/metrics"); !strings.Contains(m, "headwater_tls_certificate_expires_seconds 0\n") {
		t.Error("no metric of the certificate")
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(r.Log.String(), "no TLS certificate from the CA"); n != 1 {
		t.Errorf("said %d times", n)
	}
}
