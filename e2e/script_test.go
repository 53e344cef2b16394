package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	natsgo "github.com/nats-io/nats.go"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// TestCommands runs the scripts of testdata/script: each command as a user
// types it, on a real server. With UPDATE_SCRIPTS=1 what commands print is
// written into the scripts.
func TestCommands(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			s := &script{t: t, path: filepath.Dir(built(t)) + string(os.PathListSeparator) + os.Getenv("PATH")}
			testscript.Run(t, testscript.Params{
				Files:               []string{file},
				Setup:               s.setup,
				UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
				RequireExplicitExec: true,
				Cmds: map[string]func(*testscript.TestScript, bool, []string){
					"database": s.database,
					"exits":    s.exits,
					"sql":      s.sql,
					"until":    s.until,
					"port":     s.port,
					"get":      s.get,
					"broker":   s.broker,
					"send":     s.send,
				},
			})
		})
	}
}

// script is what the commands of one script need.
type script struct {
	t    *testing.T
	path string
	nats *natstest.Server
}

func (s *script) setup(env *testscript.Env) error {
	env.Setenv("PATH", s.path)
	env.Setenv("HOME", env.WorkDir)
	return nil
}

// database NAME makes an empty database; its URL is in $NAME and in
// $PG_TIDE_POSTGRES_URL. $NAME_HOST, _PORT, _DATABASE, _USER and _PASSWORD are its parts.
func (s *script) database(ts *testscript.TestScript, _ bool, args []string) {
	dsn := pgtest.Database(s.t, 0)
	parts, err := url.Parse(dsn)
	ts.Check(err)
	password, _ := parts.User.Password()
	ts.Setenv("PG_TIDE_POSTGRES_URL", dsn)
	ts.Setenv(args[0], dsn)
	ts.Setenv(args[0]+"_HOST", parts.Hostname())
	ts.Setenv(args[0]+"_PORT", parts.Port())
	ts.Setenv(args[0]+"_DATABASE", strings.TrimPrefix(parts.Path, "/"))
	ts.Setenv(args[0]+"_USER", parts.User.Username())
	ts.Setenv(args[0]+"_PASSWORD", password)
}

// exits CODE PROGRAM ARGS… runs a program that must end with that exit code.
func (s *script) exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// sql TEXT runs statements as the database's owner and prints the last one's rows.
func (s *script) sql(ts *testscript.TestScript, neg bool, args []string) {
	rows, err := ask(s.t.Context(), ts.Getenv("PG_TIDE_POSTGRES_URL"), strings.Join(args, " "))
	if neg != (err != nil) {
		ts.Fatalf("%v", err)
	}
	for _, row := range rows {
		fmt.Fprintln(ts.Stdout(), row)
	}
}

// until TEXT asks again until the first value is t.
func (s *script) until(ts *testscript.TestScript, _ bool, args []string) {
	s.again(ts, func() (bool, string) {
		rows, err := ask(s.t.Context(), ts.Getenv("PG_TIDE_POSTGRES_URL"), args[0])
		return err == nil && len(rows) > 0 && rows[0] == "t", fmt.Sprint(rows, err)
	})
}

func (s *script) again(ts *testscript.TestScript, condition func() (bool, string)) {
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		holds, what := condition()
		if holds {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("still not so after %s: %s", patience, what)
		}
	}
}

// ask runs statements and returns the rows of the last, values divided by tabs.
func ask(ctx context.Context, dsn, sql string) ([]string, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // the answer is here
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return nil, err
	}
	var rows []string
	for _, values := range results[len(results)-1].Rows {
		texts := make([]string, len(values))
		for i, value := range values {
			texts[i] = string(value)
		}
		rows = append(rows, strings.Join(texts, "\t"))
	}
	return rows, nil
}

// broker NAME starts a NATS server; its URL is in $NAME.
func (s *script) broker(ts *testscript.TestScript, _ bool, args []string) {
	s.nats = natstest.Start(s.t, natstest.Options{})
	ts.Setenv(args[0], s.nats.URL())
}

// send SUBJECT BODY NAME=VALUE… publishes a message of a stranger's, with headers.
func (s *script) send(ts *testscript.TestScript, _ bool, args []string) {
	m := natsgo.NewMsg(args[0])
	m.Data = []byte(args[1])
	for _, header := range args[2:] {
		name, value, _ := strings.Cut(header, "=")
		m.Header.Set(name, value)
	}
	_, err := s.nats.JetStream(s.t).PublishMsg(s.t.Context(), m)
	ts.Check(err)
}

// port NAME puts a free port's number into $NAME.
func (s *script) port(ts *testscript.TestScript, _ bool, args []string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	ts.Check(err)
	ts.Check(listener.Close())
	ts.Setenv(args[0], port)
}

// get STATUS URL [TEXT] asks until the answer has that status and text, and prints its body.
func (s *script) get(ts *testscript.TestScript, _ bool, args []string) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	var body []byte
	s.again(ts, func() (bool, string) {
		answer, err := client.Get(args[1])
		if err != nil {
			return false, err.Error()
		}
		defer answer.Body.Close()
		body, err = io.ReadAll(answer.Body)
		return err == nil && strconv.Itoa(answer.StatusCode) == args[0] && strings.Contains(string(body), strings.Join(args[2:], " ")), answer.Status + " " + string(body)
	})
	_, err := ts.Stdout().Write(body)
	ts.Check(err)
}
