package nats

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/delivery"
)

const (
	defaultDuplicateWindow = 2 * time.Minute
	defaultAckWait         = 30 * time.Second
	defaultMaxAckPending   = 10_000
	defaultReplicas        = 1
)

// Values is what the connector needs of a decoded configuration: aliases
// folded, defaults filled in, secrets resolved.
type Values interface {
	String(name string) string
	Int(name string) int64
	Bool(name string) bool
	Has(name string) bool
}

// SinkFields declares the keys of a pipeline with "sink_type": "nats".
func SinkFields() []config.Field {
	fields := connectionFields()
	fields = append(fields,
		config.Field{Name: "subject_template", Kind: config.String, Aliases: []string{"subject"},
			Default: "{outbox}.{op}", Help: "Subject of each event, with placeholders"},
		config.Field{Name: "atomic", Kind: config.Boolean, Default: false,
			Help: "Store the events of one database transaction in the stream at once, all or none (server 2.12 and newer). Needs one lane; on_error is block unless it says dead_letter, and takes whole transactions"},
		config.Field{Name: "atomic_oversize", Kind: config.String, Values: []string{"refuse", "split"}, Default: "refuse",
			Help: "What becomes of a transaction that is larger than the broker takes at once (1000 events unless it is configured): refuse leaves it to on_error, split stores it in several parts, in order"},
	)
	return append(fields, streamFields()...)
}

// SourceFields declares the keys of a pipeline with "source_type": "nats".
func SourceFields() []config.Field {
	fields := connectionFields()
	fields = append(fields,
		config.Field{Name: "subject", Kind: config.String, Required: true,
			Help: "Subject to read, wildcards allowed; several are separated by commas"},
		config.Field{Name: "durable_name", Kind: config.String, Aliases: []string{"consumer"},
			Help: "Name of the durable consumer; else consumer_group, else made from the pipeline and the database"},
		config.Field{Name: "consumer_group", Kind: config.String, Aliases: []string{"queue_group"},
			Help: "Name that the relays of several databases share to split a stream between them; durable_name wins"},
		config.Field{Name: "deliver_from", Kind: config.String, Aliases: []string{"auto_offset_reset"}, Default: "all",
			Help: "Where a new consumer starts: all (earliest), new (latest), last, a stream sequence, or an RFC 3339 time"},
		config.Field{Name: "ack_wait_secs", Kind: config.Integer, Min: 1, Max: 86400,
			Help: "Seconds after which the broker delivers an unacknowledged message again; 30 for a new consumer"},
		config.Field{Name: "max_ack_pending", Kind: config.Integer, Min: 1, Max: 1_000_000,
			Help: "Most messages delivered and not yet acknowledged; 10000 for a new consumer"},
	)
	return append(fields, streamFields()...)
}

func connectionFields() []config.Field {
	return []config.Field{
		{Name: "url", Kind: config.String, Required: true,
			Help: "Address of the broker, nats:// or tls://; several of one cluster are separated by commas"},
		{Name: "credentials_file", Kind: config.String, Aliases: []string{"credentials"},
			Help: "Path of a .creds file with a user's JWT and key"},
		{Name: "nkey_seed", Kind: config.String, Secret: true, Help: "Seed of an nkey user, SU…"},
		{Name: "token", Kind: config.String, Secret: true, Help: "Token, where the broker asks for one"},
		{Name: "username", Kind: config.String, Help: "User, where the broker asks for user and password"},
		{Name: "password", Kind: config.String, Secret: true, Help: "Password of username"},
		{Name: "tls_ca_file", Kind: config.String, Aliases: []string{"tls_ca_cert"},
			Help: "Path of the certificates that the broker's is checked against; else the system's"},
		{Name: "tls_cert_file", Kind: config.String, Help: "Path of the client's certificate"},
		{Name: "tls_key_file", Kind: config.String, Help: "Path of the client's private key"},
		{Name: "tls_server_name", Kind: config.String,
			Help: "Name expected in the broker's certificate, where it is not the one in the URL"},
	}
}

func streamFields() []config.Field {
	return []config.Field{
		{Name: "stream", Kind: config.String,
			Help: "Name of the JetStream stream; else the one that takes the subject, else one made for its first token"},
		{Name: "create_stream", Kind: config.Boolean, Default: true, Help: "Create the stream when it is missing"},
		{Name: "storage", Kind: config.String, Values: []string{"file", "memory"}, Default: "file",
			Help: "Where a stream that is created keeps its messages"},
		{Name: "replicas", Kind: config.Integer, Min: 1, Max: 5,
			Help: "Copies that a stream that is created has in the cluster; 1 unless given"},
		{Name: "duplicate_window", Kind: config.String,
			Help: "How long the stream remembers message ids, such as 2m or 24h; 2m unless given"},
	}
}

// streamSettings say what a stream that is created looks like.
type streamSettings struct {
	name            string
	create          bool
	storage         jetstream.StorageType
	replicas        int
	duplicateWindow time.Duration // 0 when not given
	atomic          bool          // it has to take atomic batches
}

func readStreamSettings(values Values) (streamSettings, error) {
	s := streamSettings{
		name:     values.String("stream"),
		create:   values.Bool("create_stream"),
		storage:  jetstream.FileStorage,
		replicas: int(values.Int("replicas")),
	}
	if values.String("storage") == "memory" {
		s.storage = jetstream.MemoryStorage
	}
	if s.replicas == 0 {
		s.replicas = defaultReplicas
	}
	if strings.ContainsAny(s.name, " \t\r\n.*>/\\") {
		return s, misconfigured("stream %q is not a name JetStream allows: blanks and . * > / \\ are not; rename it", s.name)
	}
	if text := values.String("duplicate_window"); text != "" {
		window, err := time.ParseDuration(text)
		if err != nil || window < 100*time.Millisecond {
			return s, misconfigured("duplicate_window %q is not a duration of at least 100ms; write it like 2m or 24h", text)
		}
		s.duplicateWindow = window
	}
	return s, nil
}

// startPoint is where a new consumer starts.
type startPoint struct {
	policy   jetstream.DeliverPolicy
	sequence uint64
	time     *time.Time
}

func readStartPoint(text string) (startPoint, error) {
	switch text {
	case "", "all", "earliest":
		return startPoint{policy: jetstream.DeliverAllPolicy}, nil
	case "new", "latest":
		return startPoint{policy: jetstream.DeliverNewPolicy}, nil
	case "last":
		return startPoint{policy: jetstream.DeliverLastPolicy}, nil
	}
	if sequence, err := strconv.ParseUint(text, 10, 64); err == nil && sequence > 0 {
		return startPoint{policy: jetstream.DeliverByStartSequencePolicy, sequence: sequence}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return startPoint{policy: jetstream.DeliverByStartTimePolicy, time: &at}, nil
	}
	return startPoint{}, misconfigured("deliver_from %q is none of all, new, last, a stream sequence and an RFC 3339 time; write one of them", text)
}

func misconfigured(format string, args ...any) error {
	return delivery.Misconfigured(fmt.Errorf(format, args...))
}
