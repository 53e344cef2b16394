package sinktest

import "github.com/pg-tide/pg-tide/internal/testkit/conformance"

type testCase = conformance.Case[Features, Harness]

// cases are the promises, in the order of the table that is made of them.
func cases() []testCase {
	return []testCase{
		conformance.Promise(conformance.KeepsOrder, "delivers in order", deliversInOrder),
		conformance.Promise(conformance.Durable, "acknowledges batches sent before waiting", pipelines),
		conformance.Promise(conformance.Survives, "resends after a restart of the far end", resendsAfterRestart, conformance.Restart),
		conformance.Promise(conformance.Once, "resent events are stored once", storesOnce, conformance.Deduplication),
		conformance.Promise(conformance.RefusesAlone, "refuses the too large before sending", refusesTooLarge, conformance.SizeLimit),
		conformance.Promise(conformance.Faithful, "keeps headers and body", keepsHeaders),
		conformance.Promise(conformance.Graceful, "can be opened and closed again and again", opensAgain),
		conformance.Promise(conformance.Graceful, "fails before it was opened", failsUnopened),
		conformance.Promise(conformance.Graceful, "gives up when the context ends", givesUp),
	}
}
