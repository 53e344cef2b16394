// Package kafka is Apache Kafka at either far end of a pipeline: a sink with an
// idempotent or transactional producer, and a source that reads as a member of
// a consumer group. It refuses to have more than one batch of a partition on
// its way: what is sent behind an event that is lost would stay in front of it.
package kafka
