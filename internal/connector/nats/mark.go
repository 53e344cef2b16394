package nats

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

// getMessage is where a stream is asked for one of its messages. Not the
// direct way: a follower that lags behind would say that there is none.
const getMessage = "$JS.API.STREAM.MSG.GET."

// streamMark is how far a stream has got with what was acknowledged. A stream
// that was made again has another time of creation. One that lost its tail ends
// before the sequence, or has other messages there by now.
type streamMark struct {
	Stream   string    `json:"stream"`
	Created  time.Time `json:"created"`
	Sequence uint64    `json:"sequence"`
	// ID is the message id at that sequence.
	ID string `json:"id,omitempty"`
}

// marks holds one for each stream that the sink has had an acknowledgement of.
type marks struct {
	mu       sync.Mutex
	byStream map[string]streamMark
}

// note takes in an acknowledgement. Marks only grow: what was acknowledged
// before lies at or below the greatest sequence, in whatever order receipts are
// waited for, and a duplicate is acknowledged with the place of its first.
func (m *marks) note(s streamMark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, found := m.byStream[s.Stream]
	if found && known.Created.Equal(s.Created) && known.Sequence >= s.Sequence {
		return
	}
	if m.byStream == nil {
		m.byStream = map[string]streamMark{}
	}
	m.byStream[s.Stream] = s
}

// sequence is how far a stream was known to have got; 0 when nothing is known.
func (m *marks) sequence(stream string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.byStream[stream].Sequence
}

func (m *marks) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.byStream = nil
}

// Mark says how far the streams have got with all that is acknowledged.
func (s *Sink) Mark() string {
	s.marks.mu.Lock()
	defer s.marks.mu.Unlock()
	if len(s.marks.byStream) == 0 {
		return ""
	}
	all := make([]streamMark, 0, len(s.marks.byStream))
	for _, m := range s.marks.byStream {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b streamMark) int { return cmp.Compare(a.Stream, b.Stream) })
	text, err := json.Marshal(all)
	if err != nil {
		return "" // nothing in it can fail; without a mark nothing is concluded
	}
	return string(text)
}

// Prove compares the streams with a mark. It says nothing of streams that the
// sink does not send to any more. A purge keeps the last sequence and is no loss.
func (s *Sink) Prove(ctx context.Context, mark string) (delivery.Proof, error) {
	s.mu.Lock()
	conn, streams := s.conn, s.streams
	s.mu.Unlock()
	if conn == nil {
		return delivery.Proof{}, errors.New("asked NATS for what it has before the sink was opened")
	}
	var all []streamMark
	if err := json.Unmarshal([]byte(mark), &all); err != nil {
		return delivery.Proof{}, nil //nolint:nilerr // another sink's mark: it says nothing here
	}
	var held []streamMark
	for _, m := range all {
		i := slices.IndexFunc(streams, func(info *jetstream.StreamInfo) bool { return info.Config.Name == m.Stream })
		if i < 0 {
			continue
		}
		lost, err := conn.lost(ctx, streams[i], m)
		if err != nil || lost != "" {
			return delivery.Proof{Lost: lost}, err
		}
		held = append(held, m)
	}
	for _, m := range held {
		s.marks.note(m)
	}
	return delivery.Proof{Holds: len(held) > 0}, nil
}

// lost says in words what a stream lost of what it had at the mark, or "".
func (c *connection) lost(ctx context.Context, info *jetstream.StreamInfo, m streamMark) (string, error) {
	switch {
	case !info.Created.Equal(m.Created):
		return fmt.Sprintf("stream %s was made again at %s: what it had before is gone", m.Stream, clock(info.Created)), nil
	case info.State.LastSeq < m.Sequence:
		return fmt.Sprintf("stream %s lost its end: it stops at %d, and had acknowledged %d", m.Stream, info.State.LastSeq, m.Sequence), nil
	case info.State.FirstSeq > m.Sequence || m.ID == "":
		return "", nil
	}
	id, found, err := c.messageID(ctx, m.Stream, m.Sequence)
	if err != nil {
		return "", err
	}
	if found && id != m.ID {
		return fmt.Sprintf("stream %s lost its end: number %d was acknowledged for another event than the one that is there now", m.Stream, m.Sequence), nil
	}
	return "", nil
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 MST") }

// messageID looks at one message of a stream. found is false when it was
// deleted, and when the user may not look: then its place tells nothing.
func (c *connection) messageID(ctx context.Context, stream string, sequence uint64) (id string, found bool, err error) {
	doing := fmt.Sprintf("look at message %d of stream %s", sequence, stream)
	request, cancel := c.request(ctx)
	defer cancel()
	subject := getMessage + stream
	asked, stop := c.tolerate(request, subject)
	defer stop()
	reply, err := c.nc.RequestWithContext(asked, subject, fmt.Appendf(nil, `{"seq":%d}`, sequence))
	if err != nil {
		if errors.Is(context.Cause(asked), errNotPermitted) {
			return "", false, nil
		}
		return "", false, c.explainRequest(doing, c.answer(request, err))
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Header []byte `json:"hdrs"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &answer); err != nil {
		return "", false, fmt.Errorf("%s: %w", doing, err)
	}
	if answer.Error != nil {
		if answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return "", false, nil
		}
		return "", false, c.explainRequest(doing, answer.Error)
	}
	if len(answer.Message.Header) == 0 {
		return "", true, nil
	}
	header, err := natsgo.DecodeHeadersMsg(answer.Message.Header)
	if err != nil {
		return "", false, fmt.Errorf("%s: %w", doing, err)
	}
	return header.Get(jetstream.MsgIDHeader), true, nil
}
