package catalog

import (
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/pipeline"
	"github.com/pg-tide/pg-tide/internal/testkit/pgtest"
	"github.com/pg-tide/pg-tide/internal/testkit/schematest"
)

// A relay needs tide_relay and nothing more.
func TestTheRelaysRoleSuffices(t *testing.T) {
	t.Parallel()
	dsn, pool := newDatabase(t, 0)
	schematest.Exec(t, pool, `do $$ begin create role plain_relay login; exception when duplicate_object then end $$;
		grant tide_relay to plain_relay`)
	schematest.Forward(t, pool, "o", relayB)
	schematest.Reverse(t, pool, "i", relayB)
	schematest.Exec(t, pool, "update tide.pipeline_owner set relay_id = null")
	schematest.Publish(t, pool, "o", "k", "{}")

	c := open(t, asRole(t, dsn, "plain_relay"), relayA)
	_, specs := heartbeat(t, c)
	for _, spec := range specs {
		owner := Owner{PipelineID: spec.ID, Fence: spec.Fence}
		letters := c.DeadLetters(owner)
		letter := message.DeadLetter{Message: message.Message{EventID: "e"}, Error: "x"}
		must(t, "add a dead letter", letters.Add(t.Context(), []message.DeadLetter{letter, letter}))
		must(t, "settle", letters.Settle(t.Context(), 1, nil))
		must(t, "settle a failure", letters.Settle(t.Context(), 1, errors.New("x")))
		_, err := letters.Held(t.Context())
		must(t, "read held keys", err)
		_, err = letters.Due(t.Context(), 1, false)
		must(t, "read due letters", err)
		must(t, "report", c.Registry().Report(t.Context(), []pipeline.Report{{PipelineID: spec.ID, Fence: spec.Fence, State: pipeline.StateRunning}}))
		if spec.Direction == pipeline.Reverse {
			_, err := c.InsertInbox(t.Context(), InboxTarget{Owner: owner, InboxID: spec.EndpointID, Inbox: spec.Endpoint},
				[]message.Message{{EventID: "e", Payload: []byte("{}")}})
			must(t, "insert", err)
			claims := c.Claims(spec)
			var held message.Claimed
			for _, settle := range []func(token string, ids []int64) error{
				func(token string, ids []int64) error { return claims.Release(t.Context(), token, ids, 0) },
				func(token string, ids []int64) error { return claims.Extend(t.Context(), token, ids, time.Minute) },
				func(token string, ids []int64) error { return claims.Complete(t.Context(), token, ids) },
			} {
				claimed, err := claims.Claim(t.Context(), 1, time.Minute)
				must(t, "claim", err)
				if len(claimed) == 1 {
					held = claimed[0]
				}
				must(t, "settle a claim", settle(held.Token, []int64{held.ID}))
			}
			continue
		}
		start, err := c.LoadPosition(t.Context(), spec.ID, spec.EndpointID)
		must(t, "load the position", err)
		page, err := c.ReadPage(t.Context(), PageRequest{Owner: owner, OutboxID: spec.EndpointID, Parts: start.Parts, Limit: 1, Bytes: 1})
		must(t, "read", err)
		if len(page.Messages) != 1 {
			t.Errorf("read %d events", len(page.Messages))
		}
		start.Position.Sequence = 1
		must(t, "save", c.SavePosition(t.Context(), owner, start.Position))
		must(t, "prune", c.PrunePositions(t.Context(), owner, 1, 1))
		_, _, err = c.StartDrain(t.Context(), PageRequest{Parts: start.Parts}, "", false)
		must(t, "start a drain", err)
		_, err = c.ReadDrain(t.Context(), PageRequest{Owner: owner, OutboxID: spec.EndpointID, Parts: start.Parts, Limit: 1, Bytes: 1})
		must(t, "drain", err)
		must(t, "release", c.Registry().Release(t.Context(), spec.ID, spec.Fence))
	}
	if len(specs) != 2 {
		t.Errorf("it owns %d pipelines", len(specs))
	}
	if _, ok := c.Gate().drawnID(t.Context()); !ok {
		t.Error("it may not see which ids are drawn")
	}
	_, err := c.Maintain(t.Context())
	must(t, "maintain", err)
	sizes, err := c.Outboxes(t.Context())
	must(t, "read the outboxes' sizes", err)
	if len(sizes) != 1 || sizes[0].Name != "o" || sizes[0].Bytes == 0 || sizes[0].Retention != 24*time.Hour {
		t.Errorf("the outboxes are %+v", sizes)
	}
	must(t, "leave", c.Registry().Leave(t.Context()))
}

// asRole is the same database for another role, over the socket, where the
// test's server trusts everybody.
func asRole(t *testing.T, dsn, role string) string {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return pgtest.Server(t, 0).SocketDSNAs(role, config.Database)
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}
