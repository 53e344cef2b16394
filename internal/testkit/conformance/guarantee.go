package conformance

// The guarantees that cases belong to: the rows of docs/technologies.md.
const (
	KeepsOrder    = "Order"
	Durable       = "What is acknowledged is durable"
	Survives      = "Survives stops, kills and cuts"
	Once          = "Event ids and duplicates"
	RefusesAlone  = "A refused event harms no other"
	Faithful      = "Arrives as it was sent"
	StaysInPrefix = "Stays within the destination"
	SaysWhy       = "Says what is wrong"
	Strict        = "Strict configuration"
	Graceful      = "Stops clean"
	Bounded       = "Bounded memory"
	OpenStandard  = "CloudEvents"
)
