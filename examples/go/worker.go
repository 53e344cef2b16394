package main

import (
	"cmp"
	"context"
	"errors"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var (
	worker = cmp.Or(os.Getenv("WORKER"), "payments-"+strconv.Itoa(os.Getpid()))
	lease  = seconds("LEASE_SECONDS", 30)
	poll   = seconds("POLL_SECONDS", 5)
)

func claim(ctx context.Context, db session, most int) ([]message, error) {
	rows, _ := db.Query(ctx, `select id, lease_token::text, payload from tide.inbox_claim('payment_triggers', $1, $2, $3)`, worker, most, lease)
	return pgx.CollectRows(rows, pgx.RowToStructByName[message]) // an error of the query comes from here
}

// byLease commits the claim at once; each message's work is a transaction of its own.
func byLease(ctx, stop context.Context, db session) (worked bool, err error) {
	since := time.Now()
	messages, err := claim(ctx, db, 10)
	for i, m := range messages {
		var rest []int64
		for _, later := range messages[i:] {
			rest = append(rest, later.ID)
		}
		if stop.Err() != nil {
			_, err = db.Exec(ctx, `select tide.inbox_release('payment_triggers', $1, $2)`, m.LeaseToken, rest)
			return true, err
		}
		if time.Since(since) > lease/3 {
			since = time.Now()
			_, err = db.Exec(ctx, `select tide.inbox_extend('payment_triggers', $1, $2, $3)`, m.LeaseToken, rest, lease)
		}
		if err == nil {
			err = handle(ctx, db, m)
			if err != nil && !leaseLost(err) {
				err = fail(ctx, db, m, err)
			}
		}
		if err != nil {
			return true, err
		}
	}
	return len(messages) > 0, err
}

// inOneTransaction claims in the transaction of the work; a savepoint undoes the work alone.
func inOneTransaction(ctx, _ context.Context, db session) (worked bool, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		messages, err := claim(ctx, tx, 1)
		for _, m := range messages {
			worked = true
			if err = handle(ctx, tx, m); err != nil {
				err = fail(ctx, tx, m, err)
			}
		}
		return err
	})
	return worked, err
}

func leaseLost(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == "TD001"
}

func run(ctx, stop context.Context, db *pgx.Conn) error {
	next := byLease
	if os.Getenv("MODE") == "transaction" {
		next = inOneTransaction
	}
	_, err := db.Exec(ctx, `listen tide_inbox_payment_triggers`)
	for err == nil && stop.Err() == nil {
		var worked bool
		if worked, err = next(ctx, stop, db); leaseLost(err) {
			log.Print(err) // others have the messages, and our work was rolled back
			err = nil
		} else if err == nil && !worked {
			pause, cancel := context.WithTimeout(stop, poll)
			if _, err = db.WaitForNotification(pause); pause.Err() != nil {
				err = nil
			}
			cancel()
		}
	}
	return err
}

func main() {
	stop, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	ctx := context.WithoutCancel(stop) // what has begun is finished
	db, err := pgx.Connect(ctx, os.Getenv("DATABASE_URL"))
	if err == nil {
		err = run(ctx, stop, db)
	}
	if err != nil {
		log.Fatal(err) // a lost connection, say: whoever started it starts it again
	}
	log.Print("stopped")
}

func seconds(name string, otherwise int) time.Duration {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return time.Duration(n) * time.Second
	}
	return time.Duration(otherwise) * time.Second
}
