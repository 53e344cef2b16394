package sourcetest

import (
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
)

type testCase = conformance.Case[Features, Harness]

// cases are the promises, in the order of the table that is made of them.
func cases() []testCase {
	all := []testCase{
		conformance.Promise(conformance.KeepsOrder, "reads in order what was and what is published", readsInOrder, conformance.Order),
		conformance.Promise(conformance.Durable, "what was acknowledged does not come again", remembers),
		conformance.Promise(conformance.Durable, "what was not acknowledged comes again and first", comesAgain),
		conformance.Promise(conformance.Survives, "after a crash the unacknowledged come before all", crashes),
		conformance.Promise(conformance.Survives, "goes on after a restart of the far end", survivesRestart, conformance.Restart),
		conformance.Promise(conformance.Survives, "loses and disorders nothing when it crashes amid batches", crashedAmid),
		conformance.Promise(conformance.Survives, "loses and disorders nothing when the far end restarts amid batches", restartedAmid, conformance.Restart),
		conformance.Promise(conformance.Survives, "loses and disorders nothing when the far end is killed amid batches", killedAmid, conformance.Kill),
		conformance.Promise(conformance.Survives, "loses and disorders nothing when connections are cut amid batches", cutAmid, conformance.Cut),
		conformance.Promise(conformance.Survives, "loses and disorders nothing when the far end hangs amid batches", frozenAmid, conformance.Freeze),
		conformance.Promise(conformance.Once, "each message has coordinates of its own, the same each time", keepsCoordinates),
		conformance.Promise(conformance.Once, "reads the message id from the transport's own place", keepsEventID, conformance.EventID),
		conformance.Promise(conformance.Faithful, "keeps bodies of every kind of text", keepsText),
		conformance.Promise(conformance.Faithful, "keeps an empty body", keepsEmpty, conformance.EmptyBodies),
		conformance.Promise(conformance.Faithful, "keeps a body that is no text", keepsBinary, conformance.BinaryBodies),
		conformance.Promise(conformance.Faithful, "keeps a body of 1 MiB", keepsLarge, conformance.LargeBodies),
		conformance.Promise(conformance.Faithful, "keeps headers", keepsHeaders, conformance.Headers),
		conformance.Promise(conformance.Faithful, "says where and when each message was stored", keepsOrigin),
		conformance.Promise(conformance.Strict, "an unknown key is an error with a suggestion", knowsItsKeys),
		conformance.Promise(conformance.Graceful, "returns when the context ends", givesUp),
		conformance.Promise(conformance.Graceful, "gives up opening when the context ends", givesUpOpening),
		conformance.Promise(conformance.Graceful, "gives up opening a far end that hangs", givesUpFrozen, conformance.Freeze),
		conformance.Promise(conformance.Graceful, "fails before it was opened", failsUnopened),
		conformance.Promise(conformance.Graceful, "can be opened and closed again and again", opensAgain),
		conformance.Promise(conformance.Graceful, "closes while it waits for messages", closesWaiting),
		conformance.Promise(conformance.Graceful, "closes while the far end hangs", closesFrozen, conformance.Freeze),
		conformance.Promise(conformance.Graceful, "leaves no goroutine", leavesNothing),
		conformance.Promise(conformance.Graceful, "leaves no goroutine when its connection was cut", leavesNothingCut, conformance.Cut),
		conformance.Promise(conformance.Bounded, "delivers no more while nothing is acknowledged", stopsDelivering, conformance.UnacknowledgedLimit),
		conformance.Promise(conformance.Bounded, "holds little of a large backlog", holdsLittle, conformance.LargeBodies),
		conformance.Promise(conformance.OpenStandard, "reads what the CloudEvents SDK writes in binary mode", readsBinaryMode, conformance.CloudEvents),
		conformance.Promise(conformance.OpenStandard, "reads what the CloudEvents SDK writes in structured mode", readsStructuredMode, conformance.CloudEvents),
	}
	for _, need := range conformance.Refusals() {
		all = append(all, conformance.Promise(conformance.SaysWhy, conformance.Sentence(need), func(t testing.TB, f Features, h Harness) {
			saysWhy(t, need, h)
		}, need))
	}
	return all
}
