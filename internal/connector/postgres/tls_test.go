package postgres_test

import (
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/connector/postgres"
	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
)

// secure gives a server a certificate, and returns its address without any
// word on TLS, and the authority's certificate.
func secure(t testing.TB, dsn string) (plain *url.URL, ca string) {
	t.Helper()
	certificates := natstest.NewCertificates(t)
	pool := pgtest.Pool(t, dsn)
	var data string
	schematest.Query(t, pool, `select current_setting('data_directory')`, nil, &data)
	about, err := os.Stat(data)
	if err != nil {
		t.Fatal(err)
	}
	owner := about.Sys().(*syscall.Stat_t)
	for from, to := range map[string]string{certificates.ServerCert: "server.crt", certificates.ServerKey: "server.key"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(data, to)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	conn := pgtest.Conn(t, dsn)
	for _, sql := range []string{`alter system set ssl = on`, `select pg_reload_conf()`} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	plain, err = url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	plain.RawQuery = ""
	strict := *plain
	strict.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {certificates.CA}}.Encode()
	ctx := limited(t)
	for { // until the server has read its settings again
		conn, err := pgx.Connect(ctx, strict.String())
		if err == nil {
			_ = conn.Close(ctx) // it was only to be had
			break
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	return plain, certificates.CA
}

func TestTheTargetsCertificateIsVerified(t *testing.T) {
	t.Parallel()
	e := ends[0]
	_, dsn := own(t, e, throwaway.Options{})
	plain, ca := secure(t, dsn)
	strict := *plain
	strict.RawQuery = "sslmode=verify-full"
	trusted := e.sink(t, values{"url": strict.String(), "tls_ca_file": ca})
	ctx := limited(t)
	open(t, trusted)
	if err := send(ctx, trusted, sinktest.Envelopes("target", 1, 3)); err != nil {
		t.Fatal(err)
	}
	err := e.sink(t, values{"url": strict.String()}).Open(ctx)
	wantError(t, err, delivery.VerdictMisconfigured, "cannot be reached", "certificate signed by unknown authority", "the key tls_ca_file")
	strict.Host = "localhost:" + strict.Port()
	err = e.sink(t, values{"url": strict.String(), "tls_ca_file": ca}).Open(ctx)
	wantError(t, err, delivery.VerdictMisconfigured, "certificate is valid for", "localhost", `check sslmode and the host in key "url"`)
	// Where nothing is said, this machine's own servers need none.
	open(t, e.sink(t, values{"url": plain.String()}))
}

// Another machine is asked for a certificate unless the URL says otherwise.
func TestTLSIsVerifiedWhereTheURLSaysNothing(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"postgres://u@db.example:5432/d":                true,
		"postgres://u@10.0.0.7/d":                       true,
		"postgres://u@127.0.0.1:5432,db.example:5432/d": true,
		"postgres://u@db.example/d?sslmode=disable":     false,
		"postgres://u@localhost/d":                      false,
		"postgres://u@[::1]:5432/d":                     false,
		"postgres://u@/d?host=/run/postgresql":          false,
		"postgres://u@db.example/d?sslmode=require":     false,
	} {
		verified, err := postgres.Verifies(values{"url": address})
		if err != nil || verified != want {
			t.Errorf("%s: the certificate is verified: %t, %v", address, verified, err)
		}
	}
}
