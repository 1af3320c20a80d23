#[heirloom::main]
struct Program;

fn main() {}
