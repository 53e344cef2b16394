// Package push works an inbox for a service that is posted to: it claims
// messages by lease, posts each, and says what became of it. It refuses to know
// SQL and HTTP, and holds nothing that the inbox does not.
package push
