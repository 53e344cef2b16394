// Package kafka runs Apache Kafka in KRaft mode as child processes, one or
// three brokers that are their own controllers, which can be killed, stopped,
// frozen and started again with their data. It has Maven fetch the programs
// once, listens on the loopback alone, and refuses to be used for anything
// that must last.
package kafka
