// Package webhook speaks HTTP with services, in both directions. It posts
// events, each signed as Standard Webhooks has it, and it takes events that
// services post, and answers them when they are committed. It refuses to follow
// redirects, to connect to addresses that nobody allowed, to decide when an
// event is given up, and to take a body that no inbox would, or one whose
// signature it was told to check and cannot.
package webhook
