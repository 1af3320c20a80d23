//! Tests only; see the manifest.
