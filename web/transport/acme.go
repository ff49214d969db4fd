package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// ACMEProtocol is what a CA negotiates to validate a name by TLS-ALPN (RFC 8737 3).
const ACMEProtocol = "acme-tls/1"

// An ACME gets certificates from a CA and renews them (RFC 8555). The CA validates a name by HTTP-01, on port 80, or by
// TLS-ALPN-01, on port 443; both are answered on the listeners that are there anyway. Fields are set before Init.
type ACME struct {
	Domains []string       // names or IP addresses, one certificate each
	Email   string         // by which the CA reaches somebody; may be empty
	CA      string         // URL of the directory; empty is Let's Encrypt
	Roots   *x509.CertPool // by which the CA's server is trusted; nil is the system's
	Dir     string         // where accounts, keys and certificates are kept
	Log     *slog.Logger   // nil discards

	cache    *certmagic.Cache
	config   *certmagic.Config
	issuer   *certmagic.ACMEIssuer
	failures atomic.Int64
}

// Init gets everything ready. plain and secure are the addresses that HTTP and HTTPS are bound to.
func (a *ACME) Init(plain, secure net.Addr) {
	if a.Log == nil {
		a.Log = slog.New(slog.DiscardHandler)
	}
	template := certmagic.ACMEIssuer{CA: a.CA, Email: a.Email, Agreed: true, TrustedRoots: a.Roots, Logger: zap.NewNop()}
	// Before a challenge certmagic makes sure that something listens, here at the ports that are bound. It knows one host
	// for both of them, so where they differ, HTTP is left to whom it is for: an edge, mostly.
	p, s := plain.(*net.TCPAddr), secure.(*net.TCPAddr)
	template.AltHTTPPort, template.AltTLSALPNPort = p.Port, s.Port
	if !s.IP.IsUnspecified() {
		template.ListenHost = s.IP.String()
	}
	template.DisableHTTPChallenge = !p.IP.Equal(s.IP) && !p.IP.IsUnspecified()

	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.config, nil },
		Logger:           zap.NewNop(),
	})
	a.config = certmagic.New(a.cache, certmagic.Config{
		Storage:           &certmagic.FileStorage{Path: a.Dir},
		DefaultServerName: a.Domains[0],
		OnEvent:           a.happened,
		Logger:            zap.NewNop(), // OnEvent is what concerns an operator
	})
	a.issuer = certmagic.NewACMEIssuer(a.config, template)
	a.config.Issuers = []certmagic.Issuer{a.issuer}
}

func (a *ACME) happened(ctx context.Context, event string, data map[string]any) error {
	name := fmt.Sprint(data["identifier"])
	switch event {
	case "cert_obtained":
		a.Log.Info("TLS certificate obtained", "name", name, "renewal", data["renewal"])
	case "cert_failed":
		if ctx.Err() == nil {
			a.failures.Add(1)
			a.Log.Warn("no TLS certificate from the CA; trying again later", "name", name, "err", data["error"])
		}
	}
	return nil
}

// Start begins to get and renew certificates, when the listeners are served, and returns. It goes on until ctx ends and Stop
// is called.
func (a *ACME) Start(ctx context.Context) error {
	a.Log.Info("TLS certificates by ACME", "names", strings.Join(a.Domains, " "), "ca", a.issuer.CA, "dir", a.Dir)
	return a.config.ManageAsync(ctx, a.Domains)
}

// Stop ends what Init has begun.
func (a *ACME) Stop() { a.cache.Stop() }

// GetCertificate is for tls.Config.
func (a *ACME) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.config.GetCertificate(hello)
}

// Handler answers the CA's challenges over plain HTTP, and leaves everything else to next.
func (a *ACME) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if certmagic.LooksLikeHTTPChallenge(r) {
			w.Header().Set("Cache-Control", "private, no-store")
			if a.issuer.HandleHTTPChallenge(w, r) {
				return
			}
			w.Header().Del("Cache-Control")
		}
		next.ServeHTTP(w, r)
	})
}

// Expires returns when the first of the certificates in use does; the zero time when there is none yet.
func (a *ACME) Expires() (first time.Time) {
	for _, d := range a.Domains {
		for _, c := range a.cache.AllMatchingCertificates(d) {
			if c.Leaf != nil && (first.IsZero() || c.Leaf.NotAfter.Before(first)) {
				first = c.Leaf.NotAfter
			}
		}
	}
	return first
}

// Failures returns how often the CA has given no certificate.
func (a *ACME) Failures() int64 { return a.failures.Load() }
