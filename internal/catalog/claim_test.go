package catalog

import (
	"errors"
	"testing"
	"time"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

func TestClaimsGiveWholeMessagesAndKnowALostLease(t *testing.T) {
	t.Parallel()
	for _, strict := range []bool{false, true} {
		dsn, pool := newDatabase(t, pgtest.Oldest)
		spec := schematest.Reverse(t, pool, "i", relayA)
		if strict {
			schematest.Exec(t, pool, `do $$ begin execute format('alter database %I set default_transaction_isolation = serializable', current_database()); end $$`)
		}
		c := open(t, dsn, relayA)
		sent := message.Message{EventID: "e", Source: "/6f9619ff-8b86-4d11-b42d-00c04fc964ff/orders", Stream: "s", Key: "k", Op: "insert", EventType: "t",
			Payload: []byte(`{"a": 1}`), Headers: []byte(`{"x": "y"}`)}
		if _, err := c.InsertInbox(t.Context(), InboxTarget{Owner: OwnerOf(spec), InboxID: spec.EndpointID, Inbox: "i"}, []message.Message{sent}); err != nil {
			t.Fatal(err)
		}
		claims := c.Claims(spec)
		claimed, err := claims.Claim(t.Context(), 10, time.Minute)
		if err != nil || len(claimed) != 1 {
			t.Fatalf("claimed %v, %v", claimed, err)
		}
		got := claimed[0].Message
		if got.EventID != sent.EventID || got.Source != sent.Source || got.Outbox != "orders" || got.Stream != "s" || got.Key != "k" || got.Op != "insert" ||
			got.EventType != "t" || string(got.Payload) != `{"a": 1}` || string(got.Headers) != `{"x": "y"}` || got.Time.IsZero() || claimed[0].Attempts != 1 {
			t.Errorf("claimed %+v", claimed[0])
		}
		if again, err := claims.Claim(t.Context(), 10, time.Minute); err != nil || len(again) != 0 {
			t.Errorf("claimed again: %v, %v", again, err)
		}
		dead, err := claims.Fail(t.Context(), claimed[0].Token, claimed[0].ID, "x", time.Hour, true)
		if err != nil || !dead {
			t.Errorf("given up: dead is %t, %v", dead, err)
		}
		for what, settle := range map[string]error{
			"complete": claims.Complete(t.Context(), claimed[0].Token, []int64{claimed[0].ID}),
			"extend":   claims.Extend(t.Context(), claimed[0].Token, []int64{claimed[0].ID}, time.Minute),
			"release":  claims.Release(t.Context(), claimed[0].Token, []int64{claimed[0].ID}, 0),
		} {
			if !errors.Is(settle, delivery.ErrLeaseLost) {
				t.Errorf("%s after the lease was lost: %v", what, settle)
			}
		}
	}
}
