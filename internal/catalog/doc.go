// Package catalog runs every statement that the relay has for the schema tide,
// one file in queries and one method each, and turns the database's errors
// into sentences. It refuses to decide: what a page, a position or an
// ownership means is the business of its callers.
package catalog
