#[heirloom::main(wrokers = 2)]
async fn main() {}
