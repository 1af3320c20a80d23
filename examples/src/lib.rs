//! The programs beside this folder, each a page that tells one story; `cargo run --release
//! --example hello` runs one, `--example tour` all of them in this order.
//!
//! | program | shows |
//! | --- | --- |
//! | `hello` | a task inherits what its spawner has set, and keeps what it sets to itself |
//! | `wait_for` | a time limit is no boundary, a spawn is |
//! | `request_context` | a thousand requests at once, none of which ever sees another's id or security token |
//! | `translations` | a language per recipient, and a text that is rendered later in the language it was written in |
//! | `decimal` | a precision per task and per generator |
//! | `telnet_apps` | several applications in one process, each printing to its own terminals through code that takes no argument |
//! | `busy_time` | how long a part of a program computes, whatever else runs meanwhile |
//! | `groups` | work that is spread over tasks and joined again, also when a part of it fails |
//! | `deadlines` | a time budget that shrinks down a tree of calls |
//! | `web_of_tasks` | a crawl: groups that grow, limits per branch, a context per page, and a report |
//! | `worker_pool` | jobs that arrive with their submitter's context, and a log that only links to it |
//! | `rate_limiter` | a limit per tenant that never asks whose a request is |
//! | `driver` | one set of async functions with a synchronous and an asynchronous front end |
//!
//! The programs that need other crates are packages of their own in the folders beside: `cargo run
//! --release -p example-service`, `-p example-queue` and `-p example-console`.
