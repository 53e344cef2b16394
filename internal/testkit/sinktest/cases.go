package sinktest

import (
	"testing"

	"github.com/pg-tide/pg-tide/internal/testkit/conformance"
)

type testCase = conformance.Case[Features, Harness]

// cases are the promises, in the order of the table that is made of them.
func cases() []testCase {
	all := []testCase{
		conformance.Promise(conformance.KeepsOrder, "delivers in order", deliversInOrder, conformance.Order),
		conformance.Promise(conformance.Durable, "acknowledges batches sent before waiting", pipelines),
		conformance.Promise(conformance.Durable, "what was acknowledged is there after a kill of the far end", acknowledgedSurvives, conformance.Kill),
		conformance.Promise(conformance.Durable, "acknowledges nothing while the far end hangs", waitsForTheFarEnd, conformance.Freeze),
		conformance.Promise(conformance.Durable, "notices that the far end lost what it had acknowledged", noticesLoss, conformance.Lose),
		conformance.Promise(conformance.Survives, "notices while idle that its connection is lost", noticesCut, conformance.Connection, conformance.Cut),
		conformance.Promise(conformance.Survives, "resends after a restart of the far end", resendsAfterRestart, conformance.Restart),
		conformance.Promise(conformance.Survives, "loses and disorders nothing when the far end restarts amid batches", restartedAmid, conformance.Restart),
		conformance.Promise(conformance.Survives, "loses and disorders nothing when the far end is killed amid batches", killedAmid, conformance.Kill),
		conformance.Promise(conformance.Survives, "loses and disorders nothing when connections are cut amid batches", cutAmid, conformance.Cut),
		conformance.Promise(conformance.Survives, "loses and disorders nothing when the far end hangs amid batches", frozenAmid, conformance.Freeze),
		conformance.Promise(conformance.Once, "keeps the event id in the transport's own place", keepsEventID, conformance.EventID),
		conformance.Promise(conformance.Once, "resent events are stored once", storesOnce, conformance.Deduplication),
		conformance.Promise(conformance.RefusesAlone, "refuses the too large before sending", refusesTooLarge, conformance.SizeLimit),
		conformance.Promise(conformance.RefusesAlone, "reports a refused event and not its batch", refusesAlone, conformance.Poison),
		conformance.Promise(conformance.Faithful, "keeps bodies of every kind of text", keepsText),
		conformance.Promise(conformance.Faithful, "keeps an empty body", keepsEmpty, conformance.EmptyBodies),
		conformance.Promise(conformance.Faithful, "keeps a body that is no text", keepsBinary, conformance.BinaryBodies),
		conformance.Promise(conformance.Faithful, "keeps a body of 1 MiB", keepsLarge, conformance.LargeBodies),
		conformance.Promise(conformance.Faithful, "keeps headers", keepsHeaders, conformance.Headers),
		conformance.Promise(conformance.StaysInPrefix, "no event leaves the prefix of its template", staysInPrefix, conformance.Destinations),
		conformance.Promise(conformance.Strict, "an unknown key is an error with a suggestion", knowsItsKeys),
		conformance.Promise(conformance.Graceful, "can be opened and closed again and again", opensAgain),
		conformance.Promise(conformance.Graceful, "fails before it was opened", failsUnopened),
		conformance.Promise(conformance.Graceful, "gives up when the context ends", givesUp),
		conformance.Promise(conformance.Graceful, "gives up opening a far end that hangs", givesUpFrozen, conformance.Freeze, conformance.Connection),
		conformance.Promise(conformance.Graceful, "closes with batches outstanding", closesAmid),
		conformance.Promise(conformance.Graceful, "closes while the far end hangs", closesFrozen, conformance.Freeze),
		conformance.Promise(conformance.Graceful, "leaves no goroutine", leavesNothing),
		conformance.Promise(conformance.Graceful, "leaves no goroutine when its connection was cut", leavesNothingCut, conformance.Cut),
		conformance.Promise(conformance.Bounded, "takes no more while nothing is acknowledged", stopsTaking, conformance.Freeze),
		conformance.Promise(conformance.OpenStandard, "is read by the CloudEvents SDK in binary mode", readInBinaryMode, conformance.CloudEvents, conformance.BinaryMode),
		conformance.Promise(conformance.OpenStandard, "is read by the CloudEvents SDK in structured mode", readInStructuredMode, conformance.CloudEvents),
	}
	for _, need := range conformance.Refusals() {
		all = append(all, conformance.Promise(conformance.SaysWhy, conformance.Sentence(need), func(t testing.TB, f Features, h Harness) {
			saysWhy(t, need, h)
		}, need))
	}
	return all
}
