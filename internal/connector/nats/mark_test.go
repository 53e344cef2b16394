package nats_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/connector/nats"
	"github.com/pg-tide/pg-tide/internal/testkit/natstest"
	"github.com/pg-tide/pg-tide/internal/testkit/sinktest"
)

// markAfter sends events and returns the sink's mark.
func markAfter(ctx context.Context, t *testing.T, sink *nats.Sink, first, n int) string {
	t.Helper()
	if err := send(ctx, sink, sinktest.Envelopes("events.insert", first, n)...); err != nil {
		t.Fatalf("send: %v", err)
	}
	return sink.Mark()
}

// proves opens the sink again and asserts what it says by a mark: that the
// stream has everything, that it lost something (with these words), or nothing.
func proves(ctx context.Context, t *testing.T, sink *nats.Sink, mark string, holds bool, lost string) {
	t.Helper()
	// A stream that was deleted a moment ago cannot be made again at once.
	natstest.Eventually(t, "the sink opens", func() bool { return sink.Open(ctx) == nil })
	proof, err := sink.Prove(ctx, mark)
	if err != nil {
		t.Fatalf("prove: %v", err)
	}
	if proof.Holds != holds || (lost == "") != (proof.Lost == "") || !strings.Contains(proof.Lost, lost) {
		t.Errorf("by %s: %+v, want holds %t and lost %q", mark, proof, holds, lost)
	}
}

func TestNoticesThatAStreamWasMadeAgain(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	ctx := background(t)
	sink := newSink(t, sinkTo(server, "events.{op}", nil))
	open(ctx, t, sink)
	mark := markAfter(ctx, t, sink, 1, 5)
	proves(ctx, t, sink, mark, true, "")
	if got := sink.Mark(); got != mark {
		t.Errorf("a session that sent nothing has the mark %s, want %s", got, mark)
	}
	if err := js.DeleteStream(ctx, "tide-events"); err != nil {
		t.Fatal(err)
	}
	proves(ctx, t, sink, mark, false, "stream tide-events was made again")
}

func TestAPurgeIsNoLoss(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	ctx := background(t)
	sink := newSink(t, sinkTo(server, "events.{op}", nil))
	open(ctx, t, sink)
	mark := markAfter(ctx, t, sink, 1, 5)
	stream, err := js.Stream(ctx, "tide-events")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(ctx, 5); err != nil {
		t.Fatal(err)
	}
	proves(ctx, t, sink, mark, true, "")
	if err := stream.Purge(ctx); err != nil {
		t.Fatal(err)
	}
	proves(ctx, t, sink, mark, true, "")
	mark = markAfter(ctx, t, sink, 6, 1)
	proves(ctx, t, sink, mark, true, "")
}

// powerFailure puts the stream's files back to what they were: what was
// acknowledged after the copy had not been synced.
type powerFailure struct {
	server *natstest.Server
	dir    string
}

func copyStore(t *testing.T, server *natstest.Server) powerFailure {
	t.Helper()
	f := powerFailure{server: server, dir: filepath.Join(t.TempDir(), "copy")}
	server.Stop() // so that the files are whole
	if err := os.CopyFS(f.dir, os.DirFS(server.StoreDir())); err != nil {
		t.Fatal(err)
	}
	if err := server.Run(); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f powerFailure) strike(t *testing.T) {
	t.Helper()
	f.server.Kill()
	if err := os.RemoveAll(f.server.StoreDir()); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(f.server.StoreDir(), os.DirFS(f.dir)); err != nil {
		t.Fatal(err)
	}
	if err := f.server.Run(); err != nil {
		t.Fatal(err)
	}
}

func TestNoticesThatAStreamLostItsEnd(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, natstest.Options{})
	ctx := background(t)
	sink := newSink(t, sinkTo(server, "events.{op}", nil))
	open(ctx, t, sink)
	synced := markAfter(ctx, t, sink, 1, 5)
	failure := copyStore(t, server)
	proves(ctx, t, sink, synced, true, "")
	lost := markAfter(ctx, t, sink, 6, 5)
	failure.strike(t)
	proves(ctx, t, sink, lost, false, "stream tide-events lost its end: it stops at 5, and had acknowledged 10")
	proves(ctx, t, sink, synced, true, "")

	// Others have filled the places meanwhile.
	publish(t, server.JetStream(t), sinktest.Envelopes("events.other", 100, 9))
	proves(ctx, t, sink, lost, false, "number 10 was acknowledged for another event")
	proves(ctx, t, sink, synced, true, "")
}

// The relay's own connection may survive the loss, where the stream lies on
// another server of the cluster.
func TestNoticesByAnAcknowledgementThatTheStreamWentBack(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	ctx := background(t)
	sink := newSink(t, sinkTo(server, "events.{op}", nil))
	open(ctx, t, sink)
	markAfter(ctx, t, sink, 1, 5)
	info := streamInfo(t, js, "tide-events")
	if err := js.DeleteStream(ctx, "tide-events"); err != nil {
		t.Fatal(err)
	}
	natstest.Eventually(t, "the stream is made again", func() bool {
		_, err := js.CreateStream(ctx, info.Config)
		return err == nil
	})
	err := send(ctx, sink, sinktest.Envelopes("events.insert", 6, 1)...)
	if err == nil || !strings.Contains(err.Error(), "had acknowledged 5 before") {
		t.Errorf("send to a stream that was made again: %v", err)
	}
}

func TestSaysNothingOfAnotherStreamOrByAnotherMark(t *testing.T) {
	t.Parallel()
	server, js := start(t)
	ctx := background(t)
	addStream(t, js, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other.>"}})
	sink := newSink(t, sinkTo(server, "events.{op}", nil))
	open(ctx, t, sink)
	mark := markAfter(ctx, t, sink, 1, 5)
	other := newSink(t, sinkTo(server, "other.{op}", nil))
	open(ctx, t, other)
	proves(ctx, t, other, mark, false, "")
	proves(ctx, t, other, `{"offset": 7}`, false, "")
	if got := other.Mark(); got != "" {
		t.Errorf("the mark of a sink that sent nothing is %s", got)
	}
}
