package traffic

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// lookPause is how often an open transaction looks whether it still lives.
const lookPause = 500 * time.Millisecond

// Hold keeps a transaction open that has an xid, and has published an event
// if outbox is given, until intake ends; then it commits. When a crash takes
// it, another one is begun.
func Hold(intake, work context.Context, dsn, outbox, name string, commits *Commits) error {
	for n := int64(0); intake.Err() == nil; n++ {
		if err := holdOne(intake, work, dsn, outbox, name, n, commits); err != nil {
			pause(intake, reconnectPause)
		}
	}
	return nil
}

func holdOne(intake, work context.Context, dsn, outbox, name string, n int64, commits *Commits) error {
	conn, err := connect(intake, dsn, strangerName)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(work)) }() // committed or lost
	if _, err := conn.Exec(work, "begin"); err != nil {
		return err
	}
	if _, err := conn.Exec(work, query("hold")); err != nil {
		return err
	}
	number := int64(1)<<48 | n
	if outbox != "" {
		key := fmt.Sprintf("%s%d", name, n)
		_, err := conn.Exec(work, query("publish"), outbox, outbox+"/"+key, &key, 0, "order.created", "insert", number, "old", strings.Repeat("o", 40))
		if err != nil {
			return err
		}
	}
	for intake.Err() == nil {
		pause(intake, lookPause)
		if _, err := conn.Exec(work, "select 1"); err != nil {
			return err // a crash took it
		}
	}
	if _, err := conn.Exec(work, "commit"); err != nil {
		return err
	}
	if outbox != "" {
		commits.add(number, 1)
	}
	return nil
}
