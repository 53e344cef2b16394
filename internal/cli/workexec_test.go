package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/tide"
)

func TestAProgramSeesItsMessageAndWhatItStartedEndsWithIt(t *testing.T) {
	m := &tide.Message{Inbox: "i", ID: 7, EventID: "e7", Type: "order.created", Stream: "orders", Key: "k", Op: "insert",
		Payload: json.RawMessage(`{"n": 1}`), Attempts: 2}
	var out, said bytes.Buffer
	each := &eachMessage{command: `cat; echo; echo $PG_TIDE_EVENT_TYPE $PG_TIDE_ATTEMPTS`, whole: true, out: &out, err: &said}
	if err := each.run(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	var seen struct {
		EventID string `json:"event_id"`
		Payload struct{ N int }
		Headers map[string]any
	}
	whole, rest, _ := strings.Cut(out.String(), "\n")
	if err := json.Unmarshal([]byte(whole), &seen); err != nil || seen.EventID != "e7" || seen.Payload.N != 1 || seen.Headers == nil {
		t.Errorf("it saw %s: %v", whole, err)
	}
	if rest != "order.created 2\n" {
		t.Errorf("its environment: %q", rest)
	}

	// A child that holds the output open would be waited for if it lived on.
	ctx, cancel := context.WithCancel(t.Context())
	started := &signalled{started: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		ended <- (&eachMessage{command: `sleep 600 & echo up >&2; wait`, out: &out, err: &said}).runTo(ctx, m, started)
	}()
	select {
	case <-started.started:
	case <-time.After(20 * time.Second):
		t.Fatal("it does not begin")
	}
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "signal") {
			t.Errorf("it ended by %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on")
	}
}

// signalled tells when something was written.
type signalled struct {
	started chan struct{}
	said    bool
}

func (s *signalled) Write(b []byte) (int, error) {
	if !s.said {
		close(s.started)
	}
	s.said = true
	return len(b), nil
}
