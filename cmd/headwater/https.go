package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"headwater/web"
	"headwater/web/transport"
)

const defaultHTTPSAddr = ":8443"

// tls says whether there is to be a certificate, and with it HTTPS.
func (s *Settings) tls() bool { return s.TLSCert+s.TLSKey != "" || len(s.ACMEDomains) > 0 }

// checkHTTPS says what is wrong with the settings of TLS by themselves.
func (s *Settings) checkHTTPS() error {
	if s.HTTPSAddr != "" {
		if _, _, err := net.SplitHostPort(s.HTTPSAddr); err != nil {
			return bad("https-addr", "%q is not an address: write host:port or :port", s.HTTPSAddr)
		}
	}
	if s.HTTP3Port < 0 || s.HTTP3Port > 65535 {
		return bad("http3-port", "%d is not a port", s.HTTP3Port)
	}
	for _, d := range s.ACMEDomains {
		switch {
		case strings.Contains(d, "*"):
			return bad("acme-domains", "%q: a wildcard needs a challenge by DNS, which is not supported; list the names", d)
		case net.ParseIP(d) == nil && (d == "" || len(d) > 253 || strings.ContainsAny(d, "/:@ \t")):
			return bad("acme-domains", "%q is neither a host's name nor an IP address", d)
		}
	}
	if s.ACMECA != "" {
		if u, err := url.Parse(s.ACMECA); err != nil || u.Scheme != "https" || u.Host == "" {
			return bad("acme-ca", "%q is not the https:// URL of an ACME directory", s.ACMECA)
		}
	}
	return nil
}

// An https is HTTPS and HTTP/3 with their certificates. A nil one is none.
type https struct {
	server *transport.Server
	files  *transport.Files // or acme
	acme   *transport.ACME
	log    *slog.Logger
}

// newHTTPS returns nil when no certificate is configured, and says what is wrong with one that is.
func newHTTPS(s *Settings, log *slog.Logger) (*https, error) {
	files, acme := s.TLSCert+s.TLSKey != "", len(s.ACMEDomains) > 0
	switch {
	case !files && !acme && s.HTTPSAddr != "":
		return nil, bad("https-addr", "HTTPS needs a certificate: set tls_cert and tls_key, or acme_domains")
	case !files && !acme:
		return nil, nil
	case files && acme:
		return nil, bad("acme-domains", "tls_cert has a certificate already; leave one of the two empty")
	case files && s.TLSKey == "":
		return nil, bad("tls-key", "tls_cert needs its key; set both")
	case files && s.TLSCert == "":
		return nil, bad("tls-cert", "tls_key needs its certificate; set both")
	}
	h := &https{log: log}
	if files {
		h.files = &transport.Files{Cert: s.TLSCert, Key: s.TLSKey, Log: log}
		var wrong *transport.FileError
		if err := h.files.Load(); errors.As(err, &wrong) && wrong.Key {
			return nil, bad("tls-key", "%w", err)
		} else if err != nil {
			return nil, bad("tls-cert", "%w", err)
		}
		return h, nil
	}
	dir, err := acmeDir(s.ACMEDir)
	if err != nil {
		return nil, bad("acme-dir", "%w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil { // the keys in it are nobody else's business
		return nil, bad("acme-dir", "%w; choose a folder that the user that runs headwater (uid %d) can write", err, os.Getuid())
	}
	h.acme = &transport.ACME{Domains: s.ACMEDomains, Email: s.ACMEEmail, CA: s.ACMECA, Dir: dir, Log: log}
	if s.ACMECARoots != "" {
		pem, err := os.ReadFile(s.ACMECARoots)
		if err != nil {
			return nil, bad("acme-ca-roots", "%w", err)
		}
		h.acme.Roots = x509.NewCertPool()
		if !h.acme.Roots.AppendCertsFromPEM(pem) {
			return nil, bad("acme-ca-roots", "%s: there is no certificate in PEM in it", s.ACMECARoots)
		}
	}
	return h, nil
}

// acmeDir is where ACME's state lies.
func acmeDir(set string) (string, error) {
	if set != "" {
		return set, nil
	}
	return stateDir("acme")
}

// listenTLS binds the port of HTTPS and that of HTTP/3.
func (l *listeners) listenTLS(s *Settings) error {
	addr := cmp.Or(s.HTTPSAddr, defaultHTTPSAddr)
	ln, udp, what, err := transport.Listen(addr, s.HTTP3)
	switch {
	case err != nil && what == "udp":
		return listenError(err, "players (HTTP/3, UDP)", addr, "https-addr, or do without by --no-http3")
	case err != nil:
		return listenError(err, "players (HTTPS)", addr, "https-addr")
	}
	l.https, l.http3 = ln, udp
	l.addrs.HTTPS = ln.Addr().String()
	if udp != nil {
		l.addrs.HTTP3 = udp.LocalAddr().String()
	}
	return nil
}

// init makes the server, on sockets that are bound.
func (h *https) init(w *web.Server, ls *listeners, s *Settings, lim *limits) {
	// quic-go and certmagic log by themselves, where one cannot tell them not to.
	log.SetFlags(0)
	log.SetOutput(slog.NewLogLogger(h.log.Handler(), slog.LevelWarn).Writer())

	c := transport.Config{AltSvcPort: s.HTTP3Port, Log: h.log, Admit: lim.http3}
	if h.files != nil {
		c.GetCertificate = h.files.GetCertificate
	} else {
		h.acme.Init(ls.http.Addr(), ls.https.Addr())
		c.GetCertificate = h.acme.GetCertificate
		c.NextProtos = []string{transport.ACMEProtocol}
	}
	srv := w.HTTPServer(w.Handler())
	lim.https.Limit.Watch(srv)
	h.server = transport.New(srv, c, ls.https, ls.http3)
}

// challenges lets the CA's requests through to the handler of plain HTTP.
func (h *https) challenges(next http.Handler) http.Handler {
	if h == nil || h.acme == nil {
		return next
	}
	return h.acme.Handler(next)
}

func (h *https) serve() error {
	if err := h.server.Serve(); err != nil {
		return fmt.Errorf("HTTPS: %w", err)
	}
	return nil
}

// keep keeps the certificates current until ctx ends.
func (h *https) keep(ctx context.Context) {
	if h.files != nil {
		h.files.Watch(ctx)
		return
	}
	if err := h.acme.Start(ctx); err != nil && ctx.Err() == nil {
		h.log.Error("no TLS certificates", "err", err)
	}
}

func (h *https) stop() {
	if h.acme != nil {
		h.acme.Stop()
	}
}

func (h *https) counters() []web.Counter {
	expires, failures := func() time.Time { return h.files.Expires() }, func() int64 { return h.files.Failures() }
	if h.acme != nil {
		expires, failures = h.acme.Expires, h.acme.Failures
	}
	return []web.Counter{
		{Name: "headwater_tls_handshake_errors_total", Help: "TLS handshakes on TCP that failed.",
			Value: func() float64 { return float64(h.server.HandshakeErrors()) }},
		{Name: "headwater_tls_certificate_failures_total", Help: "Changed certificate files that could not be used, or certificates that the CA refused.",
			Value: func() float64 { return float64(failures()) }},
		{Name: "headwater_tls_certificate_expires_seconds", Help: "Unix time at which the certificate in use expires; 0 without one.", Gauge: true,
			Value: func() float64 {
				if t := expires(); !t.IsZero() {
					return float64(t.Unix())
				}
				return 0
			}},
	}
}
