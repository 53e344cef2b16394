// Package working measures workers: how long it takes to get messages out of a
// large inbox, and how many a few workers get through beside a queue as people
// write it by hand. It refuses to know of relays and brokers.
package working
