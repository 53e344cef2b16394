package message

// Claimed is a message of an inbox that a worker has for a while.
type Claimed struct {
	// ID is the row's id in the inbox.
	ID int64
	// Token proves the claim.
	Token string
	// Attempts counts the claims, this one included.
	Attempts int
	Message  Message
}
