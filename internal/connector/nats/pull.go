package nats

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// A relay that hangs keeps its pull, and what is sent there comes late to
	// the next owner. Nobody takes over sooner than this.
	pullExpiry    = 5 * time.Second
	pullHeartbeat = 2 * time.Second
	// silence ends a session: two heartbeats are missing.
	silence      = 2*pullHeartbeat + time.Second
	minPullBytes = 8 << 20
	// statusRoom is for the status messages that come while nobody reads:
	// at most two pulls with their heartbeats.
	statusRoom = 128
)

// puller keeps messages coming, at most two batches ahead of what was taken.
// The client's own iterator has no room for status messages beside a full
// batch, and drops messages while the engine is busy.
type puller struct {
	conn      *connection
	subject   string // where pulls are sent
	sub       *natsgo.Subscription
	incoming  chan *natsgo.Msg
	drained   chan struct{}
	limit     int
	maxBytes  int
	expiry    time.Duration
	heartbeat time.Duration

	asked    int // messages asked for and not yet come
	received int // messages since the last pull
}

// pullRequest is what JetStream expects on the consumer's subject.
type pullRequest struct {
	Batch     int           `json:"batch"`
	Expires   time.Duration `json:"expires,omitempty"`
	NoWait    bool          `json:"no_wait,omitempty"`
	MaxBytes  int           `json:"max_bytes,omitempty"`
	Heartbeat time.Duration `json:"idle_heartbeat,omitempty"`
}

func newPuller(conn *connection, info *jetstream.ConsumerInfo, limit int) (*puller, error) {
	cfg := &info.Config
	p := &puller{
		conn: conn, subject: pullSubject(info),
		drained:  make(chan struct{}),
		limit:    2 * max(limit, 1), // one batch while another is being inserted
		maxBytes: max(minPullBytes, 4*int(conn.nc.MaxPayload())),
		expiry:   pullExpiry,
	}
	for _, most := range []int{cfg.MaxAckPending, cfg.MaxRequestBatch} {
		if most > 0 {
			p.limit = min(p.limit, most)
		}
	}
	if cfg.MaxRequestExpires > 0 {
		p.expiry = min(p.expiry, cfg.MaxRequestExpires)
	}
	if cfg.MaxRequestMaxBytes > 0 {
		p.maxBytes = min(p.maxBytes, cfg.MaxRequestMaxBytes)
	}
	p.heartbeat = min(pullHeartbeat, p.expiry/2)
	p.incoming = make(chan *natsgo.Msg, p.limit+statusRoom)
	var err error
	if p.sub, err = conn.nc.ChanSubscribe(conn.nc.NewInbox(), p.incoming); err != nil {
		return nil, conn.over(fmt.Errorf("subscribe for messages: %w", err))
	}
	p.sub.SetClosedHandler(func(string) { close(p.drained) })
	return p, nil
}

func pullSubject(info *jetstream.ConsumerInfo) string {
	return "$JS.API.CONSUMER.MSG.NEXT." + info.Stream + "." + info.Name
}

// topUp asks for more once half of a batch was taken.
func (p *puller) topUp() error {
	if p.asked > p.limit/2 {
		return nil
	}
	request := pullRequest{Batch: p.limit - p.asked, Expires: p.expiry, MaxBytes: p.maxBytes, Heartbeat: p.heartbeat}
	text, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("write a pull request: %w", err)
	}
	if err := p.conn.nc.PublishRequest(p.subject, p.sub.Subject, text); err != nil {
		return p.conn.over(fmt.Errorf("pull messages: %w", err))
	}
	p.asked, p.received = p.limit, 0
	return nil
}

var errConsumerGone = errors.New("the consumer is gone")

// take reports whether m carries an event, and counts what is outstanding.
func (p *puller) take(m *natsgo.Msg) (event bool, err error) {
	if m.Reply != "" { // where to acknowledge; a status has none
		p.asked = max(0, p.asked-1)
		p.received++
		return true, nil
	}
	status := m.Header.Get("Status")
	pending, counts := pendingOf(m)
	switch {
	case status == "100":
		return false, nil
	case status == "503":
		return false, errConsumerGone
	case counts && (status == "404" || status == "408" || status == "409"):
		p.asked = max(0, p.asked-pending)
		if status == "409" && p.received == 0 {
			p.maxBytes *= 2 // not even one message fitted
		}
		return false, nil
	}
	return false, fmt.Errorf("%w or moves: %s", errConsumerGone, m.Header.Get("Description"))
}

// pendingOf is how many messages a pull that is over did not get.
func pendingOf(m *natsgo.Msg) (int, bool) {
	n, err := strconv.Atoi(m.Header.Get("Nats-Pending-Messages"))
	return n, err == nil
}

// drain stops the flow and waits until all that was sent has come.
func (p *puller) drain(patience <-chan time.Time) {
	if err := p.sub.Drain(); err != nil {
		return // the connection is gone
	}
	select {
	case <-p.drained:
	case <-p.conn.ended:
	case <-patience:
	}
}
