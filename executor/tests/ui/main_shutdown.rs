#[heirloom::main(shutdown = 5)]
async fn main() {}

#[heirloom::main(shutdown = "5s")]
async fn of_the_default_runtime() {}

#[heirloom::test(shutdown = "5s")]
async fn of_a_test() {}
