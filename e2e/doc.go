// Package e2e tries the built binary from outside, on real servers. It holds
// tests only and refuses to reach into the product.
package e2e
