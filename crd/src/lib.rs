//! Wire types of certmon.dev: what stands in the API server.
