package demo

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func aSample() sample {
	return sample{
		elapsed: 15 * time.Second, lasts: 30 * time.Second, bus: "NATS", place: "events.>", broker: 1500, brokerRate: 75,
		outboxes: []outboxSample{
			{service: "orders", outbox: "order_events", committed: 1000, rolledBack: 100, rate: 50},
			{service: "inventory", outbox: "stock_events", committed: 500, rolledBack: 50, rate: 25, lag: 3},
		},
		inboxes: []inboxSample{
			{service: "payments", inbox: "payment_triggers", arrived: 900, waiting: 100, down: true},
			{service: "shipping", inbox: "shipping_triggers", arrived: 1300, unprocessed: 2, delay: 4200 * time.Microsecond},
		},
		queue: []int{0, 0, 50, 100},
		story: []string{"one event: order.created ORD-1", "outbox_publish 0 > commit 1.2 ms"},
		news:  []string{"15.0 s  the payment service stops"},
	}
}

func TestPictureFitsTheTerminal(t *testing.T) {
	for _, width := range []int{20, 79, 200} {
		for _, text := range picture(aSample(), width, plainPaint) {
			if n := utf8.RuneCountInString(text); n > width {
				t.Errorf("%d characters in %d: %q", n, width, text)
			}
		}
	}
}

func TestPictureNeedsNoMoreThanAnOrdinaryTerminal(t *testing.T) {
	narrow, wide := picture(aSample(), 79, plainPaint), picture(aSample(), 300, plainPaint)
	for i := range narrow {
		if narrow[i] != wide[i] && !strings.Contains(wide[i], "payments queue") {
			t.Errorf("cut: %q", narrow[i])
		}
	}
	if len(narrow) > 20 {
		t.Errorf("%d lines", len(narrow))
	}
}

func TestPictureShowsEverything(t *testing.T) {
	all := strings.Join(picture(aSample(), 200, plainPaint), "\n")
	for _, want := range []string{"order_events", "stock_events", "NATS", "payment_triggers", "STOPPED", "shipping_triggers", "4.2 ms",
		"rolled back", "pending", "in NATS", "15.0 s of 30.0 s", "one event", "the payment service stops", "  ▄█ 100"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is missing in\n%s", want, all)
		}
	}
}

func TestScreenDrawsInPlaceAndOnlyWhereItFits(t *testing.T) {
	var out bytes.Buffer
	height := 50
	s := newScreen(Options{Out: &out, Size: func() (int, int) { return 100, height }})
	s.draw(aSample())
	s.draw(aSample())
	lines := len(picture(aSample(), 99, plainPaint))
	if got := strings.Count(out.String(), "\n"); got != 2*lines {
		t.Errorf("%d lines", got)
	}
	if !strings.Contains(out.String(), fmt.Sprintf("\x1b[%dA", lines)) || strings.Contains(out.String(), "\x1b[1m") {
		t.Errorf("it is not redrawn in place, or has colours: %d lines, %q", lines, out.String())
	}
	out.Reset()
	height = 10
	s.draw(aSample())
	if got := out.String(); strings.Contains(got, "\x1b") || strings.Count(got, "\n") != 1 {
		t.Errorf("in a low terminal: %q", got)
	}
}

func TestPlainLinesHaveNoEscapesAndComeNowAndThen(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(Options{Out: &out, Color: true})
	for range 5 {
		s.draw(aSample())
	}
	if got := out.String(); strings.Contains(got, "\x1b") || strings.Count(got, "\n") != 1 || !strings.Contains(got, "100 waiting") {
		t.Errorf("got %q", got)
	}
}

func TestSparkKeepsTheGreatestOfALongHistory(t *testing.T) {
	values := make([]int, 1000)
	values[500], values[999] = 80, 10
	got := spark(values, 10)
	if got != "     █   ▁ 10" && got != "     █   ▂ 10" {
		t.Errorf("got %q", got)
	}
	if got := spark(nil, 10); got != "  0" {
		t.Errorf("of nothing: %q", got)
	}
}

func TestActsLeaveTimeForEach(t *testing.T) {
	for _, start := range []time.Duration{0, time.Second, 10 * time.Second, time.Minute} {
		for _, lasts := range []time.Duration{shortest, 12 * time.Second, 30 * time.Second, time.Hour} {
			down, up, end := acts(lasts, start)
			if start >= down || down >= up || up > end {
				t.Errorf("of %s after %s: %s, %s, %s", lasts, start, down, up, end)
			}
			if start < time.Second && end >= lasts {
				t.Errorf("of %s after %s the traffic ends at %s", lasts, start, end)
			}
		}
	}
}

func TestStoryIsToldWhoeverIsFaster(t *testing.T) {
	f := newFollower("NATS")
	now := time.Now()
	e := event{id: "1", key: "ORD-1", eventType: "order.created", committed: now}
	f.passBroker("1")
	f.passWorker("1", now, now) // before the publisher knows that it committed
	f.offer(e, now)
	if !f.arrived() {
		t.Error("the story has no end")
	}
	f.offer(event{id: "2"}, now)
	if !strings.Contains(f.story()[0], "ORD-1") {
		t.Errorf("it was not left on the screen: %v", f.story())
	}
}
