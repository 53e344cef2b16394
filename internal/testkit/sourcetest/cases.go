package sourcetest

import "github.com/pg-tide/pg-tide/internal/testkit/conformance"

type testCase = conformance.Case[Features, Harness]

// cases are the promises, in the order of the table that is made of them.
func cases() []testCase {
	return []testCase{
		conformance.Promise(conformance.KeepsOrder, "reads in order what was and what is published", readsInOrder),
		conformance.Promise(conformance.Durable, "what was acknowledged does not come again", remembers),
		conformance.Promise(conformance.Durable, "what was not acknowledged comes again and first", comesAgain),
		conformance.Promise(conformance.Survives, "after a crash the unacknowledged come before all", crashes),
		conformance.Promise(conformance.Survives, "goes on after a restart of the far end", survivesRestart, conformance.Restart),
		conformance.Promise(conformance.Faithful, "keeps headers, body and coordinates", keepsEnvelope),
		conformance.Promise(conformance.Graceful, "returns when the context ends", givesUp),
		conformance.Promise(conformance.Graceful, "can be opened and closed again and again", opensAgain),
	}
}
