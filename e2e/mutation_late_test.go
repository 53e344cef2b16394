package e2e

import "testing"

// lateStart has a transaction take its xid before another and draw its ids
// behind it. When the first commits, the second is the youngest there is: the
// snapshot ends before it and does not list it, and yet its event has a lower
// id than those that the page holds. A relay's own transactions may come in
// between; so it is tried again until the mistake shows.
func lateStart(t *testing.T, o *outing) []string {
	t.Helper()
	w := o.ownServer(t, map[string]string{"autovacuum": "off"})
	w.start(t, w.service.dsn, "")
	w.publish(t, "a", 1, 2)
	w.saved(t)
	const enough, most = 3, 20
	for round := 1; ; round++ {
		early, late := w.begin(t), w.begin(t)
		if _, err := early.Exec(t.Context(), `select pg_current_xact_id()`); err != nil {
			t.Fatal(err)
		}
		w.publishIn(t, late, "late", round, round, "")
		w.publishIn(t, early, "a", 4*round-1, 4*round, "")
		if err := early.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.streamed(t, "a", 4*round)
		if err := late.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.publish(t, "a", 4*round+1, 4*round+2)
		w.streamed(t, "a", 4*round+2) // and what was late before them
		findings := w.compare("stream", w.inStream(t))
		if len(findings) > 0 || w.mutant == "" && round == enough || round == most {
			return findings
		}
	}
}
