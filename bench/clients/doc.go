// Package clients holds the same job written for pg_tide, River and Watermill,
// and pg_tide beside the SDKs of OpenTelemetry and CloudEvents. It is a module of
// its own, so that none of them is among the product's dependencies.
package clients
