package e2e

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/throwaway"
)

const (
	ordersOut  = "orders-out"
	paymentsIn = "payments-in"
)

// restorable is a service that publishes and one that takes in, whose
// databases lie in one cluster that a test restores, promotes or upgrades.
type restorable struct {
	server           *throwaway.Server
	broker           *broker
	orders, payments *service
	// published is how many events there ever were, in any history.
	published int
}

// newRestorable starts a server and a broker with both services; programs are
// those of PostgreSQL's that the test needs.
func newRestorable(t *testing.T, settings map[string]string, programs ...string) *restorable {
	t.Helper()
	major := throwaway.InstalledMajor(t.Context())
	for _, name := range programs {
		if _, found := throwaway.Tool(t.Context(), name, max(major, pgtest.Oldest)); !found || major == 0 {
			t.Skipf("there is no %s on this machine, and fetched servers come without it", name)
		}
	}
	all := map[string]string{"wal_level": "replica", "max_wal_senders": "4", "autovacuum": "off"}
	for name, value := range settings {
		all[name] = value
	}
	r := &restorable{
		server: pgtest.Own(t, throwaway.Options{Major: major, OwnIdentity: true, Settings: all}),
		broker: startBroker(t),
	}
	admin := pgtest.Conn(t, r.server.DSN("postgres"))
	for _, name := range []string{"orders", "payments"} {
		if _, err := admin.Exec(t.Context(), "create database "+name); err != nil {
			t.Fatal(err)
		}
		if out, err := newCommand(t, "install", "--postgres-url", r.server.DSN(name)).CombinedOutput(); err != nil {
			t.Fatalf("install the schema: %v\n%s", err, out)
		}
	}
	r.at(t, r.server)
	r.configure(t, r.broker.URL())
	return r
}

// at makes the services those of a server.
func (r *restorable) at(t *testing.T, server *throwaway.Server) {
	t.Helper()
	r.server = server
	r.orders = &service{dsn: server.DSN("orders"), pool: pgtest.Pool(t, server.DSN("orders"))}
	r.payments = &service{dsn: server.DSN("payments"), pool: pgtest.Pool(t, server.DSN("payments"))}
}

func (r *restorable) configure(t *testing.T, natsURL string) {
	t.Helper()
	r.orders.run(t, `select tide.outbox_create('order_events')`)
	r.orders.run(t, `select tide.relay_set_outbox('`+ordersOut+`', 'order_events',
		'{"sink_type": "nats", "url": "`+natsURL+`", "subject_template": "events.orders.{op}"}')`)
	r.payments.run(t, `select tide.inbox_create('payment_triggers')`)
	r.payments.run(t, `select tide.relay_set_inbox('`+paymentsIn+`', 'payment_triggers',
		'{"source_type": "nats", "url": "`+natsURL+`", "subject": "events.orders.>", "durable_name": "payment-service"}')`)
}

// run runs one statement through the pool.
func (s *service) run(t *testing.T, sql string, arguments ...any) {
	t.Helper()
	if _, err := s.pool.Exec(t.Context(), sql, arguments...); err != nil {
		t.Fatalf("%s\n%v", sql, err)
	}
}

// startRelays starts one for each service.
func (r *restorable) startRelays(t *testing.T) (all []*relay) {
	t.Helper()
	for _, s := range []*service{r.orders, r.payments} {
		all = append(all, startRelay(t, s.dsn, "--http-addr", "127.0.0.1:0"))
	}
	return all
}

// publish publishes n more events of one key, each in a transaction of its own.
func (r *restorable) publish(t *testing.T, n int) {
	t.Helper()
	for range n {
		r.published++
		r.orders.run(t, `select tide.outbox_publish('order_events', 'orders', jsonb_build_object('n', $1::int), key => 'k')`, r.published)
	}
}

// arrive waits until the inbox has every event that was ever published, once
// and in the order of publishing, and the consumer has nothing more.
func (r *restorable) arrive(t *testing.T) {
	t.Helper()
	want := make([]int, r.published)
	for i := range want {
		want[i] = i + 1
	}
	eventually(t, func() (bool, string) {
		got := r.taken(t)
		return len(got) >= len(want), fmt.Sprintf("%d of %d messages are in the inbox: %v; status: %s %s",
			len(got), len(want), got, r.orders.status(t), r.payments.status(t))
	})
	if got := r.taken(t); !slices.Equal(got, want) {
		t.Fatalf("the inbox has %v, want 1 to %d in order", got, len(want))
	}
}

// taken is what the inbox has, in the order of arrival.
func (r *restorable) taken(t *testing.T) []int {
	t.Helper()
	rows, err := r.payments.pool.Query(t.Context(), `select (payload ->> 'n')::int from tide.payment_triggers_inbox order by id`)
	if err != nil {
		return nil // the server may be starting
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil
	}
	return got
}

// acknowledged waits until the broker was told of all that was published.
func (r *restorable) acknowledged(t *testing.T) {
	t.Helper()
	js := r.broker.server.JetStream(t)
	eventually(t, func() (bool, string) {
		consumer, err := js.Consumer(t.Context(), "tide-events", "payment-service")
		if err != nil {
			return false, err.Error()
		}
		info := consumer.CachedInfo()
		return info.AckFloor.Stream == uint64(r.published) && info.NumAckPending == 0,
			fmt.Sprintf("the consumer's floor is %d of %d", info.AckFloor.Stream, r.published)
	})
	r.orders.awaitStatus(t, ordersOut, "r.lag_events = 0")
}

// backup copies the running cluster into a successor's data directory.
func (r *restorable) backup(t *testing.T, arguments ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(r.server.Dir, "backup")
	r.tool(t, "pg_basebackup", append([]string{"-D", dir, "-h", r.server.SocketDir, "-p", fmt.Sprint(r.server.Port), "-U", "postgres",
		"--checkpoint=fast", "--wal-method=stream"}, arguments...)...)
	return dir
}

// tool runs one of PostgreSQL's programs as the server's user.
func (r *restorable) tool(t *testing.T, name string, arguments ...string) {
	t.Helper()
	command, err := r.server.Program(t.Context(), name, arguments...)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// successor starts a server on data that prepare puts into its data directory.
func (r *restorable) successor(t *testing.T, settings map[string]string, prepare func(next *throwaway.Server) error) *throwaway.Server {
	t.Helper()
	next, err := r.server.Successor(t.Context(), settings, prepare)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := next.Close(); err != nil {
			t.Errorf("close the successor: %v", err)
		}
	})
	return next
}

// adopt runs the command that the status names.
func (s *service) adopt(t *testing.T, arguments ...string) string {
	t.Helper()
	arguments = append([]string{"pipeline", "adopt", "--postgres-url", s.dsn}, arguments...)
	out, err := newCommand(t, arguments...).CombinedOutput()
	if err != nil {
		t.Fatalf("adopt: %v\n%s", err, out)
	}
	return string(out)
}

// stopped waits until a pipeline stands still with a sentence that says what to do.
func (s *service) stopped(t *testing.T, pipeline string) {
	t.Helper()
	s.awaitStatus(t, pipeline, "r.state = 'misconfigured' and r.reason like '%pg-tide pipeline adopt "+pipeline+"%'")
}

// eitherServer is a DSN of two servers of which the one that takes writes is meant.
func eitherServer(t *testing.T, dsn string, second *throwaway.Server) string {
	t.Helper()
	parsed, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	query := parsed.Query()
	query.Set("target_session_attrs", "read-write")
	parsed.Host += fmt.Sprintf(",127.0.0.1:%d", second.Port)
	parsed.RawQuery = query.Encode()
	return parsed.String()
}

// move renames within one file system.
func move(from string) func(next *throwaway.Server) error {
	return func(next *throwaway.Server) error { return exec.Command("mv", from, next.DataDir).Run() }
}

// client runs a client program of PostgreSQL's as ourselves.
func client(t *testing.T, name string, major int, arguments ...string) {
	t.Helper()
	path, found := throwaway.Tool(t.Context(), name, major)
	if !found {
		t.Skipf("there is no %s on this machine, and fetched servers come without it", name)
	}
	if out, err := exec.CommandContext(t.Context(), path, arguments...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// reachable is a directory that the server's user can write to.
func reachable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pg-tide-archive-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the archive: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}
