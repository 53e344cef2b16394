package kafka

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pg-tide/pg-tide/internal/config"
	"github.com/pg-tide/pg-tide/internal/delivery"
)

// Values is what the connector needs of a decoded configuration: aliases
// folded, defaults filled in, secrets resolved.
type Values interface {
	String(name string) string
	Int(name string) int64
	Bool(name string) bool
	Has(name string) bool
}

// SinkFields declares the keys of a pipeline with "sink_type": "kafka".
func SinkFields() []config.Field {
	fields := connectionFields()
	fields = append(fields,
		config.Field{Name: "topic_template", Kind: config.String, Aliases: []string{"topic"},
			Default: "{outbox}.{op}", Help: "Topic of each event, with placeholders"},
		config.Field{Name: "acks", Kind: config.String, Values: []string{"all", "leader"}, Default: "all",
			Help: "Which acknowledgement lets the position advance: all waits for every in-sync replica, leader for the partition's leader alone and may lose acknowledged events with it"},
		config.Field{Name: "compression", Kind: config.String, Values: []string{"none", "gzip", "snappy", "lz4", "zstd"}, Default: "none",
			Help: "How batches are compressed"},
		config.Field{Name: TransactionalKey, Kind: config.Boolean, Default: false,
			Help: "Store the events of one database transaction in one Kafka transaction, all or none for readers with isolation.level=read_committed. Needs one lane and acks all; on_error is block unless it says dead_letter, and takes whole transactions"},
		config.Field{Name: "transactional_id", Kind: config.String,
			Help: "Transactional id of the producer, by which a later owner fences an earlier one; else made from the pipeline and the database"},
		config.Field{Name: "transaction_timeout", Kind: config.String, Default: "60s",
			Help: "How long the broker keeps a transaction open that nobody ends, such as 60s; the broker's transaction.max.timeout.ms bounds it"},
		config.Field{Name: "transactional_oversize", Kind: config.String, Values: []string{"refuse", "split"}, Default: "refuse",
			Help: "What becomes of a database transaction that is larger than the relay reads at once: refuse leaves it to on_error, split stores it in several Kafka transactions, in order"},
	)
	return append(fields, topicFields()...)
}

// SourceFields declares the keys of a pipeline with "source_type": "kafka".
func SourceFields() []config.Field {
	fields := connectionFields()
	fields = append(fields,
		config.Field{Name: "topic", Kind: config.String, Required: true, Aliases: []string{"topics"},
			Help: "Topic to read; several are separated by commas"},
		config.Field{Name: "group_id", Kind: config.String, Aliases: []string{"consumer_group"},
			Help: "Consumer group; else made from the pipeline and the database. The relays of several databases that share one split the partitions between them"},
		config.Field{Name: "start_offset", Kind: config.String, Aliases: []string{"auto_offset_reset"}, Default: "earliest",
			Help: "Where a new group starts: earliest, latest, or an RFC 3339 time"},
	)
	return append(fields, topicFields()...)
}

// TransactionalKey is the key that asks for whole transactions.
const TransactionalKey = "transactional"

// ReadTogether is how many events of a transaction may be stored at once.
const ReadTogether = 10_000

func connectionFields() []config.Field {
	return []config.Field{
		{Name: "brokers", Kind: config.String, Required: true, Aliases: []string{"bootstrap_servers"},
			Help: "Addresses of some brokers, host:port, separated by commas; the rest of the cluster is found through them"},
		{Name: "sasl_mechanism", Kind: config.String, Values: []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"},
			Help: "How to log in; no login when it is not given"},
		{Name: "sasl_username", Kind: config.String, Help: "User of PLAIN and SCRAM"},
		{Name: "sasl_password", Kind: config.String, Secret: true, Help: "Password of sasl_username"},
		{Name: "sasl_token", Kind: config.String, Secret: true, Help: "Token of OAUTHBEARER, where it does not change"},
		{Name: "sasl_token_file", Kind: config.String,
			Help: "Path of a file with the token of OAUTHBEARER, read at each login, so that a renewed token needs no restart"},
		{Name: "sasl_oauth_url", Kind: config.String,
			Help: "OAuth 2.0 token endpoint that OAUTHBEARER asks with the client credentials grant"},
		{Name: "sasl_client_id", Kind: config.String, Help: "Client id for sasl_oauth_url"},
		{Name: "sasl_client_secret", Kind: config.String, Secret: true, Help: "Client secret for sasl_oauth_url"},
		{Name: "sasl_scope", Kind: config.String, Help: "Scope to ask sasl_oauth_url for"},
		{Name: "sasl_without_tls", Kind: config.Boolean, Default: false,
			Help: "Allow PLAIN and OAUTHBEARER over a connection without TLS, which shows the password or token to the network"},
		{Name: "tls", Kind: config.Boolean,
			Help: "Connect with TLS; on without being said when another tls_ key is given"},
		{Name: "tls_ca_file", Kind: config.String, Aliases: []string{"tls_ca_cert"},
			Help: "Path of the certificates that the brokers' are checked against; else the system's"},
		{Name: "tls_cert_file", Kind: config.String, Help: "Path of the client's certificate"},
		{Name: "tls_key_file", Kind: config.String, Help: "Path of the client's private key"},
		{Name: "tls_server_name", Kind: config.String,
			Help: "Name expected in every broker's certificate, where it is not the host that the broker is reached by"},
	}
}

func topicFields() []config.Field {
	return []config.Field{
		{Name: "create_topic", Kind: config.Boolean, Default: true, Help: "Create a topic that is missing"},
		{Name: "partitions", Kind: config.Integer, Min: 1, Max: 10_000,
			Help: "Partitions of a topic that is created; the broker's num.partitions unless given"},
		{Name: "replication_factor", Kind: config.Integer, Min: 1, Max: 100,
			Help: "Replicas of a topic that is created; the broker's default.replication.factor unless given"},
		{Name: "min_insync_replicas", Kind: config.Integer, Min: 1, Max: 100,
			Help: "min.insync.replicas of a topic that is created; the broker's unless given"},
	}
}

// topicSettings say what a topic that is created looks like.
type topicSettings struct {
	create     bool
	partitions int32 // -1: the broker's default
	replicas   int16 // -1: the broker's default
	minInsync  int   // 0: the broker's default
}

func readTopicSettings(values Values) (topicSettings, error) {
	s := topicSettings{create: values.Bool("create_topic"), partitions: -1, replicas: -1, minInsync: int(values.Int("min_insync_replicas"))}
	if n := values.Int("partitions"); n > 0 {
		s.partitions = int32(n) //nolint:gosec // the field bounds it
	}
	if n := values.Int("replication_factor"); n > 0 {
		s.replicas = int16(n) //nolint:gosec // the field bounds it
	}
	if s.replicas > 0 && s.minInsync > int(s.replicas) {
		return s, misconfigured("min_insync_replicas is %d and replication_factor %d: no event could ever be stored; make it smaller than the factor", s.minInsync, s.replicas)
	}
	return s, nil
}

// listOf splits a list that is separated by commas.
func listOf(text string) []string {
	var all []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" && !slices.Contains(all, part) {
			all = append(all, part)
		}
	}
	return all
}

func readDuration(values Values, key string, fallback time.Duration) (time.Duration, error) {
	text := values.String(key)
	if text == "" {
		return fallback, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second {
		return 0, misconfigured("%s %q is not a duration of at least 1s; write it like 60s or 2m", key, text)
	}
	return d, nil
}

func misconfigured(format string, args ...any) error {
	return delivery.Misconfigured(fmt.Errorf(format, args...))
}
