package schema_test

import (
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
)

// What posts events is checked in SQL already, and its secrets are not shown.
func TestPostingIsConfiguredStrictly(t *testing.T) {
	t.Parallel()
	conn := embedded(t, pgtest.Oldest)
	exec(t, conn, `select tide.inbox_create('i')`)
	exec(t, conn, `select tide.outbox_create('o')`)
	reverse := func(push string) string {
		return `select tide.relay_set_inbox('r', 'i', '{"source_type": "nats", "url": "nats://h", "subject": "s", "inbox_push": ` + push + `}')`
	}
	forward := func(keys string) string {
		return `select tide.relay_set_outbox('f', 'o', '{"sink_type": "webhook", "url": "https://h"` + keys + `}')`
	}
	refused(t, conn, reverse(`{"url": "https://h", "signing_secrets": "a"}`), "22023", "inbox_push.signing_secrets", "inbox_push.signing_secret")
	refused(t, conn, reverse(`{"url": "https://h", "concurrency": "8"}`), "22023", "inbox_push.concurrency", "integer")
	refused(t, conn, reverse(`{"url": "https://h", "circuit_breaker": {"open": 1}}`), "22023", "inbox_push.circuit_breaker.open")
	refused(t, conn, reverse(`"https://h"`), "22023", "inbox_push", "object")
	refused(t, conn, forward(`, "inbox_push": {"url": "https://h"}`), "22023", "inbox_push")
	refused(t, conn, forward(`, "allow_network": "10.0.0.0/8"`), "22023", "allow_networks")
	exec(t, conn, reverse(`{"url": "https://h", "signing_secret": "whsec_c2VzYW1l", "bearer_token": "${env:TOKEN}"}`))
	exec(t, conn, forward(`, "previous_signing_secret": "whsec_c2VzYW1l", "path": "{stream}"`))
	for pipeline, key := range map[string]string{"r": "{config,inbox_push,signing_secret}", "f": "{config,previous_signing_secret}"} {
		var shown string
		if err := conn.QueryRow(t.Context(), `select tide.relay_get_config($1)::jsonb #>> $2::text[]`, pipeline, key).Scan(&shown); err != nil || shown != "***" {
			t.Errorf("%s shows %q, %v", pipeline, shown, err)
		}
	}
}
