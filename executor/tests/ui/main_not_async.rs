#[heirloom::main]
fn main() {}
