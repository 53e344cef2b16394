// Package demo shows the whole bus at work for a while: four services with a
// database each on a throwaway PostgreSQL, an embedded NATS or Kafka, a relay for each
// service, traffic, and at the end the comparison of what was committed with
// what arrived. It leaves nothing behind and refuses to touch any server that
// it did not start.
package demo
