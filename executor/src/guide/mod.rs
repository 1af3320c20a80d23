//! The guide: how to use this crate, a chapter per page.
//!
//! | chapter | for |
//! | --- | --- |
//! | [`first_service`] | a server with request contexts, limits, a drain and a log |
//! | [`from_tokio`] | what a user of tokio would type, and what to type here |
//! | [`port`] | one program, moved from tokio line by line |
//! | [`from_elsewhere`] | the same in short for smol, asyncio, Trio, Kotlin and Go |
//! | [`contexts`] | what inherits, by which policy, where inheritance stops; patterns |
//! | [`eager`] | one set of async functions with a synchronous front end |
//! | [`cancellation`] | drops, aborts, limits, deadlines, groups, tokens |
//! | [`goes_with`] | which libraries run; for locks, channels, files, TLS, HTTP: which crate |
//! | [`mistakes`] | what ten common mistakes look like, and the way out |
//! | [`testing`] | tests that do not depend on luck |
//! | [`deployment`] | workers, blocking calls, shutdown, panics, memory, numbers |
//! | [`questions`] | questions and answers |
//!
//! What the crate does not do stands on the page [`known_limits`](crate::known_limits). Programs
//! that each show one thing are in the folder `examples` of the repository.
// The text of each chapter is a file of its own, which reads well outside of rustdoc too. The links
// of all chapters are defined in one file: a chapter names an item, `links.md` says where it is.
#![forbid(unsafe_code)]

macro_rules! chapters {
    ($($name:ident, $file:literal;)*) => {
        $(
            #[doc = include_str!($file)]
            // Definitions of links end no paragraph, so that an empty line goes before them.
            #[doc = ""]
            #[doc = include_str!("links.md")]
            pub mod $name {}
        )*
    };
}

chapters! {
    first_service, "first_service.md";
    from_tokio, "from_tokio.md";
    port, "port.md";
    from_elsewhere, "from_elsewhere.md";
    contexts, "contexts.md";
    eager, "eager.md";
    cancellation, "cancellation.md";
    goes_with, "goes_with.md";
    mistakes, "mistakes.md";
    testing, "testing.md";
    deployment, "deployment.md";
    questions, "questions.md";
}
