package nats

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"syscall"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pg-tide/pg-tide/internal/delivery"
)

// Codes of the broker that the client has no names for.
const (
	codeAccountResources   jetstream.ErrorCode = 10002
	codeNoResources        jetstream.ErrorCode = 10023
	codeMaxStreams         jetstream.ErrorCode = 10027
	codeNoMemory           jetstream.ErrorCode = 10028
	codeNoStorage          jetstream.ErrorCode = 10047
	codeStreamNotMatch     jetstream.ErrorCode = 10060
	codeSubjectsOverlap    jetstream.ErrorCode = 10065
	codeNoReplicas         jetstream.ErrorCode = 10074
	codeStoreRefused       jetstream.ErrorCode = 10077
	codeNotSubset          jetstream.ErrorCode = 10093
	codeHeaderTooLarge     jetstream.ErrorCode = 10097
	codeQueueUnfiltered    jetstream.ErrorCode = 10099
	codeQueueNotUnique     jetstream.ErrorCode = 10100
	codeQueueNotAll        jetstream.ErrorCode = 10101
	codeSealed             jetstream.ErrorCode = 10109
	codeMaxBytesRequired   jetstream.ErrorCode = 10113
	codeNoLimits           jetstream.ErrorCode = 10120
	codeMaxAckPending      jetstream.ErrorCode = 10121
	codeTTLInvalid         jetstream.ErrorCode = 10165
	codeTTLDisabled        jetstream.ErrorCode = 10166
	codeCounterMissing     jetstream.ErrorCode = 10169
	storageRetryInterval                       = 2 * time.Second
	permissionSubjectLimit                     = 200
)

var quoted = regexp.MustCompile(`(?i)(publish|publication|subscription)( to)? "([^"]*)"`)

// permissionText says what was refused. The broker sends it as text only.
func permissionText(err error) string {
	found := quoted.FindStringSubmatch(err.Error())
	if found == nil {
		return err.Error()
	}
	subject := found[3]
	if len(subject) > permissionSubjectLimit {
		subject = subject[:permissionSubjectLimit] + "…"
	}
	if strings.HasPrefix(strings.ToLower(found[1]), "publi") {
		return fmt.Sprintf("publishing to subject %q is refused", subject)
	}
	return fmt.Sprintf("subscribing to subject %q is refused", subject)
}

// explainConnect turns the error of a connection attempt into a sentence.
func explainConnect(broker string, err, dialErr error) error {
	var (
		unknown    x509.UnknownAuthorityError
		hostname   x509.HostnameError
		invalid    x509.CertificateInvalidError
		remote     *net.OpError
		notTLS     tls.RecordHeaderError
		verifyFail *tls.CertificateVerificationError
	)
	switch {
	case errors.Is(err, natsgo.ErrAuthorization), errors.Is(err, natsgo.ErrAccountAuthExpired):
		return misconfigured("the broker at %s refuses the login (authorization violation); check username and password, token, nkey_seed or credentials_file", broker)
	case errors.Is(err, natsgo.ErrAuthExpired), errors.Is(err, natsgo.ErrAuthRevoked):
		return misconfigured("the broker at %s no longer accepts the credentials (expired or revoked); renew credentials_file", broker)
	case errors.Is(err, natsgo.ErrSecureConnWanted):
		return misconfigured("the broker at %s offers no TLS, which url or a tls_ key asks for; use nats:// without tls_ keys, or turn TLS on in the broker", broker)
	case errors.As(err, &unknown):
		return misconfigured("the certificate of the broker at %s is signed by an authority that is not trusted; set tls_ca_file to the authority's certificate", broker)
	case errors.As(err, &hostname):
		return misconfigured("the certificate of the broker at %s is for another name: %w; set tls_server_name or mend url", broker, hostname)
	case errors.As(err, &invalid), errors.As(err, &verifyFail):
		return misconfigured("the certificate of the broker at %s is not valid: %w", broker, err)
	case errors.As(err, &remote) && remote.Op == "remote error":
		return misconfigured("the broker at %s refuses the TLS handshake (%w); it may ask for a client certificate: set tls_cert_file and tls_key_file", broker, remote.Err)
	case errors.As(err, &notTLS):
		return misconfigured("the broker at %s does not speak TLS there; check scheme and port of url", broker)
	case errors.Is(err, natsgo.ErrTLS) && brokenOff(err):
		// The broker's alert may be lost with the connection.
		return misconfigured("the broker at %s refuses the TLS handshake (%w); it may ask for a client certificate: set tls_cert_file and tls_key_file", broker, err)
	case errors.Is(err, natsgo.ErrNoServers) && dialErr != nil:
		return fmt.Errorf("the broker at %s is not reachable: %w; check url and that the broker runs", broker, dialErr)
	case dialErr != nil && errors.Is(err, dialErr):
		return fmt.Errorf("the broker at %s is not reachable: %w; check url and that the broker runs", broker, err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the broker at %s closed the connection while it was being set up", broker)
	}
	return fmt.Errorf("connect to the broker at %s: %w", broker, err)
}

func brokenOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// explainRequest turns the error of a JetStream request into a sentence.
func (c *connection) explainRequest(doing string, err error) error {
	if v, _ := delivery.VerdictOf(err); v != delivery.VerdictRetry {
		return err
	}
	if errors.Is(err, natsgo.ErrNoResponders) {
		return misconfigured("JetStream is off in the broker at %s: nobody answers its requests; turn it on (jetstream {} in the broker's configuration)", c.broker)
	}
	switch codeOf(err) {
	case jetstream.JSErrCodeJetStreamNotEnabled:
		return misconfigured("JetStream is off in the broker at %s; turn it on (jetstream {} in the broker's configuration)", c.broker)
	case jetstream.JSErrCodeJetStreamNotEnabledForAccount, codeNoLimits:
		return misconfigured("JetStream is off for this user's account in the broker at %s; enable it for the account", c.broker)
	case codeMaxBytesRequired:
		return misconfigured("%s: the account demands a limit of bytes for each stream; create the stream by hand with max_bytes", doing)
	case codeNoReplicas:
		return misconfigured("%s: the broker is no cluster and cannot keep several replicas; set replicas to 1", doing)
	case codeAccountResources, codeNoResources, codeNoMemory, codeNoStorage, codeMaxStreams:
		return misconfigured("%s: the broker has no room for it: %w; raise the account's or the server's JetStream limits", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// explainPublish turns the broker's refusal of one event into a verdict.
func explainPublish(broker, subject, stream string, err error) error {
	code := codeOf(err)
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, natsgo.ErrNoResponders):
		return delivery.RetryAfter(fmt.Errorf("no stream takes subject %q at %s (no responders); the stream was deleted, its subjects changed, or JetStream is not ready", subject, broker), 0)
	case code == codeStoreRefused:
		return delivery.RetryAfter(fmt.Errorf("stream %s is full and discards new messages: %w; raise its limits or let it discard old ones", stream, err), storageRetryInterval)
	case code == codeAccountResources, code == codeNoResources, code == codeNoMemory, code == codeNoStorage:
		return delivery.RetryAfter(fmt.Errorf("the broker at %s has no room for stream %s: %w; raise the JetStream limits of account or server", broker, stream, err), storageRetryInterval)
	case code == jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return delivery.Reject(fmt.Errorf("the event is larger than stream %s takes (max_msg_size)", stream))
	case code == codeHeaderTooLarge:
		return delivery.Reject(fmt.Errorf("the event's headers are larger than 64 KiB, which stream %s does not take", stream))
	case code == codeSealed:
		return misconfigured("stream %s is sealed and takes no more events; name another in stream", stream)
	case code == codeCounterMissing:
		return misconfigured("stream %s keeps counters (allow_msg_counter) and takes no events; name another in stream", stream)
	}
	return fmt.Errorf("publish to subject %q: %w", subject, err)
}

func codeOf(err error) jetstream.ErrorCode {
	var withAPI jetstream.JetStreamError
	if errors.As(err, &withAPI) && withAPI.APIError() != nil {
		return withAPI.APIError().ErrorCode
	}
	return 0
}

func join(urls []string) string { return strings.Join(urls, ",") }
