package tidetest_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/tide"
	"github.com/pg-tide/pg-tide/tide/tidetest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// fake is a test that may fail without failing.
type fake struct {
	context.Context
	failures []string
	cleanups []func()
}

type stop struct{}

func newFake() *fake { return &fake{Context: context.Background()} }

func (f *fake) Helper()          {}
func (f *fake) Cleanup(c func()) { f.cleanups = append(f.cleanups, c) }
func (f *fake) Errorf(format string, a ...any) {
	f.failures = append(f.failures, fmt.Sprintf(format, a...))
}
func (f *fake) Fatalf(format string, a ...any) {
	f.Errorf(format, a...)
	panic(stop{})
}

type faked struct{ *fake }

func (f faked) Context() context.Context { return f.fake.Context }

// run runs a test and its cleanups, and returns what it failed with.
func run(test func(t tidetest.T)) []string {
	f := faked{newFake()}
	func() {
		defer func() {
			if r := recover(); r != nil && r != (stop{}) {
				panic(r)
			}
		}()
		test(f)
	}()
	for i := len(f.cleanups) - 1; i >= 0; i-- {
		f.cleanups[i]()
	}
	return f.failures
}

func server(t testing.TB) string { return pgtest.Server(t, 0).DSN("postgres") }

func TestADatabaseLastsForItsTest(t *testing.T) {
	pgtest.Each(t, []int{pgtest.Oldest, pgtest.Newest}, func(t *testing.T, major int) {
		dsn := pgtest.Server(t, major).DSN("postgres")
		var own string
		failures := run(func(t tidetest.T) {
			db := tidetest.Open(t, dsn)
			own = db.DSN
			db.Exec(`select tide.outbox_create('o')`)
			conn, err := pgx.Connect(t.Context(), db.DSN) // left open on purpose
			if err != nil {
				t.Fatalf("%v", err)
			}
			t.Cleanup(func() { _ = conn.Close(context.Background()) })
		})
		if len(failures) > 0 {
			t.Fatal(failures)
		}
		if conn, err := pgx.Connect(t.Context(), own); err == nil {
			t.Error("the database is still there", conn.Close(t.Context()))
		}
	})
}

func TestADSNInKeyValueFormReachesTheTestsDatabase(t *testing.T) {
	c, err := pgx.ParseConfig(server(t))
	if err != nil {
		t.Fatal(err)
	}
	dsn := fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=postgres sslmode=disable", c.Host, c.Port, c.User, c.Password)
	db := tidetest.Open(t, dsn)
	db.Exec(`select tide.outbox_create('o')`)
	conn := pgtest.Conn(t, db.DSN)
	if _, err := tide.Publish(t.Context(), conn, "o", tide.Event{Payload: 1}); err != nil {
		t.Error(err)
	}
}

func TestWhatWasNotPublishedIsNamed(t *testing.T) {
	db := tidetest.Open(t, server(t))
	db.Exec(`select tide.outbox_create('o')`)
	events := []tide.Event{{Type: "a", Key: "k", Payload: map[string]int{"n": 1}}, {Type: "b", Payload: 2, Headers: map[string]any{"h": 1, "i": 2}}}
	if _, err := tide.PublishMany(t.Context(), db.Pool, "o", events); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		want []tide.Event
		fits bool
	}{
		"all":              {events, true},
		"the last":         {events[1:], true},
		"by type":          {[]tide.Event{{Type: "b"}}, true},
		"by a header":      {[]tide.Event{{Headers: map[string]any{"h": 1}}}, true},
		"another order":    {[]tide.Event{{Type: "b"}, {Type: "a"}}, false},
		"twice":            {[]tide.Event{{Type: "a"}, {Type: "a"}}, false},
		"another payload":  {[]tide.Event{{Type: "a", Payload: map[string]int{"n": 2}}}, false},
		"another key":      {[]tide.Event{{Type: "a", Key: "x"}}, false},
		"another header":   {[]tide.Event{{Headers: map[string]any{"h": 2}}}, false},
		"another event id": {[]tide.Event{{ID: "0190a5c6-7d2e-7000-8000-000000000001"}}, false},
	} {
		failures := run(func(t tidetest.T) { tidetest.Use(t, db.Pool).AssertPublished("o", c.want...) })
		if c.fits != (len(failures) == 0) {
			t.Errorf("%s: %v", name, failures)
		}
		if !c.fits && !strings.Contains(failures[0], `"Key":"k"`) {
			t.Errorf("%s does not show what was published: %v", name, failures)
		}
	}
}

// The message comes after the test has begun to wait.
func TestAMessageIsWaitedForBySignal(t *testing.T) {
	db := tidetest.Open(t, server(t))
	db.Exec(`select tide.inbox_create('i')`)
	looked := make(chan struct{}, 10)
	got := make(chan *tide.Message, 1)
	db.Deliver("i", tide.Event{Type: "other", Payload: 1})
	go func() {
		got <- db.WaitMessage("i", func(m *tide.Message) bool {
			looked <- struct{}{}
			return m.Type == "wanted"
		})
	}()
	<-looked
	id := db.Deliver("i", tide.Event{Type: "wanted", Key: "k", Stream: "s", Op: "update", Payload: []int{1}, Headers: map[string]any{"h": "v"}})
	m := <-got
	if m.EventID != id || m.Key != "k" || m.Stream != "s" || m.Op != "update" || string(m.Payload) != "[1]" || m.Header("h") != "v" || m.Source != tidetest.Source {
		t.Errorf("got %+v", m)
	}
	if again := db.Deliver("i", tide.Event{ID: id, Payload: 2}); again != id {
		t.Errorf("delivered again as %s", again)
	}
	if typed := db.Deliver("i", tide.Event{Payload: map[string]string{"event_type": "by payload"}}); db.WaitMessage("i", func(m *tide.Message) bool { return m.EventID == typed }).Type != "by payload" {
		t.Error("the event type is not the payload's")
	}
}

func TestFailuresSayWhatIsMissing(t *testing.T) {
	db := tidetest.Open(t, server(t))
	for want, test := range map[string]func(t tidetest.T){
		"read the DSN":      func(t tidetest.T) { tidetest.Open(t, "postgres://host:port/x") },
		"create a database": func(t tidetest.T) { tidetest.Open(t, "postgres://127.0.0.1:1/x") },
		`inbox "missing"`:   func(t tidetest.T) { tidetest.Use(t, db.Pool).Deliver("missing", tide.Event{Payload: 1}) },
		"select nonsense":   func(t tidetest.T) { tidetest.Use(t, db.Pool).Exec("select nonsense") },
		`wait for a message of inbox "missing"`: func(t tidetest.T) {
			tidetest.Use(t, db.Pool).WaitMessage("missing", func(*tide.Message) bool { return true })
		},
		"1 messages settled": func(t tidetest.T) {
			r := tidetest.NewRecorder()
			r.Handled(&tide.Message{EventID: "e"}, tide.Failed, 0)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			r.Wait(ended{t, ctx}, 2)
		},
	} {
		failures := run(test)
		if len(failures) != 1 || !strings.Contains(failures[0], want) {
			t.Errorf("%v; want %q", failures, want)
		}
	}
}

type ended struct {
	tidetest.T
	ctx context.Context
}

func (e ended) Context() context.Context { return e.ctx }

func TestARecorderRemembersEachAttempt(t *testing.T) {
	db := tidetest.Open(t, server(t))
	db.Exec(`select tide.inbox_create('i')`)
	r := tidetest.NewRecorder()
	w, err := tide.NewWorker(db.Pool, tide.WorkerConfig{Inbox: "i", Metrics: r, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	w.HandleOthers(func(_ context.Context, m *tide.Message) error {
		if m.Attempts == 1 {
			return tide.RetryIn(time.Millisecond, fmt.Errorf("not yet"))
		}
		return nil
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	id := db.Deliver("i", tide.Event{Payload: 1})
	r.WaitFor(t, id, tide.Processed)
	r.Wait(t, 2)
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(r.Outcomes(id)); got != "[failed processed]" {
		t.Errorf("it was %s", got)
	}
}
