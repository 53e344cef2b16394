package working

import (
	"context"
	_ "embed" // the statements
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

var (
	//go:embed queries/claim.sql
	claimSQL string
	//go:embed queries/complete.sql
	completeSQL string
)

// session is a connection or a transaction.
type session interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// batch is what one claim gave.
type batch struct {
	ids   []int64
	token string
}

// claim takes messages of the inbox, with their payloads, as a worker does.
func claim(ctx context.Context, s session, most int) (batch, error) {
	var (
		got     batch
		id      int64
		payload []byte
	)
	rows, err := s.Query(ctx, claimSQL, most)
	if err != nil {
		return got, fmt.Errorf("claim messages: %w", err)
	}
	if _, err := pgx.ForEachRow(rows, []any{&id, &payload, &got.token}, func() error {
		got.ids = append(got.ids, id)
		return nil
	}); err != nil {
		return got, fmt.Errorf("claim messages: %w", err)
	}
	return got, nil
}

func (b *batch) complete(ctx context.Context, s session) error {
	if len(b.ids) == 0 {
		return nil
	}
	if _, err := s.Exec(ctx, completeSQL, b.token, b.ids); err != nil {
		return fmt.Errorf("complete messages: %w", err)
	}
	return nil
}
