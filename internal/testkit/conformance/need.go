package conformance

// Need is something of a technology, or of a harness, that a case cannot do without.
type Need string

// What the transport has.
const (
	// Order: what is sent first is stored, and read, first; for each key at least.
	Order Need = "order"
	// Headers: metadata travels beside the body.
	Headers Need = "headers"
	// EventID: the transport has a place of its own for a message's id.
	EventID Need = "event id"
	// Deduplication: the far end stores an event id once.
	Deduplication Need = "deduplication"
	// SizeLimit: the far end takes bodies up to a size, and no larger ones.
	SizeLimit Need = "size limit"
	// LargeBodies: it takes a body of 1 MiB.
	LargeBodies Need = "bodies of 1 MiB"
	// EmptyBodies: it takes a body of no bytes.
	EmptyBodies Need = "empty bodies"
	// BinaryBodies: it takes bodies that are neither JSON nor text.
	BinaryBodies Need = "binary bodies"
	// Destinations: an event goes to a subject, topic or path, filled in by a template.
	Destinations Need = "destinations"
	// CloudEvents: it has a CloudEvents binding.
	CloudEvents Need = "CloudEvents binding"
	// BinaryMode: an event's attributes travel beside its body.
	BinaryMode Need = "CloudEvents in binary mode"
	// Connection: it keeps a connection between batches, whose loss is noticed
	// while nothing is sent.
	Connection Need = "lasting connection"
	// UnacknowledgedLimit: it delivers so much that nobody acknowledges, and then waits.
	UnacknowledgedLimit Need = "limit of unacknowledged messages"
)

// What can happen to the far end.
const (
	// Restart stops it in good order and starts it again with its data.
	Restart Need = "restart"
	// Kill ends it at once, as SIGKILL does, and starts it again with its data.
	Kill Need = "kill"
	// Cut breaks every connection to it.
	Cut Need = "cut"
	// Lose makes it lose everything that it had stored, and no more than that: it
	// goes on empty.
	Lose Need = "loss of what was stored"
	// Freeze makes it hang: its connections stay, and it does nothing.
	Freeze Need = "freeze"
	// Poison is an event that it refuses for good, for another reason than its size.
	Poison Need = "poison"
)

// What can be wrong with the configuration or the far end; see Refusal.
const (
	// Unreachable: nobody listens at the address.
	Unreachable Need = "unreachable"
	// WrongLogin: the user, password, token or key is not right.
	WrongLogin Need = "wrong login"
	// WrongName: the certificate of the far end is for another name.
	WrongName Need = "wrong TLS name"
	// UnknownIssuer: the certificate of the far end is signed by a stranger.
	UnknownIssuer Need = "unknown issuer"
	// NoDestination: the topic, stream, table or path does not exist.
	NoDestination Need = "missing destination"
	// NoPermission: the login is right, and may not do what the pipeline needs.
	NoPermission Need = "missing permission"
)

// Refusals are the needs that a harness meets by its field Wrong.
func Refusals() []Need {
	return []Need{Unreachable, WrongLogin, WrongName, UnknownIssuer, NoDestination, NoPermission}
}

// Lacks says what a technology does not have, each with the reason in words:
// "standard output has no connection that could be cut". The reason is shown
// to users in docs/technologies.md.
type Lacks map[Need]string

// Refusal is an end whose session must fail, and what the sentence must say.
type Refusal[End any] struct {
	// End is a sink or a source that is not opened. Its Open, or what comes
	// after it, fails.
	End End
	// Says are parts of the sentence: what is wrong, and the key or the place
	// where a person mends it. There is at least one.
	Says []string
	// Hides are secrets of the configuration, which no sentence shows.
	Hides []string
	// Retries says that the failure has the verdict retry, because the far end
	// does not say enough to tell it from one that passes. Else it has the verdict
	// misconfigured; Unreachable has retry always.
	Retries bool
}
