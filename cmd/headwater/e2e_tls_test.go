//go:build e2e

package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/quic-go/quic-go/http3"
)

// curl gets the same over HTTP/2 with TLS as over plain HTTP/2 and HTTP/1.1.
func TestE2ECurlTLS(t *testing.T) {
	t.Parallel()
	cert, key, err := writePair(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := startHeadwater(t, "--https-addr=127.0.0.1:0", "--tls-cert="+cert, "--tls-key="+key)
	bodies := map[string]bool{}
	for _, tt := range []struct{ args, version string }{
		{"--http2 https://" + r.HTTPS + "/", "2"},
		{"--http1.1 https://" + r.HTTPS + "/", "1.1"},
		{"--http2-prior-knowledge http://" + r.HTTP + "/", "2"},
		{"--http1.1 http://" + r.HTTP + "/", "1.1"},
	} {
		args := append([]string{"-sS", "--max-time", "20", "--cacert", cert, "-w", "\n%{http_version} %{response_code}"}, strings.Fields(tt.args)...)
		p := startPeer(t, nil, "curl", args...)
		if code := p.wait(t, peerPatience); code != 0 {
			t.Fatalf("curl %s: exit status %d", tt.args, code)
		}
		out := p.out.String()
		i := strings.LastIndexByte(out, '\n')
		if got := out[i+1:]; got != tt.version+" 200" {
			t.Errorf("curl %s: %s", tt.args, got)
		}
		bodies[out[:i]] = true
	}
	if len(bodies) != 1 {
		t.Errorf("%d different bodies", len(bodies))
	}
}

// The page plays over HTTPS, and does not say of a connection with TLS and HTTP/2 that iPhones want what it has.
func TestE2EPageTLS(t *testing.T) {
	t.Parallel()
	r, _, bases := startTLS(t, "demo")
	for base, want := range map[string]string{bases["HTTP/2.0"]: "", "http://" + r.HTTP: "no TLS and HTTP/2"} {
		b := startBrowser(t, base+"/live/demo/", chromedp.IgnoreCertErrors)
		eventually(t, startPatience, "the page to play", func() bool { return b.stats(t).CurrentTime > 1 })
		note := do(t, b, chromedp.Evaluate[string](`document.getElementById('transport').textContent`))
		if (want == "") != (note == "") || !strings.Contains(note, want) {
			t.Errorf("%s: %q", base, note)
		}
	}
}

// Chromium plays over HTTP/3 alone: what Alt-Svc would lead to, were the certificate of a CA that it knows.
func TestE2EPageHTTP3(t *testing.T) {
	t.Parallel()
	r, clients, bases := startTLS(t, "demo")
	resp, err := clients["HTTP/2.0"].Get(bases["HTTP/2.0"] + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	key := sha256.Sum256(resp.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
	b := startBrowser(t, bases["HTTP/3.0"]+"/live/demo/",
		chromedp.Flag("disable-quic", false), chromedp.Flag("origin-to-force-quic-on", r.HTTP3),
		chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(key[:])))
	eventually(t, startPatience, "the page to play", func() bool { return b.stats(t).CurrentTime > 1 })
	protocols := do(t, b, chromedp.Evaluate[string](
		`[...new Set(performance.getEntriesByType('resource').map(e => e.nextHopProtocol))].join()`))
	if protocols != "h3" {
		t.Errorf("fetched over %q", protocols)
	}
}

// A certificate from a CA, pebble, that validates on the origin's own ports, by either challenge; it is kept over a restart
// for which there is no CA.
func TestE2EACME(t *testing.T) {
	t.Parallel()
	for _, challenge := range []string{"HTTP-01", "TLS-ALPN-01"} {
		t.Run(challenge, func(t *testing.T) { // one after the other: certmagic knows challenges by name, for the whole process
			dir, ports := t.TempDir(), freePorts(t, 5)
			cert, key, err := writePair(dir)
			if err != nil {
				t.Fatal(err)
			}
			directory, management, plain, secure, nowhere := ports[0], ports[1], ports[2], ports[3], ports[4]
			pebble := map[string]any{
				"listenAddress": addr(directory), "managementListenAddress": addr(management),
				"certificate": cert, "privateKey": key, "httpPort": plain, "tlsPort": nowhere,
			}
			if challenge == "TLS-ALPN-01" {
				pebble["httpPort"], pebble["tlsPort"] = nowhere, secure
			}
			text, err := json.Marshal(map[string]any{"pebble": pebble})
			if err != nil {
				t.Fatal(err)
			}
			config := filepath.Join(dir, "pebble.json")
			if err := os.WriteFile(config, text, 0o600); err != nil {
				t.Fatal(err)
			}
			ca := startPeer(t, []string{"PEBBLE_VA_NOSLEEP=1"}, "pebble", "-config", config)
			trust, err := trusting(cert)
			if err != nil {
				t.Fatal(err)
			}
			var root []byte
			manager := &http.Client{Transport: &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}}
			eventually(t, startPatience, "the CA", func() bool {
				resp, err := manager.Get("https://" + addr(management) + "/roots/0")
				if err != nil {
					return false
				}
				defer resp.Body.Close()
				root, err = io.ReadAll(resp.Body)
				return err == nil && resp.StatusCode == 200
			})

			args := []string{"--http-addr=" + addr(plain), "--https-addr=" + addr(secure), "--acme-domains=127.0.0.1",
				"--acme-dir=" + filepath.Join(dir, "acme"), "--acme-ca=https://" + addr(directory) + "/dir", "--acme-ca-roots=" + cert}
			r := startHeadwater(t, args...)
			first := awaitCertificate(t, r, root)
			if !strings.Contains(r.Log.String(), "TLS certificate obtained") {
				t.Error("that there is a certificate is not logged")
			}
			if err := r.Stop(); err != nil {
				t.Fatal(err)
			}
			ca.kill()
			<-ca.done
			filepath.WalkDir(filepath.Join(dir, "acme"), func(path string, d fs.DirEntry, err error) error {
				if info, e := d.Info(); err != nil || e != nil || info.Mode().Perm()&0o077 != 0 {
					t.Errorf("others may read %s, %v: %v, %v", path, info, err, e)
				}
				return nil
			})
			if again := awaitCertificate(t, startHeadwater(t, args...), root); !again.Equal(first) {
				t.Error("another certificate after a restart")
			}
		})
	}
}

// awaitCertificate asks over HTTP/2 and HTTP/3 until somebody who trusts root only is answered.
func awaitCertificate(t *testing.T, r *running, root []byte) (c *x509.Certificate) {
	t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AppendCertsFromPEM(root)
	h2 := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer h2.CloseIdleConnections()
	h3 := &http3.Transport{TLSClientConfig: config.Clone()}
	defer h3.Close()
	for _, tr := range []http.RoundTripper{h2, h3} {
		eventually(t, startPatience, "a certificate", func() bool {
			resp, err := (&http.Client{Transport: tr}).Get("https://" + r.HTTPS + "/")
			if err != nil {
				return false
			}
			resp.Body.Close()
			c = resp.TLS.PeerCertificates[0]
			return resp.StatusCode == 200
		})
	}
	return c
}
