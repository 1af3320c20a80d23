//! The guide: how to use this crate, a chapter per page.
//!
//! | chapter | for |
//! | --- | --- |
//! | [`first_service`] | a server with request contexts, limits, a drain and a log |
//! | [`from_tokio`] | what a user of tokio would type, and what to type here |
//! | [`port`] | one program, moved from tokio line by line |
//! | [`from_elsewhere`] | the same in short for smol, asyncio, Trio, Kotlin and Go |
//! | [`contexts`] | what inherits, by which policy, where inheritance stops; patterns |
//! | [`crossings`] | whose context and deadline other libraries' futures see, row by row |
//! | [`wire`] | contexts in the headers of calls and messages: formats, caps, allow-list |
//! | [`eager`] | one set of async functions with a synchronous front end |
//! | [`cancellation`] | drops, aborts, limits, deadlines, groups, tokens |
//! | [`goes_with`] | which libraries run; for locks, channels, files, TLS, HTTP: which crate |
//! | [`libraries`] | what was seen when libraries ran: context, deadline, threads |
//! | [`mistakes`] | what ten common mistakes look like, and the way out |
//! | [`testing`] | tests that do not depend on luck |
//! | [`observability`] | what runs, for which request, and where the time goes |
//! | [`deployment`] | workers, blocking calls, shutdown, panics, memory, numbers |
//! | [`questions`] | questions and answers |
//!
//! What the crate does not do stands on the page [`known_limits`](crate::known_limits). Programs
//! that each show one thing are in the folder `examples` of the repository.
// The text of each chapter is a file of its own. Its links work in rustdoc alone: those of all
// chapters are defined in one file: a chapter names an item, `links.md` says where it is.
#![forbid(unsafe_code)]

// After the file stand words that users of other runtimes search for.
macro_rules! chapters {
    ($($name:ident, $file:literal $(, $alias:literal)*;)*) => {
        $(
            #[doc = include_str!($file)]
            // Definitions of links end no paragraph, so that an empty line goes before them.
            #[doc = ""]
            #[doc = include_str!("links.md")]
            $(#[doc(alias = $alias)])*
            pub mod $name {}
        )*
    };
}

chapters! {
    first_service, "first_service.md", "server", "graceful_shutdown";
    from_tokio, "from_tokio.md", "tokio", "AsyncReadExt", "AsyncWriteExt", "BufReader", "TcpSocket",
        "copy_bidirectional", "select!", "try_join", "DelayQueue", "JoinMap", "runtime::Handle";
    port, "port.md", "migration", "tokio";
    from_elsewhere, "from_elsewhere.md", "smol", "async-std", "asyncio", "trio", "kotlin", "goroutine";
    contexts, "contexts.md", "inherit";
    crossings, "crossings.md", "join_all", "select!", "FuturesUnordered", "buffered", "Shared", "LocalSet";
    wire, "wire.md", "baggage", "traceparent", "grpc-timeout", "propagation", "propagator";
    eager, "eager.md", "sync", "blocking";
    cancellation, "cancellation.md", "abort";
    goes_with, "goes_with.md", "Semaphore", "Mutex", "RwLock", "Notify", "Barrier", "OnceCell",
        "oneshot", "watch", "broadcast", "mpsc", "select", "File", "fs", "process", "Command", "stdin",
        "tls", "AsyncFd", "StreamExt", "Compat", "axum", "redis", "rusqlite",
        "tokio-postgres", "tower", "rayon";
    libraries, "libraries.md", "async-nats", "reqwest", "sqlx", "tonic";
    mistakes, "mistakes.md", "troubleshooting", "there is no reactor running";
    testing, "testing.md", "start_paused", "virtual_time";
    observability, "observability.md", "tracing", "opentelemetry", "metrics", "log", "console",
        "RuntimeMetrics", "instrument", "span";
    deployment, "deployment.md", "production", "worker_threads";
    questions, "questions.md", "faq";
}
