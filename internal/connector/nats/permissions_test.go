package nats_test

import (
	"strings"
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

// allow writes a user's permissions as the documentation lists them.
func allow(publish ...string) string {
	return `{ publish: ["` + strings.Join(publish, `", "`) + `"], subscribe: ["_INBOX.>"] }`
}

func TestNeedsNoMoreRightsThanDocumented(t *testing.T) {
	t.Parallel()
	stream := []string{"$JS.API.STREAM.INFO.S", "$JS.API.STREAM.CREATE.S", "$JS.API.STREAM.UPDATE.S"}
	search := []string{"$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.*"}
	read := []string{"$JS.API.CONSUMER.INFO.S.C", "$JS.API.CONSUMER.CREATE.S.C.>", "$JS.API.CONSUMER.RESET.S.C", "$JS.API.CONSUMER.MSG.NEXT.S.C", "$JS.ACK.S.C.>"}
	server := natstest.Start(t, natstest.Options{Login: natstest.Users(map[string]string{
		"sink":      allow(append(stream, "events.>", "$JS.API.STREAM.MSG.GET.S")...),
		"source":    allow(append(read, stream...)...),
		"searching": allow(append(read, search...)...),
		"several":   allow(append(append(read, search...), "$JS.API.CONSUMER.CREATE.S.C2", "$JS.API.CONSUMER.INFO.S.C2")...),
	})})
	as := func(user string, more values) values {
		return values{"username": user, "password": natstest.Password(user)}.with(more)
	}
	ctx := background(t)
	sink := newSink(t, sinkTo(server, "events.{op}", as("sink", values{"stream": "S"})))
	open(ctx, t, sink)
	if err := send(ctx, sink, sinktest.Envelopes("events.insert", 1, 20)...); err != nil {
		t.Fatalf("send: %v", err)
	}
	for _, user := range []string{"source", "searching"} {
		config := as(user, values{"durable_name": "C"})
		if user == "source" {
			config["stream"] = "S"
		}
		source := newSource(t, sourceFrom(server, "events.>", config), "db-1")
		open(ctx, t, source)
		acknowledge(t, fetch(t, source, 5))
		fetch(t, source, 5) // left for the next session to reset
		if err := source.Close(ctx); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	open(ctx, t, newSource(t, sourceFrom(server, "events.a, events.b", as("several", values{"durable_name": "C2"})), "db-1"))
}

// Without the right to look at a message a sink can tell less, and works.
func TestASinkThatMayNotLookAtMessagesStillSends(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Options{Login: natstest.Users(map[string]string{
		"sink":  allow("$JS.API.STREAM.INFO.S", "$JS.API.STREAM.CREATE.S", "events.>", "$JS.API.STREAM.MSG.GET.S"),
		"blind": allow("$JS.API.STREAM.INFO.S", "events.>"),
	})})
	ctx := background(t)
	var mark string
	for _, user := range []string{"sink", "blind"} {
		sink := newSink(t, sinkTo(server, "events.{op}", values{"stream": "S", "username": user, "password": natstest.Password(user)}))
		open(ctx, t, sink)
		if user == "sink" {
			mark = markAfter(ctx, t, sink, 1, 5)
		}
		proves(ctx, t, sink, mark, true, "")
		wrong := strings.Replace(mark, "-000000000005", "-000000000004", 1)
		if user == "sink" && wrong != mark {
			proves(ctx, t, sink, wrong, false, "for another event")
		}
		if err := send(ctx, sink, sinktest.Envelopes("events.insert", 6, 5)...); err != nil {
			t.Errorf("user %s cannot send after it was asked: %v", user, err)
		}
	}
}
