package fault

// Point is a step at which a crash is worth looking at.
type Point string

// The points, in the order in which an event passes them.
const (
	// ForwardOpened: the saved position is read, nothing else has happened.
	ForwardOpened Point = "forward.opened"
	// ForwardBeforeRead: a page is about to be asked for.
	ForwardBeforeRead Point = "forward.before_read"
	// ForwardBeforeReadCommit: the page's rows are here, its transaction has not ended.
	ForwardBeforeReadCommit Point = "forward.before_read_commit"
	// ForwardAfterRead: the page is read and what it holds is flushed.
	ForwardAfterRead Point = "forward.after_read"
	// ForwardBeforeDrain: a page of late events overflowed, and a round of them begins.
	ForwardBeforeDrain Point = "forward.before_drain"
	// ForwardAfterDrain: a round of late events is over, its end not saved.
	ForwardAfterDrain Point = "forward.after_drain"
	// ForwardBeforeSend: envelopes are made, none was sent.
	ForwardBeforeSend Point = "forward.before_send"
	// ForwardAmidSend: some envelopes of a shipment were handed to the client.
	ForwardAmidSend Point = "forward.amid_send"
	// ForwardAfterSend: all of them were.
	ForwardAfterSend Point = "forward.after_send"
	// ForwardBeforeReceipt: nobody has looked for the acknowledgements yet.
	ForwardBeforeReceipt Point = "forward.before_receipt"
	// ForwardAmidReceipt: some of a shipment are acknowledged.
	ForwardAmidReceipt Point = "forward.amid_receipt"
	// ForwardAfterReceipt: all of a shipment are, its position is not saved.
	ForwardAfterReceipt Point = "forward.after_receipt"
	// ForwardBeforeSave: a position is about to be saved.
	ForwardBeforeSave Point = "forward.before_save"
	// ForwardAfterSave: it is saved, and nobody knows yet.
	ForwardAfterSave Point = "forward.after_save"

	// ReverseBeforeReset: a session found deliveries of an earlier one unacknowledged.
	ReverseBeforeReset Point = "reverse.before_reset"
	// ReverseAfterReset: the consumer begins anew behind what is acknowledged.
	ReverseAfterReset Point = "reverse.after_reset"
	// ReverseBeforeFetch: a session is open and asks for messages.
	ReverseBeforeFetch Point = "reverse.before_fetch"
	// ReverseAfterFetch: a delivery is here.
	ReverseAfterFetch Point = "reverse.after_fetch"
	// ReverseAfterDecode: its messages are decoded and changed.
	ReverseAfterDecode Point = "reverse.after_decode"
	// ReverseBeforeInsert: they are about to be inserted.
	ReverseBeforeInsert Point = "reverse.before_insert"
	// ReverseAfterInsert: they are committed.
	ReverseAfterInsert Point = "reverse.after_insert"
	// ReverseBeforeAcknowledge: the source knows nothing of it.
	ReverseBeforeAcknowledge Point = "reverse.before_acknowledge"
	// ReverseAmidAcknowledge: some of a delivery are acknowledged.
	ReverseAmidAcknowledge Point = "reverse.amid_acknowledge"
	// ReverseAfterAcknowledge: all of it is.
	ReverseAfterAcknowledge Point = "reverse.after_acknowledge"
	// ReverseBeforeHandBack: a session ends, and what it did not store goes back.
	ReverseBeforeHandBack Point = "reverse.before_hand_back"

	// LettersBeforeAdd: dead letters are about to be stored.
	LettersBeforeAdd Point = "letters.before_add"
	// LettersAmidAdd: they are inserted, their transaction has not ended.
	LettersAmidAdd Point = "letters.amid_add"
	// LettersAfterAdd: they are stored, nothing has passed them yet.
	LettersAfterAdd Point = "letters.after_add"
	// LettersAfterDue: letters to be retried were read.
	LettersAfterDue Point = "letters.after_due"
	// LettersBeforeSettle: a letter was retried, and is still there.
	LettersBeforeSettle Point = "letters.before_settle"
	// LettersAfterSettle: it is gone, or put back.
	LettersAfterSettle Point = "letters.after_settle"

	// OwnerBeforeHeartbeat: the relay is about to say that it lives.
	OwnerBeforeHeartbeat Point = "owner.before_heartbeat"
	// OwnerAfterHeartbeat: pipelines are claimed, nobody runs them yet.
	OwnerAfterHeartbeat Point = "owner.after_heartbeat"
	// OwnerBeforeReport: the pipelines' states are about to be stored.
	OwnerBeforeReport Point = "owner.before_report"
	// OwnerBeforeRelease: a pipeline has stopped and is still owned.
	OwnerBeforeRelease Point = "owner.before_release"
	// OwnerAfterRelease: it is given up.
	OwnerAfterRelease Point = "owner.after_release"

	// ShutdownBeforeDrain: the relay was told to end and has stopped nothing.
	ShutdownBeforeDrain Point = "shutdown.before_drain"
	// ShutdownBeforeLeave: everything has stopped and is still owned.
	ShutdownBeforeLeave Point = "shutdown.before_leave"
	// ShutdownAfterLeave: everything is given up, the process still lives.
	ShutdownAfterLeave Point = "shutdown.after_leave"
)

// Points returns all of them, for the test that walks them.
func Points() []Point {
	return []Point{
		ForwardOpened, ForwardBeforeRead, ForwardBeforeReadCommit, ForwardAfterRead, ForwardBeforeDrain, ForwardAfterDrain,
		ForwardBeforeSend, ForwardAmidSend, ForwardAfterSend, ForwardBeforeReceipt, ForwardAmidReceipt, ForwardAfterReceipt,
		ForwardBeforeSave, ForwardAfterSave,
		ReverseBeforeReset, ReverseAfterReset, ReverseBeforeFetch, ReverseAfterFetch, ReverseAfterDecode,
		ReverseBeforeInsert, ReverseAfterInsert, ReverseBeforeAcknowledge, ReverseAmidAcknowledge, ReverseAfterAcknowledge,
		ReverseBeforeHandBack,
		LettersBeforeAdd, LettersAmidAdd, LettersAfterAdd, LettersAfterDue, LettersBeforeSettle, LettersAfterSettle,
		OwnerBeforeHeartbeat, OwnerAfterHeartbeat, OwnerBeforeReport, OwnerBeforeRelease, OwnerAfterRelease,
		ShutdownBeforeDrain, ShutdownBeforeLeave, ShutdownAfterLeave,
	}
}
