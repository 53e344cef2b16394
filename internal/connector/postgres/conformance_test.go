package postgres_test

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/relay"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
	"github.com/pg-tide/pg-tide/internal/torture/proxy"
)

func TestInboxConformance(t *testing.T) { conforms(t, ends[0]) }

func TestOutboxConformance(t *testing.T) { conforms(t, ends[1]) }

func conforms(t *testing.T, e end) {
	t.Helper()
	t.Parallel()
	features := sinktest.Features{
		Technology: "pg_" + e.kind, DropsDuplicates: true, EventIDs: true, Headers: true, LongestDestination: 48,
		// Those of CloudEvents become columns, and a percent sign that the relay
		// wrote stands for a byte.
		HeadersKept: slices.DeleteFunc(sinktest.OddHeaders(), func(h message.Header) bool {
			return strings.HasPrefix(h.Name, "ce-") || h.Name == "percent"
		}),
		Lacks: conformance.Lacks{
			conformance.SizeLimit:    "it takes whatever payload an outbox can hold",
			conformance.EmptyBodies:  "a payload is JSON",
			conformance.BinaryBodies: "a payload is JSON",
			conformance.CloudEvents:  "CloudEvents has no binding for PostgreSQL; attributes are columns",
		},
	}
	sinktest.Run(t, features, func(t *testing.T) sinktest.Harness {
		far := startFarEnd(t, e)
		return sinktest.Harness{
			New: func(t testing.TB) relay.Sink {
				return e.sink(t, values{"url": far.through}, "target", "target.{op}")
			},
			Stored:  far.stored,
			Restart: far.restart, Kill: far.kill, Cut: far.cut, Freeze: far.freeze,
			Lose: func(t testing.TB) {
				conn := pgtest.Conn(t, far.dsn)
				if _, err := conn.Exec(limited(t), e.empty); err != nil {
					t.Fatal(err)
				}
			},
			Destination: "target", Template: "target.{op}",
			Prepare: func(t testing.TB, name string) {
				schematest.Exec(t, pgtest.Pool(t, far.dsn), `select tide.`+e.kind+`_create($1)`, name)
			},
			Poison: func(e *message.Envelope) { e.Body = []byte(`{"n": "\u0000"}`) },
			Wrong:  mistakes(far),
		}
	})
}

// farEnd is a database with a target, and a cable to it that can be cut or hang.
type farEnd struct {
	end    end
	server *throwaway.Server // nil where it is shared
	dsn    string
	// through is the address through the cable.
	through string
	cable   *proxy.Proxy
}

func startFarEnd(t testing.TB, e end) *farEnd {
	t.Helper()
	f := &farEnd{end: e}
	// What happens to other databases of the server as well needs one of its own.
	if strings.Contains(t.Name(), "restart") || strings.Contains(t.Name(), "kill") {
		f.server, f.dsn = own(t, e, throwaway.Options{})
	} else {
		f.dsn, _ = shared(t, e, 0)
	}
	u, err := url.Parse(f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	f.cable, err = proxy.Start(context.WithoutCancel(t.Context()), u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.cable.Close)
	u.Host = f.cable.Address()
	f.through = u.String()
	return f
}

func (f *farEnd) restart(t testing.TB) {
	if err := f.server.Restart(limited(t)); err != nil {
		t.Fatal(err)
	}
}

func (f *farEnd) kill(t testing.TB) {
	if err := f.server.Kill(limited(t)); err != nil {
		t.Fatal(err)
	}
	if err := f.server.Start(limited(t)); err != nil {
		t.Fatal(err)
	}
}

func (f *farEnd) cut(testing.TB) {
	f.cable.Set(proxy.State{Cut: true})
	f.cable.Set(proxy.State{})
}

// freeze has nothing reach the server, and nothing come back.
func (f *farEnd) freeze(testing.TB) (thaw func()) {
	f.cable.Set(proxy.State{Silent: true})
	return func() { f.cable.Set(proxy.State{}) }
}

// stored is what all inboxes, or outboxes, hold.
func (f *farEnd) stored(t testing.TB) []message.Envelope {
	t.Helper()
	rows, err := pgtest.Pool(t, f.dsn).Query(limited(t), f.end.everywhere)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (message.Envelope, error) {
		var m message.Envelope
		var payload, headers string
		if err := row.Scan(&m.Destination, &m.EventID, &payload, &headers); err != nil {
			return m, err
		}
		m.Body = compact(t, payload)
		object := map[string]string{}
		err := json.Unmarshal([]byte(headers), &object)
		for name, value := range object {
			m.Headers = append(m.Headers, message.Header{Name: name, Value: value})
		}
		return m, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// mistakes are sinks that lead nowhere, and what the sentence about each says.
func mistakes(f *farEnd) map[conformance.Need]func(t testing.TB) sinktest.Refusal {
	e := f.end
	// untrusted is a server with TLS, whose address is asked strictly.
	untrusted := func(t testing.TB, host string, authority func(own string) string, says ...string) sinktest.Refusal {
		_, dsn := own(t, e, throwaway.Options{})
		u, ca := secure(t, dsn)
		u.RawQuery = "sslmode=verify-full"
		u.Host = host + ":" + u.Port()
		return sinktest.Refusal{End: e.sink(t, values{"url": u.String(), "tls_ca_file": authority(ca)}), Says: says}
	}
	return map[conformance.Need]func(t testing.TB) sinktest.Refusal{
		conformance.Unreachable: func(t testing.TB) sinktest.Refusal {
			u, err := url.Parse(f.dsn)
			if err != nil {
				t.Fatal(err)
			}
			u.Host = "127.0.0.1:1"
			return sinktest.Refusal{End: e.sink(t, values{"url": u.String()}), Says: []string{"cannot be reached", "check host, port and firewall"}}
		},
		conformance.WrongLogin: func(t testing.TB) sinktest.Refusal {
			role := newRole(t, pgtest.Pool(t, f.dsn), ``)
			return sinktest.Refusal{End: e.sink(t, values{"url": as(t, f.dsn, role, "hunter2")}), Hides: []string{"hunter2"},
				Says: []string{"password of role", role, `check the password in key "url" or the key password`}}
		},
		conformance.NoPermission: func(t testing.TB) sinktest.Refusal {
			role := newRole(t, pgtest.Pool(t, f.dsn), `grant usage on schema tide to ROLE`)
			return sinktest.Refusal{End: e.sink(t, values{"url": as(t, f.dsn, role, "pw")}), Says: []string{role, "has no right", "grant tide_relay to"}}
		},
		conformance.NoDestination: func(t testing.TB) sinktest.Refusal {
			return sinktest.Refusal{End: e.sink(t, values{"url": f.dsn}, "elsewhere"), Says: []string{e.kind + ` "elsewhere" does not exist`, "tide." + e.kind + "_create"}}
		},
		conformance.WrongName: func(t testing.TB) sinktest.Refusal {
			return untrusted(t, "localhost", func(own string) string { return own }, "certificate is valid for", `check sslmode and the host in key "url"`)
		},
		conformance.UnknownIssuer: func(t testing.TB) sinktest.Refusal {
			return untrusted(t, "127.0.0.1", func(string) string { return natstest.NewCertificates(t).CA }, "certificate signed by unknown authority", "the key tls_ca_file")
		},
	}
}
