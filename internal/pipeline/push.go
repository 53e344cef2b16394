package pipeline

// PushMonitor is what the push of an inbox tells and asks whoever runs it.
type PushMonitor interface {
	// Owns fails once this relay may not act for the pipeline any more. It is
	// asked before each request.
	Owns() error
	// Inserted delivers a signal when the inbox may have got messages. It is a
	// hint.
	Inserted() <-chan struct{}
	// Waiting says that nothing is sent, and why, until Well is called.
	Waiting(state State, reason string, err error)
	// Failed says that one message failed while others may flow.
	Failed(err error)
	// Well says that messages flow.
	Well()
	// Count adds to the counters: messages that were taken, attempts that
	// failed, and messages that became dead letters.
	Count(pushed, failed, dead int)
}
