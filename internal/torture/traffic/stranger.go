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
// if there is an outbox, until intake ends; then it commits. When a crash takes
// it, another one is begun.
func (p Publisher) Hold(intake, work context.Context) error {
	for n := int64(0); intake.Err() == nil; n++ {
		if err := p.holdOne(intake, work, n); err != nil {
			pause(intake, reconnectPause)
		}
	}
	return nil
}

func (p Publisher) holdOne(intake, work context.Context, n int64) error {
	conn, err := connect(intake, p.DSN, strangerName)
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
	if p.Outbox != "" {
		key := fmt.Sprintf("old%d", n)
		_, err := conn.Exec(work, query("publish"), p.Outbox, p.Outbox+"/"+key, &key, 0, p.Types[0], "insert", number, "old", strings.Repeat("o", 40))
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
	if p.Outbox != "" {
		p.Commits.add(number, 1)
	}
	return nil
}
