//! `#[heirloom::main]` and `#[heirloom::test]`.
#![forbid(unsafe_code)]

use std::future::pending;
use std::num::ParseIntError;

use heirloom::task::JoinError;
use heirloom::{context_var, spawn};

context_var! { static TENANT: u32; }

/// Functions that are plain ones to their callers.
mod programs {
    use super::*;

    #[heirloom::main]
    pub(super) async fn sum() -> u32 {
        let one = spawn(async { 1 });
        let other = spawn(async { 41 });
        one.await.unwrap() + other.await.unwrap()
    }

    /// Documented, and linted as before.
    #[heirloom::main(workers = 2)]
    #[allow(non_snake_case)]
    pub(super) async fn parse_a_Number() -> Result<u8, ParseIntError> {
        let number = spawn(async { "256".parse::<u8>() }).await.expect("does not panic")?;
        Ok(number)
    }

    #[heirloom::main(workers = 1)]
    pub(super) async fn impl_trait() -> impl Iterator<Item = u32> {
        0..3
    }

    #[heirloom::main]
    pub(super) async fn read() -> Option<u32> {
        let read = TENANT.get();
        TENANT.set(8);
        read
    }
}

#[test]
fn main_returns_what_the_body_returns() {
    assert_eq!(programs::sum(), 42);
    assert!(programs::parse_a_Number().is_err());
    assert_eq!(programs::impl_trait().count(), 3);
}

#[test]
fn main_runs_in_a_copy_of_the_callers_context() {
    TENANT.set(7);
    assert_eq!(programs::read(), Some(7));
    assert_eq!(TENANT.get(), Some(7));
}

/// Functions that `macro_rules` makes: invisible delimiters are around what stands for a variable.
mod made {
    use super::*;

    macro_rules! programs {
        ($($(#[$attribute:meta])* $visibility:vis $name:ident, $workers:literal, $output:ty, $body:block;)+) => {$(
            #[heirloom::main(workers = $workers)]
            $(#[$attribute])*
            $visibility async fn $name() -> $output $body
        )+};
    }

    macro_rules! tests {
        ($($name:ident, $test:path, $workers:expr, $builder:path, $body:expr;)+) => {$(
            #[$test]
            async fn $name() {
                $body
            }

            mod $name {
                use super::*;

                #[heirloom::test(workers = $workers, builder = $builder, timeout = "10m",)]
                async fn with_options() -> () {
                    $body
                }
            }
        )+};
    }

    macro_rules! as_it_is {
        ($function:item) => {
            #[heirloom::main]
            $function
        };
    }

    fn configured<const WORKERS: usize, T: Default>() -> heirloom::runtime::Builder {
        let _ = T::default();
        heirloom::Runtime::builder().workers(WORKERS)
    }

    programs! {
        pub(super) parsed, 1, Result<u8, ParseIntError>, { "40".parse::<u8>() };
        /// Documented.
        #[must_use]
        pub(super) shared, 0x2, &'static (dyn Fn() -> u32 + Sync), { &|| 2 };
        r#loop, 1, u32, { 3 };
    }

    pub(super) fn raw() -> u32 {
        r#loop()
    }

    as_it_is! {
        #[allow(clippy::unused_async)]
        pub(in crate) async fn whole<>() -> impl Fn(u32) -> u32 {
            |number| number + 1
        }
    }

    tests! {
        of_a_macro, heirloom::test, 2, heirloom::Runtime::builder, assert!(!TENANT.is_set());
        r#async, ::heirloom::test, 0x2, configured::<2, Option<fn() -> u8>>, assert!(spawn(async {}).await.is_ok());
    }
}

#[test]
fn macros_may_make_the_functions() {
    assert_eq!(made::parsed(), Ok(40));
    assert_eq!(made::shared()(), 2);
    assert_eq!(made::raw(), 3);
    assert_eq!(made::whole()(3), 4);
}

#[heirloom::main]
#[cfg(not(test))]
async fn chosen() -> NoType {}

/// The other one of this name is left out.
#[cfg(test)]
#[heirloom::main(workers = 1_usize)]
async fn chosen() -> u32 {
    4
}

#[test]
fn configured_out_is_left_out() {
    assert_eq!(chosen(), 4);
}

#[heirloom::test]
async fn a_test_can_spawn() {
    TENANT.set(7);
    assert_eq!(spawn(async { TENANT.get() }).await.unwrap(), Some(7));
}

#[heirloom::test(workers = 1)]
async fn a_test_may_return_a_result() -> Result<(), JoinError> {
    assert_eq!(spawn(async { 7 }).await?, 7);
    Ok(())
}

#[heirloom::test(workers = 2, timeout = "10m")]
async fn a_limit_that_is_not_reached() -> Result<(), JoinError> {
    assert_eq!(spawn(async { 7 }).await?, 7);
    Ok(())
}

#[heirloom::test(timeout = "10ms")]
#[should_panic = "the test `a_limit_that_is_reached` has not ended within 10ms"]
async fn a_limit_that_is_reached() {
    pending().await
}

#[heirloom::test]
#[should_panic = "as planned"]
async fn a_panic_fails_the_test() {
    panic!("as planned");
}

#[heirloom::test]
async fn a_panic_in_a_task_is_its_joiners() {
    let error = spawn(async { assert!(TENANT.is_set(), "as planned") }).await.unwrap_err();
    assert_eq!(error.panic_message(), Some("as planned"));
}

#[heirloom::test]
async fn what_a_test_leaves_running_ends_with_it() {
    spawn(pending::<()>()).detach();
}

#[test]
#[cfg_attr(miri, ignore = "runs the compiler")]
fn refused_with_an_error_at_the_place() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
