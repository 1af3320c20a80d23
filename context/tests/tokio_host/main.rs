//! Contexts through a plain `tokio::spawn`, on unmodified runtimes. Built by `.ci/tokio_host`, with `--cfg tokio_unstable`.
#![cfg(tokio_unstable)]
