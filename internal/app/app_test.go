package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/app"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/schema"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const patience = 30 * time.Second

// running is a relay within this process.
type running struct {
	address string
	log     *log
	stop    context.CancelFunc
	ended   chan error
}

func start(t *testing.T, dsn string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &running{log: &log{}, stop: cancel, ended: make(chan error, 1)}
	listening := make(chan string, 1)
	go func() {
		r.ended <- app.Run(ctx, app.Options{
			PostgresURL: dsn,
			HTTPAddr:    "127.0.0.1:0",
			Version:     "test",
			Logger:      slog.New(slog.NewTextHandler(r.log, nil)),
			Listening:   func(address string) { listening <- address },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			t.Log(r.log.String())
		}
	})
	select {
	case r.address = <-listening:
	case err := <-r.ended:
		t.Fatalf("the relay ended: %v", err)
	}
	return r
}

// end stops the relay and waits for it.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	select {
	case err := <-r.ended:
		if err != nil {
			t.Errorf("the relay ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the relay does not end")
	}
}

// ready asks until /readyz answers with that status, and returns the reasons.
func (r *running) ready(t *testing.T, status int) []string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	deadline := time.After(patience)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		response, err := client.Get("http://" + r.address + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode == status {
			var answer struct{ Reasons []string }
			if err := json.Unmarshal(body, &answer); err != nil {
				t.Fatal(err)
			}
			return answer.Reasons
		}
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("/readyz still answers %d %s, want %d", response.StatusCode, body, status)
		}
	}
}

// log keeps what was logged.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func install(t *testing.T, dsn string) {
	t.Helper()
	conn := pgtest.Conn(t, dsn)
	if err := schema.Install(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
}

func TestWaitsForTheSchemaAndSaysSoOnce(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, 0)
	r := start(t, dsn)
	reasons := r.ready(t, http.StatusServiceUnavailable)
	for len(reasons) == 1 && strings.Contains(reasons[0], "not reached yet") {
		reasons = r.ready(t, http.StatusServiceUnavailable)
	}
	if len(reasons) != 1 || !strings.Contains(reasons[0], "tide") || !strings.Contains(reasons[0], "install") {
		t.Errorf("reasons are %q", reasons)
	}
	install(t, dsn)
	r.ready(t, http.StatusOK)
	r.end(t)
	if n := strings.Count(r.log.String(), "waiting for the database"); n != 1 {
		t.Errorf("said %d times that it waits for the database", n)
	}
}

func TestWaitsForTheDatabaseToExist(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, 0)
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	missing := strings.Replace(dsn, "/"+config.Database, "/"+config.Database+"_later", 1)
	r := start(t, missing)
	for reasons := r.ready(t, http.StatusServiceUnavailable); !strings.Contains(reasons[0], "does not exist"); {
		reasons = r.ready(t, http.StatusServiceUnavailable)
	}
	conn := pgtest.Conn(t, dsn)
	if _, err := conn.Exec(t.Context(), "create database "+config.Database+"_later"); err != nil {
		t.Fatal(err)
	}
	server := pgtest.Server(t, 0)
	t.Cleanup(func() {
		// The test's context has ended by now.
		session, err := pgx.Connect(context.Background(), server.SocketDSN("postgres"))
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close(context.Background())
		if _, err := session.Exec(context.Background(), "drop database "+config.Database+"_later with (force)"); err != nil {
			t.Error(err)
		}
	})
	install(t, missing)
	r.ready(t, http.StatusOK)
	r.end(t)
}

func TestEndsWhileItWaits(t *testing.T) {
	t.Parallel()
	r := start(t, "postgres://user:s3cret@127.0.0.1:1/nowhere")
	r.ready(t, http.StatusServiceUnavailable)
	r.end(t)
	if strings.Contains(r.log.String(), "s3cret") {
		t.Error("the password is in the log")
	}
}

func TestWrongOptionsAreNotWaitedOut(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]app.Options{
		"connection string": {PostgresURL: "postgres://user:s3cret@host:port/db"},
		"address":           {HTTPAddr: "nonsense", PostgresURL: "postgres://127.0.0.1:1/x"},
	} {
		err := app.Run(t.Context(), o)
		if err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
