#[heirloom::test(seed = 7)]
async fn seed() {}

#[heirloom::test(workers = 2, virtual_time = 7)]
async fn virtual_time() {}

#[heirloom::main(seed = 7)]
async fn program() {}

fn main() {}
