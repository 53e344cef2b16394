// Package torture runs a whole bus on servers of its own, breaks it in every
// way it knows, and compares what publishers committed with what arrived. It
// refuses to touch anything that it did not start, and it never repairs what
// it finds: a promise that was broken is its result.
package torture
