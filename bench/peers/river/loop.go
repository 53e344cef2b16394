// Package river is an inbox made of River v0.51.2: each message of a
// JetStream consumer becomes a job. Its pages "Inserting jobs" and "Batch job
// insertion" have Insert for one and InsertMany, or InsertManyFast by COPY,
// for many; its page "Unique jobs" has what keeps a message that is delivered
// again from becoming a second job, which InsertManyFast answers with an
// error instead. Nothing works the jobs here.
package river

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/pg-tide/pg-tide/bench/peers/target"
)

// Way is how messages become jobs.
type Way string

// The ways of River's pages.
const (
	// Each inserts a unique job for each message.
	Each Way = "each"
	// Many inserts a batch of unique jobs.
	Many Way = "many"
	// Fast inserts a batch by COPY, and would fail when one is there already.
	Fast Way = "fast"
)

const (
	batch     = 1000
	fetchWait = time.Second
)

// args is a message as a job.
type args struct {
	EventID string          `json:"event_id" river:"unique"`
	Key     string          `json:"key"`
	Type    string          `json:"event_type"`
	Payload json.RawMessage `json:"payload"`
}

// Kind names the job.
func (args) Kind() string { return "message" }

// SetUp makes River's tables.
func SetUp(ctx context.Context, dsn string) error {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// Run makes jobs until something fails.
func Run(ctx context.Context, t target.Target, way Way) error {
	pool, err := pgxpool.New(ctx, t.Postgres)
	if err != nil {
		return err
	}
	defer pool.Close()
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{}) // it inserts only
	if err != nil {
		return err
	}
	nc, err := natsgo.Connect(t.NATS)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	policy := jetstream.AckAllPolicy // the last one of a batch stands for all
	if way == Each {
		policy = jetstream.AckExplicitPolicy
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, t.Stream, jetstream.ConsumerConfig{
		Durable: t.Durable, AckPolicy: policy, MaxAckPending: 4 * batch,
	})
	if err != nil {
		return err
	}
	if way == Each {
		return each(ctx, client, consumer)
	}
	for {
		if err := many(ctx, client, consumer, way); err != nil {
			return err
		}
	}
}

// each inserts and acknowledges one message after another.
func each(ctx context.Context, client *river.Client[pgx.Tx], consumer jetstream.Consumer) error {
	messages, err := consumer.Messages(jetstream.PullMaxMessages(batch))
	if err != nil {
		return err
	}
	defer messages.Stop()
	for ctx.Err() == nil {
		m, err := messages.Next()
		if err != nil {
			return err
		}
		if _, err := client.Insert(ctx, argsOf(m), unique()); err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if err := m.Ack(); err != nil {
			return fmt.Errorf("acknowledge: %w", err)
		}
	}
	return ctx.Err()
}

// many inserts one batch and acknowledges its last message.
func many(ctx context.Context, client *river.Client[pgx.Tx], consumer jetstream.Consumer, way Way) error {
	fetched, err := consumer.Fetch(batch, jetstream.FetchMaxWait(fetchWait))
	if err != nil {
		return err
	}
	var jobs []river.InsertManyParams
	var last jetstream.Msg
	for m := range fetched.Messages() {
		job := river.InsertManyParams{Args: argsOf(m)}
		if way == Many {
			job.InsertOpts = unique()
		}
		jobs, last = append(jobs, job), m
	}
	if err := fetched.Error(); err != nil {
		return err
	}
	if last == nil {
		return ctx.Err()
	}
	switch way {
	case Many:
		_, err = client.InsertMany(ctx, jobs)
	case Fast:
		_, err = client.InsertManyFast(ctx, jobs)
	default:
		err = errors.New("no such way")
	}
	if err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	return last.Ack()
}

func unique() *river.InsertOpts {
	return &river.InsertOpts{UniqueOpts: river.UniqueOpts{ByArgs: true}}
}

func argsOf(m jetstream.Msg) args {
	h := m.Headers()
	return args{EventID: h.Get(natsgo.MsgIdHdr), Key: h.Get("ce-subject"), Type: h.Get("ce-type"), Payload: m.Data()}
}
