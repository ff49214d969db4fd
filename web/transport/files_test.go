package transport

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A pair is a certificate of its own signing.
type pair struct{ cert, key []byte }

func makePair(t testing.TB, name string, validFor time.Duration) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(validFor),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})}
}

func (p pair) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(p.cert)
	return pool
}

// files is a pair of files, and what is logged of it.
type files struct {
	Files
	t   testing.TB
	log bytes.Buffer
}

func newFiles(t testing.TB, p pair) *files {
	t.Helper()
	dir := t.TempDir()
	f := &files{t: t}
	f.Cert, f.Key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	f.Log = slog.New(slog.NewTextHandler(&f.log, nil))
	f.put(p, 0)
	return f
}

// put writes the files as of a given second.
func (f *files) put(p pair, second int64) {
	f.t.Helper()
	f.write(f.Cert, p.cert, second)
	f.write(f.Key, p.key, second)
}

func (f *files) write(name string, text []byte, second int64) {
	f.t.Helper()
	if err := os.WriteFile(name, text, 0o600); err != nil {
		f.t.Fatal(err)
	}
	at := time.Unix(1_700_000_000+second, 0)
	if err := os.Chtimes(name, at, at); err != nil {
		f.t.Fatal(err)
	}
}

// name is that of the certificate in use.
func (f *files) name() string {
	c, err := f.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil || c == nil {
		f.t.Fatalf("no certificate: %v", err)
	}
	return c.Leaf.Subject.CommonName
}

// A changed pair is taken over when it has settled, one that cannot be used is not, and is said once.
func TestReload(t *testing.T) {
	one, two, three := makePair(t, "one.test", time.Hour), makePair(t, "two.test", time.Hour), makePair(t, "three.test", time.Hour)
	f := newFiles(t, one)
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		what     string
		do       func()
		want     string
		failures int64
	}{
		{"nothing", func() {}, "one.test", 0},
		{"half of a pair", func() { f.write(f.Cert, two.cert, 1) }, "one.test", 0},
		{"the other half", func() { f.write(f.Key, two.key, 1) }, "one.test", 0},
		{"it has settled", func() {}, "two.test", 0},
		{"nothing", func() {}, "two.test", 0},
		{"a key of another certificate", func() { f.write(f.Key, one.key, 2) }, "two.test", 0},
		{"it has settled", func() {}, "two.test", 1},
		{"it is still there", func() {}, "two.test", 1},
		{"rubbish", func() { f.write(f.Cert, []byte("rubbish"), 3) }, "two.test", 1},
		{"it has settled", func() {}, "two.test", 2},
		{"no files", func() { os.Remove(f.Cert); os.Remove(f.Key) }, "two.test", 2},
		{"still none", func() {}, "two.test", 3},
		{"still none", func() {}, "two.test", 3},
		{"a good pair", func() { f.put(three, 4) }, "two.test", 3},
		{"it has settled", func() {}, "three.test", 3},
		{"the same size and another time", func() { f.put(three, 5) }, "three.test", 3},
		{"another inode", func() {
			f.write(f.Cert+".new", one.cert, 5)
			f.write(f.Key+".new", one.key, 5)
			os.Rename(f.Cert+".new", f.Cert)
			os.Rename(f.Key+".new", f.Key)
		}, "three.test", 3},
		{"it has settled", func() {}, "one.test", 3},
	} {
		tt.do()
		f.look()
		if f.name() != tt.want || f.Failures() != tt.failures {
			t.Errorf("%d, %s: %s after %d failures, want %s after %d", i, tt.what, f.name(), f.Failures(), tt.want, tt.failures)
		}
	}
	if n := strings.Count(f.log.String(), "level=WARN"); n != 3 {
		t.Errorf("%d warnings, want one a failure:\n%s", n, &f.log)
	}
	if n := strings.Count(f.log.String(), "TLS certificate reloaded"); n != 3 {
		t.Errorf("%d reloads:\n%s", n, &f.log)
	}
}

// What could not be used is tried again, since what is mended, the owner of a file for one, may be nothing that is looked at.
func TestReloadTriesAgain(t *testing.T) {
	two := makePair(t, "two.test", time.Hour)
	f := newFiles(t, makePair(t, "one.test", time.Hour))
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	f.write(f.Cert, bytes.Repeat([]byte{'x'}, len(two.cert)), 1)
	f.write(f.Key, two.key, 1)
	for range 4 {
		f.look()
	}
	if f.name() != "one.test" || f.Failures() != 1 {
		t.Errorf("%s after %d failures", f.name(), f.Failures())
	}
	f.write(f.Cert, two.cert, 1) // of the same file, size and time
	f.look()
	if f.name() != "two.test" || strings.Count(f.log.String(), "level=WARN") != 1 {
		t.Errorf("%s:\n%s", f.name(), &f.log)
	}
}

// What is wrong at the start is one line, of the right file, that says what helps.
func TestLoadErrors(t *testing.T) {
	one, two := makePair(t, "one.test", time.Hour), makePair(t, "two.test", time.Hour)
	for _, tt := range []struct {
		name string
		pair pair
		key  bool
		want string
	}{
		{"no certificate", pair{nil, one.key}, false, "followed by its intermediates, in PEM"},
		{"rubbish for a certificate", pair{[]byte("rubbish"), one.key}, false, "in PEM"},
		{"a broken certificate", pair{bytes.Replace(one.cert, []byte("MII"), []byte("AAA"), 1), one.key}, false, "in PEM"},
		{"exchanged", pair{one.key, one.cert}, false, "in PEM"},
		{"no key", pair{one.cert, nil}, true, "in PEM and not encrypted"},
		{"another's key", pair{one.cert, two.key}, true, "the key of the first certificate"},
		{"a certificate for a key", pair{one.cert, one.cert}, true, "in PEM and not encrypted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFiles(t, tt.pair)
			checkFileError(t, f.Load(), tt.key, map[bool]string{true: f.Key, false: f.Cert}[tt.key], tt.want)
		})
	}
	f := newFiles(t, one)
	f.Key += ".missing"
	checkFileError(t, f.Load(), true, f.Key, "write the path of a PEM file with the key")
	f.Cert += ".missing"
	checkFileError(t, f.Load(), false, f.Cert, "certificate and its intermediates")
	// Whoever runs the tests may be allowed to read everything.
	denied := &FileError{Key: true, Path: "/x/key.pem", Err: &fs.PathError{Op: "open", Path: "/x/key.pem", Err: fs.ErrPermission}}
	checkFileError(t, denied, true, "/x/key.pem: permission denied", "let the user that runs headwater")
}

func checkFileError(t *testing.T, err error, key bool, wants ...string) {
	t.Helper()
	e, ok := err.(*FileError)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	if e.Key != key {
		t.Errorf("about the key: %v: %v", e.Key, e)
	}
	for _, want := range wants {
		if !strings.Contains(e.Error(), want) {
			t.Errorf("%q is not in: %v", want, e)
		}
	}
	if strings.Contains(e.Error(), "\n") || strings.Count(e.Error(), e.Path) != 1 {
		t.Errorf("not one clear line: %v", e)
	}
}

func TestLoadWarnings(t *testing.T) {
	f := newFiles(t, makePair(t, "old.test", -time.Hour))
	if err := os.Chmod(f.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"not valid now", "every user of this machine may read the TLS key"} {
		if strings.Count(f.log.String(), want) != 1 {
			t.Errorf("not said once: %s\n%s", want, &f.log)
		}
	}
}
