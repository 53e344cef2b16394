package catalog

import (
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

func TestWhatKeepsTheRelayFromStartingIsSaidInASentence(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	empty := pgtest.Database(t, 0)
	schematest.Exec(t, pool, `do $$ begin create role nobody_special login password 'right'; exception when duplicate_object then end $$`)
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, c := range map[string]struct {
		dsn  string
		want []string
	}{
		"unreachable":    {"postgres://u:hush@" + closed.Addr().String() + "/d", []string{`database "d" at 127.0.0.1`, "cannot be reached", "refused"}},
		"unknown host":   {"postgres://u:hush@no-such-host.invalid/d", []string{`no-such-host.invalid`, "not known"}},
		"no database":    {strings.Replace(dsn, "/"+config.Database, "/nothing_here", 1), []string{`database "nothing_here"`, "does not exist"}},
		"no schema":      {empty, []string{"schema tide is not installed", "pg-tide install"}},
		"no right":       {asRole(t, dsn, "nobody_special"), []string{`role "nobody_special"`, "grant tide_relay to"}},
		"not understood": {"postgres://u:hush@h:port/d", []string{"cannot be understood", "postgres://user:password@host"}},
	} {
		_, err := Open(t.Context(), Options{ConnString: c.dsn, Relay: RelayInfo{ID: relayA}})
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", name, err, want)
			}
		}
		if strings.Contains(err.Error(), "hush") || strings.Contains(err.Error(), "failed to") {
			t.Errorf("%s: unfit to be shown: %q", name, err)
		}
	}
}

func TestAWrongPasswordIsSaidWithoutThePassword(t *testing.T) {
	t.Parallel()
	dsn, _ := newDatabase(t, 0)
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	wrong := strings.Replace(dsn, ":"+config.Password+"@", ":hush@", 1)
	_, err = Open(t.Context(), Options{ConnString: wrong, Relay: RelayInfo{ID: relayA}})
	if wrong == dsn || err == nil || !strings.Contains(err.Error(), "password") || strings.Contains(err.Error(), "hush") {
		t.Errorf("wrong password: %v", err)
	}
}

func TestASchemaOfAnotherVersionIsRefused(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	schematest.Exec(t, pool, "create or replace function tide.schema_version() returns text language sql as $$ select '99.0' $$")
	_, err := Open(t.Context(), Options{ConnString: dsn, Relay: RelayInfo{ID: relayA}})
	if err == nil || !strings.Contains(err.Error(), "99.0") || !strings.Contains(err.Error(), "use a newer pg-tide") {
		t.Errorf("another version: %v", err)
	}
}
