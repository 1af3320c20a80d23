//! The programs beside this folder, each a page that tells one story; `cargo run --release --example hello` runs one.
//!
//! | program | shows |
//! | --- | --- |
//! | `hello` | a task inherits what its spawner has set, and keeps what it sets to itself |
//! | `request_context` | a thousand requests at once, none of which ever sees another's id or security token |
//! | `wait_for` | a time limit is no boundary, a spawn is |
//! | `decimal` | a precision per task and per generator |
//! | `translations` | a language per recipient, and a text that is rendered later in the language it was written in |
//! | `deadlines` | a time budget that shrinks down a tree of calls |
//! | `groups` | work that is spread over tasks and joined again, also when a part of it fails |
//! | `busy_time` | how long a part of a program computes, whatever else runs meanwhile |
//! | `worker_pool` | jobs that arrive with their submitter's context, and a log that only links to it |
//! | `rate_limiter` | a limit per tenant that never asks whose a request is |
//! | `service` | a web service, axum over hyper on our sockets, whose handlers know the request without being told |
