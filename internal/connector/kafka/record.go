package kafka

import (
	"encoding/hex"
	"fmt"
	"math/bits"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/delivery"
	"github.com/pg-tide/pg-tide/internal/message"
)

const (
	// batchOverhead is what a batch has besides its records.
	batchOverhead = 65
	// clientSlack is how much more the client takes than the topic: the sink
	// counts a little more than the client, and is to find what is too large.
	clientSlack = 512
	// deltas is the most that a record's time and place in its batch take more
	// than those of the first.
	deltas = 16
)

func toRecord(e *message.Envelope) *kgo.Record {
	r := &kgo.Record{Topic: e.Destination, Value: e.Body}
	if r.Value == nil {
		r.Value = []byte{} // none would be a tombstone
	}
	if e.Key != "" {
		r.Key = []byte(e.Key)
	}
	if len(e.Headers) > 0 {
		r.Headers = make([]kgo.RecordHeader, len(e.Headers))
		for i, h := range e.Headers {
			r.Headers[i] = kgo.RecordHeader{Key: h.Name, Value: []byte(h.Value)}
		}
	}
	return r
}

// recordBytes is what a record takes in a batch of its own.
func recordBytes(r *kgo.Record) int {
	n := 3 + bytesLength(r.Key) + bytesLength(r.Value) + varint(len(r.Headers))
	for i := range r.Headers {
		n += varint(len(r.Headers[i].Key)) + len(r.Headers[i].Key) + bytesLength(r.Headers[i].Value)
	}
	return n + varint(n)
}

func bytesLength(b []byte) int { return varint(len(b)) + len(b) }

// varint is how many bytes a length takes as a zigzag varint.
func varint(n int) int { return (bits.Len64(uint64(n)<<1|1) + 6) / 7 } //nolint:gosec // lengths are not negative

// checkRecord refuses what the topic would never take.
func checkRecord(r *kgo.Record, in *topic) error {
	if size := batchOverhead + recordBytes(r); size > in.maxBatch {
		return delivery.Reject(fmt.Errorf("the event is too large: %d bytes with its headers, and topic %s takes %d (max.message.bytes)", size, in.name, in.maxBatch))
	}
	return nil
}

// toEnvelope makes an envelope of what was read. The coordinates have the
// topic's id: one that was deleted and made again counts from 0 again.
func toEnvelope(r *kgo.Record, id kadm.TopicID) message.Envelope {
	e := message.Envelope{
		Destination: r.Topic,
		Key:         textKey(r.Key),
		Body:        r.Value,
		Time:        r.Timestamp,
		Coordinates: fmt.Sprintf("kafka:%s:%d/%d", r.Topic, r.Partition, r.Offset),
	}
	if id != (kadm.TopicID{}) {
		e.Coordinates += "#" + hex.EncodeToString(id[:])
	}
	if len(r.Headers) > 0 {
		e.Headers = make([]message.Header, len(r.Headers))
		for i := range r.Headers {
			e.Headers[i] = message.Header{Name: r.Headers[i].Key, Value: string(r.Headers[i].Value)}
		}
	}
	return e
}

// textKey is the key as text; in hexadecimal where it is none that PostgreSQL takes.
func textKey(key []byte) string {
	text := string(key)
	if utf8.ValidString(text) && !strings.Contains(text, "\x00") {
		return text
	}
	return hex.EncodeToString(key)
}
