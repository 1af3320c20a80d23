#[heirloom::test(timeout = "5 fortnights")]
async fn unknown_unit() {}

#[heirloom::test(timeout = "5")]
async fn no_unit() {}

#[heirloom::test(timeout = "soon")]
async fn no_duration() {}

#[heirloom::test(timeout = "0s")]
async fn no_time() {}

#[heirloom::test(timeout = 5)]
async fn no_text() {}

#[heirloom::test(workers = "4")]
async fn no_number() {}

#[heirloom::test(workers)]
async fn no_value() {}

#[heirloom::test(workers = 1, workers = 2)]
async fn twice() {}

#[heirloom::test(workers(2))]
async fn parentheses() {}

#[heirloom::test(builder = "configured")]
async fn no_function() {}

#[heirloom::main(builder = number)]
async fn no_builder() {}

fn number() -> u32 {
    4
}

fn main() {}
