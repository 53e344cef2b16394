package cli

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

func TestProgressMovesOnTerminalsOnly(t *testing.T) {
	for terminal, want := range map[bool]string{true: "\r\x1b[Korders: 5 of 9 rows\r\x1b[K", false: ""} {
		var out bytes.Buffer
		p := &program{Streams: Streams{Err: &out, ErrIsTerminal: terminal}}
		p.progress("%s: %d of %d rows", "orders", 5, 9)
		p.progressEnd()
		if out.String() != want {
			t.Errorf("on a terminal %t: %q, want %q", terminal, out.String(), want)
		}
	}
}

func TestAChunkThatFellVictimIsDoneAgain(t *testing.T) {
	for code, want := range map[string]bool{"40P01": true, "40001": true, "42501": false} {
		if got := undone(fmt.Errorf("x: %w", &pgconn.PgError{Code: code})); got != want {
			t.Errorf("%s: %t", code, got)
		}
	}
	if undone(errors.New("broken pipe")) || undone(nil) {
		t.Error("an error that is not the server's is done again")
	}
}
