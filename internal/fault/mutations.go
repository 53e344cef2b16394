package fault

// Mutation is a way to be wrong that a checker of the guarantees must notice.
type Mutation string

// The mutations. Each is a mistake that somebody has made in earnest.
const (
	// ReadByID reads only what has a greater id than the last delivered.
	ReadByID Mutation = "read_by_id"
	// CutLate takes a page's position although not all late events fitted.
	CutLate Mutation = "cut_late"
	// LateInListOnly seeks late events among the transactions that the
	// snapshot lists, and not among those that began beyond its end.
	LateInListOnly Mutation = "late_in_list_only"
	// SaveBeforeReceipt saves a position before the sink acknowledged.
	SaveBeforeReceipt Mutation = "save_before_receipt"
	// AcknowledgeBeforeInsert acknowledges to the source before the inbox's commit.
	AcknowledgeBeforeInsert Mutation = "acknowledge_before_insert"
	// ReuseAckAll goes on with a consumer as the last session left it, and
	// each acknowledgement covers all before it.
	ReuseAckAll Mutation = "reuse_ack_all"
	// ReuseAckEach goes on with a consumer as the last session left it.
	ReuseAckEach Mutation = "reuse_ack_each"
	// NoDedup lets the inbox take an event as often as it comes.
	NoDedup Mutation = "no_dedup"
	// ClientResends lets the broker's client reconnect, buffer and retry.
	ClientResends Mutation = "client_resends"
	// PositionInMemory goes on from the position that was saved last, as
	// remembered, instead of the one that the database has.
	PositionInMemory Mutation = "position_in_memory"
	// ReadUnflushed sends what a crash of the database can take back.
	ReadUnflushed Mutation = "read_unflushed"
	// NoFence lets a superseded owner write and go on.
	NoFence Mutation = "no_fence"
	// DropLetters forgets dead letters.
	DropLetters Mutation = "drop_letters"
	// RetryOvertaken lets events pass an earlier one of their key that is retried.
	RetryOvertaken Mutation = "retry_overtaken"
)

// Mutations returns all of them, for those who try each.
func Mutations() []Mutation {
	return []Mutation{
		ReadByID, CutLate, LateInListOnly, SaveBeforeReceipt, AcknowledgeBeforeInsert, ReuseAckAll, ReuseAckEach,
		NoDedup, ClientResends, PositionInMemory, ReadUnflushed, NoFence, DropLetters, RetryOvertaken,
	}
}
