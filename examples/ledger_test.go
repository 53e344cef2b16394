package examples

import (
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// compare holds what was sent against payments, balances, events and dead letters.
func (w *world) compare() {
	w.t.Helper()
	want, balances, dead := map[string][]string{}, map[string]int{}, []string{}
	for _, o := range w.sent {
		if o.fate != paid {
			dead = append(dead, o.id)
			continue
		}
		want[o.customer] = append(want[o.customer], o.id)
		balances[o.customer] += o.amount
	}
	same := func(what string, got map[string][]string) {
		w.t.Helper()
		if !maps.EqualFunc(got, want, slices.Equal) {
			w.t.Errorf("%s by customer, in order:\n%v\nbut sent were\n%v", what, got, want)
		}
	}
	same("payments", w.byCustomer(`select customer, order_id from payments order by id`))
	same("events", w.byCustomer(`select e.key, e.payload->>'order_id' from tide.outbox_event e
		where e.payload->>'event_type' = 'payment.received' and e.stream = 'payments' order by e.id`))
	if all, known := w.count(`select count(*) from tide.outbox_event`), w.count(`select count(*) from payments`); all != known {
		w.t.Errorf("%d events were published for %d payments", all, known)
	}
	for customer, balance := range balances {
		if got := w.count(`select paid::integer from customers where id = $1`, customer); got != balance {
			w.t.Errorf("customer %s paid %d, and not %d", customer, got, balance)
		}
	}
	w.compareDead(dead)
}

func (w *world) byCustomer(sql string) map[string][]string {
	w.t.Helper()
	got := map[string][]string{}
	rows, _ := w.pool.Query(w.t.Context(), sql)
	var customer, id string
	if _, err := pgx.ForEachRow(rows, []any{&customer, &id}, func() error {
		got[customer] = append(got[customer], id)
		return nil
	}); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
	return got
}

// compareDead wants the orders that must fail as dead letters, each for its own reason.
func (w *world) compareDead(want []string) {
	w.t.Helper()
	rows, _ := w.pool.Query(w.t.Context(), `select event_id, attempts, last_error from tide."payment_triggers_inbox" where dead_at is not null order by id`)
	type letter struct {
		EventID   string
		Attempts  int
		LastError string
	}
	letters, err := pgx.CollectRows(rows, pgx.RowToStructByPos[letter])
	if err != nil {
		w.t.Fatal(err)
	}
	var got []string
	for _, l := range letters {
		got = append(got, l.EventID)
		switch l.EventID {
		case "ORD-BAD":
			if l.Attempts >= maxAttempts || !strings.Contains(l.LastError, "amount") {
				w.t.Errorf("%s was to be given up for its amount; it died after %d attempts of: %s", l.EventID, l.Attempts, l.LastError)
			}
		default:
			// The last attempt may have been that of a worker that was killed.
			if l.Attempts != maxAttempts || !strings.Contains(l.LastError, "customer") &&
				(w.mode == "transaction" || !strings.Contains(l.LastError, "did not say")) {
				w.t.Errorf("%s was to fail %d times for its customer; it died after %d attempts of: %s", l.EventID, maxAttempts, l.Attempts, l.LastError)
			}
		}
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("dead letters are %v, and not %v", got, want)
	}
}
