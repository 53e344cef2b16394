package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

// explainConnect turns the error of a connection attempt into a sentence.
func (c *connection) explainConnect(err error) error {
	if v, _ := delivery.VerdictOf(err); v != delivery.VerdictRetry {
		return err
	}
	at := c.brokers
	if broker, last := c.dials.last(); last != nil {
		at, err = broker, last
	}
	return explainDial(at, err)
}

func explainDial(broker string, err error) error {
	var (
		unknown    x509.UnknownAuthorityError
		hostname   x509.HostnameError
		invalid    x509.CertificateInvalidError
		verifyFail *tls.CertificateVerificationError
		notTLS     tls.RecordHeaderError
		op         *net.OpError
		early      *kgo.ErrFirstReadEOF
		verdict    *delivery.Error
	)
	switch {
	case errors.As(err, &verdict):
		return verdict // of one's own: the token could not be had
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return misconfigured("the broker at %s refuses the login (SASL authentication failed); check sasl_mechanism, sasl_username and sasl_password, or the token", broker)
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return misconfigured("the broker at %s does not offer this sasl_mechanism; choose one that its sasl.enabled.mechanisms lists", broker)
	case errors.Is(err, kerr.IllegalSaslState):
		return misconfigured("the broker at %s expects no login on this listener, or another; check sasl_mechanism and the port", broker)
	case errors.As(err, &unknown):
		return misconfigured("the certificate of the broker at %s is signed by an authority that is not trusted; set tls_ca_file to the authority's certificate", broker)
	case errors.As(err, &hostname):
		return misconfigured("the certificate of the broker at %s is for another name: %w; set tls_server_name, or mend brokers and the broker's advertised.listeners", broker, hostname)
	case errors.As(err, &invalid), errors.As(err, &verifyFail):
		return misconfigured("the certificate of the broker at %s is not valid: %w", broker, err)
	case errors.As(err, &notTLS):
		return misconfigured("the broker at %s does not speak TLS on that port; leave out the tls_ keys or choose the TLS port", broker)
	case errors.As(err, &op) && op.Op == "remote error":
		return misconfigured("the broker at %s refuses the TLS handshake (%w); it may ask for a client certificate that it trusts: set tls_cert_file and tls_key_file", broker, op.Err)
	case errors.As(err, &op) && op.Op == "dial":
		return delivery.RetryAfter(fmt.Errorf("the broker at %s is not reachable: %w; check brokers and that they run", broker, err), 0)
	case errors.As(err, &early), errors.Is(err, io.EOF):
		// The broker may be about to stop as well, so this is tried again soon.
		return delivery.RetryAfter(fmt.Errorf("the broker at %s closed the connection at once; if it goes on, see whether that port asks for TLS (tls) or a login (sasl_mechanism) that is not configured, or the other way round", broker), 0)
	case errors.Is(err, context.DeadlineExceeded):
		return delivery.RetryAfter(fmt.Errorf("the broker at %s did not answer within %s; if it runs, see whether that port asks for TLS (tls)", broker, requestTimeout), 0)
	}
	return fmt.Errorf("connect to the broker at %s: %w", broker, err)
}

// explain turns the error of a question, or of a record, into a sentence. What
// names the object that it is about, such as "topic orders".
func (c *connection) explain(doing, what string, err error) error {
	if v, _ := delivery.VerdictOf(err); v != delivery.VerdictRetry {
		return err
	}
	var auth *kadm.AuthError
	if errors.As(err, &auth) {
		err = auth.Err
	}
	switch {
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return misconfigured("%s: the brokers do not permit it on %s; grant the relay's user %s", doing, what, permissions)
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		return misconfigured("%s: the brokers do not permit %s; grant the relay's user READ on the group", doing, what)
	case errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		return misconfigured("%s: the brokers do not permit %s; grant the relay's user WRITE and DESCRIBE on the transactional id", doing, what)
	case errors.Is(err, kerr.ClusterAuthorizationFailed):
		return misconfigured("%s: the brokers do not permit it to the relay's user; grant it IDEMPOTENT_WRITE on the cluster (brokers before 2.8), or CREATE to make topics", doing)
	case errors.Is(err, kerr.PolicyViolation), errors.Is(err, kerr.InvalidReplicationFactor), errors.Is(err, kerr.InvalidPartitions),
		errors.Is(err, kerr.InvalidConfig), errors.Is(err, kerr.InvalidTopicException):
		return misconfigured("%s: %w; check partitions, replication_factor and min_insync_replicas, or create the topic by hand", doing, err)
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		return misconfigured("%s: transaction_timeout is more than the brokers allow (transaction.max.timeout.ms); make it shorter", doing)
	case errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerEpoch):
		return delivery.RetryAfter(fmt.Errorf("%s: another producer uses the same transactional id and has fenced this one; if it goes on, two pipelines have one transactional_id", doing), 0)
	case errors.Is(err, kerr.FencedInstanceID):
		return delivery.RetryAfter(fmt.Errorf("%s: another member took this one's place in %s; if it goes on, two relays serve the same pipeline of copies of one database", doing, what), 0)
	case errors.Is(err, kerr.NotEnoughReplicas), errors.Is(err, kerr.NotEnoughReplicasAfterAppend):
		return delivery.RetryAfter(fmt.Errorf("%s: %s has fewer in-sync replicas than its min.insync.replicas asks for; brokers are down or behind, and events wait until they are back", doing, what), 0)
	case errors.Is(err, kerr.LeaderNotAvailable), errors.Is(err, kerr.NotLeaderForPartition):
		return delivery.RetryAfter(fmt.Errorf("%s: %s has no leader now; a broker is down, or the cluster moves its partitions", doing, what), 0)
	case errors.Is(err, kerr.KafkaStorageError):
		return delivery.RetryAfter(fmt.Errorf("%s: the broker that leads %s cannot write to its disk", doing, what), 0)
	case errors.Is(err, kgo.ErrClientClosed):
		return errClosed
	}
	if _, last := c.dials.last(); last != nil {
		return fmt.Errorf("%s: %w", doing, c.explainConnect(err))
	}
	return fmt.Errorf("%s: %w", doing, err)
}

const permissions = "WRITE and DESCRIBE on the topic for a sink, READ and DESCRIBE for a source, CREATE where topics are to be made, as docs/kafka.md lists"

// recordsFault tells whether the broker refused a batch for what is in it.
func recordsFault(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) ||
		errors.Is(err, kerr.InvalidRecord) || errors.Is(err, kerr.InvalidTimestamp)
}

// coordinatorMoves tells whether a group's or a transaction's coordinator is
// starting, or moves to another broker.
func coordinatorMoves(err error) bool {
	return errors.Is(err, kerr.CoordinatorLoadInProgress) || errors.Is(err, kerr.CoordinatorNotAvailable) ||
		errors.Is(err, kerr.NotCoordinator) || errors.Is(err, kerr.ConcurrentTransactions)
}
