package sinktest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
)

func deliversInOrder(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	want := Envelopes(h.Destination, 1, 500)
	mustSend(ctx, t, sink, want)
	same(t, f, h.Stored(t), want)
}

func pipelines(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	want := Envelopes(h.Destination, 1, 1000)
	var receipts []delivery.Receipt
	for first := 0; first < len(want); first += 100 {
		receipt, err := sink.Send(ctx, want[first:first+100])
		if err != nil {
			t.Fatalf("send: %v", err)
		}
		receipts = append(receipts, receipt)
	}
	for _, receipt := range receipts {
		if err := receipt.Wait(ctx); err != nil {
			t.Fatalf("wait: %v", err)
		}
	}
	same(t, f, h.Stored(t), want)
}

func keepsEventID(t testing.TB, _ Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	want := Envelopes(h.Destination, 1, 10)
	mustSend(ctx, t, sink, want)
	ids := map[string]string{}
	for _, e := range h.Stored(t) {
		ids[string(e.Body)] = e.EventID
	}
	for i := range want {
		if got := ids[string(want[i].Body)]; got != want[i].EventID {
			t.Errorf("event %s has the id %q at the far end", want[i].EventID, got)
		}
	}
}

func storesOnce(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	want := Envelopes(h.Destination, 1, 100)
	mustSend(ctx, t, sink, want[:60])
	if err := sink.Open(ctx); err != nil {
		t.Fatalf("open again: %v", err)
	}
	mustSend(ctx, t, sink, want)
	same(t, f, h.Stored(t), want)
}

func refusesTooLarge(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	batch := Envelopes(h.Destination, 1, 5)
	batch[3].Body = []byte(`"` + strings.Repeat("x", f.MaxBytes) + `"`)
	refused(t, send(ctx, sink, batch), 3)
	if stored := h.Stored(t); len(stored) != 0 {
		t.Fatalf("%d events of a refused batch were sent", len(stored))
	}
	// The sink goes on.
	mustSend(ctx, t, sink, batch[:3])
	same(t, f, h.Stored(t), batch[:3])
}

// refusesAlone takes both ways that the engine knows: refused by Send, before
// anything was sent, or by Wait, and then all others are durable.
func refusesAlone(t testing.TB, f Features, h Harness) {
	ctx := conformance.Limited(t)
	sink := opened(ctx, t, h)
	batch := Envelopes(h.Destination, 1, 5)
	h.Poison(&batch[2])
	others := append(append([]message.Envelope{}, batch[:2]...), batch[3:]...)
	receipt, err := sink.Send(ctx, batch)
	if err != nil {
		refused(t, err, 2)
		if stored := h.Stored(t); len(stored) != 0 {
			t.Fatalf("%d events of a batch that Send refused were sent", len(stored))
		}
		mustSend(ctx, t, sink, others)
		same(t, f, h.Stored(t), others)
		return
	}
	refused(t, receipt.Wait(ctx), 2)
	same(t, f, h.Stored(t), others)
	more := Envelopes(h.Destination, 6, 2)
	mustSend(ctx, t, sink, more)
	same(t, f, h.Stored(t), append(others, more...))
}

// refused fails t unless err reports the one event of the batch.
func refused(t testing.TB, err error, index int) {
	t.Helper()
	var partial *delivery.Partial
	if !errors.As(err, &partial) || len(partial.Failed) != 1 || partial.Failed[index] == nil {
		t.Fatalf("an event that is refused gave %v, not a partial failure of event %d alone", err, index)
	}
	if verdict, _ := delivery.VerdictOf(partial.Failed[index]); verdict != delivery.VerdictReject {
		t.Fatalf("an event that is refused has the verdict %v: %v", verdict, partial.Failed[index])
	}
}

func saysWhy(t testing.TB, need conformance.Need, h Harness) {
	ctx := conformance.Limited(t)
	r := h.Wrong[need](t)
	t.Cleanup(func() { closed(context.WithoutCancel(ctx), t, r.End) })
	err := r.End.Open(ctx)
	if err == nil {
		err = send(ctx, r.End, Envelopes(h.Destination, 1, 1))
	}
	conformance.CheckRefusal(t, need, r, err)
}

func knowsItsKeys(t testing.TB, f Features, _ Harness) {
	conformance.CheckKeys(t, conformance.Technology(t, f.Technology).SinkFields)
}
